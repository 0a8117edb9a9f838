//! The end of a stream at the store that its records are for: applies them. Mirror image of `outgoing`.
//!
//! A thin loop around [`ReceivingEnd`]: bytes in, time, events, batches to the store, answers out, sleep. Each connection
//! has its own task and its own intake. What one sends, be it garbage, ends that one; what one withholds holds up
//! nobody; and a large batch is applied in turns, between which the others get theirs.
//!
//! In a cluster a stream is for the slots that this node owned when it was welcomed, among those for which whoever splits it
//! sends it here: what is said of a slot is worth nothing where its records went to somebody else. When slots change hands
//! the stream ends, and is begun anew.

use std::{io, sync::Arc, time::Duration};

use clock::Now;
use geo_link_core::{
    Batch, Hello, LinkEnd, LinkId, Malformed, Receiver, ReceiverEvent, ReceiverOptions, Refusal, Wish, check_own,
    limits::SMALL_FRAME_BYTES_MAX, of_known_regions,
};
use node_core::{
    slot::SlotSet,
    store::{Claim, FeedItem, HeapFull, Intake, Tally},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::yield_now,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    ends::ReceivingEnd,
    limits::{FAREWELL, FRAMES_PER_TURN, ITEMS_PER_TURN, MARK_RECHECK},
    options::Peer,
    region::{PeerState, Region},
    status::{CloneProgress, InState},
    tls,
    turned_away::TurnedAway,
};

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Broken(#[from] tls::Broken),
    #[error("{0}")]
    End(#[from] LinkEnd),
    #[error("{0}")]
    Full(#[from] HeapFull),
    #[error("a newer connection has taken the place of this one")]
    Replaced,
    #[error("slots have changed hands")]
    Moved,
    #[error("shutting down")]
    Shutdown,
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

impl From<Malformed> for Lost {
    fn from(error: Malformed) -> Self {
        Self::End(error.into())
    }
}

/// Serves one connection, whose other end is of one of the regions `names`, until it ends. It is for these slots; for all, if
/// none are named.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    region: &Region,
    names: Vec<String>,
    slots: Option<SlotSet>,
    stream: S,
    addr: &str,
    shutdown: &CancellationToken,
    turned_away: &TurnedAway,
) {
    let mut link = Link::new(region, names, slots, stream);
    let lost = link.serve(shutdown).await;
    link.finish(lost, addr, turned_away).await;
}

/// One connection.
struct Link<'a, S> {
    region: &'a Region,
    /// The regions that the peer's certificate names.
    names: Vec<String>,
    end: ReceivingEnd<S>,
    intake: Intake,
    /// The slots that it is for, if not all.
    slots: Option<SlotSet>,
    /// The slots that this node owned when the stream was welcomed, if not all.
    owned: Option<Arc<SlotSet>>,
    /// Which link this is, once it was let in.
    admitted: Option<Admitted>,
    rowed: Option<Duration>,
    shown: Option<(InState, Option<CloneProgress>)>,
    /// Slots that were scanned for this node since it was welcomed, and how many are to be.
    scanned: CloneProgress,
    /// Items that were applied since others had their turn.
    items: usize,
    /// A batch waits for the mark of this process's clock.
    awaits_mark: bool,
}

struct Admitted {
    peer: Arc<PeerState>,
    id: LinkId,
    /// Cancelled when a newer connection takes the place of this one, or there is none for its region.
    replaced: CancellationToken,
    span: tracing::Span,
    wish: Wish,
    /// The slots for which the sender speaks.
    slots: Arc<SlotSet>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Link<'a, S> {
    fn new(region: &'a Region, names: Vec<String>, slots: Option<SlotSet>, stream: S) -> Self {
        let (origin, birth) = region.origin();
        let options = ReceiverOptions {
            max_drift: region.links.max_drift,
            timeout: region.links.timeout,
            frame_bytes_max: region.links.frame_bytes_max,
            ..ReceiverOptions::new(origin, birth)
        };
        let receiver = Receiver::new(options, region.now());
        Self {
            region,
            names,
            end: ReceivingEnd::new(receiver, stream, SMALL_FRAME_BYTES_MAX),
            intake: Intake::default(),
            slots,
            owned: None,
            admitted: None,
            rowed: None,
            shown: None,
            scanned: CloneProgress::default(),
            items: 0,
            awaits_mark: false,
        }
    }

    /// Serves the connection until it ends, and says why it did.
    async fn serve(&mut self, shutdown: &CancellationToken) -> Lost {
        loop {
            let span = self.admitted.as_ref().map_or_else(tracing::Span::none, |link| link.span.clone());
            if let Err(lost) = self.work().instrument(span).await {
                return lost;
            }
            if let Err(lost) = self.rest(shutdown).await {
                return lost;
            }
            // There may always be more to read; others have their turn all the same.
            yield_now().await;
        }
    }

    /// Does all that can be done now.
    async fn work(&mut self) -> Result<(), Lost> {
        for _ in 0..FRAMES_PER_TURN {
            let now = self.region.now();
            self.handle_events(now)?;
            if self.has_moved() {
                return Err(Lost::Moved);
            }
            self.awaits_mark = self.end.receiver.ready_until(now).is_some_and(|last| !self.region.host.covers(last));
            if self.awaits_mark {
                break;
            }
            if let Some(batch) = self.end.receiver.poll_batch(now) {
                self.handle_events(now)?;
                self.apply(batch).await?;
            }
            if !self.end.take_in(now)? {
                break;
            }
        }
        let now = self.region.now();
        self.end.receiver.handle_timeout(now);
        self.handle_events(now)?;
        self.poll_wish(now);
        self.put_out(now);
        self.show();
        Ok(())
    }

    /// Waits until there is something to do.
    async fn rest(&mut self, shutdown: &CancellationToken) -> Result<(), Lost> {
        let region = self.region;
        let now = region.now();
        let wishes = region.wishes.notified();
        let is_waiting = self.admitted.as_ref().is_some_and(|link| link.wish == Wish::Later);
        let wish_timeout = self.region.wish_timeout().filter(|_| is_waiting);
        let deadline = match (self.end.receiver.poll_timeout(now), wish_timeout) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b).unwrap_or(now.monotonic),
        };
        let deadline = if self.awaits_mark { now.monotonic + MARK_RECHECK } else { deadline };
        let replaced = self.admitted.as_ref().map(|link| link.replaced.clone());
        let replaced = async move {
            match replaced {
                Some(token) => token.cancelled_owned().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Err(Lost::Shutdown),
            () = replaced => Err(Lost::Replaced),
            rested = self.end.rest(deadline, || region.now()) => Ok(rested?),
            () = wishes, if is_waiting => Ok(()),
        }
    }

    fn handle_events(&mut self, now: Now) -> Result<(), Lost> {
        while let Some(event) = self.end.receiver.poll_event() {
            match event {
                ReceiverEvent::Greeted(hello) => self.admit(&hello, now),
                ReceiverEvent::Asked => self.welcome_anew(now),
                ReceiverEvent::Reported { origin, seen } => self.region.report(origin, &seen),
                ReceiverEvent::Audited(audit) => {
                    if let Some(link) = &self.admitted {
                        self.region.audited(link.id.region(), &audit, now);
                    }
                }
                ReceiverEvent::Held(ahead) => {
                    tracing::warn!(?ahead, "holding a batch: the peer's clock is ahead of ours, or ours is behind");
                    self.note_held(true);
                }
                ReceiverEvent::Resumed => {
                    tracing::info!("the batch that was held is let go: the clocks agree");
                    self.note_held(false);
                }
                ReceiverEvent::Refused(Refusal::Superseded(by)) => self.region.superseded(by),
                ReceiverEvent::Refused(_) => {}
                ReceiverEvent::Ended(end) => return Err(end.into()),
            }
        }
        Ok(())
    }

    fn note_held(&self, is_held: bool) {
        if let Some(link) = &self.admitted {
            self.region.held(link.id, is_held);
        }
    }

    /// The sender says who it is: lets it in, or not.
    fn admit(&mut self, hello: &Hello, now: Now) {
        let region = self.region;
        let named = |peer: &Peer| peer.name == hello.name && self.names.contains(&hello.name);
        let Some(peer) = region.peers.find(named) else {
            let refusal = Refusal::Region(format!("{}, while its certificate names {:?}", hello.name, self.names));
            return self.end.receiver.refuse(refusal);
        };
        match region.admit(&peer, hello) {
            Ok((id, replaced)) => {
                let span = tracing::info_span!("link", from = hello.name, to = region.name);
                let wish = region.greeted(id, hello, now);
                span.in_scope(|| tracing::info!(origin = %id.origin, ?wish, "link is up"));
                peer.update_in(|status| status.last_error = None);
                self.admitted = Some(Admitted { peer, id, replaced, span, wish, slots: hello.claim.slots.clone() });
                self.end.pipe.inbox.allow(region.links.frame_bytes_max);
                self.welcome(now);
            }
            Err(refusal) => self.end.receiver.refuse(refusal),
        }
    }

    /// Tells a sender that was told to wait what is wanted of it now.
    fn poll_wish(&mut self, now: Now) {
        let Some(link) = self.admitted.as_mut().filter(|link| link.wish == Wish::Later) else { return };
        if let Some(wish) = self.region.poll_wish(link.id, now) {
            link.wish = wish;
            link.span.in_scope(|| tracing::info!(?wish, "asking for what is missing"));
            self.welcome(now);
        }
    }

    /// Says what is wanted now: a clone that is through is not wanted again.
    fn welcome_anew(&mut self, now: Now) {
        if let Some(link) = &mut self.admitted {
            link.wish = self.region.wish(link.id);
        }
        self.welcome(now);
    }

    /// Says what is wanted, from here on, of the slots that this node owns.
    fn welcome(&mut self, now: Now) {
        let Some(link) = &self.admitted else { return };
        self.owned = self.region.store.owned();
        let about = match (&self.owned, &self.slots) {
            (Some(owned), Some(slots)) => Some(owned.intersection(slots)),
            (owned, slots) => owned.as_deref().or(slots.as_ref()).cloned(),
        };
        let speaks = &link.slots;
        let of = about.as_ref().map_or(speaks.len(), |about| about.intersection(speaks).len());
        self.scanned = CloneProgress { slots: 0, of };
        self.intake = about.map_or_else(Intake::default, Intake::of_slots);
        self.end.receiver.welcome(now, self.region.want(link.wish, now));
    }

    /// Slots have come or gone since the stream was welcomed.
    fn has_moved(&self) -> bool {
        let owned = self.region.store.owned();
        self.admitted.is_some() && owned.as_ref().map(Arc::as_ptr) != self.owned.as_ref().map(Arc::as_ptr)
    }

    /// Applies a batch, in turns.
    async fn apply(&mut self, batch: Batch) -> Result<(), Lost> {
        let Some(Admitted { peer, id, .. }) = &self.admitted else { return Ok(()) };
        let before = self.intake.tally();
        let store = &self.region.store;
        let (own, matrix) = (store.origin(), store.matrix());
        let mut now = self.region.now();
        for item in batch.items() {
            let item = item.map_err(Malformed::from)?;
            self.end.receiver.check(&item)?;
            check_own(own, &item, |slot| store.promised_in(slot))?;
            let item = of_known_regions(item, |region| matrix.knows(region));
            self.intake.take(store, &item, self.end.receiver.sender_saw(), now)?;
            if let FeedItem::Speaks { origin, epoch, slots } = &item
                && *origin == id.origin
            {
                self.region.claimed(*id, &Claim { epoch: *epoch, slots: slots.clone() });
            }
            if matches!(item, FeedItem::SlotEnd { .. }) {
                self.scanned.slots = (self.scanned.slots + 1).min(self.scanned.of);
            }
            self.items += 1;
            if self.items >= ITEMS_PER_TURN {
                self.items = 0;
                yield_now().await;
                now = self.region.now();
            }
        }
        let applied = self.end.receiver.applied(self.region.now(), batch);
        let tally = difference(self.intake.tally(), before);
        let metrics = &peer.metrics.r#in;
        metrics.count(tally);
        metrics.bytes.count(applied.raw_bytes, applied.wire_bytes);
        if let Some(delay) = applied.delay {
            metrics.delay.record(delay.as_secs_f64());
        }
        peer.update_in(|status| {
            status.applied += tally.applied;
            status.stale += tally.stale;
            status.refused += tally.refused;
        });
        if applied.has_watermark {
            self.region.watermark(*id);
        }
        Ok(())
    }

    /// Puts out what is to be said.
    fn put_out(&mut self, now: Now) {
        if let Some(link) = &self.admitted
            && self.rowed.is_none_or(|at| now.monotonic >= at + self.region.links.heartbeat)
        {
            self.rowed = Some(now.monotonic);
            self.end.receiver.set_row(self.region.row(now));
            link.peer.hear(self.end.receiver.heard(now));
            self.end.receiver.set_deaf(self.region.deaf(now));
        }
        self.end.put_out(now);
    }

    /// Brings the status up to date.
    fn show(&mut self) {
        let Some(link) = &self.admitted else { return };
        let state = match link.wish {
            _ if self.end.receiver.is_held() => InState::Held,
            Wish::Later => InState::Waiting,
            Wish::Clone if self.region.is_cloning(link.id) => InState::Cloning,
            Wish::Clone | Wish::Resume => InState::Streaming,
        };
        let now = (state, (state == InState::Cloning).then_some(self.scanned));
        if self.shown.replace(now) != Some(now) {
            link.peer.show(link.id, now.0, now.1);
        }
    }

    /// The connection has ended: last words, status, log.
    async fn finish(mut self, lost: Lost, addr: &str, turned_away: &TurnedAway) {
        match (&lost, &self.admitted) {
            (Lost::Shutdown | Lost::Moved, _) => self.end.receiver.say_bye(),
            (Lost::Replaced, Some(link)) => {
                self.end.receiver.refuse(self.region.why_replaced(&link.peer, link.id));
            }
            _ => {}
        }
        let is_in_order = matches!(lost, Lost::Shutdown | Lost::Moved | Lost::Replaced);
        self.end.end(self.region.now(), is_in_order, FAREWELL).await;
        let Some(Admitted { peer, id, span, .. }) = self.admitted else {
            let reason = if matches!(lost, Lost::End(LinkEnd::Refused(_))) { "refused" } else { "malformed" };
            return turned_away.note(reason, addr, &lost);
        };
        if matches!(lost, Lost::End(LinkEnd::Malformed(_))) {
            turned_away.count("malformed");
        }
        span.in_scope(|| match lost {
            Lost::Shutdown | Lost::Moved | Lost::Replaced | Lost::End(LinkEnd::Bye) => {
                tracing::info!(reason = %lost, %addr, "link is closed");
            }
            _ => tracing::warn!(error = %lost, %addr, "link is down"),
        });
        self.region.lost(id);
        peer.ended(id, lost.to_string());
    }
}

fn difference(after: Tally, before: Tally) -> Tally {
    Tally {
        applied: after.applied - before.applied,
        stale: after.stale - before.stale,
        refused: after.refused - before.refused,
    }
}
