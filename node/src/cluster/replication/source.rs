//! The end that has something: a primary that feeds a replica or another shard, a replica that gives back.
//!
//! A thin loop around [`SendingEnd`], as the one of a link between regions is: frames in, time, events, items from the feed,
//! frames out, sleep. Besides it remembers, for each batch that ended in a watermark, which one that was; when the batch
//! is acknowledged, everything up to there is at the other end.

use std::{collections::VecDeque, io, time::Duration};

use clock::{Now, Time};
use geo_link::SendingEnd;
use geo_link_core::{
    LinkEnd, Malformed, Phase, Sender, SenderEvent, SenderOptions, Want,
    limits::{GREETING_BYTES_MAX, SMALL_FRAME_BYTES_MAX},
};
use node_core::{
    cluster::{Opening, Purpose},
    slot::SlotSet,
    store::{Claim, Feed, FeedItem, Polled, Scope},
};
use tokio::{task::yield_now, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{Shared, Target, drops::Before};
use crate::{
    cluster::bus::{BusStream, DialError},
    limits::{FAREWELL, FEED_RECONNECT_MAX, FEED_SILENCE_MAX, FRONTIER_INTERVAL},
};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("cannot connect: {0}")]
    Dial(#[from] DialError),
    #[error("the connection is lost: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    End(#[from] LinkEnd),
    #[error("all was said")]
    Done,
    #[error("the assignment is over")]
    Over,
    #[error("slots are dropped here")]
    Dropped,
}

impl From<Malformed> for Lost {
    fn from(error: Malformed) -> Self {
        Self::End(error.into())
    }
}

/// Returns to the primary what it lacks, until that is done or `ending`.
pub(super) async fn give_back(shared: &Shared, target: &Target, ending: &CancellationToken) {
    if let Some(slots) = serve(shared, target, ending).await {
        if !slots.is_empty() {
            tracing::info!(slots = slots.len(), "the primary was sent what it lacked");
        }
        shared.note_returned(slots);
    }
}

/// Keeps a connection until all was said, in which case it returns of which slots something was sent, or `ending`.
pub(super) async fn serve(shared: &Shared, target: &Target, ending: &CancellationToken) -> Option<SlotSet> {
    let mut sender = Sender::new(options(shared));
    let (mut slots, mut is_repeated) = (SlotSet::new(), false);
    loop {
        let pause = sender.poll_timeout(true).unwrap_or_default().saturating_sub(shared.now().monotonic);
        tokio::select! {
            () = ending.cancelled() => return None,
            () = sleep(pause) => {}
        }
        // What is being dropped here is not what the other end is to be told of.
        let before = tokio::select! {
            () = ending.cancelled() => return None,
            before = until_dropped(shared) => before,
        };
        sender.dial(shared.now());
        sender.set_claim(Claim { epoch: shared.drops.carried(), ..shared.store.claim() });
        let lost = tokio::select! {
            () = ending.cancelled() => return None,
            connected = connect(shared, target) => match connected {
                Err(lost) => lost,
                Ok(stream) => Connection::new(shared, target, &mut sender, stream, &mut slots, before).serve(ending).await,
            },
        };
        if let Some(known) = target.acknowledgements(shared) {
            known.lost(target.node, target.since());
        }
        match lost {
            Lost::Over => return None,
            Lost::Done => return Some(slots),
            Lost::Dropped => tracing::debug!(address = %target.address, "slots were dropped: the feed begins anew"),
            // A node that restarts is away for a moment; that is no news each time it is tried.
            lost if is_repeated => tracing::debug!(error = %lost, address = %target.address, "still not connected"),
            lost => {
                tracing::info!(error = %lost, address = %target.address, purpose = ?target.purpose, "not connected")
            }
        }
        is_repeated = true;
        sender.handle_lost(shared.now(), rand::random());
    }
}

async fn until_dropped(shared: &Shared) -> Before {
    loop {
        let changed = shared.drops.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if let Some(before) = shared.drops.before() {
            return before;
        }
        changed.await;
    }
}

fn options(shared: &Shared) -> SenderOptions {
    let origin = shared.store.origin();
    let birth = shared.store.matrix().birth(origin);
    SenderOptions {
        reconnect_max: FEED_RECONNECT_MAX,
        timeout: FEED_SILENCE_MAX,
        ..SenderOptions::new("node", origin, birth)
    }
}

async fn connect(shared: &Shared, target: &Target) -> Result<BusStream, Lost> {
    let opening = Opening::Feed { from: shared.me, purpose: target.purpose.clone() };
    let first = rmp_serde::to_vec(&opening).map_err(io::Error::other)?;
    Ok(shared.bus.peer(target.address.clone()).connect(&first).await?)
}

/// A batch that ended in a watermark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    /// Its number on its connection.
    pub(super) batch: u64,
    /// All that this node stamped up to here has been sent.
    pub(super) until: Time,
    /// Changes of the log that have been read.
    pub(super) offset: u64,
    /// All that the log named at this moment of monotonic time has been sent.
    pub(super) as_of: Duration,
}

struct Connection<'a> {
    shared: &'a Shared,
    target: &'a Target,
    end: SendingEnd<'a, BusStream>,
    settled: VecDeque<Settled>,
    /// The watermark of the batch that is being filled, if it has one.
    watermark: Option<Settled>,
    /// The slots of which something was sent, if anybody wants to know.
    slots: &'a mut SlotSet,
    rowed: Option<Duration>,
    /// When the feed was asked last for what it has.
    fetched: Duration,
    /// What had been dropped here when it was begun.
    before: Before,
}

impl<'a> Connection<'a> {
    fn new(
        shared: &'a Shared,
        target: &'a Target,
        sender: &'a mut Sender,
        stream: BusStream,
        slots: &'a mut SlotSet,
        before: Before,
    ) -> Self {
        Self {
            shared,
            target,
            end: SendingEnd::new(sender, stream, GREETING_BYTES_MAX),
            settled: VecDeque::new(),
            watermark: None,
            slots,
            rowed: None,
            fetched: Duration::ZERO,
            before,
        }
    }

    /// Serves the connection until it ends, and says why it did.
    async fn serve(&mut self, ending: &CancellationToken) -> Lost {
        self.end.sender.handle_connected(self.shared.now());
        let lost = loop {
            if let Err(lost) = self.work() {
                break lost;
            }
            if let Err(lost) = self.rest(ending).await {
                break lost;
            }
            yield_now().await;
        };
        let is_in_order = matches!(lost, Lost::Over | Lost::Dropped | Lost::Done);
        self.end.end(self.shared.now(), is_in_order, FAREWELL).await;
        lost
    }

    /// Does all that can be done now.
    fn work(&mut self) -> Result<(), Lost> {
        let now = self.shared.now();
        if self.target.purpose == Purpose::Follow && self.shared.drops.turn(self.before).is_none() {
            return Err(Lost::Dropped);
        }
        self.end.take_in(now)?;
        while let Some(event) = self.end.sender.poll_event() {
            self.handle_event(event)?;
        }
        self.note_acknowledged(now)?;
        self.fetch(now);
        self.put_out(now);
        Ok(())
    }

    /// Waits until there is something to do.
    async fn rest(&mut self, ending: &CancellationToken) -> Result<(), Lost> {
        let shared = self.shared;
        let acknowledgements = self.target.acknowledgements(shared).unwrap_or(&shared.followers);
        let (wants, dropped) = (acknowledgements.wants(), shared.drops.changed());
        tokio::pin!(wants);
        // Ask to be woken first, then look.
        wants.as_mut().enable();
        if acknowledgements.wanted() > self.fetched {
            self.end.sender.hurry(shared.now());
        }
        tokio::select! {
            biased;
            () = ending.cancelled() => Err(Lost::Over),
            rested = self.end.rest(&shared.store, &shared.news, || shared.now()) => Ok(rested?),
            () = wants => Ok(()),
            () = dropped => Ok(()),
        }
    }

    fn handle_event(&mut self, event: SenderEvent) -> Result<(), Lost> {
        match event {
            SenderEvent::Wanted(want) => self.start_feed(want),
            SenderEvent::Ended(end) => return Err(end.into()),
            // The map says who is who, and clocks are compared by the leader.
            SenderEvent::Greeted { .. }
            | SenderEvent::Reported { .. }
            | SenderEvent::Held(_)
            | SenderEvent::Refused(_) => {}
        }
        Ok(())
    }

    fn start_feed(&mut self, want: Want) {
        let (store, Some(consumer)) = (&self.shared.store, self.end.sender.peer()) else { return };
        self.end.pipe.inbox.allow(SMALL_FRAME_BYTES_MAX);
        // What has arrived here of origins that speak no more goes with every feed: that is what is returned.
        let own = Scope::Region(store.origin().region());
        let feed = match (&self.target.purpose, want) {
            (_, Want::Later) => return,
            (Purpose::Move(cargo), _) => Feed::of_slots(store, cargo.slots.clone()),
            (Purpose::Follow, Want::Clone(seen)) => Feed::clone_rest(store, Scope::Everything, consumer, seen),
            (Purpose::Follow, Want::Resume(seen)) => Feed::resume(store, Scope::Everything, consumer, seen),
            (Purpose::Return, Want::Clone(seen) | Want::Resume(seen)) => Feed::resume(store, own, consumer, seen),
        };
        let (slots, records) = (feed.slots_waiting(), feed.backlog(store));
        tracing::info!(address = %self.target.address, purpose = ?self.target.purpose, slots, records, "sending what is lacked");
        self.end.feed = Some(feed);
    }

    /// Takes note of what the other end has applied.
    fn note_acknowledged(&mut self, now: Now) -> Result<(), Lost> {
        if self.end.sender.phase() != Phase::Streaming {
            return Ok(());
        }
        let acknowledged = self.end.sender.acknowledged();
        while let Some(settled) = self.settled.pop_front_if(|settled| settled.batch <= acknowledged) {
            match self.target.acknowledgements(self.shared) {
                Some(known) => known.acknowledged(self.target.node, self.target.since(), settled, now.monotonic),
                None => return Err(Lost::Done),
            }
        }
        Ok(())
    }

    /// Fills a batch from the feed, if one is due.
    fn fetch(&mut self, now: Now) {
        let (store, returns) = (&self.shared.store, self.target.purpose == Purpose::Return);
        let Some((sender, feed)) = self.end.due(now) else { return };
        self.fetched = now.monotonic;
        sender.queue_orphans(feed, store, now);
        let (room, own, mut watermark) = (sender.room(), store.origin(), None);
        let polled = feed.poll(store, now, room, |item| {
            match item {
                FeedItem::Watermark { origin, time } if *origin == own => watermark = Some(*time),
                FeedItem::Record { slot, .. } if returns => _ = self.slots.insert(*slot),
                _ => {}
            }
            sender.push(item)
        });
        sender.fed(now, polled);
        let (batch, offset, as_of) = (0, feed.position(), now.monotonic);
        self.watermark =
            watermark.filter(|_| polled == Polled::Drained).map(|until| Settled { batch, until, offset, as_of });
    }

    /// Puts out what is ready.
    fn put_out(&mut self, now: Now) {
        if self.rowed.is_none_or(|at| now.monotonic >= at + FRONTIER_INTERVAL) {
            self.rowed = Some(now.monotonic);
            self.end.sender.set_row(self.shared.frontier());
        }
        if self.end.put_out(now).is_some()
            && let Some(settled) = self.watermark.take()
        {
            self.settled.push_back(Settled { batch: self.end.sender.sent(), ..settled });
        }
    }
}
