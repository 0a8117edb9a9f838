//! The sender: the end of a link in the region whose writes it carries.
//!
//! One [`Sender`] lives as long as its link is configured, across all connections. It owns no socket, no feed and no
//! clock; the shell that has them asks it what to do. Methods are of four kinds:
//!
//! - getters;
//! - `handle_*`: what happened outside (connected, lost, a frame came, the log has news, time has passed);
//! - commands: what the shell has decided (refuse the peer, an item was pushed, the feed was polled);
//! - `poll_*`: what is to be done. After any of the others, poll in this order until each gives nothing:
//!   [`poll_event`](Sender::poll_event), [`poll_items`](Sender::poll_items), [`poll_transmit`](Sender::poll_transmit),
//!   and sleep until [`poll_timeout`](Sender::poll_timeout).
//!
//! Time is monotonic for intervals and wall time for what the peer reads. It never goes back.
//!
//! # The way of a connection
//! ```text
//! Down --dial--> Dialling --connected--> Greeting --welcome: later--> Waiting --welcome--> Streaming
//!  ^                |                        |                           |                     |
//!  +--- back off ---+------------------------+---------------------------+---------------------+
//! ```
//!
//! # Another welcome
//! What a feed brings is what its consumer had not seen when it said so. Where that is not good enough any more, the consumer
//! says anew what it wants: because slots have changed hands over there, or because the sender asked, having come to own
//! slots here ([`ask`](Sender::ask)). The shell makes another feed. Batches say which welcome they answer, so the consumer knows
//! those that are still on their way from the old one, and lets them be.
//!
//! # When a batch leaves
//! The first write after a pause leaves at once; what follows within `batch_delay` goes together. So a lone write
//! waits for nothing, and under load there is one batch per delay, or per `batch_bytes` if that fills sooner. When
//! nobody writes, the feed's watermark alone is a batch each `heartbeat`: without it, silence and a cut would look
//! the same. What arrives from elsewhere is news of the log, too, and mostly nothing for the peer; for that alone no batch
//! leaves before the next heartbeat.
//!
//! # Back-pressure
//! When `window_bytes` are out and not acknowledged, the feed is not polled. That is all there is to it: the log names
//! records and does not hold them, so what is overwritten meanwhile is sent once, and nothing is queued here.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use clock::{Estimate, Exchange, Now, Origin, RegionId, Skew, Time};
use node_core::store::{Claim, Feed, FeedItem, Polled, Seen, Store};

use crate::{
    audit::Audit,
    batch::{Envelope, Packed, Packer},
    body::{BodyWriter, TimeRange},
    frame::{Ack, FrameKind, Hello, Malformed, Refusal, Want, Welcome, put_ask, put_bye},
    limits::{
        BATCHES_IN_FLIGHT_MAX, FRAME_BYTES_MAX, FRAME_OVERHEAD_MAX, GREETING_TIMEOUT, ORPHANS_INTERVAL,
        PROTOCOL_VERSION,
    },
};

/// How a link sends.
#[derive(Clone, Debug)]
pub struct SenderOptions {
    /// The name of the region that sends.
    pub name: String,
    /// Who stamps its writes.
    pub origin: Origin,
    /// The time that all those stamps are above.
    pub birth: Time,
    /// For which slots it speaks, when it next greets.
    pub claim: Claim,
    /// What the number of the first connection follows on. Whoever goes on for another sender of the same origin begins
    /// beyond that one's.
    pub epoch: u64,
    /// How often the link says that it is alive, also when nobody writes.
    pub heartbeat: Duration,
    /// How many bytes may be on their way before the peer has applied them.
    pub window_bytes: usize,
    /// About how many bytes of items go into one batch, before compression.
    pub batch_bytes: usize,
    /// The least time between two batches that are not full.
    pub batch_delay: Duration,
    /// The first pause before dialling again; it doubles with each attempt.
    pub reconnect_min: Duration,
    /// The longest pause before dialling again.
    pub reconnect_max: Duration,
    /// How long the peer may be silent before the connection is given up.
    pub timeout: Duration,
    /// The longest frame that is taken, in bytes.
    pub frame_bytes_max: usize,
}

impl SenderOptions {
    /// The defaults, for the region of this name, whose current life is `origin`, born at `birth`.
    pub fn new(name: &str, origin: Origin, birth: Time) -> Self {
        Self {
            name: name.to_owned(),
            origin,
            birth,
            claim: Claim::all(),
            epoch: 0,
            heartbeat: Duration::from_millis(50),
            window_bytes: 32 * 1024 * 1024,
            batch_bytes: 64 * 1024,
            batch_delay: Duration::from_millis(1),
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            frame_bytes_max: FRAME_BYTES_MAX,
        }
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is none; the next attempt comes after a pause.
    Down,
    /// The shell is connecting.
    Dialling,
    /// Connected; the peer has not answered yet.
    Greeting,
    /// The peer wants nothing yet.
    Waiting,
    /// Items are sent.
    Streaming,
}

/// What the shell must know or do.
#[derive(Clone, Debug)]
pub enum SenderEvent {
    /// The peer says who it is. The shell announces it, or answers with [`Sender::refuse`].
    Greeted {
        /// Who stamps the peer's writes.
        origin: Origin,
        /// The time that all those stamps are above.
        birth: Time,
    },
    /// What the peer wants. The shell makes a feed for it, and drops the one it had.
    Wanted(Want),
    /// What the peer's region has seen in all its slots.
    Reported {
        /// The peer.
        origin: Origin,
        /// The least over its slots.
        seen: Seen,
    },
    /// The peer began to hold our batches, or goes on again: our clock is ahead of its.
    Held(bool),
    /// The peer wants no link. If it says by whom we were superseded, the process has to go on beyond that.
    Refused(Refusal),
    /// The connection is of no use any more. The shell closes it and calls [`Sender::handle_lost`].
    Ended(LinkEnd),
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkEnd {
    /// The peer did not greet in time.
    #[error("no greeting in time")]
    NoGreeting,
    /// Nothing came from the peer for too long.
    #[error("the peer is silent")]
    Silent,
    /// The peer said goodbye.
    #[error("the peer has shut down")]
    Bye,
    /// The peer refused, or was refused.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The peer's frames make no sense.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// A record is larger than what the peer takes. It waits here until the peer is configured to take it.
    #[error("a batch of {0} bytes is more than the peer takes")]
    TooLarge(usize),
}

/// See the head of this file.
#[derive(Debug)]
pub struct Sender {
    options: SenderOptions,
    phase: Phase,
    /// When the phase began; in `Down`, when it ends.
    at: Duration,
    /// Attempts since the last connection that served.
    attempts: u32,
    epoch: u64,
    is_complete: bool,
    peer: Option<Origin>,
    /// The welcome that is being answered.
    round: u32,
    /// Another was asked for.
    has_asked: bool,
    deaf: BTreeSet<RegionId>,
    peer_frame_bytes_max: usize,
    body: BodyWriter,
    packer: Packer,
    /// What was pushed is a batch.
    is_sealed: bool,
    sequence: u64,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    /// The row for the next batch.
    row: Option<Seen>,
    /// When the feed is to be polled, and when it was.
    due: Duration,
    fed: Option<Duration>,
    /// When a batch is due that says no more than that there is nothing.
    heartbeat_due: Duration,
    /// The log has something that was not fetched yet.
    has_news: bool,
    heard: Duration,
    /// When the feed last looked for orphans, in monotonic time.
    orphans_queued: Duration,
    is_held: bool,
    skew: Skew,
    events: VecDeque<SenderEvent>,
    /// Frames that are no batches.
    greetings: Vec<u8>,
}

/// A batch that was sent and not acknowledged.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    sequence: u64,
    bytes: usize,
}

impl Sender {
    /// A link that has not been dialled; it may be at once.
    pub fn new(options: SenderOptions) -> Self {
        Self {
            epoch: options.epoch,
            options,
            phase: Phase::Down,
            at: Duration::ZERO,
            attempts: 0,
            is_complete: false,
            peer: None,
            round: 0,
            has_asked: false,
            deaf: BTreeSet::new(),
            peer_frame_bytes_max: FRAME_BYTES_MAX,
            body: BodyWriter::new(),
            packer: Packer::new(),
            is_sealed: false,
            sequence: 0,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            row: None,
            due: Duration::ZERO,
            fed: None,
            heartbeat_due: Duration::ZERO,
            has_news: false,
            heard: Duration::ZERO,
            orphans_queued: Duration::ZERO,
            is_held: false,
            skew: Skew::new(),
            events: VecDeque::new(),
            greetings: Vec::new(),
        }
    }

    /// Where the connection stands.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the peer was greeted and greets back.
    pub const fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Waiting | Phase::Streaming)
    }

    /// Whether the peer holds our batches because our clock is ahead of its.
    pub const fn is_held(&self) -> bool {
        self.is_held
    }

    /// Who speaks for the peer, once it has.
    pub const fn peer(&self) -> Option<Origin> {
        self.peer
    }

    /// The regions that the peer does not hear itself, and would have relayed.
    pub const fn deaf(&self) -> &BTreeSet<RegionId> {
        &self.deaf
    }

    /// The number of the last batch that was sent on this connection; zero before the first.
    pub const fn sent(&self) -> u64 {
        self.sequence
    }

    /// The number of the last batch that the peer has applied; zero before the first.
    pub fn acknowledged(&self) -> u64 {
        self.in_flight.front().map_or(self.sequence, |oldest| oldest.sequence - 1)
    }

    /// The number that the last batch has or will have for which something was pushed.
    pub const fn latest(&self) -> u64 {
        self.sequence + self.is_sealed as u64
    }

    /// How many bytes are on their way.
    pub const fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// The peer's clock and distance, as known.
    pub const fn estimate(&self) -> Option<Estimate> {
        self.skew.estimate()
    }

    /// Whether the next item is waited for, so that [`handle_news`](Self::handle_news) would change anything.
    pub fn wants_news(&self) -> bool {
        self.phase == Phase::Streaming && !self.has_news
    }

    /// Bytes that may still be pushed into the batch.
    pub fn room(&self) -> usize {
        self.options.batch_bytes.saturating_sub(self.body.bytes()).max(1)
    }

    /// The shell begins to connect.
    pub const fn dial(&mut self, now: Now) {
        self.phase = Phase::Dialling;
        self.at = now.monotonic;
    }

    /// Sets what the next greeting says of this region.
    pub const fn set_complete(&mut self, is_complete: bool) {
        self.is_complete = is_complete;
    }

    /// Sets what the next greeting claims.
    pub fn set_claim(&mut self, claim: Claim) {
        self.options.claim = claim;
    }

    /// Asks what is wanted now, unless that was asked already: what the peer wants has changed with what we have.
    pub fn ask(&mut self) {
        if self.phase == Phase::Streaming && !std::mem::replace(&mut self.has_asked, true) {
            put_ask(&mut self.greetings);
        }
    }

    /// Whether that was asked and not answered.
    pub const fn is_asking(&self) -> bool {
        self.has_asked
    }

    /// Tells the peer what is held here, unless it has not said yet what it lacks.
    pub fn tell(&mut self, audit: &Audit) {
        if self.phase == Phase::Streaming {
            audit.put(&mut self.greetings);
        }
    }

    /// Sets the row that the next batch carries: what this region has seen in all its slots.
    pub fn set_row(&mut self, row: Seen) {
        self.row = Some(row);
    }

    /// The peer may not speak for its region: the last frame says why.
    pub fn refuse(&mut self, refusal: Refusal) {
        refusal.put(&mut self.greetings);
        self.end(LinkEnd::Refused(refusal));
    }

    /// The process shuts down: the last frame says so.
    pub fn say_bye(&mut self) {
        put_bye(&mut self.greetings);
    }

    /// Adds an item to the batch. Returns the bytes that it takes.
    pub fn push(&mut self, item: &FeedItem<'_>) -> usize {
        self.body.push(item)
    }

    /// Fills a batch from the feed, when [`poll_items`](Self::poll_items) says that one is due. Asks what is wanted now if that is not
    /// what the feed was made for: slots have come to this node, or regions are to be relayed, and what the peer has seen of those only
    /// the peer knows.
    pub fn fill(&mut self, feed: &mut Feed, store: &Store, now: Now) {
        if feed.lacks_slots(store) || !feed.relay(store, &self.deaf) {
            self.ask();
        }
        self.queue_orphans(feed, store, now);
        let room = self.room();
        let polled = if now.monotonic >= self.heartbeat_due {
            feed.poll(store, now, room, |item| self.push(item))
        } else {
            feed.poll_news(store, now, room, |item| self.push(item))
        };
        self.fed(now, polled);
    }

    /// Has the feed look, now and then, for what there is of origins that speak no more. [`fill`](Self::fill) does so.
    pub fn queue_orphans(&mut self, feed: &mut Feed, store: &Store, now: Now) {
        if now.monotonic >= self.orphans_queued + ORPHANS_INTERVAL {
            self.orphans_queued = now.monotonic;
            feed.queue_orphans(store);
        }
    }

    /// The feed was polled, with this result: what was pushed, if anything was, is a batch.
    pub fn fed(&mut self, now: Now, polled: Polled) {
        self.is_sealed = match polled {
            Polled::Drained => true,
            // It may have had much to look through, and nothing to say of it yet.
            Polled::More => !self.body.is_empty(),
            Polled::Idle => false,
        };
        self.has_news = polled == Polled::More;
        self.fed = Some(now.monotonic);
        if polled == Polled::Drained {
            self.heartbeat_due = now.monotonic + self.options.heartbeat;
        }
        self.due = if polled == Polled::More { now.monotonic } else { self.heartbeat_due };
    }

    /// The connection stands.
    pub fn handle_connected(&mut self, now: Now) {
        self.forget_connection();
        self.enter(Phase::Greeting, now.monotonic);
        self.heard = now.monotonic;
        self.epoch += 1;
        let hello = Hello {
            version: PROTOCOL_VERSION,
            name: self.options.name.clone(),
            origin: self.options.origin,
            birth: self.options.birth,
            epoch: self.epoch,
            claim: self.options.claim.clone(),
            complete: self.is_complete,
            frame_bytes_max: self.options.frame_bytes_max,
        };
        hello.put(&mut self.greetings);
    }

    /// The connection failed, or could not be made. The next attempt comes after a pause, whose jitter is taken from
    /// `entropy`.
    pub fn handle_lost(&mut self, now: Now, entropy: u64) {
        self.forget_connection();
        self.events.clear();
        let pause = self.pause(entropy);
        self.attempts = self.attempts.saturating_add(1);
        self.enter(Phase::Down, now.monotonic + pause);
    }

    /// The log has something new.
    pub fn handle_news(&mut self, now: Now) {
        let earliest = self.fed.map_or(Duration::ZERO, |fed| fed + self.options.batch_delay);
        self.has_news = true;
        self.due = self.due.min(now.monotonic.max(earliest));
    }

    /// Somebody waits for what has been written until now: the next batch is due at once, also if it says no more than that
    /// there is nothing.
    pub fn hurry(&mut self, now: Now) {
        if self.phase == Phase::Streaming {
            self.has_news = true;
            self.due = self.due.min(now.monotonic);
            self.heartbeat_due = self.due;
        }
    }

    /// A frame came.
    ///
    /// # Errors
    /// [`Malformed`]; the connection is to be closed.
    pub fn handle_frame(&mut self, now: Now, kind: FrameKind, payload: &[u8]) -> Result<(), Malformed> {
        self.heard = now.monotonic;
        match kind {
            FrameKind::Welcome if self.phase == Phase::Greeting || self.is_up() => {
                self.handle_welcome(now, Welcome::read(payload)?);
            }
            FrameKind::Ack if self.is_up() => self.handle_ack(now, Ack::read(payload)?)?,
            FrameKind::Refuse => {
                let refusal = Refusal::read(payload)?;
                self.events.push_back(SenderEvent::Refused(refusal.clone()));
                self.end(LinkEnd::Refused(refusal));
            }
            FrameKind::Bye => self.end(LinkEnd::Bye),
            other => return Err(Malformed::Kind(other as u8)),
        }
        Ok(())
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        match self.phase {
            Phase::Greeting if now.monotonic >= self.at + GREETING_TIMEOUT => self.end(LinkEnd::NoGreeting),
            Phase::Waiting | Phase::Streaming if now.monotonic >= self.heard + self.options.timeout => {
                self.end(LinkEnd::Silent);
            }
            Phase::Waiting if now.monotonic >= self.due => {
                self.due = now.monotonic + self.options.heartbeat;
                self.is_sealed = true;
            }
            _ => {}
        }
    }

    /// Whether it is time to dial.
    pub fn poll_dial(&self, now: Now) -> bool {
        self.phase == Phase::Down && now.monotonic >= self.at
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<SenderEvent> {
        self.events.pop_front()
    }

    /// Whether the feed is to be polled now, for [`room`](Self::room) bytes.
    pub fn poll_items(&self, now: Now) -> bool {
        self.takes_items() && now.monotonic >= self.due
    }

    /// Whether items may be pushed, due or not: for who passes on what comes as it comes.
    pub fn takes_items(&self) -> bool {
        self.phase == Phase::Streaming && !self.is_sealed && self.has_window()
    }

    /// Appends what is to be sent. Returns what the batch came to if there was one.
    ///
    /// Call it again only when what it gave has mostly left: what is still in the feed can be conflated, what was
    /// taken out cannot.
    pub fn poll_transmit(&mut self, now: Now, out: &mut Vec<u8>) -> Option<Packed> {
        out.append(&mut self.greetings);
        if !std::mem::take(&mut self.is_sealed) || !self.is_up() {
            return None;
        }
        let size = self.body.bytes() + FRAME_OVERHEAD_MAX / 2;
        if size > self.peer_frame_bytes_max {
            self.end(LinkEnd::TooLarge(size));
            return None;
        }
        self.sequence += 1;
        let envelope = Envelope {
            origin: self.options.origin,
            epoch: self.epoch,
            sequence: self.sequence,
            round: self.round,
            sent: now.wall,
            range: TimeRange::EMPTY,
            seen: self.row.take(),
        };
        let packed = self.packer.pack(&envelope, &mut self.body, out);
        self.in_flight.push_back(InFlight { sequence: self.sequence, bytes: packed.wire_bytes });
        self.in_flight_bytes += packed.wire_bytes;
        Some(packed)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), and poll, if nothing happens before; in monotonic time.
    /// `has_room` says whether the shell could send something now.
    pub fn poll_timeout(&self, has_room: bool) -> Option<Duration> {
        let silent = self.heard + self.options.timeout;
        match self.phase {
            Phase::Down => Some(self.at),
            Phase::Dialling => None,
            Phase::Greeting => Some(self.at + GREETING_TIMEOUT),
            Phase::Waiting if has_room => Some(silent.min(self.due)),
            Phase::Streaming if has_room && self.has_window() => Some(silent.min(self.due)),
            Phase::Waiting | Phase::Streaming => Some(silent),
        }
    }

    fn handle_welcome(&mut self, now: Now, welcome: Welcome) {
        let Welcome { origin, birth, frame_bytes_max, round, want } = welcome;
        // What was taken from a feed for another welcome is of no use to this one.
        self.body = BodyWriter::new();
        self.is_sealed = false;
        (self.round, self.has_asked) = (round, false);
        if self.phase == Phase::Greeting {
            self.peer = Some(origin);
            self.peer_frame_bytes_max = frame_bytes_max;
            self.events.push_back(SenderEvent::Greeted { origin, birth });
        }
        let phase = if matches!(want, Want::Later) { Phase::Waiting } else { Phase::Streaming };
        self.enter(phase, now.monotonic);
        (self.due, self.heartbeat_due) = (now.monotonic, now.monotonic);
        self.fed = None;
        self.has_news = true;
        if phase == Phase::Streaming {
            self.events.push_back(SenderEvent::Wanted(want));
        }
    }

    fn handle_ack(&mut self, now: Now, ack: Ack) -> Result<(), Malformed> {
        if ack.sequence > self.sequence {
            return Err(Malformed::Acknowledgement(ack.sequence));
        }
        while let Some(batch) = self.in_flight.pop_front_if(|batch| batch.sequence <= ack.sequence) {
            self.in_flight_bytes -= batch.bytes;
            self.attempts = 0;
        }
        if ack.held != self.is_held {
            self.is_held = ack.held;
            self.events.push_back(SenderEvent::Held(ack.held));
        }
        if let Some(echo) = ack.echo {
            let (asked, received, answered) = (echo.asked, echo.received, echo.answered);
            // An exchange that says nothing leaves the estimate as it is.
            let _ = self.skew.record(Exchange { asked, received, answered, returned: now.wall }, now.monotonic);
        }
        self.deaf = ack.deaf;
        if let (Some(seen), Some(origin)) = (ack.seen, self.peer) {
            self.events.push_back(SenderEvent::Reported { origin, seen });
        }
        Ok(())
    }

    fn has_window(&self) -> bool {
        self.in_flight_bytes < self.options.window_bytes && self.in_flight.len() < BATCHES_IN_FLIGHT_MAX
    }

    fn end(&mut self, end: LinkEnd) {
        self.events.push_back(SenderEvent::Ended(end));
    }

    const fn enter(&mut self, phase: Phase, at: Duration) {
        self.phase = phase;
        self.at = at;
    }

    fn forget_connection(&mut self) {
        self.body = BodyWriter::new();
        self.is_sealed = false;
        self.sequence = 0;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.row = None;
        self.fed = None;
        self.is_held = false;
        self.has_asked = false;
        self.deaf.clear();
        self.greetings.clear();
    }

    /// The pause before the next attempt: doubled by each that failed, and between half of that and all of it, so that
    /// the links of a region that lost its network do not come back in step.
    fn pause(&self, entropy: u64) -> Duration {
        let whole = self.options.reconnect_min.saturating_mul(1 << self.attempts.min(DOUBLINGS_MAX));
        let whole = whole.min(self.options.reconnect_max);
        let half = whole / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(entropy % nanos.max(1))
    }
}

/// How often a pause is doubled; by then it is above any that is configured.
const DOUBLINGS_MAX: u32 = 20;

#[cfg(test)]
#[path = "sender_tests.rs"]
mod tests;
