//! One delay line: everything that goes from one region to another passes through it, and shares its rate.
//!
//! A line is a state machine without a clock. Time is an argument (a duration since any start, the same for all calls),
//! randomness comes from a generator seeded at birth, payloads are opaque. So the same seed and the same calls give the
//! same deliveries, in a test that jumps from event to event as in a proxy that waits for them.
//!
//! - input: [`open`](Line::open), [`send`](Line::send), [`release`](Line::release), [`close`](Line::close),
//!   [`change`](Line::change); [`room`](Line::room) says beforehand whether a `send` will be taken;
//! - output: [`poll`](Line::poll) until it returns `None`, then wait for [`poll_timeout`](Line::poll_timeout) or input.
//!
//! # What happens to a chunk
//! It waits for the transmitter if the line has a rate, takes the delay and a jitter drawn for it alone, and never
//! arrives before an earlier chunk of its connection; chunks of other connections may pass it. What becomes of it is
//! decided when it is *due*, in an agenda ordered by (time, order of entry): on a line that is up and does not lose it, it is
//! delivered; otherwise it is lost, and its [`Flow`] mends that. Deciding at the far end makes a cut sharp: from
//! that moment nothing comes out, also not what had been sent before.
//!
//! # What is bounded
//! Whatever was sent and not yet *released* by the receiver is charged: against the connection's window, and against the
//! line's total. A chunk that is held up in front of a slow receiver thus holds up its sender, as in TCP. The wait for
//! the transmitter is bounded in time. All bounds stand in [`limits`](crate::limits).
//!
//! # What is left out on purpose
//! Acknowledgements do not travel: a cut of one direction silences that direction only, and the other flows on for as
//! long as the cut lasts. A change of the delay holds for what is sent from then on. Headers cost no rate.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg32;
use serde::Serialize;

use super::{
    ConnectionId,
    flow::Flow,
    settings::{LineChange, LineSettings, State},
};
use crate::limits;

/// The delay line of one ordered pair of regions.
#[derive(Debug)]
pub struct Line<T> {
    settings: LineSettings,
    bounds: Bounds,
    random: Pcg32,
    flows: BTreeMap<ConnectionId, Flow<T>>,
    agenda: BinaryHeap<Reverse<Appointment>>,
    appointments: u64,
    /// When the transmitter has sent all that it was given.
    transmitter_free_at: Duration,
    /// The connection of which more may be ready at this very moment, and that moment.
    delivering: Option<(ConnectionId, Duration)>,
    charged: usize,
    stats: LineStats,
}

/// What a line may hold. The default is that of [`limits`]; tests take less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of one connection: see [`limits::WINDOW`].
    pub window: usize,
    /// Bytes of all connections: see [`limits::LINE_TOTAL`].
    pub total: usize,
    /// The longest wait for the transmitter: see [`limits::QUEUE_TIME`].
    pub queue_time: Duration,
    /// Open connections: see [`limits::CONNECTIONS_PER_LINE`].
    pub connections: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            window: limits::WINDOW,
            total: limits::LINE_TOTAL,
            queue_time: limits::QUEUE_TIME,
            connections: limits::CONNECTIONS_PER_LINE,
        }
    }
}

/// Something that comes out of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineEvent<T> {
    /// A chunk arrived. It stays charged until [`Line::release`] is called with its size.
    Delivered {
        /// Whose.
        connection: ConnectionId,
        /// What was said when it was sent, in bytes.
        size: usize,
        /// What was sent.
        payload: T,
    },
    /// Nothing got through for so long that the connection was given up. The line has closed it.
    TimedOut {
        /// Which.
        connection: ConnectionId,
    },
}

/// Whether a connection may send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Yes: a chunk of up to this many bytes, which the line's rate makes sensible.
    Now(usize),
    /// Not before this time; ask again then.
    At(Duration),
    /// Not before the receiver of this connection has taken more.
    AfterRelease,
    /// Never again: the connection is closed.
    Closed,
}

/// Why a line takes no further connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The line is in [`State::Reset`].
    #[error("the line resets every connection")]
    Reset,
    /// [`Bounds::connections`] are open.
    #[error("the line has as many connections as it may have")]
    TooMany,
}

/// Why a chunk was not taken. Nothing changed, and the payload is handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError<T> {
    /// A bound is reached; [`Line::room`] says when to try again.
    #[error("the line holds as much as it may hold")]
    Full(T),
    /// The connection is not open.
    #[error("the connection is closed")]
    Closed(T),
}

/// What went over a line since it was made, and what is on it now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LineStats {
    /// Bytes delivered.
    pub bytes: u64,
    /// Chunks delivered, those without payload included.
    pub chunks: u64,
    /// Bytes held now, with the overhead of their chunks: on their way, held up, or not yet taken by the receiver.
    pub queued_bytes: usize,
    /// Chunks sent and not yet delivered.
    pub queued_chunks: usize,
    /// Chunks lost, by chance or by a cut; each was or will be sent again.
    pub drops: u64,
    /// Chunks sent again.
    pub retransmissions: u64,
    /// How often a loss held up a connection.
    pub stalls: u64,
    /// Connections held up now.
    pub stalled: usize,
    /// Connections open now.
    pub connections: usize,
    /// Connections ever opened.
    pub connections_opened: u64,
    /// Connections refused or reset by the state of the line or for want of room.
    pub connections_reset: u64,
    /// Connections given up after a long stall.
    pub connections_timed_out: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Appointment {
    due: Duration,
    order: u64,
    connection: ConnectionId,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// The chunk of this number reaches the far end, if nothing takes it.
    Arrive(u64),
    /// The sender knows of a loss and sends again.
    Retransmit,
}

impl<T> Line<T> {
    /// A line without connections. `seed` and `stream` together choose its randomness: lines of one network share the
    /// seed and differ in the stream.
    pub fn new(settings: LineSettings, bounds: Bounds, seed: u64, stream: u64) -> Self {
        // Hashed once, since neighbouring streams of one raw state begin alike.
        let state = Pcg32::seed_from_u64(seed).random();
        Self {
            settings,
            bounds,
            random: Pcg32::new(state, stream),
            flows: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            appointments: 0,
            transmitter_free_at: Duration::ZERO,
            delivering: None,
            charged: 0,
            stats: LineStats::default(),
        }
    }

    /// What is asked of it at present.
    pub const fn settings(&self) -> &LineSettings {
        &self.settings
    }

    /// What it has done and holds.
    pub fn stats(&self) -> LineStats {
        LineStats {
            queued_bytes: self.charged,
            queued_chunks: self.flows.values().map(Flow::len).sum(),
            stalled: self.flows.values().filter(|flow| flow.is_stalled()).count(),
            connections: self.flows.len(),
            ..self.stats
        }
    }

    /// Takes a connection.
    ///
    /// # Errors
    /// [`OpenError`] if the line takes none at present. It is then counted as reset.
    pub fn open(&mut self, connection: ConnectionId) -> Result<(), OpenError> {
        let refusal = if self.settings.state == State::Reset {
            Some(OpenError::Reset)
        } else if self.flows.len() >= self.bounds.connections {
            Some(OpenError::TooMany)
        } else {
            None
        };
        if let Some(error) = refusal {
            self.stats.connections_reset += 1;
            return Err(error);
        }
        self.flows.insert(connection, Flow::new());
        self.stats.connections_opened += 1;
        Ok(())
    }

    /// Forgets a connection and all that it still had on the line.
    pub fn close(&mut self, connection: ConnectionId) {
        let Some(flow) = self.flows.remove(&connection) else { return };
        self.charged -= flow.charged;
        if flow.len() > 0 {
            self.agenda.retain(|Reverse(appointment)| appointment.connection != connection);
        }
    }

    /// Whether `connection` may send a chunk with payload at `now`, and how much is sensible.
    pub fn room(&self, now: Duration, connection: ConnectionId) -> Room {
        let Some(flow) = self.flows.get(&connection) else { return Room::Closed };
        if flow.charged >= self.window() {
            return Room::AfterRelease;
        }
        if self.charged >= self.bounds.total {
            return Room::At(now.saturating_add(limits::LINE_TOTAL_RECHECK));
        }
        let Some(rate) = self.settings.rate else { return Room::Now(limits::CHUNK_MAX) };
        let wait = self.transmitter_free_at.saturating_sub(now);
        if wait > self.bounds.queue_time {
            return Room::At(self.transmitter_free_at.saturating_sub(self.bounds.queue_time));
        }
        Room::Now(rate.chunk_max())
    }

    /// Sends a chunk of `size` bytes. One of size zero (a handshake, an end, a reset) costs no rate, and finds room
    /// also when the window is used up.
    ///
    /// # Errors
    /// [`SendError`], with the payload, if the connection is closed or a bound is reached.
    pub fn send(
        &mut self,
        now: Duration,
        connection: ConnectionId,
        size: usize,
        payload: T,
    ) -> Result<(), SendError<T>> {
        let room = match self.room(now, connection) {
            Room::Closed => return Err(SendError::Closed(payload)),
            Room::Now(_) => true,
            Room::At(_) | Room::AfterRelease => size == 0 && self.has_room_for_control(connection),
        };
        if !room {
            return Err(SendError::Full(payload));
        }
        let due = self.travel(now, size);
        let flow = self.flows.get_mut(&connection).expect("room was found for it");
        let due = due.max(flow.last_due);
        flow.last_due = due;
        flow.charged += charge(size);
        self.charged += charge(size);
        let number = flow.push(size, payload);
        self.appoint(due, connection, What::Arrive(number));
        Ok(())
    }

    /// The receiver of `connection` has taken a delivered chunk of `size` bytes. A closed connection is ignored.
    pub fn release(&mut self, connection: ConnectionId, size: usize) {
        let Some(flow) = self.flows.get_mut(&connection) else { return };
        let released = charge(size).min(flow.charged);
        flow.charged -= released;
        self.charged -= released;
    }

    /// Changes what is asked of the line, and names the connections that this resets: the caller closes them.
    #[must_use]
    pub fn change(&mut self, change: &LineChange) -> Vec<ConnectionId> {
        self.settings.apply(change);
        if self.settings.state != State::Reset {
            return Vec::new();
        }
        self.stats.connections_reset += self.flows.len() as u64;
        self.flows.keys().copied().collect()
    }

    /// When `poll` has something next; none if only input can change that.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.delivering {
            Some((_, since)) => Some(since),
            None => self.agenda.peek().map(|Reverse(appointment)| appointment.due),
        }
    }

    /// The next thing that comes out at or before `now`.
    pub fn poll(&mut self, now: Duration) -> Option<LineEvent<T>> {
        loop {
            if let Some(event) = self.take_arrived() {
                return Some(event);
            }
            if self.agenda.peek()?.0.due > now {
                return None;
            }
            let Reverse(appointment) = self.agenda.pop()?;
            // At the time at which it was due, not at `now`: a late poll changes nothing of what happens.
            let Appointment { due, connection, what, .. } = appointment;
            match what {
                What::Arrive(number) => self.arrive(due, connection, number),
                What::Retransmit => {
                    if self.retransmit(due, connection) {
                        return Some(LineEvent::TimedOut { connection });
                    }
                }
            }
        }
    }

    fn take_arrived(&mut self) -> Option<LineEvent<T>> {
        let (connection, _) = self.delivering?;
        let Some(flow) = self.flows.get_mut(&connection).filter(|flow| flow.has_arrived()) else {
            self.delivering = None;
            return None;
        };
        let (size, payload) = flow.take_arrived()?;
        if !flow.has_arrived() {
            self.delivering = None;
        }
        self.stats.bytes += size as u64;
        self.stats.chunks += 1;
        Some(LineEvent::Delivered { connection, size, payload })
    }

    fn arrive(&mut self, at: Duration, connection: ConnectionId, number: u64) {
        let Some(flow) = self.flows.get_mut(&connection) else { return };
        let travelling = flow.travelling(number);
        let chance = self.settings.loss.chance_for(travelling);
        let missing = if self.settings.state != State::Up {
            Some(travelling)
        } else if chance > 0.0 && self.random.random_bool(chance) {
            Some(travelling.min(limits::SEGMENT))
        } else {
            // No draw where chance has no say, so that a loss of zero changes nothing else.
            None
        };
        let lost = missing.is_some();
        let verdict = flow.settle(number, at, missing);
        if !lost {
            self.delivering = Some((connection, at));
        }
        self.stats.drops += u64::from(lost);
        self.stats.stalls += u64::from(verdict.stalled);
        if let Some(wait) = verdict.retry_after {
            // The way back is taken to be as long as the way there.
            let told_at = at.saturating_add(self.settings.delay.duration()).saturating_add(wait);
            self.appoint(told_at, connection, What::Retransmit);
        }
    }

    /// Sends again what was lost, or closes a connection that was stalled for too long, and says which.
    fn retransmit(&mut self, at: Duration, connection: ConnectionId) -> bool {
        let Some(flow) = self.flows.get_mut(&connection) else { return false };
        let patience = if flow.established { limits::GIVE_UP } else { limits::HANDSHAKE_GIVE_UP };
        if flow.stalled_since().is_some_and(|since| at.saturating_sub(since) >= patience) {
            self.stats.connections_timed_out += 1;
            self.close(connection);
            return true;
        }
        let mut lost = Vec::new();
        flow.retransmit(|number, missing| lost.push((number, missing)));
        self.stats.retransmissions += lost.len() as u64;
        for (number, missing) in lost {
            let due = self.travel(at, missing);
            self.appoint(due, connection, What::Arrive(number));
        }
        false
    }

    /// When a chunk that is sent at `now` is due at the far end.
    fn travel(&mut self, now: Duration, size: usize) -> Duration {
        let LineSettings { delay, jitter, rate, .. } = self.settings;
        let mut sent_at = now;
        if let Some(rate) = rate {
            sent_at = self.transmitter_free_at.max(now).saturating_add(rate.time_for(size));
            self.transmitter_free_at = sent_at;
        }
        let jitter_ns = u64::try_from(jitter.duration().as_nanos()).unwrap_or(u64::MAX);
        let jitter_ns = if jitter_ns == 0 { 0 } else { self.random.random_range(0..=jitter_ns) };
        sent_at.saturating_add(delay.duration()).saturating_add(Duration::from_nanos(jitter_ns))
    }

    /// What one connection may hold: what the line carries in two round trips if it has a rate, else all of the bound.
    fn window(&self) -> usize {
        let LineSettings { delay, jitter, rate, .. } = self.settings;
        let Some(rate) = rate else { return self.bounds.window };
        let round_trip = 2 * (delay.duration() + jitter.duration()) + self.bounds.queue_time;
        rate.bytes_in(2 * round_trip).max(limits::WINDOW_MIN).min(self.bounds.window)
    }

    fn has_room_for_control(&self, connection: ConnectionId) -> bool {
        self.flows[&connection].charged < self.window() + limits::CONTROL_ALLOWANCE
    }

    fn appoint(&mut self, due: Duration, connection: ConnectionId, what: What) {
        let order = self.appointments;
        self.appointments += 1;
        self.agenda.push(Reverse(Appointment { due, order, connection, what }));
    }
}

/// What a chunk holds of the bounds, in bytes.
const fn charge(size: usize) -> usize {
    size + limits::CHUNK_OVERHEAD
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
