//! One connection on one line: what was sent and not yet delivered, in order, and the mending of what was lost.
//!
//! A flow is TCP seen from its user. Bytes come out in the order in which they went in, each once, and a loss is never
//! more than time: the lost chunk is sent again, and what was sent after it waits behind the hole. So all chunks stand
//! in one queue, oldest first; each is on its way, or arrived, or lost, or on its way again; and only from the front,
//! and only what has arrived, is anything ever taken. Order within a connection follows from that and from nothing else.
//!
//! # Recovery
//! From the first loss until no hole is left the flow is in recovery, a loop of rounds:
//! - If more is on its way behind what was lost, in the same chunk or after it, the receiver's duplicate acknowledgements
//!   tell the sender within the time of one way back, and it sends everything lost again (fast retransmit, with SACK).
//! - If nothing follows, or a round brought nothing through, the sender's timer has to run out: it waits and sends only
//!   the oldest lost chunk. The wait doubles up to a bound (RFC 6298). The first probe that gets through opens the
//!   gate, and the rest follows a round trip later.
//!
//! Left out on purpose: the congestion window. After a real cut it would open slowly; here all that was lost leaves in
//! one burst, at the rate of the line.

use std::{collections::VecDeque, time::Duration};

use crate::limits::{RETRANSMIT_WAIT_MAX, RETRANSMIT_WAIT_MIN};

/// The chunks of a connection on a line, and their fate.
#[derive(Debug)]
pub(super) struct Flow<T> {
    chunks: VecDeque<Chunk<T>>,
    /// The number of the chunk at the front; the others count on from there.
    first: u64,
    lost: usize,
    recovery: Option<Recovery>,
    /// No chunk that is sent later may arrive before this.
    pub(super) last_due: Duration,
    /// What this flow holds of the line's memory, in bytes: undelivered, or delivered and not yet released.
    pub(super) charged: usize,
    /// Whether anything was ever delivered. Until then the handshake's shorter patience holds.
    pub(super) established: bool,
}

#[derive(Debug)]
struct Chunk<T> {
    size: usize,
    /// What the receiver lacks of it, in bytes: all, or the segment that was lost. So much is sent again.
    missing: usize,
    payload: T,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Travelling,
    TravellingAgain,
    Arrived,
    Lost,
}

#[derive(Debug)]
struct Recovery {
    /// When it began, or when a retransmission last got through.
    since: Duration,
    /// Rounds in a row that brought nothing; zero: told by acknowledgements, not by the timer.
    timeouts: u32,
    /// Retransmissions on their way.
    outstanding: usize,
    /// Whether one of this round got through.
    progress: bool,
}

impl Recovery {
    /// How long the sender waits beyond the way back before it sends again.
    fn wait(&self) -> Duration {
        match self.timeouts {
            0 => Duration::ZERO,
            // Sixteen doublings are past every bound, and cannot overflow.
            n => (RETRANSMIT_WAIT_MIN * (1 << (n - 1).min(16))).min(RETRANSMIT_WAIT_MAX),
        }
    }
}

/// What the arrival, or the loss, of a chunk means for its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Send again after this and the time of the way back.
    pub(super) retry_after: Option<Duration>,
    /// A stall begins.
    pub(super) stalled: bool,
}

impl<T> Flow<T> {
    pub(super) fn new() -> Self {
        Self {
            chunks: VecDeque::new(),
            first: 0,
            lost: 0,
            recovery: None,
            last_due: Duration::ZERO,
            charged: 0,
            established: false,
        }
    }

    /// Chunks sent and not yet delivered.
    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Whether a hole holds up what was sent after it.
    pub(super) fn is_stalled(&self) -> bool {
        self.recovery.is_some()
    }

    /// Since when nothing got through, while stalled.
    pub(super) fn stalled_since(&self) -> Option<Duration> {
        self.recovery.as_ref().map(|recovery| recovery.since)
    }

    /// Puts a chunk on its way and says its number.
    pub(super) fn push(&mut self, size: usize, payload: T) -> u64 {
        self.chunks.push_back(Chunk { size, missing: size, payload, place: Place::Travelling });
        self.first + (self.chunks.len() - 1) as u64
    }

    /// How many bytes of a chunk are on their way.
    pub(super) fn travelling(&self, number: u64) -> usize {
        self.chunks[self.index(number)].missing
    }

    /// A chunk reached the end of the line at `at`, but for so many bytes, or all of it if none was `lost`.
    pub(super) fn settle(&mut self, number: u64, at: Duration, lost: Option<usize>) -> Verdict {
        let index = self.index(number);
        let last = self.chunks.len() == index + 1;
        let chunk = &mut self.chunks[index];
        let again = chunk.place == Place::TravellingAgain;
        let followed = !last || lost.is_some_and(|missing| missing < chunk.missing);
        chunk.missing = lost.unwrap_or(0);
        chunk.place = if lost.is_some() { Place::Lost } else { Place::Arrived };
        self.lost += usize::from(lost.is_some());
        if again {
            return Verdict { retry_after: self.settle_retransmission(at, lost.is_some()), stalled: false };
        }
        if lost.is_none() || self.recovery.is_some() {
            return Verdict { retry_after: None, stalled: false };
        }
        let recovery = Recovery { since: at, timeouts: u32::from(!followed), outstanding: 0, progress: false };
        let wait = recovery.wait();
        self.recovery = Some(recovery);
        Verdict { retry_after: Some(wait), stalled: true }
    }

    /// Counts a retransmission; when the last of a round is in, decides about the next round.
    fn settle_retransmission(&mut self, at: Duration, lost: bool) -> Option<Duration> {
        let recovery = self.recovery.as_mut().expect("only a recovery sends anything again");
        recovery.outstanding -= 1;
        recovery.progress |= !lost;
        if recovery.outstanding > 0 {
            return None;
        }
        if self.lost == 0 {
            self.recovery = None;
            return None;
        }
        if recovery.progress {
            recovery.since = at;
            recovery.timeouts = 0;
        } else {
            recovery.timeouts = recovery.timeouts.saturating_add(1);
        }
        recovery.progress = false;
        Some(recovery.wait())
    }

    /// Begins a round: marks what is to be sent again and hands its number and what is missing of it, in bytes, to `send`.
    pub(super) fn retransmit(&mut self, mut send: impl FnMut(u64, usize)) {
        let Some(recovery) = &mut self.recovery else { return };
        let most = if recovery.timeouts == 0 { usize::MAX } else { 1 };
        let lost = (self.first..).zip(&mut self.chunks).filter(|(_, chunk)| chunk.place == Place::Lost);
        for (number, chunk) in lost.take(most) {
            chunk.place = Place::TravellingAgain;
            self.lost -= 1;
            recovery.outstanding += 1;
            send(number, chunk.missing);
        }
    }

    /// Whether the oldest chunk has arrived.
    pub(super) fn has_arrived(&self) -> bool {
        self.chunks.front().is_some_and(|chunk| chunk.place == Place::Arrived)
    }

    /// Takes the oldest chunk if it has arrived.
    pub(super) fn take_arrived(&mut self) -> Option<(usize, T)> {
        let chunk = self.chunks.pop_front_if(|chunk| chunk.place == Place::Arrived)?;
        self.first += 1;
        self.established = true;
        Some((chunk.size, chunk.payload))
    }

    fn index(&self, number: u64) -> usize {
        usize::try_from(number - self.first).expect("a chunk's number lies within its queue")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Flow, Verdict};
    use crate::limits::{RETRANSMIT_WAIT_MAX, RETRANSMIT_WAIT_MIN};

    const AT: Duration = Duration::from_secs(1);
    const LOST: Option<usize> = Some(1);
    const QUIET: Verdict = Verdict { retry_after: None, stalled: false };

    fn flow(chunks: u64) -> Flow<u64> {
        let mut flow = Flow::new();
        for number in 0..chunks {
            assert_eq!(flow.push(1, number), number);
        }
        flow
    }

    fn resent(flow: &mut Flow<u64>) -> Vec<u64> {
        let mut numbers = Vec::new();
        flow.retransmit(|number, _| numbers.push(number));
        numbers
    }

    #[test]
    fn what_follows_a_hole_waits_for_it() {
        let mut flow = flow(3);
        assert_eq!(flow.settle(0, AT, LOST), Verdict { retry_after: Some(Duration::ZERO), stalled: true });
        assert_eq!(flow.settle(1, AT, None), QUIET);
        assert_eq!(flow.take_arrived(), None);
        assert_eq!(resent(&mut flow), [0]);
        assert_eq!(flow.settle(0, AT, None), QUIET);
        assert!(!flow.is_stalled());
        assert_eq!([flow.take_arrived(), flow.take_arrived(), flow.take_arrived()], [Some((1, 0)), Some((1, 1)), None]);
    }

    #[test]
    fn everything_lost_is_sent_again_at_once_when_acknowledgements_tell() {
        let mut flow = flow(4);
        flow.settle(0, AT, LOST);
        flow.settle(1, AT, None);
        assert_eq!(flow.settle(2, AT, LOST), QUIET);
        assert_eq!(resent(&mut flow), [0, 2]);
    }

    #[test]
    fn the_rest_of_a_chunk_tells_of_its_lost_segment_which_alone_is_sent_again() {
        let mut flow = Flow::new();
        flow.push(10, ());
        assert_eq!(flow.settle(0, AT, Some(1)).retry_after, Some(Duration::ZERO));
        flow.retransmit(|number, missing| assert_eq!((number, missing), (0, 1)));
        assert_eq!(flow.settle(0, AT, None), QUIET);
        assert_eq!(flow.take_arrived(), Some((10, ())));
    }

    #[test]
    fn a_lone_loss_waits_for_the_timer_and_the_wait_doubles_to_its_bound() {
        let mut flow = flow(1);
        let mut wait = flow.settle(0, AT, LOST).retry_after.unwrap();
        assert_eq!(wait, RETRANSMIT_WAIT_MIN);
        for _ in 0..40 {
            assert_eq!(resent(&mut flow), [0]);
            let next = flow.settle(0, AT, LOST).retry_after.unwrap();
            assert_eq!(next, (2 * wait).min(RETRANSMIT_WAIT_MAX));
            wait = next;
        }
        assert_eq!(flow.stalled_since(), Some(AT));
    }

    #[test]
    fn after_a_time_out_one_probe_goes_first_and_the_rest_follows_it() {
        let mut flow = flow(3);
        for number in 0..3 {
            flow.settle(number, AT, LOST);
        }
        assert_eq!(resent(&mut flow), [0, 1, 2]);
        for number in 0..3 {
            flow.settle(number, AT, LOST);
        }
        assert_eq!(resent(&mut flow), [0]);
        let heard = AT * 2;
        assert_eq!(flow.settle(0, heard, None).retry_after, Some(Duration::ZERO));
        assert_eq!(flow.stalled_since(), Some(heard));
        assert_eq!(resent(&mut flow), [1, 2]);
    }
}
