//! The end that lacks something: a replica that is fed, a primary that is given back. Mirror image of `source`.
//!
//! A thin loop around [`ReceivingEnd`]: frames in, time, events, batches to the store, answers out, sleep. The sender is a node
//! of this region, by its certificate where the bus has one, and is believed in all that it says of anybody.

use std::{io, time::Duration};

use clock::{Incarnation, Now, Origin};
use geo_link::{
    ReceivingEnd,
    limits::{FRAMES_PER_TURN, ITEMS_PER_TURN},
};
use geo_link_core::{
    Authority, Batch, Hello, Items, LinkEnd, Malformed, Receiver, ReceiverEvent, ReceiverOptions, Refusal, Want,
    limits::{FRAME_BYTES_MAX, SMALL_FRAME_BYTES_MAX},
};
use node_core::{
    cluster::{Assignment, Life, NodeId, Purpose},
    slot::SlotRange,
    store::{HeapFull, Intake, SeenTable},
};
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    drops::{Before, Turn},
};
use crate::{
    cluster::bus::BusStream,
    limits::{FAREWELL, FEED_SILENCE_MAX},
};

/// Who may feed this node, as what it is now.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    from: NodeId,
    purpose: Purpose,
    /// Who stamps what comes; anybody's comes from who gives back.
    life: Option<Life>,
}

impl Expected {
    /// Whether somebody waits for this feed.
    pub(super) fn of(assignment: &Assignment, from: NodeId, purpose: &Purpose) -> Option<Self> {
        let life = match assignment {
            Assignment::Replica { life, .. } => Some(*life),
            _ => None,
        };
        assignment.expects(from, purpose).then(|| Self { from, purpose: purpose.clone(), life })
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the connection is lost: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    End(#[from] LinkEnd),
    #[error("{0}")]
    Full(#[from] HeapFull),
    #[error("the assignment is over")]
    Over,
    #[error("slots are dropped here")]
    Dropped,
    #[error("another feed brings these slots")]
    Replaced,
}

impl From<Malformed> for Lost {
    fn from(error: Malformed) -> Self {
        Self::End(error.into())
    }
}

/// Takes in a feed until it, or the assignment, ends.
pub(super) async fn run(shared: &Shared, stream: BusStream, expected: Expected, ending: &CancellationToken) {
    let purpose = expected.purpose.clone();
    let mut connection = Connection::new(shared, stream, expected);
    let lost = connection.serve(ending).await;
    let is_in_order = matches!(lost, Lost::Over | Lost::Dropped | Lost::Replaced);
    if is_in_order {
        connection.end.receiver.say_bye();
    }
    connection.end.end(shared.now(), is_in_order, FAREWELL).await;
    match lost {
        Lost::Over | Lost::Dropped | Lost::Replaced | Lost::End(LinkEnd::Bye) => {
            tracing::debug!(?purpose, "feed has ended")
        }
        lost => tracing::info!(error = %lost, ?purpose, "feed has ended"),
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    expected: Expected,
    end: ReceivingEnd<BusStream>,
    intake: Intake,
    speaker: Option<Origin>,
    /// The number of the feed that brings slots, once it has begun.
    feed: Option<u64>,
    /// The sender waits to be told what is wanted of it.
    waits: bool,
    /// The map by which the sender goes.
    epoch: u64,
    /// What had been dropped here when a primary was told what is wanted.
    before: Option<Before>,
    items: usize,
}

impl<'a> Connection<'a> {
    fn new(shared: &'a Shared, stream: BusStream, expected: Expected) -> Self {
        let origin = shared.store.origin();
        let options = ReceiverOptions {
            timeout: FEED_SILENCE_MAX,
            authority: Authority::Everything,
            // A new primary begins ahead of its clock, and a replica stamps nothing.
            max_drift: Duration::from_secs(u64::from(u32::MAX)),
            ..ReceiverOptions::new(origin, shared.store.matrix().birth(origin))
        };
        let intake = match &expected.purpose {
            Purpose::Move(cargo) => Intake::of_slots(cargo.slots.clone()),
            Purpose::Follow | Purpose::Return => Intake::default(),
        };
        Self {
            shared,
            expected,
            end: ReceivingEnd::new(Receiver::new(options, shared.now()), stream, SMALL_FRAME_BYTES_MAX),
            intake,
            speaker: None,
            feed: None,
            waits: false,
            epoch: 0,
            before: None,
            items: 0,
        }
    }

    async fn serve(&mut self, ending: &CancellationToken) -> Lost {
        loop {
            if let Err(lost) = self.work().await {
                return lost;
            }
            if let Err(lost) = self.rest(ending).await {
                return lost;
            }
            yield_now().await;
        }
    }

    /// Does all that can be done now.
    async fn work(&mut self) -> Result<(), Lost> {
        turn(self.shared, self.before)?;
        for _ in 0..FRAMES_PER_TURN {
            let now = self.shared.now();
            self.handle_events(now)?;
            if let Some(batch) = self.end.receiver.poll_batch(now) {
                self.handle_events(now)?;
                self.apply(batch).await?;
            }
            if !self.end.take_in(now)? {
                break;
            }
        }
        let now = self.shared.now();
        self.end.receiver.handle_timeout(now);
        self.handle_events(now)?;
        if self.waits && self.may_be_fed() {
            self.welcome(now);
        }
        self.end.put_out(now);
        Ok(())
    }

    /// Waits until there is something to do.
    async fn rest(&mut self, ending: &CancellationToken) -> Result<(), Lost> {
        let shared = self.shared;
        let (returned, dropped) = (shared.returned.notified(), shared.drops.changed());
        tokio::pin!(returned, dropped);
        // Ask to be woken first, then look.
        returned.as_mut().enable();
        dropped.as_mut().enable();
        turn(shared, self.before)?;
        if self.waits && self.may_be_fed() {
            return Ok(());
        }
        let now = shared.now();
        let deadline = self.end.receiver.poll_timeout(now).unwrap_or(now.monotonic);
        tokio::select! {
            biased;
            () = ending.cancelled() => Err(Lost::Over),
            rested = self.end.rest(deadline, || shared.now()) => Ok(rested?),
            () = returned, if self.waits => Ok(()),
            () = dropped => Ok(()),
        }
    }

    fn handle_events(&mut self, now: Now) -> Result<(), Lost> {
        while let Some(event) = self.end.receiver.poll_event() {
            match event {
                ReceiverEvent::Greeted(hello) => self.greeted(&hello, now),
                // A primary says so what every region has seen.
                ReceiverEvent::Reported { origin, seen } if self.expected.purpose == Purpose::Follow => {
                    self.shared.store.settings().set_frontier(seen.at(origin));
                }
                ReceiverEvent::Ended(end) => return Err(end.into()),
                // What a node of this region is fed does not depend on what it has come to own.
                ReceiverEvent::Asked
                | ReceiverEvent::Reported { .. }
                | ReceiverEvent::Audited(_)
                | ReceiverEvent::Held(_)
                | ReceiverEvent::Resumed
                | ReceiverEvent::Refused(_) => {}
            }
        }
        Ok(())
    }

    fn greeted(&mut self, hello: &Hello, now: Now) {
        if self.expected.life.is_some_and(|life| life.origin != hello.origin) {
            // One of us has not heard of the latest map.
            return self.end.receiver.refuse(Refusal::Superseded(hello.origin));
        }
        self.speaker = Some(hello.origin);
        self.epoch = hello.claim.epoch;
        self.end.pipe.inbox.allow(FRAME_BYTES_MAX);
        self.waits = self.expected.purpose == Purpose::Follow && !self.may_be_fed();
        if self.waits {
            self.end.receiver.welcome(now, Want::Later);
        } else {
            self.welcome(now);
        }
    }

    /// Whether a replica has returned what it had, and goes by a map that is as new as its primary's, with nothing left to drop.
    fn may_be_fed(&self) -> bool {
        let Shared { progress, drops, .. } = self.shared;
        progress.lock().may_be_fed() && drops.before().is_some() && drops.carried() >= self.epoch
    }

    /// Says what is wanted.
    fn welcome(&mut self, now: Now) {
        self.waits = false;
        if self.expected.purpose == Purpose::Follow {
            self.before = self.shared.drops.before();
            if self.before.is_none() {
                // Something has begun to be dropped just now.
                self.waits = true;
                return self.end.receiver.welcome(now, Want::Later);
            }
        }
        if let Some(restamping) = self.expected.life.and_then(|life| self.shared.follow_restamped(life)) {
            self.intake = Intake::of_restamped(restamping);
        }
        let want = match &self.expected.purpose {
            Purpose::Move(cargo) => {
                let begun = self.shared.custody().begins_to_arrive(self.expected.from, cargo.since, &cargo.slots);
                if begun.is_none() {
                    return self.end.receiver.refuse(Refusal::Other("these slots were taken already".to_owned()));
                }
                self.feed = begun;
                // What an earlier attempt left, or an earlier stay.
                self.shared.store.clear_slots(&cargo.slots);
                Want::Clone(SeenTable::new(SlotRange::ALL))
            }
            _ if self.shared.progress.holding().is_none() => Want::Clone(self.shared.seen(now)),
            _ => Want::Resume(self.shared.seen(now)),
        };
        self.end.receiver.welcome(now, want);
    }

    /// Applies a batch, in turns.
    async fn apply(&mut self, batch: Batch) -> Result<(), Lost> {
        let mut items = batch.items();
        while self.apply_some(&mut items)? {
            yield_now().await;
        }
        let applied = self.end.receiver.applied(self.shared.now(), batch);
        if applied.has_watermark {
            self.has_all();
        }
        Ok(())
    }

    /// Applies what a turn has room for. Returns whether there may be more.
    fn apply_some(&mut self, items: &mut Items<'_>) -> Result<bool, Lost> {
        let (shared, now) = (self.shared, self.shared.now());
        let _turn = turn(shared, self.before)?;
        if self.is_replaced() {
            return Err(Lost::Replaced);
        }
        for item in items {
            let item = item.map_err(Malformed::from)?;
            self.end.receiver.check(&item)?;
            self.intake.take(&shared.store, &item, self.end.receiver.sender_saw(), now)?;
            self.items += 1;
            if self.items >= ITEMS_PER_TURN {
                self.items = 0;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether what this brings was cleared for another feed, which begins on this thread as well. What comes late of it would claim as seen what
    /// is here no more.
    fn is_replaced(&self) -> bool {
        match (&self.expected.purpose, self.feed) {
            (Purpose::Move(cargo), Some(feed)) => !self.shared.custody().brings(self.expected.from, cargo.since, feed),
            _ => false,
        }
    }

    /// All has come that there was when the feed began.
    fn has_all(&mut self) {
        match (&self.expected.purpose, self.speaker, self.feed) {
            (Purpose::Follow, Some(speaker), _) => {
                let dropped = self.intake.drop_replaced(&self.shared.store);
                self.shared.note_full_copy(speaker.incarnation(), dropped);
            }
            (Purpose::Move(cargo), _, Some(feed)) => {
                self.shared.custody().has_arrived(self.expected.from, cargo.since, feed);
            }
            _ => {}
        }
    }
}

/// Nothing is dropped as long as this is held. Of a feed that does not go by what was dropped, it is nothing.
///
/// # Errors
/// If something was dropped since the feed was asked for.
fn turn(shared: &Shared, before: Option<Before>) -> Result<Option<Turn<'_>>, Lost> {
    before.map(|before| shared.drops.turn(before).ok_or(Lost::Dropped)).transpose()
}

impl Shared {
    /// What this node has seen, but for slots of which it is not sure.
    fn seen(&self, now: Now) -> SeenTable {
        let mut seen = self.store.seen_table(now);
        self.unsure().iter().for_each(|slot| seen.clear(slot));
        seen
    }

    /// It has all of that life, and dropped so much of what that has restamped.
    fn note_full_copy(&self, of: Incarnation, dropped: Option<usize>) {
        if self.progress.lock().is_outdated() {
            self.mark.begin_anew();
            tracing::warn!(dropped = dropped.unwrap_or_default(), "nothing of the future is left here");
        }
        if self.progress.holding() != Some(of) {
            tracing::info!("this replica has all that its primary has");
        }
        self.progress.lock().is_full_copy(of);
        self.forget_unsure();
    }
}
