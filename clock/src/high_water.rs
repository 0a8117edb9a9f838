//! What a node must remember of its clock across a restart, and when to write it down.
//!
//! A clock that was set back, or a virtual machine restored from an older host, may wake a process in its own past.
//! If it issued stamps from there, new writes would lose against old ones, or worse, share their stamps. So a node
//! keeps a mark on disk that lies ahead of everything it issues, and begins above the mark when it restarts.
//!
//! # The invariant
//! No stamp above the persisted mark is ever given out. The mark is moved in steps of
//! [`MARK_AHEAD`](crate::limits::MARK_AHEAD), well before it is reached, so a write all but never waits for it. What
//! can outrun it is a clock that jumps ahead: then [`HighWater::is_covered`] says no, and the write waits for the
//! next persist.
//!
//! # What the shell does
//! It asks [`HighWater::poll`], writes the [`State`] to a new file, renames it over the old one, and reports
//! [`HighWater::persisted`]. A process that dies leaves the page cache behind, so this needs no fsync; a machine that
//! dies takes longer than the margin to come back, and fsync is the answer for whoever does not trust its clock.
//!
//! # Lives
//! The mark keeps stamps apart in time. It does not bring back what memory held: a region that restarts empty and
//! keeps its name would claim to have `seen` records that it lost, and nobody would send them again. So **whoever
//! restarts from an empty memory takes the next incarnation** ([`State::next_life`]), and persists it before it
//! issues or announces anything.
//!
//! Left out on purpose: files. A missing file is the shell's to judge (a first start, or a lost disk); a broken one is
//! an error and never a first start.

use std::time::Duration;

use crate::{
    Incarnation, Time,
    limits::{MARK_ABOVE_STAMPS, MARK_AHEAD, MARK_RENEWAL, STATE_BYTES_MAX},
};

/// Where the clock of a node that is promoted begins: above all that it has seen, and above all that the former
/// primary could have issued.
///
/// The former primary's clock was at most `max_drift` ahead of ours, or it would have stopped taking writes. Peers
/// whose clocks are behind ours may hold the link for as long as that is more than they accept.
pub fn promotion_start(now: Time, seen: Time, max_drift: Duration) -> Time {
    seen.max(now.after(max_drift))
}

/// Says when to persist which mark, and whether a stamp is covered by what was persisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HighWater {
    persisted: Time,
}

impl HighWater {
    /// Goes on from the mark that was read from disk, or from [`Time::ZERO`] at the very first start.
    ///
    /// Nothing is covered until the first persist, so poll before the first write.
    pub const fn resume(mark: Time) -> Self {
        Self { persisted: mark }
    }

    /// The persisted mark: the start of every [`Hlc`](crate::Hlc) after a restart.
    pub const fn mark(&self) -> Time {
        self.persisted
    }

    /// The mark to persist now, if it is time to.
    ///
    /// `reached` is the greatest [`Hlc::last`](crate::Hlc::last) of the node. Where stamps run ahead of the clock,
    /// after a restart or behind a peer that is ahead, the mark keeps only a short way ahead of them, so that a
    /// process that restarts over and over does not push its own future before it.
    pub fn poll(&self, now: Time, reached: Time) -> Option<Time> {
        let needed = now.after(MARK_RENEWAL).max(reached.after(MARK_ABOVE_STAMPS / 2));
        let wanted = now.after(MARK_AHEAD).max(reached.after(MARK_ABOVE_STAMPS));
        (self.persisted < needed).then_some(wanted)
    }

    /// Takes note that `mark` has been written.
    pub fn persisted(&mut self, mark: Time) {
        self.persisted = self.persisted.max(mark);
    }

    /// Whether a stamp of this time may be given out.
    ///
    /// If not, the write waits until [`poll`](Self::poll)'s mark is persisted.
    pub fn is_covered(&self, time: Time) -> bool {
        time <= self.persisted
    }
}

/// What stands in the state file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// No stamp above this was given out.
    pub mark: Time,
    /// The life in which the node issued them.
    pub incarnation: Incarnation,
}

/// Why a state file cannot be used. None of these may be taken for a first start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It does not begin as a state file does, or is longer than one can be.
    #[error("not a clock state file")]
    NotAState,
    /// Another version of Meridian wrote it.
    #[error("clock state file has version {0:?}, this build reads {VERSION:?}")]
    UnknownVersion(String),
    /// It was cut short, or changed by something else than Meridian.
    #[error("clock state file is damaged")]
    Damaged,
}

/// The first words of a state file.
const TAG: &str = "meridian-clock";
/// The version of the form, which follows the tag.
const VERSION: &str = "1";
const CHECKSUM: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

impl State {
    /// The state of a region that has never run.
    pub const FIRST: Self = Self { mark: Time::ZERO, incarnation: Incarnation::FIRST };

    /// The state in which a region goes on that has less in memory than it had, above all an empty one.
    ///
    /// To be persisted before anything is issued or announced under it.
    #[must_use]
    pub const fn next_life(self) -> Self {
        Self { incarnation: self.incarnation.next(), ..self }
    }

    /// The content of the state file: one line of text, so that an operator can read it.
    ///
    /// `meridian-clock 1 <mark, 16 hex digits> <incarnation> <CRC-32 of all before, 8 hex digits>`
    pub fn encode(&self) -> String {
        let body = format!("{TAG} {VERSION} {:016x} {}", self.mark.ntp64(), self.incarnation.number());
        format!("{body} {:08x}\n", CHECKSUM.checksum(body.as_bytes()))
    }

    /// Reads the content of a state file.
    ///
    /// # Errors
    /// [`StateError`] if this is anything else than what [`encode`](Self::encode) gives.
    pub fn decode(content: &[u8]) -> Result<Self, StateError> {
        if content.len() > STATE_BYTES_MAX {
            return Err(StateError::NotAState);
        }
        let text = str::from_utf8(content).map_err(|_| StateError::NotAState)?;
        let mut words = text.split_ascii_whitespace();
        if words.next() != Some(TAG) {
            return Err(StateError::NotAState);
        }
        match words.next() {
            Some(VERSION) => {}
            version => return Err(StateError::UnknownVersion(version.unwrap_or_default().to_owned())),
        }
        let state = Self::fields(words).ok_or(StateError::Damaged)?;
        // There is one way to write a state, checksum included: whatever differs from it is damaged.
        if state.encode() == text { Ok(state) } else { Err(StateError::Damaged) }
    }

    fn fields<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mark = u64::from_str_radix(words.next()?, 16).ok()?;
        let incarnation = words.next()?.parse().ok()?;
        Some(Self { mark: Time::from_ntp64(mark), incarnation: Incarnation::new(incarnation) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{HighWater, State, StateError, promotion_start};
    use crate::{
        Hlc, Incarnation, Origin, RegionId, Time,
        limits::{MARK_AHEAD, MAX_DRIFT_DEFAULT},
        too_far_ahead,
    };

    const START: Time = Time::from_unix_ms(1_800_000_000_000);

    fn origin() -> Origin {
        Origin::new(RegionId::MIN, Incarnation::FIRST)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn nothing_is_covered_before_the_first_persist() {
        let mut marks = HighWater::resume(Time::ZERO);
        assert!(!marks.is_covered(START));
        let mark = marks.poll(START, Time::ZERO).unwrap();
        assert!(!marks.is_covered(START));
        marks.persisted(mark);
        assert!(marks.is_covered(START));
    }

    #[test]
    fn writes_never_wait_while_the_mark_is_renewed_in_time() {
        let mut marks = HighWater::resume(Time::ZERO);
        let mut persists = 0;
        for step in 0..10_000 {
            let now = START.after(ms(step));
            if let Some(mark) = marks.poll(now, now) {
                marks.persisted(mark);
                persists += 1;
            }
            assert!(marks.is_covered(now.after(ms(150))));
        }
        assert!(persists <= 51, "{persists} persists in ten seconds");
    }

    #[test]
    fn clock_that_jumps_ahead_is_not_covered_until_persisted() {
        let mut marks = HighWater::resume(Time::ZERO);
        marks.persisted(marks.poll(START, START).unwrap());
        let jumped = START.after(ms(5_000));
        assert!(!marks.is_covered(jumped));
        marks.persisted(marks.poll(jumped, START).unwrap());
        assert!(marks.is_covered(jumped));
    }

    #[test]
    fn older_mark_that_arrives_late_takes_nothing_back() {
        let mut marks = HighWater::resume(START);
        marks.persisted(START.before(ms(1)));
        assert_eq!(marks.mark(), START);
    }

    #[test]
    fn quick_restart_stays_within_what_peers_accept() {
        let mut marks = HighWater::resume(Time::ZERO);
        marks.persisted(marks.poll(START, START).unwrap());
        let restarted = HighWater::resume(marks.mark());
        let first = Hlc::new(origin(), restarted.mark()).issue(START, Time::ZERO);
        assert!(first.time > START.after(MARK_AHEAD));
        assert!(!too_far_ahead(first.time, START, MAX_DRIFT_DEFAULT));
    }

    #[test]
    fn restarting_over_and_over_does_not_run_away_from_the_clock() {
        let mut mark = Time::ZERO;
        let mut now = START;
        for _ in 0..100 {
            now = now.after(ms(60));
            let mut marks = HighWater::resume(mark);
            let mut hlc = Hlc::new(origin(), marks.mark());
            marks.persisted(marks.poll(now, hlc.last()).unwrap_or(mark));
            assert!(marks.is_covered(hlc.issue(now, Time::ZERO).time));
            mark = marks.mark();
            assert!(!too_far_ahead(mark, now, MAX_DRIFT_DEFAULT));
        }
    }

    #[test]
    fn promotion_jumps_past_what_the_former_primary_could_have_issued() {
        assert_eq!(promotion_start(START, Time::ZERO, ms(500)), START.after(ms(500)));
        let seen = START.after(ms(700));
        assert_eq!(promotion_start(START, seen, ms(500)), seen);
    }

    #[test]
    fn next_life_keeps_the_mark() {
        let state = State { mark: START, incarnation: Incarnation::new(1023) };
        assert_eq!(state.next_life(), State { mark: START, incarnation: Incarnation::new(0) });
    }

    #[test]
    fn state_file_reads_as_documented() {
        let state = State { mark: Time::from_ntp64(0x65f0_0000_8000_0000), incarnation: Incarnation::new(3) };
        assert_eq!(state.encode(), "meridian-clock 1 65f0000080000000 3 8dbac735\n");
    }

    #[test]
    fn each_kind_of_broken_file_is_told_apart() {
        assert_eq!(State::decode(b""), Err(StateError::NotAState));
        assert_eq!(State::decode(&[0xff; 40]), Err(StateError::NotAState));
        assert_eq!(State::decode(&[b' '; 4096]), Err(StateError::NotAState));
        assert_eq!(State::decode(b"meridian-clock 2 x"), Err(StateError::UnknownVersion("2".to_owned())));
        assert_eq!(State::decode(b"meridian-clock 1 "), Err(StateError::Damaged));
    }

    proptest! {
        #[test]
        fn state_survives_the_round_trip(mark: u64, incarnation in 0u16..1024) {
            let state = State { mark: Time::from_ntp64(mark), incarnation: Incarnation::new(incarnation) };
            prop_assert_eq!(State::decode(state.encode().as_bytes()), Ok(state));
        }

        #[test]
        fn any_changed_byte_is_noticed(mark: u64, at in 0usize..44, byte: u8) {
            let mut content = State { mark: Time::from_ntp64(mark), incarnation: Incarnation::FIRST }.encode().into_bytes();
            if content[at] != byte {
                content[at] = byte;
                prop_assert!(State::decode(&content).is_err());
            }
        }

        #[test]
        fn outside_content_never_panics(content in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = State::decode(&content);
        }
    }
}
