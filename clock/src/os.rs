//! The operating system's clocks: the one file that reads them.
//!
//! [`OsClock`] reads a counter through quanta (the CPU's time stamp counter where it can be trusted), puts it through
//! the [`Anchor`], and gives a [`Now`]. Whoever needs the time gets it as an argument, so an `OsClock` is found in the
//! shells alone, as an `Arc`; there is no global one, so that two nodes in one test can disagree.
//!
//! # Reading without a lock
//! The lines of the anchor are six words. They stand twice, and a version says which copy counts: the writer fills
//! the other copy and then moves the version on. A reader takes the version, the copy, the counter, and the version
//! again; if that has not moved, nothing was torn. Once in a second a reader may have to try again; it never waits
//! for a writer that was put to sleep halfway, as it would with a lock or with a single copy. The fences are those of
//! Boehm, "Can Seqlocks Get Along With Programming Language Memory Models?" (2012).

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
            fence,
        },
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    Now, Offset, Time,
    anchor::{Anchor, Correction, Jumps, Line, Lines, Reading},
    limits::SAMPLE_READS,
};

/// The clocks of this machine.
#[derive(Debug)]
pub struct OsClock {
    counter: quanta::Clock,
    /// The counter when the process began to use it.
    start: u64,
    /// What is added to the system's clock, for tests.
    injected: Offset,
    lines: SharedLines,
    anchor: Mutex<Anchor>,
}

impl OsClock {
    /// Reads the clocks for the first time. The first in a process takes up to 200 ms, to calibrate the counter.
    pub fn new() -> Self {
        Self::with_offset(Offset::ZERO)
    }

    /// A clock that takes the system's to be off by `injected`: how tests have nodes disagree on one machine.
    pub fn with_offset(injected: Offset) -> Self {
        Self::with_counter(quanta::Clock::new(), injected)
    }

    fn with_counter(counter: quanta::Clock, injected: Offset) -> Self {
        let start = counter.raw();
        let anchor = Anchor::new(read_both(&counter, start, injected));
        Self { counter, start, injected, lines: SharedLines::new(anchor.lines()), anchor: Mutex::new(anchor) }
    }

    /// The time. Measured at 12 ns; from any thread, without a lock.
    #[inline]
    pub fn now(&self) -> Now {
        let (lines, counter) = self.lines.load_with(|| nanos(&self.counter, self.start));
        Now { wall: lines.wall(counter), monotonic: Duration::from_nanos(counter) }
    }

    /// Corrects the clock against the system's. The shell calls this
    /// [once a second](crate::limits::REANCHOR_INTERVAL), from one thread, and reports what comes back.
    pub fn reanchor(&self) -> Correction {
        // Locked before the clocks are read, so that readings arrive in order.
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let correction = anchor.correct(read_both(&self.counter, self.start, self.injected));
        self.lines.store(anchor.lines());
        correction
    }

    /// The system's clock minus this one, at the last [`reanchor`](Self::reanchor).
    pub fn offset(&self) -> Offset {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner).offset()
    }

    /// How often the system clock was set while this process ran.
    pub fn jumps(&self) -> Jumps {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner).jumps()
    }
}

impl Default for OsClock {
    fn default() -> Self {
        Self::new()
    }
}

/// The counter, in nanoseconds since `start`.
#[inline]
fn nanos(counter: &quanta::Clock, start: u64) -> u64 {
    counter.delta_as_nanos(start, counter.raw())
}

/// Reads both clocks several times and gives the reading that took least: the one that nothing came between.
fn read_both(counter: &quanta::Clock, start: u64, injected: Offset) -> Reading {
    let read = || {
        let before = nanos(counter, start);
        let system = SystemTime::now();
        let width = nanos(counter, start).saturating_sub(before);
        // A system clock before 1970 reads as 1970.
        let system = Time::from_unix(system.duration_since(UNIX_EPOCH).unwrap_or_default());
        Reading { counter: before + width / 2, system: system.shifted(injected), width: Duration::from_nanos(width) }
    };
    (1..SAMPLE_READS).map(|_| read()).fold(read(), |best, next| if next.width < best.width { next } else { best })
}

/// One copy of the lines, as words that may be read while they are written.
type Words = [AtomicU64; 6];

/// The lines of the anchor, for one writer at a time and any number of readers.
#[derive(Debug)]
struct SharedLines {
    /// Its last bit says which copy counts.
    version: AtomicU64,
    copies: [Words; 2],
}

impl SharedLines {
    fn new(lines: Lines) -> Self {
        let copy = || to_words(lines).map(AtomicU64::new);
        Self { version: AtomicU64::new(0), copies: [copy(), copy()] }
    }

    /// The lines, and what `read` gave while they held.
    #[inline]
    fn load_with<T>(&self, read: impl Fn() -> T) -> (Lines, T) {
        loop {
            let version = self.version.load(Acquire);
            let words = self.copies[(version & 1) as usize].each_ref().map(|word| word.load(Relaxed));
            let value = read();
            // If a word was of a later version, that version is seen below.
            fence(Acquire);
            if self.version.load(Relaxed) == version {
                return (from_words(words), value);
            }
        }
    }

    /// Publishes new lines. The caller holds the anchor's lock, so there is one writer.
    fn store(&self, lines: Lines) {
        let version = self.version.load(Relaxed);
        // Whoever sees a word of the next version sees that the one before this has passed.
        fence(Release);
        for (word, value) in self.copies[(version & 1 ^ 1) as usize].iter().zip(to_words(lines)) {
            word.store(value, Relaxed);
        }
        self.version.store(version.wrapping_add(1), Release);
    }
}

fn to_words(lines: Lines) -> [u64; 6] {
    let words = |line: Line| [line.counter, line.wall.ntp64(), line.correction.nanos().cast_unsigned()];
    let ([a, b, c], [d, e, f]) = (words(lines.before), words(lines.after));
    [a, b, c, d, e, f]
}

fn from_words([a, b, c, d, e, f]: [u64; 6]) -> Lines {
    let line = |counter, wall, correction: u64| Line {
        counter,
        wall: Time::from_ntp64(wall),
        correction: Offset::from_nanos(correction.cast_signed()),
    };
    Lines { before: line(a, b, c), after: line(d, e, f) }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        thread,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use super::{OsClock, SharedLines, from_words, to_words};
    use crate::{Offset, Time};

    const SECOND: Duration = Duration::from_secs(1);

    fn system() -> Time {
        Time::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).unwrap())
    }

    /// A clock on a counter that moves only when it is told to.
    fn stopped_clock() -> (OsClock, std::sync::Arc<quanta::Mock>) {
        let (counter, mock) = quanta::Clock::mock();
        (OsClock::with_counter(counter, Offset::ZERO), mock)
    }

    #[test]
    fn begins_on_the_system_clock_and_counts_on_from_there() {
        let before = system();
        let (clock, counter) = stopped_clock();
        let start = clock.now();
        assert!(before <= start.wall && start.wall <= system());
        assert_eq!(start.monotonic, Duration::ZERO);
        counter.increment(SECOND);
        assert_eq!(clock.now(), start.after(SECOND));
    }

    #[test]
    fn returns_to_the_system_clock_when_the_counter_ran_ahead() {
        let (clock, counter) = stopped_clock();
        counter.increment(30 * SECOND);
        clock.reanchor();
        assert!(clock.offset() < Offset::behind(Duration::from_secs(20)));
        assert_eq!(clock.jumps().back, 1);
        counter.increment(SECOND);
        assert!(clock.now().wall < system().after(2 * SECOND));
    }

    #[test]
    fn injected_offset_moves_wall_time_alone() {
        let clock = OsClock::with_offset(Offset::behind(3_600 * SECOND));
        assert!(clock.now().wall <= system().before(3_600 * SECOND));
        clock.reanchor();
        assert!(clock.now().wall <= system().before(3_600 * SECOND));
        assert_eq!(clock.jumps().back, 0);
    }

    #[test]
    fn neither_clock_goes_back_across_corrections() {
        let clock = OsClock::new();
        let mut last = clock.now();
        for _ in 0..100 {
            clock.reanchor();
            for _ in 0..100 {
                let now = clock.now();
                assert!(now.wall >= last.wall && now.monotonic >= last.monotonic);
                last = now;
            }
        }
    }

    #[test]
    fn readers_never_see_half_a_correction() {
        const READERS: usize = 2;
        const READS: usize = if cfg!(miri) { 100 } else { 500_000 };
        let lines = |number: u64| from_words([number; 6]);
        let (shared, finished) = (SharedLines::new(lines(0)), AtomicUsize::new(0));
        let read = || {
            let mut last = 0;
            for _ in 0..READS {
                let words = to_words(shared.load_with(|| ()).0);
                if words != [words[0]; 6] || words[0] < last {
                    return Err(words);
                }
                last = words[0];
            }
            Ok(())
        };
        thread::scope(|scope| {
            let readers = [(); READERS].map(|()| {
                scope.spawn(|| {
                    let result = read();
                    finished.fetch_add(1, Relaxed);
                    result
                })
            });
            let mut number = 0;
            while finished.load(Relaxed) < READERS {
                number += 1;
                shared.store(lines(number));
            }
            assert_eq!(readers.map(|reader| reader.join().unwrap()), [Ok(()); READERS]);
        });
    }
}
