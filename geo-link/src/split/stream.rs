//! A stream that arrives, and its branches: one task, one loop around a [`Split`].
//!
//! The order of a turn: events of both sides, a new round if one is due, batches split as long as every branch takes items,
//! answers, sleep.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use clock::{Now, Origin};
use geo_link_core::{
    BranchEnd, BranchId, Hello, LinkEnd, LinkId, Malformed, Owner, Owners, Refusal, Split, SplitEvent, SplitOptions,
    limits::{GREETING_BYTES_MAX, PROTOCOL_VERSION, SMALL_FRAME_BYTES_MAX},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::{JoinSet, yield_now},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{Nodes, SplitStatus, Splitter};
use crate::{
    limits::{FAREWELL, FRAMES_PER_TURN},
    options::Peer,
    peers::Entry,
    pipe::Pipe,
    region::entropy,
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
    split: Split,
    pipe: Pipe<S>,
    admitted: Option<Admitted>,
    owners: watch::Receiver<Arc<Owners>>,
    /// Connections to owners.
    pipes: Pipes<N::Stream>,
    connecting: JoinSet<(BranchId, Result<N::Stream, String>)>,
}

struct Admitted {
    name: String,
    id: LinkId,
    replaced: CancellationToken,
}

impl<'a, N: Nodes, S: AsyncRead + AsyncWrite + Unpin> Stream<'a, N, S> {
    fn new(splitter: &'a Splitter<N>, names: Vec<String>, stream: S) -> Self {
        Self {
            splitter,
            names,
            split: Split::new(split_options(splitter), splitter.now()),
            pipe: Pipe::new(stream, SMALL_FRAME_BYTES_MAX),
            admitted: None,
            owners: splitter.nodes.owners(),
            pipes: Pipes(BTreeMap::new()),
            connecting: JoinSet::new(),
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
        for _ in 0..FRAMES_PER_TURN {
            self.handle_events(now)?;
            if let Some(batch) = self.split.poll_batch(now)? {
                if let Some(stream) = &self.admitted {
                    self.splitter.count(&stream.name, batch);
                }
                self.work_branches(now)?;
            }
            if !self.split.wants_frames() {
                break;
            }
            let Some((kind, payload)) = self.pipe.inbox.next_frame()? else { break };
            self.split.handle_frame(now, kind, payload)?;
        }
        self.split.handle_timeout(now);
        self.handle_events(now)?;
        self.answer();
        if self.pipe.has_room() {
            self.split.poll_transmit(now, self.pipe.out());
        }
        Ok(())
    }

    /// Waits until there is something to do.
    async fn rest(&mut self, ending: &CancellationToken) -> Result<(), Lost> {
        let now = self.splitter.now();
        let deadline = self.split.poll_timeout(now, |branch| self.pipes.has_room(branch));
        let deadline = Instant::now() + deadline.saturating_sub(now.monotonic);
        let wants_frames = self.split.wants_frames();
        let has_frames = wants_frames && self.pipe.inbox.has_frame();
        let replaced = self.admitted.as_ref().map(|stream| stream.replaced.clone());
        let replaced = async move {
            match replaced {
                Some(token) => token.cancelled_owned().await,
                None => std::future::pending().await,
            }
        };
        let Self { pipe, pipes, owners, connecting, split, splitter, .. } = self;
        let mut broken = Vec::new();
        let moved = poll_fn(|cx| {
            let has_moved = pipes.poll_turn(cx, &mut broken);
            match pipe.poll_turn(cx, wants_frames) {
                Poll::Ready(Ok(true)) => {
                    split.handle_bytes(splitter.now());
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
        for (branch, error) in broken {
            self.lose_branch(now, branch, &error);
        }
        if let Some((branch, attempt)) = connected {
            self.connected(now, branch, attempt);
        }
        Ok(())
    }

    fn handle_events(&mut self, now: Now) -> Result<(), Lost> {
        while let Some(event) = self.split.poll_event() {
            match event {
                SplitEvent::Greeted(hello) => self.admit(hello, now),
                SplitEvent::Ended(end) => return Err(end.into()),
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
                        self.admitted = Some(Admitted { name: hello.name.clone(), id, replaced });
                        self.split.admit(hello, now, self.owners.borrow().clone());
                        return self.show();
                    }
                }
            }
        };
        self.split.refuse(refusal);
    }

    /// # Errors
    /// [`Lost::Superseded`]: what an owner says of the sender itself is for the sender to hear.
    fn work_branches(&mut self, now: Now) -> Result<(), Lost> {
        let owners = self.owners.borrow().clone();
        if !Arc::ptr_eq(self.split.arranged(), &owners) {
            for (branch, last_words) in self.split.arrange(now, owners) {
                if let Some(pipe) = self.pipes.0.remove(&branch) {
                    tokio::spawn(farewell(pipe, last_words));
                }
            }
            self.show();
        }
        let branches: Vec<_> = self.split.branches().map(|branch| branch.id()).collect();
        for branch in branches {
            if let Err(error) = self.pipes.work(now, branch, &mut self.split) {
                self.lose_branch(now, branch, &error);
                if let Some(by) = error.superseded_by() {
                    return Err(Lost::Superseded(by));
                }
            }
        }
        while let Some((branch, owner)) = self.split.poll_dial(now) {
            self.connect(branch, owner);
        }
        if let Some((slots, is_clone)) = self.split.begin_round(now) {
            if slots > 0 {
                tracing::info!(slots, is_clone, "asking for what the owners of slots lack");
            }
            self.show();
        }
        Ok(())
    }

    fn connect(&mut self, branch: BranchId, owner: Owner) {
        let Some(stream) = &self.admitted else { return };
        let (nodes, from) = (self.splitter.nodes.clone(), stream.name.clone());
        let patience = self.splitter.links.timeout;
        self.connecting.spawn(async move {
            let attempt = match timeout(patience, nodes.connect(owner, from)).await {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("not in time".to_owned()),
            };
            (branch, attempt)
        });
    }

    fn connected(&mut self, now: Now, branch: BranchId, attempt: Result<N::Stream, String>) {
        match attempt {
            Ok(stream) => {
                if self.split.handle_connected(now, branch) {
                    self.pipes.0.insert(branch, Pipe::new(stream, GREETING_BYTES_MAX));
                }
            }
            Err(error) => {
                let address = self.split.branch(branch).map(|branch| &branch.owner().address);
                tracing::debug!(?address, error, "the owner of some slots cannot be reached");
                self.split.handle_branch_lost(now, branch, entropy());
            }
        }
    }

    fn lose_branch(&mut self, now: Now, branch: BranchId, error: &dyn std::fmt::Display) {
        let address = self.split.branch(branch).map(|branch| &branch.owner().address);
        tracing::info!(?address, %error, "an owner of slots is not connected any more");
        self.pipes.0.remove(&branch);
        self.split.handle_branch_lost(now, branch, entropy());
        self.show();
    }

    /// Says what was applied, and what the owners say of themselves.
    fn answer(&mut self) {
        self.split.answer();
        if let Some(stream) = &self.admitted {
            self.splitter.update(stream.id, |status| status.held = self.split.is_held());
        }
    }

    fn show(&self) {
        let Some(stream) = &self.admitted else { return };
        let branches = self.split.branches();
        let (owners, branches) = (branches.len(), branches.filter(|branch| branch.is_in()).count());
        self.splitter.update(stream.id, |status| {
            (status.branches, status.owners, status.rounds) = (branches, owners, self.split.rounds());
        });
    }

    /// The connection has ended: last words, status, log.
    async fn finish(mut self, lost: Lost, addr: SocketAddr, turned_away: &TurnedAway) {
        match lost {
            Lost::Shutdown => self.split.say_bye(),
            Lost::Replaced => self.split.refuse(Refusal::Replaced),
            Lost::Superseded(by) => self.split.refuse(Refusal::Superseded(by)),
            _ => {}
        }
        let now = self.splitter.now();
        self.split.poll_transmit(now, self.pipe.out());
        let is_in_order = matches!(lost, Lost::Shutdown | Lost::Replaced | Lost::Superseded(_));
        self.pipe.end(is_in_order, FAREWELL).await;
        for (branch, last_words) in self.split.end_branches(now) {
            if let Some(pipe) = self.pipes.0.remove(&branch) {
                farewell(pipe, last_words).await;
            }
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

/// Connections to owners, by the branches that they serve.
struct Pipes<S>(BTreeMap<BranchId, Pipe<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> Pipes<S> {
    /// Does all that can be done now for a branch.
    fn work(&mut self, now: Now, branch: BranchId, split: &mut Split) -> Result<(), BranchEnd> {
        let Some(pipe) = self.0.get_mut(&branch) else { return Ok(()) };
        for _ in 0..FRAMES_PER_TURN {
            let Some((kind, payload)) = pipe.inbox.next_frame()? else { break };
            split.handle_branch_frame(now, branch, kind, payload)?;
        }
        split.work_branch(now, branch)?;
        if pipe.has_room() {
            split.poll_branch_transmit(now, branch, pipe.out());
        }
        Ok(())
    }

    /// Moves bytes; what cannot is `broken`. Returns whether any were.
    fn poll_turn(&mut self, cx: &mut Context<'_>, broken: &mut Vec<(BranchId, io::Error)>) -> bool {
        let mut has_moved = false;
        for (branch, pipe) in &mut self.0 {
            match pipe.poll_turn(cx, true) {
                Poll::Ready(Ok(_)) => has_moved = true,
                Poll::Ready(Err(error)) => broken.push((*branch, error)),
                Poll::Pending => {}
            }
        }
        has_moved
    }

    fn has_room(&self, branch: BranchId) -> bool {
        self.0.get(&branch).is_some_and(Pipe::has_room)
    }
}

/// Says last words, and closes a connection.
async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(mut pipe: Pipe<S>, last_words: Vec<u8>) {
    pipe.out().extend_from_slice(&last_words);
    pipe.end(false, FAREWELL).await;
}

fn split_options<N>(splitter: &Splitter<N>) -> SplitOptions {
    let links = &splitter.links;
    SplitOptions {
        region: splitter.id,
        heartbeat: links.heartbeat,
        window_bytes: links.window_bytes,
        batch_bytes: links.batch_bytes,
        reconnect_min: links.reconnect_min,
        timeout: links.timeout,
        frame_bytes_max: links.frame_bytes_max,
    }
}
