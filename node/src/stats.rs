//! What workers count, and who adds it up.
//!
//! A hot path cannot afford an atomic addition per command on a line that every core wants. So each worker has its own
//! numbers, which it alone writes, by a plain load and a plain store that happen to be atomic ([`Tally`]); INFO and
//! /metrics add up all workers' when they are asked. Calls of one command in a row are noted together ([`Run`]), at the
//! latest when the turn of their connection ends. A reset does not touch a worker's numbers: it remembers them, and
//! they are subtracted from then on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use node_core::command_table::{CommandId, TABLE};

use crate::limits::ERROR_KINDS;

/// A number that one thread writes and any may read.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    /// Adds to it. Only its one writer may call this.
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    /// What it is now.
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Buckets of a latency histogram: bucket `i` counts what took up to 2^i microseconds, and longer than bucket `i - 1`.
/// The last takes all that is longer: 18 minutes.
pub(crate) const BUCKETS: usize = 31;

/// What one worker counts of one command.
#[derive(Debug, Default)]
struct CommandTally {
    calls: Tally,
    nanos: Tally,
    /// Calls that replied with an error.
    failed: Tally,
    /// Calls that were refused before they were executed.
    rejected: Tally,
    buckets: [Tally; BUCKETS],
}

/// What one worker counts.
#[derive(Debug)]
pub(crate) struct WorkerStats {
    commands: Box<[CommandTally]>,
    pub(crate) read_bytes: Tally,
    pub(crate) written_bytes: Tally,
    pub(crate) protocol_errors: Tally,
    /// Turns of connections: reads that brought something.
    pub(crate) turns: Tally,
}

impl WorkerStats {
    fn new() -> Self {
        Self {
            commands: TABLE.iter().map(|_| CommandTally::default()).collect(),
            read_bytes: Tally::default(),
            written_bytes: Tally::default(),
            protocol_errors: Tally::default(),
            turns: Tally::default(),
        }
    }

    /// Notes a call that took `nanos`.
    #[inline]
    pub(crate) fn note_call(&self, id: CommandId, nanos: u64, failed: bool) {
        let tally = &self.commands[id as usize];
        tally.calls.add(1);
        tally.nanos.add(nanos);
        tally.buckets[bucket(nanos)].add(1);
        if failed {
            tally.failed.add(1);
        }
    }

    /// Notes calls of one command that took `nanos` together, each so short that it belongs into the first bucket.
    fn note_short_calls(&self, id: CommandId, calls: u64, nanos: u64) {
        let tally = &self.commands[id as usize];
        tally.calls.add(calls);
        tally.nanos.add(nanos);
        tally.buckets[0].add(calls);
    }

    /// Notes a request that was refused.
    pub(crate) fn note_rejected(&self, id: CommandId) {
        self.commands[id as usize].rejected.add(1);
    }
}

/// The longest call that a [`Run`] takes in: the end of the first bucket.
pub(crate) const SHORT_NANOS_MAX: u64 = 1 << 10;

/// The least number of ticks that is longer than [`SHORT_NANOS_MAX`].
pub(crate) fn long_ticks(clock: &quanta::Clock) -> u64 {
    let (mut short, mut long) = (0, u64::from(u32::MAX));
    while long - short > 1 {
        let middle = short + (long - short) / 2;
        if clock.delta_as_nanos(0, middle) > SHORT_NANOS_MAX { long = middle } else { short = middle }
    }
    long
}

/// Calls of one command in a row, each short and without an error: what a pipeline is made of. Noted when it is dropped.
#[derive(Debug)]
pub(crate) struct Run<'w> {
    stats: &'w WorkerStats,
    clock: &'w quanta::Clock,
    /// The least number of ticks that is not short.
    long: u64,
    id: CommandId,
    calls: u64,
    ticks: u64,
}

impl<'w> Run<'w> {
    /// A run without a call. `long` are the ticks from which on a call is noted by itself, at most [`long_ticks`].
    #[inline]
    pub(crate) fn new(stats: &'w WorkerStats, clock: &'w quanta::Clock, long: u64) -> Self {
        Self { stats, clock, long, id: CommandId::Ping, calls: 0, ticks: 0 }
    }

    /// Begins a run of this command, unless it is under way.
    #[inline]
    pub(crate) fn begin(&mut self, id: CommandId) {
        if self.id != id {
            self.end();
            self.id = id;
        }
    }

    /// Takes in a call that took so many ticks. Returns `false`, and does nothing, if it is to be noted by itself.
    #[inline]
    pub(crate) fn takes(&mut self, ticks: u64) -> bool {
        let short = ticks < self.long;
        if short {
            self.calls += 1;
            self.ticks += ticks;
        }
        short
    }

    /// Notes what was taken in.
    fn end(&mut self) {
        if self.calls > 0 {
            self.stats.note_short_calls(self.id, self.calls, self.clock.delta_as_nanos(0, self.ticks));
            (self.calls, self.ticks) = (0, 0);
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// The bucket for a duration. A microsecond is taken as 1,024 ns: a shift instead of a division.
#[inline]
fn bucket(nanos: u64) -> usize {
    let microseconds = nanos.saturating_sub(1) >> 10;
    ((u64::BITS - microseconds.leading_zeros()) as usize).min(BUCKETS - 1)
}

/// What all workers counted of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommandTotals {
    pub(crate) calls: u64,
    pub(crate) nanos: u64,
    pub(crate) failed: u64,
    pub(crate) rejected: u64,
    pub(crate) buckets: [u64; BUCKETS],
}

impl CommandTotals {
    const ZERO: Self = Self { calls: 0, nanos: 0, failed: 0, rejected: 0, buckets: [0; BUCKETS] };

    fn add(&mut self, tally: &CommandTally) {
        self.calls += tally.calls.value();
        self.nanos += tally.nanos.value();
        self.failed += tally.failed.value();
        self.rejected += tally.rejected.value();
        self.buckets.iter_mut().zip(&tally.buckets).for_each(|(sum, bucket)| *sum += bucket.value());
    }

    fn since(&self, base: &Self) -> Self {
        Self {
            calls: self.calls.saturating_sub(base.calls),
            nanos: self.nanos.saturating_sub(base.nanos),
            failed: self.failed.saturating_sub(base.failed),
            rejected: self.rejected.saturating_sub(base.rejected),
            buckets: std::array::from_fn(|index| self.buckets[index].saturating_sub(base.buckets[index])),
        }
    }

    /// The duration that `share` of the calls did not exceed, as an upper bound: the end of its bucket.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        let wanted = (self.calls as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Duration::from_micros(1 << index);
            }
        }
        Duration::ZERO
    }
}

/// What all workers counted.
#[derive(Clone, Debug)]
pub(crate) struct Totals {
    /// By the number of the command.
    pub(crate) commands: Vec<CommandTotals>,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) protocol_errors: u64,
    pub(crate) turns: u64,
}

impl Totals {
    fn zero() -> Self {
        let commands = vec![CommandTotals::ZERO; TABLE.len()];
        Self { commands, read_bytes: 0, written_bytes: 0, protocol_errors: 0, turns: 0 }
    }

    /// How many commands were executed.
    pub(crate) fn calls(&self) -> u64 {
        self.commands.iter().map(|command| command.calls).sum()
    }
}

/// The numbers of all workers, and those that are too rare to have one per worker.
#[derive(Debug)]
pub(crate) struct Stats {
    workers: Vec<Arc<WorkerStats>>,
    /// What the totals were at the last reset.
    base: Mutex<Totals>,
    /// Error replies by their first word.
    errors: Mutex<BTreeMap<String, u64>>,
    panics: AtomicU64,
}

impl Stats {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| Arc::new(WorkerStats::new())).collect(),
            base: Mutex::new(Totals::zero()),
            errors: Mutex::default(),
            panics: AtomicU64::new(0),
        }
    }

    /// The numbers that the worker of this index writes.
    pub(crate) fn of_worker(&self, index: usize) -> Arc<WorkerStats> {
        self.workers[index].clone()
    }

    /// The sum over all workers since the start.
    pub(crate) fn since_start(&self) -> Totals {
        let mut totals = Totals::zero();
        for worker in &self.workers {
            totals.commands.iter_mut().zip(&worker.commands).for_each(|(sum, tally)| sum.add(tally));
            totals.read_bytes += worker.read_bytes.value();
            totals.written_bytes += worker.written_bytes.value();
            totals.protocol_errors += worker.protocol_errors.value();
            totals.turns += worker.turns.value();
        }
        totals
    }

    /// The sum over all workers since the last reset.
    pub(crate) fn totals(&self) -> Totals {
        let (mut totals, base) = (self.since_start(), self.base.lock().unwrap_or_else(PoisonError::into_inner));
        totals.commands.iter_mut().zip(&base.commands).for_each(|(sum, base)| *sum = sum.since(base));
        totals.read_bytes -= base.read_bytes;
        totals.written_bytes -= base.written_bytes;
        totals.protocol_errors -= base.protocol_errors;
        totals.turns -= base.turns;
        totals
    }

    /// Begins to count anew: CONFIG RESETSTAT.
    pub(crate) fn reset(&self) {
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = self.since_start();
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Counts an error reply, given as it stands on the wire, by its first word.
    pub(crate) fn note_error(&self, reply: &[u8]) {
        let line = reply.strip_prefix(b"-").unwrap_or(reply);
        let word = line.split(|byte| matches!(byte, b' ' | b'\r')).next().unwrap_or_default();
        let word = str::from_utf8(word).unwrap_or("ERR");
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = errors.get_mut(word) {
            *count += 1;
        } else {
            let kind = if errors.len() < ERROR_KINDS { word } else { "OTHER" };
            *errors.entry(kind.to_owned()).or_default() += 1;
        }
    }

    /// Error replies by their first word.
    pub(crate) fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a command that panicked.
    pub(crate) fn note_panic(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    /// How many commands panicked since the start.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use node_core::command_table::CommandId;

    use super::{BUCKETS, Run, SHORT_NANOS_MAX, Stats, bucket, long_ticks};

    #[test]
    fn a_bucket_ends_at_a_power_of_two() {
        for (nanos, index) in [(0, 0), (1_024, 0), (1_025, 1), (2_048, 1), (2_049, 2), (u64::MAX, BUCKETS - 1)] {
            assert_eq!(bucket(nanos), index, "{nanos}");
        }
    }

    #[test]
    fn a_reset_hides_what_was_and_loses_nothing() {
        let stats = Stats::new(2);
        let get = CommandId::Get;
        stats.of_worker(0).note_call(get, 1_000, false);
        stats.of_worker(1).note_call(get, 1_000, true);
        assert_eq!(stats.totals().commands[get as usize].calls, 2);
        stats.reset();
        stats.of_worker(1).note_call(get, 5_000, false);
        let totals = stats.totals().commands[get as usize];
        assert_eq!((totals.calls, totals.failed, totals.nanos), (1, 0, 5_000));
        assert_eq!(totals.percentile(0.5), Duration::from_micros(8));
        assert_eq!(stats.since_start().commands[get as usize].calls, 3);
    }

    #[test]
    fn a_run_is_noted_when_another_begins_and_when_it_is_dropped() {
        // Its ticks are nanoseconds.
        let (clock, _) = quanta::Clock::mock();
        let (stats, get, set) = (Stats::new(1), CommandId::Get, CommandId::Set);
        let worker = stats.of_worker(0);
        let long = long_ticks(&clock);
        assert_eq!(long, SHORT_NANOS_MAX + 1);
        let mut run = Run::new(&worker, &clock, long);
        run.begin(get);
        assert!(run.takes(600) && run.takes(SHORT_NANOS_MAX) && !run.takes(long));
        run.begin(set);
        let noted = stats.totals().commands[get as usize];
        assert_eq!((noted.calls, noted.nanos, noted.buckets[0]), (2, 600 + SHORT_NANOS_MAX, 2));
        assert!(run.takes(5));
        assert_eq!(stats.totals().commands[set as usize].calls, 0);
        drop(run);
        assert_eq!(stats.totals().commands[set as usize].calls, 1);
    }

    #[test]
    fn errors_are_counted_by_their_first_word() {
        let stats = Stats::new(1);
        for reply in [&b"-ERR unknown\r\n"[..], b"-WRONGTYPE\r\n", b"-ERR\r\n"] {
            stats.note_error(reply);
        }
        assert_eq!(
            stats.errors().into_iter().collect::<Vec<_>>(),
            [("ERR".to_owned(), 2), ("WRONGTYPE".to_owned(), 1)]
        );
    }
}
