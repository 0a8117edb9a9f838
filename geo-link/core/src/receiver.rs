//! The receiver: the end of a link in the region that its records are for. Mirror image of `sender`.
//!
//! One [`Receiver`] lives as long as one incoming connection. Methods are of four kinds, as the sender's are; after
//! any of the others, poll in this order until each gives nothing: [`poll_event`](Receiver::poll_event),
//! [`poll_batch`](Receiver::poll_batch), [`poll_transmit`](Receiver::poll_transmit), and sleep until
//! [`poll_timeout`](Receiver::poll_timeout). Frames are handed in only while
//! [`wants_frames`](Receiver::wants_frames): what it does not want stays in the socket, and so, by and by, in the
//! sender's feed, which is where it can be conflated.
//!
//! # The hold
//! A batch with a stamp further ahead of our clock than `max_drift` is neither applied nor dropped. Applied, every
//! later write here would lose against it until our clock has caught up; dropped, it would be missing for ever. It
//! waits, and everything behind it waits, and answers go on to say that we are alive and hold. When the clocks agree,
//! it is applied as if nothing had been. A clock that stays ahead makes each batch wait for a moment behind the one
//! before; that is told as one hold, which is over when nothing has had to wait for [`HOLD_QUIET`]. Watermarks count as well: a clock that is ahead shows before its region's
//! first write is lost on anybody.
//!
//! # Answers
//! A batch is acknowledged after all of it was applied, and `seen` has moved before the answer leaves. One answer
//! covers all batches since the last; without any there is one each [`KEEPALIVE`].

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use clock::{Now, Origin, RegionId, Time, too_far_ahead};
use node_core::{
    slot::Slot,
    store::{FeedItem, Seen},
};

use crate::{
    audit::Audit,
    batch::{Batch, Unpacker},
    frame::{Ack, Echo, FrameKind, Hello, Malformed, Refusal, Want, Welcome, put_bye},
    limits::{FRAME_BYTES_MAX, GREETING_TIMEOUT, HOLD_NOTICE, HOLD_QUIET, HOLD_RECHECK, KEEPALIVE},
    sender::LinkEnd,
};

/// How a link receives.
#[derive(Clone, Debug)]
pub struct ReceiverOptions {
    /// Who stamps the writes of this region.
    pub origin: Origin,
    /// The time that all those stamps are above.
    pub birth: Time,
    /// How far ahead of the clock a stamp may lie.
    pub max_drift: Duration,
    /// How long the sender may be silent before the connection is given up.
    pub timeout: Duration,
    /// The longest frame that is taken, in bytes.
    pub frame_bytes_max: usize,
    /// What the sender may speak of.
    pub authority: Authority,
}

/// What a sender may speak of, beside the records that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// How far its own origin is seen, and what its own region has flushed: another region.
    Own,
    /// All that it has seen, of anybody: a node of the same region, whose word is as good as ours.
    Everything,
}

impl ReceiverOptions {
    /// The defaults, for a region whose current life is `origin`, born at `birth`.
    pub const fn new(origin: Origin, birth: Time) -> Self {
        Self {
            origin,
            birth,
            max_drift: clock::limits::MAX_DRIFT_DEFAULT,
            timeout: Duration::from_secs(5),
            frame_bytes_max: FRAME_BYTES_MAX,
            authority: Authority::Own,
        }
    }
}

/// What the shell must know or do.
#[derive(Clone, Debug)]
pub enum ReceiverEvent {
    /// The sender says who it is. The shell answers with [`Receiver::welcome`] or [`Receiver::refuse`].
    Greeted(Hello),
    /// The sender asks what is wanted now. The shell answers with [`Receiver::welcome`].
    Asked,
    /// What the sender has seen in all its slots.
    Reported {
        /// The sender.
        origin: Origin,
        /// The least over its slots.
        seen: Seen,
    },
    /// What the sender holds.
    Audited(Audit),
    /// Batches have had to wait for [`HOLD_NOTICE`]: the one that waits now lies this far ahead of our clock.
    Held(Duration),
    /// The hold that was reported is over: nothing has had to wait for [`HOLD_QUIET`].
    Resumed,
    /// The sender wants no link.
    Refused(Refusal),
    /// The connection is of no use any more. The shell sends what there is to send and closes it.
    Ended(LinkEnd),
}

/// What a batch was, as it turned out while it was applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Bytes before compression.
    pub raw_bytes: usize,
    /// Bytes of the frame.
    pub wire_bytes: usize,
    /// How long ago, on our clock, the oldest record of the batch was written, among those that came by the tail.
    /// Records of a scan are as old as they are; that says nothing of the link.
    pub delay: Option<Duration>,
    /// A watermark came: the sender has sent all that it had.
    pub has_watermark: bool,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Receiver {
    options: ReceiverOptions,
    phase: Phase,
    /// When the connection was made.
    since: Duration,
    heard: Duration,
    hello: Option<Hello>,
    unpacker: Unpacker,
    /// A batch that came and was not given out yet.
    pending: Option<Batch>,
    hold: Option<Hold>,
    /// The last batch that came, and the last that was applied.
    sequence: u64,
    applied: u64,
    /// Slots that are being scanned.
    scanning: BTreeSet<Slot>,
    /// The oldest record of the tail in the batch that is being applied.
    oldest: Option<Time>,
    has_watermark: bool,
    /// What the sender has seen, as last reported.
    sender_saw: Seen,
    /// The last welcome that was sent; batches that answer an earlier one are let be.
    round: u32,
    /// Somebody behind this end holds what was passed on to it.
    is_held_behind: bool,
    /// Regions that are to be relayed, and those that were at some time.
    deaf: BTreeSet<RegionId>,
    was_deaf: BTreeSet<RegionId>,
    echo: Option<(Time, Time)>,
    row: Option<Seen>,
    answered: Duration,
    owes_answer: bool,
    events: VecDeque<ReceiverEvent>,
    greetings: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The sender has not greeted yet.
    Greeting,
    /// It has; the shell has not answered yet.
    Deciding,
    /// Nothing is wanted of it yet.
    Waiting,
    /// Items come.
    Streaming,
    /// The connection is to be closed.
    Ended,
}

/// A time in which batches have had to wait.
#[derive(Clone, Copy, Debug)]
struct Hold {
    since: Duration,
    /// When a batch last had to wait.
    last: Duration,
    is_reported: bool,
}

impl Receiver {
    /// A connection that was just made.
    pub fn new(options: ReceiverOptions, now: Now) -> Self {
        Self {
            options,
            phase: Phase::Greeting,
            since: now.monotonic,
            heard: now.monotonic,
            hello: None,
            unpacker: Unpacker::new(),
            pending: None,
            hold: None,
            sequence: 0,
            applied: 0,
            scanning: BTreeSet::new(),
            oldest: None,
            has_watermark: false,
            sender_saw: Seen::new(),
            round: 0,
            is_held_behind: false,
            deaf: BTreeSet::new(),
            was_deaf: BTreeSet::new(),
            echo: None,
            row: None,
            answered: now.monotonic,
            owes_answer: false,
            events: VecDeque::new(),
            greetings: Vec::new(),
        }
    }

    /// Whether a frame may be handed in.
    pub const fn wants_frames(&self) -> bool {
        self.pending.is_none() && !matches!(self.phase, Phase::Deciding | Phase::Ended)
    }

    /// Whether batches have to wait because they lie too far ahead of our clock, and have for [`HOLD_NOTICE`].
    pub fn is_held(&self) -> bool {
        self.hold.is_some_and(|hold| hold.is_reported)
    }

    /// When something last came from the peer, in monotonic time. While nothing is read, silence says nothing.
    pub const fn heard(&self, now: Now) -> Duration {
        if self.pending.is_some() { now.monotonic } else { self.heard }
    }

    /// How often what is wanted was said.
    pub const fn round(&self) -> u32 {
        self.round
    }

    /// Whether items are wanted and come.
    pub fn is_streaming(&self) -> bool {
        self.phase == Phase::Streaming
    }

    /// What the sender's region has seen, as last reported: what [`Intake::take`](node_core::store::Intake::take)
    /// wants to know. A little old, so that a few more records than there are count as concurrent.
    pub const fn sender_saw(&self) -> &Seen {
        &self.sender_saw
    }

    /// Says whether somebody to whom batches were passed on holds one.
    pub const fn set_held_behind(&mut self, is_held: bool) {
        self.owes_answer |= is_held != self.is_held_behind;
        self.is_held_behind = is_held;
    }

    /// Says which regions the sender is to relay, since they cannot be heard here.
    pub fn set_deaf(&mut self, deaf: BTreeSet<RegionId>) {
        if deaf != self.deaf {
            self.was_deaf.extend(&deaf);
            self.deaf = deaf;
            self.owes_answer = true;
        }
    }

    /// Lets the sender in, or says what is wanted of it now. What is under way in answer to an earlier welcome will not be
    /// given out any more.
    pub fn welcome(&mut self, now: Now, want: Want) {
        self.round += 1;
        self.scanning.clear();
        if let Some(batch) = self.pending.take() {
            self.acknowledge(batch.envelope.sequence);
            self.unpacker.recycle(batch);
        }
        self.phase = if matches!(want, Want::Later) { Phase::Waiting } else { Phase::Streaming };
        let Self { options: ReceiverOptions { origin, birth, frame_bytes_max, .. }, .. } = *self;
        let round = self.round;
        Welcome { origin, birth, frame_bytes_max, round, want }.put(&mut self.greetings);
        self.answered = now.monotonic;
    }

    /// Does not let the sender in, or not any longer: the last frame says why.
    pub fn refuse(&mut self, refusal: Refusal) {
        refusal.put(&mut self.greetings);
        self.end(LinkEnd::Refused(refusal));
    }

    /// The process shuts down: the last frame says so.
    pub fn say_bye(&mut self) {
        put_bye(&mut self.greetings);
    }

    /// Sets the row that the next answer carries: what this region has seen in all its slots.
    pub fn set_row(&mut self, row: Seen) {
        self.row = Some(row);
    }

    /// Looks at an item before it is applied.
    ///
    /// # Errors
    /// [`Malformed::Authority`] if the item says something about another region's writes that only that region can
    /// know. The connection is to be closed.
    pub fn check(&mut self, item: &FeedItem<'_>) -> Result<(), Malformed> {
        let Some(speaker) = self.hello.as_ref().map(|hello| hello.origin) else { return Ok(()) };
        let is_trusted = self.options.authority == Authority::Everything;
        match item {
            FeedItem::Record { slot, record } => {
                if record.stamp.origin == speaker && !self.scanning.contains(slot) {
                    self.oldest = Some(self.oldest.map_or(record.stamp.time, |oldest| oldest.min(record.stamp.time)));
                }
            }
            FeedItem::SlotBegin { slot, .. } => drop(self.scanning.insert(*slot)),
            FeedItem::SlotEnd { slot, .. } => drop(self.scanning.remove(slot)),
            FeedItem::Flush { stamp, .. } if !is_trusted && stamp.origin == self.options.origin => {
                return Err(Malformed::Authority(stamp.origin));
            }
            FeedItem::Speaks { origin, .. } | FeedItem::Watermark { origin, .. }
                if !is_trusted && *origin != speaker && !self.was_deaf.contains(&origin.region()) =>
            {
                return Err(Malformed::Authority(*origin));
            }
            FeedItem::Watermark { .. } => self.has_watermark = true,
            FeedItem::Flush { .. } | FeedItem::Speaks { .. } => {}
        }
        Ok(())
    }

    /// All items of the batch were applied.
    pub fn applied(&mut self, now: Now, batch: Batch) -> Applied {
        self.acknowledge(batch.envelope.sequence);
        self.passed_on(now, batch)
    }

    /// All items of the batch were passed on to others, who have not applied them yet.
    pub fn passed_on(&mut self, now: Now, batch: Batch) -> Applied {
        let applied = Applied {
            raw_bytes: batch.packed.raw_bytes,
            wire_bytes: batch.packed.wire_bytes,
            delay: self.oldest.take().map(|oldest| now.wall.since(oldest)),
            has_watermark: std::mem::take(&mut self.has_watermark),
        };
        self.unpacker.recycle(batch);
        applied
    }

    /// All batches up to this one were applied.
    pub fn acknowledge(&mut self, sequence: u64) {
        if sequence > self.applied {
            self.applied = sequence;
            self.owes_answer = true;
        }
    }

    /// Bytes came, perhaps not a whole frame yet.
    pub const fn handle_bytes(&mut self, now: Now) {
        self.heard = now.monotonic;
    }

    /// A frame came. Hand in none unless [`wants_frames`](Self::wants_frames).
    ///
    /// # Errors
    /// [`Malformed`]; the connection is to be closed.
    pub fn handle_frame(&mut self, now: Now, kind: FrameKind, payload: &[u8]) -> Result<(), Malformed> {
        self.heard = now.monotonic;
        match kind {
            FrameKind::Hello if self.phase == Phase::Greeting => {
                let hello = Hello::read(payload)?;
                self.hello = Some(hello.clone());
                self.phase = Phase::Deciding;
                self.events.push_back(ReceiverEvent::Greeted(hello));
            }
            FrameKind::Batch if matches!(self.phase, Phase::Waiting | Phase::Streaming) => {
                self.handle_batch(now, payload)?;
            }
            FrameKind::Ask if matches!(self.phase, Phase::Waiting | Phase::Streaming) => {
                self.events.push_back(ReceiverEvent::Asked);
            }
            FrameKind::Audit if self.phase == Phase::Streaming => {
                self.events.push_back(ReceiverEvent::Audited(Audit::read(payload)?));
            }
            // It was sent before the sender knew that nothing more is wanted of it for now.
            FrameKind::Audit if self.phase == Phase::Waiting => {}
            FrameKind::Refuse => {
                let refusal = Refusal::read(payload)?;
                self.events.push_back(ReceiverEvent::Refused(refusal.clone()));
                self.end(LinkEnd::Refused(refusal));
            }
            FrameKind::Bye => self.end(LinkEnd::Bye),
            other => return Err(Malformed::Kind(other as u8)),
        }
        Ok(())
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        if let Some(hold) = self.hold
            && self.pending.is_none()
            && now.monotonic >= hold.last + HOLD_QUIET
        {
            self.hold = None;
            if hold.is_reported {
                self.events.push_back(ReceiverEvent::Resumed);
                self.owes_answer = true;
            }
        }
        match self.phase {
            Phase::Greeting if now.monotonic >= self.since + GREETING_TIMEOUT => self.end(LinkEnd::NoGreeting),
            Phase::Waiting | Phase::Streaming if now.monotonic >= self.heard(now) + self.options.timeout => {
                self.end(LinkEnd::Silent);
            }
            _ => {}
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ReceiverEvent> {
        self.events.pop_front()
    }

    /// The greatest time in the batch that [`poll_batch`](Self::poll_batch) would hand out now; `None` if there is none
    /// or it is held.
    pub fn ready_until(&self, now: Now) -> Option<Time> {
        let last = self.pending.as_ref()?.envelope.range.last;
        (!too_far_ahead(last, now.wall, self.options.max_drift)).then_some(last)
    }

    /// The batch that is to be applied now. The shell hands each item to [`check`](Self::check) and to the store, and
    /// the batch back to [`applied`](Self::applied).
    pub fn poll_batch(&mut self, now: Now) -> Option<Batch> {
        let last = self.pending.as_ref()?.envelope.range.last;
        if too_far_ahead(last, now.wall, self.options.max_drift) {
            self.hold(now, last);
            return None;
        }
        // While it waited, nothing was read; silence counts from now.
        self.heard = now.monotonic;
        self.pending.take()
    }

    /// Appends what is to be sent.
    pub fn poll_transmit(&mut self, now: Now, out: &mut Vec<u8>) {
        out.append(&mut self.greetings);
        let is_due = self.owes_answer || now.monotonic >= self.answered + KEEPALIVE;
        if !is_due || !matches!(self.phase, Phase::Waiting | Phase::Streaming) {
            return;
        }
        let echo = self.echo.take().map(|(asked, received)| Echo { asked, received, answered: now.wall });
        let deaf = self.deaf.clone();
        Ack { sequence: self.applied, held: self.is_held() || self.is_held_behind, echo, seen: self.row.take(), deaf }
            .put(out);
        self.owes_answer = false;
        self.answered = now.monotonic;
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and poll, if nothing happens before; in monotonic time.
    pub fn poll_timeout(&self, now: Now) -> Option<Duration> {
        let answer = self.answered + KEEPALIVE;
        match self.phase {
            Phase::Greeting => Some(self.since + GREETING_TIMEOUT),
            Phase::Deciding | Phase::Ended => None,
            Phase::Waiting | Phase::Streaming => match &self.pending {
                Some(batch) => Some(answer.min(now.monotonic + self.hold_left(now, batch.envelope.range.last))),
                None => {
                    let quiet = self.hold.map_or(answer, |hold| hold.last + HOLD_QUIET);
                    Some(answer.min(quiet).min(self.heard + self.options.timeout))
                }
            },
        }
    }

    fn handle_batch(&mut self, now: Now, payload: &[u8]) -> Result<(), Malformed> {
        let batch = self.unpacker.unpack(payload, self.options.frame_bytes_max)?;
        let envelope = &batch.envelope;
        let expected = self.sequence + 1;
        if self.hello.as_ref().is_none_or(|hello| (hello.origin, hello.epoch) != (envelope.origin, envelope.epoch)) {
            return Err(Malformed::Epoch);
        }
        if envelope.sequence != expected {
            return Err(Malformed::Sequence { expected, found: envelope.sequence });
        }
        let is_late = envelope.round != self.round;
        if is_late && envelope.round > self.round {
            return Err(Malformed::Round(envelope.round));
        }
        if self.phase == Phase::Waiting && batch.packed.count > 0 && !is_late {
            // Nothing was wanted.
            return Err(Malformed::Kind(FrameKind::Batch as u8));
        }
        self.sequence = expected;
        self.echo = Some((envelope.sent, now.wall));
        if let Some(seen) = &envelope.seen {
            self.sender_saw.join(seen);
            self.events.push_back(ReceiverEvent::Reported { origin: envelope.origin, seen: seen.clone() });
        }
        if is_late && self.pending.is_none() {
            self.acknowledge(expected);
            self.unpacker.recycle(batch);
            return Ok(());
        }
        self.pending = Some(batch);
        Ok(())
    }

    /// The pending batch, whose greatest time is `time`, has to wait.
    fn hold(&mut self, now: Now, time: Time) {
        let (now_is, fresh) = (now.monotonic, Hold { since: now.monotonic, last: now.monotonic, is_reported: false });
        let hold = self.hold.get_or_insert(fresh);
        hold.last = now_is;
        if !hold.is_reported && now_is >= hold.since + HOLD_NOTICE {
            hold.is_reported = true;
            self.events.push_back(ReceiverEvent::Held(time.since(now.wall)));
            self.owes_answer = true;
        }
        // Its question about the time is answered at once: later, the answer would say less.
        self.owes_answer |= self.echo.is_some();
    }

    /// How long until the pending batch is to be looked at again.
    fn hold_left(&self, now: Now, last: Time) -> Duration {
        last.since(now.wall.after(self.options.max_drift)).min(HOLD_RECHECK)
    }

    fn end(&mut self, end: LinkEnd) {
        self.phase = Phase::Ended;
        self.events.push_back(ReceiverEvent::Ended(end));
    }
}

#[cfg(test)]
#[path = "receiver_tests.rs"]
mod tests;
