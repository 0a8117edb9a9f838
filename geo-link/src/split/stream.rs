//! A stream that arrives, and its branches: one task, one loop.
//!
//! The order of a turn: events of both sides, a new round if one is due, batches split as long as every branch takes items,
//! answers, sleep.

use std::{future::poll_fn, io, net::SocketAddr, sync::Arc, task::Poll, time::Duration};

use clock::{Now, Origin};
use geo_link_core::{
    Batch, Hello, LinkEnd, LinkId, Malformed, Receiver, ReceiverEvent, ReceiverOptions, Refusal, SenderOptions, Want,
    limits::{PROTOCOL_VERSION, SMALL_FRAME_BYTES_MAX},
};
use node_core::{
    slot::SlotRange,
    store::{FeedItem, SeenTable},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::{JoinSet, yield_now},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    Nodes, Owner, Owners, SplitStatus, Splitter,
    branch::{Branch, count_as_seen},
};
use crate::{
    limits::{FAREWELL, FRAMES_PER_TURN, OWNERS_PATIENCE, ROUND_INTERVAL},
    options::Peer,
    peers::Entry,
    pipe::Pipe,
    turned_away::TurnedAway,
};

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the connection is lost: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    End(#[from] LinkEnd),
    #[error("a newer connection has taken the place of this one")]
    Replaced,
    #[error("an owner of slots knows the sender's region as {0} already")]
    Superseded(Origin),
    #[error("shutting down")]
    Shutdown,
}

impl From<Malformed> for Lost {
    fn from(error: Malformed) -> Self {
        Self::End(error.into())
    }
}

/// Serves one connection, whose other end is of one of the regions `names`, until it ends.
pub(super) async fn serve<N: Nodes, S: AsyncRead + AsyncWrite + Unpin>(
    splitter: &Splitter<N>,
    names: Vec<String>,
    stream: S,
    addr: SocketAddr,
    ending: &CancellationToken,
    turned_away: &TurnedAway,
) {
    let mut stream = Stream::new(splitter, names, stream);
    let span = tracing::info_span!("link", from = stream.names.first(), to = splitter.region);
    let lost = stream.serve(ending).instrument(span.clone()).await;
    stream.finish(lost, addr, turned_away).instrument(span).await;
}

struct Stream<'a, N: Nodes, S> {
    splitter: &'a Splitter<N>,
    /// The regions that the sender's certificate names.
    names: Vec<String>,
    receiver: Receiver,
    pipe: Pipe<S>,
    admitted: Option<Admitted>,
    owners: watch::Receiver<Arc<Owners>>,
    /// Who owned what when the branches were last arranged, and the branch to each.
    arranged: Arc<Owners>,
    branches: Vec<Branch<N::Stream>>,
    connecting: JoinSet<(Owner, Result<N::Stream, String>)>,
    /// The last batch that was split.
    split: u64,
    /// When the sender was last told what is wanted.
    welcomed: Option<Duration>,
}

struct Admitted {
    hello: Hello,
    id: LinkId,
    replaced: CancellationToken,
    /// When it was let in.
    at: Duration,
    /// Counts the arrangements of branches.
    arrangements: u64,
}

impl<'a, N: Nodes, S: AsyncRead + AsyncWrite + Unpin> Stream<'a, N, S> {
    fn new(splitter: &'a Splitter<N>, names: Vec<String>, stream: S) -> Self {
        let speaker = Origin::new(splitter.id, clock::Incarnation::UNBORN);
        let options = ReceiverOptions {
            timeout: splitter.links.timeout,
            frame_bytes_max: splitter.links.frame_bytes_max,
            // The owners hold what is too far ahead of them.
            max_drift: Duration::from_secs(u64::from(u32::MAX)),
            ..ReceiverOptions::new(speaker, clock::Time::ZERO)
        };
        Self {
            splitter,
            names,
            receiver: Receiver::new(options, splitter.now()),
            pipe: Pipe::new(stream, SMALL_FRAME_BYTES_MAX),
            admitted: None,
            owners: splitter.nodes.owners(),
            arranged: Arc::default(),
            branches: Vec::new(),
            connecting: JoinSet::new(),
            split: 0,
            welcomed: None,
        }
    }

    async fn serve(&mut self, ending: &CancellationToken) -> Lost {
        loop {
            if let Err(lost) = self.work() {
                return lost;
            }
            if let Err(lost) = self.rest(ending).await {
                return lost;
            }
            yield_now().await;
        }
    }

    /// Does all that can be done now.
    fn work(&mut self) -> Result<(), Lost> {
        let now = self.splitter.now();
        self.work_branches(now)?;
        self.begin_round(now);
        for _ in 0..FRAMES_PER_TURN {
            self.handle_events(now)?;
            if !self.branches.iter().all(Branch::takes_items) {
                break;
            }
            if let Some(batch) = self.receiver.poll_batch(now) {
                self.split(now, batch)?;
                self.work_branches(now)?;
                self.begin_round(now);
            }
            if !self.receiver.wants_frames() {
                break;
            }
            let Some((kind, payload)) = self.pipe.inbox.next_frame()? else { break };
            self.receiver.handle_frame(now, kind, payload)?;
        }
        self.receiver.handle_timeout(now);
        self.handle_events(now)?;
        self.answer();
        if self.pipe.has_room() {
            self.receiver.poll_transmit(now, self.pipe.out());
        }
        Ok(())
    }

    /// Waits until there is something to do.
    async fn rest(&mut self, ending: &CancellationToken) -> Result<(), Lost> {
        let now = self.splitter.now();
        let deadline = Instant::now() + self.deadline(now).saturating_sub(now.monotonic);
        let takes_items = self.branches.iter().all(Branch::takes_items);
        let wants_frames = self.receiver.wants_frames() && takes_items;
        let has_frames = wants_frames && self.pipe.inbox.has_frame();
        let replaced = self.admitted.as_ref().map(|stream| stream.replaced.clone());
        let replaced = async move {
            match replaced {
                Some(token) => token.cancelled_owned().await,
                None => std::future::pending().await,
            }
        };
        let Self { pipe, branches, owners, connecting, receiver, splitter, .. } = self;
        let mut broken = Vec::new();
        let moved = poll_fn(|cx| {
            let mut has_moved = false;
            for (place, branch) in branches.iter_mut().enumerate() {
                match branch.poll_turn(cx) {
                    Ok(moved) => has_moved |= moved,
                    Err(error) => broken.push((place, error)),
                }
            }
            match pipe.poll_turn(cx, wants_frames) {
                Poll::Ready(Ok(true)) => {
                    receiver.handle_bytes(splitter.now());
                    Poll::Ready(Ok(()))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending if !has_moved && broken.is_empty() => Poll::Pending,
                _ => Poll::Ready(Ok(())),
            }
        });
        let mut connected = None;
        tokio::select! {
            biased;
            () = ending.cancelled() => return Err(Lost::Shutdown),
            () = replaced => return Err(Lost::Replaced),
            moved = moved => moved?,
            Some(attempt) = connecting.join_next() => connected = attempt.ok(),
            Ok(()) = owners.changed() => {}
            () = yield_now(), if has_frames => {}
            () = sleep_until(deadline) => {}
        }
        let now = self.splitter.now();
        for (place, error) in broken {
            self.lose_branch(now, place, &error);
        }
        if let Some((owner, attempt)) = connected {
            self.connected(now, &owner, attempt);
        }
        Ok(())
    }

    fn deadline(&self, now: Now) -> Duration {
        let Some(stream) = &self.admitted else {
            return self.receiver.poll_timeout(now).unwrap_or(now.monotonic);
        };
        let branches = self.branches.iter().flat_map(|branch| [branch.poll_timeout(), branch.dial_at()]).flatten();
        let is_waiting = self.branches.iter().any(Branch::is_waiting) || self.welcomed.is_none();
        let round = is_waiting.then(|| self.round_at(stream));
        let all = branches.chain(self.receiver.poll_timeout(now)).chain(round);
        all.min().unwrap_or(now.monotonic + OWNERS_PATIENCE)
    }

    fn handle_events(&mut self, now: Now) -> Result<(), Lost> {
        while let Some(event) = self.receiver.poll_event() {
            match event {
                ReceiverEvent::Greeted(hello) => self.admit(hello, now),
                ReceiverEvent::Asked => self.branches.iter_mut().for_each(Branch::ask),
                ReceiverEvent::Audited(audit) => self.branches.iter_mut().for_each(|branch| branch.tell(&audit)),
                ReceiverEvent::Ended(end) => return Err(end.into()),
                // Rows go on to the owners, who know what to make of them, and hold what they must.
                ReceiverEvent::Reported { .. }
                | ReceiverEvent::Held(_)
                | ReceiverEvent::Resumed
                | ReceiverEvent::Refused(_) => {}
            }
        }
        Ok(())
    }

    /// The sender says who it is: lets it in, or not.
    fn admit(&mut self, hello: Hello, now: Now) {
        let named = |peer: &Peer| peer.name == hello.name && self.names.contains(&peer.name);
        let source = self.splitter.peers.find(named);
        let refusal = match source {
            _ if hello.version != PROTOCOL_VERSION => Refusal::Version(PROTOCOL_VERSION),
            None => Refusal::Region(format!("{}, while its certificate names {:?}", hello.name, self.names)),
            Some(source) if source.peer().id != hello.region() => {
                Refusal::Region(format!("{} (id {})", hello.name, hello.region()))
            }
            Some(source) => {
                let id = LinkId { origin: hello.origin, epoch: hello.epoch };
                let (from, origin) = (hello.name.clone(), hello.origin.to_string());
                let status = SplitStatus { from, origin, ..SplitStatus::default() };
                match self.splitter.admit(&source, id, status) {
                    None => Refusal::Replaced,
                    Some(replaced) => {
                        tracing::info!(origin = %id.origin, "stream is up");
                        self.pipe.inbox.allow(self.splitter.links.frame_bytes_max);
                        self.admitted = Some(Admitted { hello, id, replaced, at: now.monotonic, arrangements: 0 });
                        return self.arrange(now);
                    }
                }
            }
        };
        self.receiver.refuse(refusal);
    }

    /// A branch for each owner that there is now; those whose owners are as they were stay.
    fn arrange(&mut self, now: Now) {
        let Some(stream) = &mut self.admitted else { return };
        let owners = self.owners.borrow().clone();
        stream.arrangements += 1;
        let mut former = std::mem::take(&mut self.branches);
        for owner in owners.iter() {
            let stays = former.iter().position(|branch| branch.owner == *owner);
            let branch = match stays {
                Some(place) => former.swap_remove(place),
                None => Branch::new(owner.clone(), branch_options(self.splitter, stream), stream.hello.complete),
            };
            self.branches.push(branch);
        }
        for branch in former {
            tokio::spawn(branch.finish(now, FAREWELL));
        }
        self.arranged = owners;
        self.show();
    }

    /// # Errors
    /// [`Lost::Superseded`]: what an owner says of the sender itself is for the sender to hear.
    fn work_branches(&mut self, now: Now) -> Result<(), Lost> {
        if !Arc::ptr_eq(&self.arranged, &self.owners.borrow()) {
            self.arrange(now);
        }
        for place in 0..self.branches.len() {
            if let Err(error) = self.branches[place].work(now) {
                self.lose_branch(now, place, &error);
                if let Some(by) = error.superseded_by() {
                    return Err(Lost::Superseded(by));
                }
            }
            let branch = &mut self.branches[place];
            if branch.dial_at().is_some_and(|at| at <= now.monotonic) {
                branch.dial(now);
                let owner = branch.owner.clone();
                self.connect(owner);
            }
        }
        Ok(())
    }

    fn connect(&mut self, owner: Owner) {
        let Some(stream) = &self.admitted else { return };
        let (nodes, from) = (self.splitter.nodes.clone(), stream.hello.name.clone());
        let patience = self.splitter.links.timeout;
        self.connecting.spawn(async move {
            let attempt = match timeout(patience, nodes.connect(owner.clone(), from)).await {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("not in time".to_owned()),
            };
            (owner, attempt)
        });
    }

    fn connected(&mut self, now: Now, owner: &Owner, attempt: Result<N::Stream, String>) {
        let found = self.branches.iter_mut().find(|branch| branch.owner == *owner && branch.is_dialling());
        let Some(branch) = found else { return };
        match attempt {
            Ok(stream) => branch.connected(now, stream),
            Err(error) => {
                tracing::debug!(address = %owner.address, error, "the owner of some slots cannot be reached");
                branch.lost(now);
            }
        }
    }

    fn lose_branch(&mut self, now: Now, place: usize, error: &dyn std::fmt::Display) {
        let branch = &mut self.branches[place];
        tracing::info!(address = %branch.owner.address, %error, "an owner of slots is not connected any more");
        branch.lost(now);
        self.show();
    }

    /// When the next round may begin.
    fn round_at(&self, stream: &Admitted) -> Duration {
        let all_are_known = self.branches.iter().all(|branch| branch.is_waiting() || branch.is_in());
        match self.welcomed {
            _ if all_are_known && self.welcomed.is_none() => stream.at,
            None => stream.at + OWNERS_PATIENCE,
            Some(at) => at + ROUND_INTERVAL,
        }
    }

    /// Tells the sender what is wanted, if owners have said so anew.
    fn begin_round(&mut self, now: Now) {
        let Some(stream) = &self.admitted else { return };
        if self.welcomed.is_some() && !self.branches.iter().any(Branch::is_waiting) {
            return;
        }
        if now.monotonic < self.round_at(stream) {
            return;
        }
        let (mut is_clone, mut seen) = (false, SeenTable::new(SlotRange::ALL));
        let mut served = node_core::slot::SlotSet::new();
        for branch in &mut self.branches {
            let owner = branch.owner.clone();
            if let Some((clones, theirs)) = branch.join_round() {
                is_clone |= clones;
                owner.slots.iter().for_each(|slot| seen.join(slot, &theirs.of(slot)));
                served.add(&owner.slots);
            }
        }
        count_as_seen(&mut seen, &served, stream.hello.origin);
        let want = match (served.is_empty(), is_clone) {
            (true, _) => Want::Later,
            (false, true) => Want::Clone(seen),
            (false, false) => Want::Resume(seen),
        };
        if !served.is_empty() {
            tracing::info!(slots = served.len(), is_clone, "asking for what the owners of slots lack");
        }
        self.receiver.welcome(now, want);
        self.welcomed = Some(now.monotonic);
        self.show();
    }

    /// Passes each owner its part of a batch.
    fn split(&mut self, now: Now, batch: Batch) -> Result<(), Lost> {
        for item in batch.items() {
            let item = item.map_err(Malformed::from)?;
            self.receiver.check(&item)?;
            match &item {
                FeedItem::Record { slot, .. } | FeedItem::SlotBegin { slot, .. } | FeedItem::SlotEnd { slot, .. } => {
                    if let Some(place) = self.arranged.place_of(*slot) {
                        self.branches[place].push(&item);
                    }
                }
                FeedItem::Flush { slots, stamp } => {
                    for branch in &mut self.branches {
                        for slots in branch.owner.slots.ranges_in(slots) {
                            branch.push(&FeedItem::Flush { slots, stamp: *stamp });
                        }
                    }
                }
                FeedItem::Speaks { .. } | FeedItem::Watermark { .. } => {
                    self.branches.iter_mut().for_each(|branch| branch.push(&item));
                }
            }
        }
        self.split = batch.envelope.sequence;
        let row = batch.envelope.seen.as_ref();
        self.branches.iter_mut().for_each(|branch| branch.seal(now, self.split, row));
        let passed_on = self.receiver.passed_on(now, batch);
        if let Some(stream) = &self.admitted {
            self.splitter.count(&stream.hello.name, passed_on);
        }
        Ok(())
    }

    /// Says what was applied, and what the owners say of themselves.
    fn answer(&mut self) {
        let open = self.branches.iter_mut().filter_map(Branch::first_open).min();
        self.receiver.acknowledge(open.map_or(self.split, |open| open - 1));
        let is_held = self.branches.iter().any(Branch::is_held);
        self.receiver.set_held_behind(is_held);
        let deaf = self.branches.iter().flat_map(Branch::deaf).copied().collect();
        self.receiver.set_deaf(deaf);
        if let Some(stream) = &self.admitted {
            self.splitter.update(stream.id, |status| status.held = is_held);
        }
    }

    fn show(&self) {
        let Some(stream) = &self.admitted else { return };
        let (branches, owners) = (self.branches.iter().filter(|branch| branch.is_in()).count(), self.branches.len());
        self.splitter.update(stream.id, |status| {
            (status.branches, status.owners, status.rounds) = (branches, owners, self.receiver.round());
        });
    }

    /// The connection has ended: last words, status, log.
    async fn finish(mut self, lost: Lost, addr: SocketAddr, turned_away: &TurnedAway) {
        match lost {
            Lost::Shutdown => self.receiver.say_bye(),
            Lost::Replaced => self.receiver.refuse(Refusal::Replaced),
            Lost::Superseded(by) => self.receiver.refuse(Refusal::Superseded(by)),
            _ => {}
        }
        let now = self.splitter.now();
        self.receiver.poll_transmit(now, self.pipe.out());
        self.pipe.finish(FAREWELL).await;
        for branch in self.branches {
            branch.finish(now, FAREWELL).await;
        }
        let Some(stream) = self.admitted else {
            let reason = if matches!(lost, Lost::End(LinkEnd::Refused(_))) { "refused" } else { "malformed" };
            return turned_away.note(reason, &addr.to_string(), &lost);
        };
        if matches!(lost, Lost::End(LinkEnd::Malformed(_))) {
            turned_away.count("malformed");
        }
        self.splitter.ended(stream.id);
        match lost {
            Lost::Shutdown | Lost::Replaced | Lost::End(LinkEnd::Bye) => {
                tracing::info!(reason = %lost, %addr, "stream is closed");
            }
            _ => tracing::warn!(error = %lost, %addr, "stream is down"),
        }
    }
}

/// How a branch of this stream speaks: as its sender would.
fn branch_options<N: Nodes>(splitter: &Splitter<N>, stream: &Admitted) -> SenderOptions {
    let (hello, links) = (&stream.hello, &splitter.links);
    SenderOptions {
        claim: hello.claim.clone(),
        // Later than any of an earlier connection of this sender, through whichever gateway.
        epoch: hello.epoch.wrapping_shl(2 * CONNECTION_BITS) + (stream.arrangements << CONNECTION_BITS),
        heartbeat: links.heartbeat,
        window_bytes: links.window_bytes,
        batch_bytes: links.batch_bytes,
        reconnect_min: links.reconnect_min,
        reconnect_max: OWNERS_PATIENCE,
        timeout: links.timeout,
        frame_bytes_max: links.frame_bytes_max,
        ..SenderOptions::new(&hello.name, hello.origin, hello.birth)
    }
}

/// The low bits of a branch's epoch count its connections, as many above them the arrangements; the rest is the sender's epoch.
const CONNECTION_BITS: u32 = 10;
