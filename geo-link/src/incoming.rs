//! The end of a stream at the store that its records are for: applies them. Mirror image of `outgoing`.
//!
//! A thin loop around [`ReceivingEnd`] and [`Incoming`]: bytes in, time, events, batches to the store, answers out, sleep. Each
//! connection has its own task. What one sends, be it garbage, ends that one; what one withholds holds up nobody; and a large
//! batch is applied in turns, between which the others get theirs.

use std::{io, sync::Arc};

use clock::Now;
use geo_link_core::{
    Batch, CloneProgress, Hello, Incoming, LinkEnd, LinkId, Malformed, Receiver, ReceiverEvent, ReceiverOptions,
    Refusal, Wish, limits::SMALL_FRAME_BYTES_MAX,
};
use node_core::{
    slot::SlotSet,
    store::{HeapFull, Tally},
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
    region::{Ending, PeerState, Region},
    status::InState,
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
    stream: Incoming,
    /// Who sends, once it was let in.
    admitted: Option<Admitted>,
    shown: Option<(InState, Option<CloneProgress>)>,
    /// Items that were applied since others had their turn.
    items: usize,
    /// A batch waits for the mark of this process's clock.
    awaits_mark: bool,
}

struct Admitted {
    peer: Arc<PeerState>,
    id: LinkId,
    /// When a newer connection takes the place of this one, or there is none for its region.
    ending: Ending,
    span: tracing::Span,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Link<'a, S> {
    fn new(region: &'a Region, names: Vec<String>, slots: Option<SlotSet>, stream: S) -> Self {
        let (origin, birth) = region.origin();
        let options = ReceiverOptions {
            max_drift: region.options.max_drift,
            timeout: region.options.timeout,
            frame_bytes_max: region.options.frame_bytes_max,
            ..ReceiverOptions::new(origin, birth)
        };
        let receiver = Receiver::new(options, region.now());
        Self {
            region,
            names,
            end: ReceivingEnd::new(receiver, stream, SMALL_FRAME_BYTES_MAX),
            stream: Incoming::new(slots),
            admitted: None,
            shown: None,
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
            if self.stream.has_moved(&self.region.store) {
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
        let deadline = region.links(|links| self.stream.poll_timeout(&self.end.receiver, links, now));
        let deadline = if self.awaits_mark { now.monotonic + MARK_RECHECK } else { deadline.unwrap_or(now.monotonic) };
        let ending = self.admitted.as_ref().map(|link| link.ending.clone());
        let replaced = async move {
            match ending {
                Some(ending) => ending.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Err(Lost::Shutdown),
            () = replaced => Err(Lost::Replaced),
            rested = self.end.rest(deadline, || region.now()) => Ok(rested?),
            () = wishes, if self.stream.waits() => Ok(()),
        }
    }

    fn handle_events(&mut self, now: Now) -> Result<(), Lost> {
        let region = self.region;
        while let Some(event) = self.end.receiver.poll_event() {
            let receiver = &mut self.end.receiver;
            region.links(|links| self.stream.handle_event(&event, receiver, &region.store, links, now));
            match event {
                ReceiverEvent::Greeted(hello) => self.admit(&hello, now),
                ReceiverEvent::Audited(audit) => {
                    if let Some(id) = self.stream.id() {
                        region.audited(id.region(), &audit, now);
                    }
                }
                ReceiverEvent::Held(ahead) => {
                    tracing::warn!(?ahead, "holding a batch: the peer's clock is ahead of ours, or ours is behind");
                }
                ReceiverEvent::Resumed => tracing::info!("the batch that was held is let go: the clocks agree"),
                ReceiverEvent::Refused(Refusal::Superseded(by)) => region.superseded(by),
                ReceiverEvent::Asked | ReceiverEvent::Reported { .. } | ReceiverEvent::Refused(_) => {}
                ReceiverEvent::Ended(end) => return Err(end.into()),
            }
        }
        Ok(())
    }

    /// The sender says who it is: lets it in, or not.
    fn admit(&mut self, hello: &Hello, now: Now) {
        let region = self.region;
        let named = |peer: &Peer| peer.name == hello.name && self.names.contains(&hello.name);
        let Some(peer) = region.peers.find(named) else {
            let refusal = Refusal::Region(format!("{}, while its certificate names {:?}", hello.name, self.names));
            return self.end.receiver.refuse(refusal);
        };
        match region.admit(&peer, hello, now) {
            Ok((id, wish, ending)) => {
                let span = tracing::info_span!("link", from = hello.name, to = region.name);
                span.in_scope(|| tracing::info!(origin = %id.origin, ?wish, "link is up"));
                peer.update_in(|status| status.last_error = None);
                self.end.pipe.inbox.allow(region.options.frame_bytes_max);
                let slots = &hello.claim.slots;
                self.stream.admitted(&mut self.end.receiver, &region.store, (id, wish), slots, now);
                self.admitted = Some(Admitted { peer, id, ending, span });
            }
            Err(refusal) => self.end.receiver.refuse(refusal),
        }
    }

    /// Tells a sender that was told to wait what is wanted of it now.
    fn poll_wish(&mut self, now: Now) {
        let (region, receiver) = (self.region, &mut self.end.receiver);
        let wish = region.links(|links| self.stream.poll_wish(receiver, &region.store, links, now));
        if let Some((wish, link)) = wish.zip(self.admitted.as_ref()) {
            link.span.in_scope(|| tracing::info!(?wish, "asking for what is missing"));
        }
    }

    /// Applies a batch, in turns.
    async fn apply(&mut self, batch: Batch) -> Result<(), Lost> {
        let Some(Admitted { peer, id, .. }) = &self.admitted else { return Ok(()) };
        let (region, store, receiver) = (self.region, &self.region.store, &mut self.end.receiver);
        let (before, matrix) = (self.stream.tally(), store.matrix());
        let mut now = region.now();
        for item in batch.items() {
            let item = self.stream.vet(receiver, store, &matrix, item.map_err(Malformed::from)?)?;
            if let Some(claim) = self.stream.take(receiver, store, &item, now)? {
                region.links(|links| links.claimed(store, *id, &claim));
            }
            self.items += 1;
            if self.items >= ITEMS_PER_TURN {
                self.items = 0;
                yield_now().await;
                if self.stream.has_moved(store) {
                    return Err(Lost::Moved);
                }
                now = region.now();
            }
        }
        let now = region.now();
        let applied = region.links(|links| self.stream.applied(receiver, store, links, batch, now));
        let tally = difference(self.stream.tally(), before);
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
        Ok(())
    }

    /// Puts out what is to be said.
    fn put_out(&mut self, now: Now) {
        let (region, receiver) = (self.region, &mut self.end.receiver);
        region.links(|links| self.stream.tell_row(receiver, &region.store, links, now));
        self.end.put_out(now);
    }

    /// Brings the status up to date.
    fn show(&mut self) {
        let (Some(link), Some(wish)) = (&self.admitted, self.stream.wish()) else { return };
        let is_cloning = || self.region.links(|links| links.is_cloning(link.id));
        let state = match wish {
            _ if self.end.receiver.is_held() => InState::Held,
            Wish::Later => InState::Waiting,
            Wish::Clone if is_cloning() => InState::Cloning,
            Wish::Clone | Wish::Resume => InState::Streaming,
        };
        let now = (state, (state == InState::Cloning).then_some(self.stream.scanned()));
        if self.shown.replace(now) != Some(now) {
            link.peer.show(link.id, now.0, now.1);
        }
    }

    /// The connection has ended: last words, status, log.
    async fn finish(mut self, lost: Lost, addr: &str, turned_away: &TurnedAway) {
        match (&lost, &self.admitted) {
            (Lost::Shutdown | Lost::Moved, _) => self.end.receiver.say_bye(),
            (Lost::Replaced, Some(link)) => {
                self.end.receiver.refuse(link.ending.why(&link.peer.peer));
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
        self.region.links(|links| links.lost(id));
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
