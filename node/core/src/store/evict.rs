//! Eviction: which value gives way when memory is full.
//!
//! As in Redis the choice is by samples, since an exact order would cost memory on every entry. An eviction looks at a
//! few values and drops the best candidate; the runners-up stay in a small pool for the next time. Sampling needs no
//! dice: buckets are in the order of hashes, so neighbours in a table have nothing to do with each other, and a hand
//! that goes round the stripe's buckets sees a fair sample, each value once a round.
//!
//! What an entry remembers of its use are 24 bits: for LRU the second of its last use; for LFU, in Redis's encoding,
//! the minute of the last decay (16 bits) and a logarithmic counter (8 bits).
//!
//! Evicting is local to the region: see `graveyard` for what stays behind.

use clock::Time;

use super::{
    entry::Entry,
    record::Kind,
    settings::{EvictionPolicy, Settings},
    stripe::{Address, KeyHash, Stripe},
    table::Bucket,
};
use crate::{
    limits::{EVICTION_POOL, EVICTION_VISITS_MAX},
    slot::Slot,
};

/// What came of an attempt to evict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// A value was dropped.
    Dropped,
    /// None was found within the bound on one attempt, but there are some.
    NotYet,
    /// The stripe holds no value that the policy lets go.
    NothingToDrop,
}

/// The counter that a new entry begins with, so that it is not the first to go; Redis's `LFU_INIT_VAL`.
const LFU_START: u32 = 5;
const ACCESS_MASK: u32 = 0x00ff_ffff;
/// The minutes in the encoding of LFU.
const MINUTE_MASK: u32 = 0xffff;
/// How far ahead of the reader's clock a use may be noted, in seconds or minutes: more than clocks of workers are apart.
const AHEAD_MAX: u32 = 60;

/// What eviction knows of an entry's use. Which of the two is meaningful depends on the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Seconds since the last use.
    pub idle_seconds: u64,
    /// The logarithmic count of uses, 0 to 255, after decay.
    pub frequency: u8,
}

impl Access {
    pub(super) fn of(bits: u32, now: Time, settings: &Settings) -> Self {
        Self {
            idle_seconds: u64::from(elapsed(lru_clock(now), bits, ACCESS_MASK)),
            frequency: decayed(bits, now, settings) as u8,
        }
    }
}

/// Access bits of a new entry.
pub(super) const fn fresh(now: Time, lfu: bool) -> u32 {
    if lfu { lfu_minute(now) << 8 | LFU_START } else { lru_clock(now) }
}

/// Access bits of an entry that is used now.
#[inline]
pub(super) fn touched(bits: u32, now: Time, lfu: bool, pool: &mut Pool, settings: &Settings) -> u32 {
    if lfu { counted(bits, now, pool, settings) } else { lru_clock(now) }
}

/// Access bits for LFU of an entry that is used now.
fn counted(bits: u32, now: Time, pool: &mut Pool, settings: &Settings) -> u32 {
    let counter = decayed(bits, now, settings);
    let base = u64::from(counter.saturating_sub(LFU_START));
    // One chance in base * factor + 1, as Redis has it.
    let odds = base * u64::from(settings.lfu_log_factor()) + 1;
    let counter = if counter < 255 && pool.random().is_multiple_of(odds) { counter + 1 } else { counter };
    lfu_minute(now) << 8 | counter
}

const fn lru_clock(now: Time) -> u32 {
    now.unix_seconds() & ACCESS_MASK
}

const fn lfu_minute(now: Time) -> u32 {
    (now.unix_seconds() / 60) & MINUTE_MASK
}

/// How far a clock that counts modulo `mask + 1` has gone since `then`.
///
/// Workers read the time once per turn, so an entry may have been used a moment after the `now` of who looks at it. What
/// seems to lie almost a whole round back lies ahead, and is as fresh as can be.
const fn elapsed(now: u32, then: u32, mask: u32) -> u32 {
    let elapsed = now.wrapping_sub(then) & mask;
    if elapsed > mask - AHEAD_MAX { 0 } else { elapsed }
}

/// The LFU counter, less one for each decay period since it was last written.
fn decayed(bits: u32, now: Time, settings: &Settings) -> u32 {
    let periods =
        elapsed(lfu_minute(now), bits >> 8, MINUTE_MASK).checked_div(settings.lfu_decay_minutes()).unwrap_or(0);
    (bits & 0xff).saturating_sub(periods)
}

/// How much an entry deserves to go; the greatest goes first.
fn score(policy: EvictionPolicy, held: Entry<'_>, now: Time, settings: &Settings) -> u64 {
    let access = Access::of(held.access(), now, settings);
    match policy {
        EvictionPolicy::AllKeysLru | EvictionPolicy::VolatileLru => access.idle_seconds,
        EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu => u64::from(u8::MAX - access.frequency),
        EvictionPolicy::VolatileTtl => u64::MAX - held.expiry().map_or(u64::MAX, |expiry| expiry.unix_ms()),
        EvictionPolicy::AllKeysRandom | EvictionPolicy::VolatileRandom | EvictionPolicy::NoEviction => 0,
    }
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    score: u64,
    slot: Slot,
    hash: KeyHash,
    stamp: clock::Stamp,
}

/// A stripe's candidates for eviction, best last, and the hand that finds more.
#[derive(Debug)]
pub(super) struct Pool {
    candidates: Vec<Candidate>,
    table: usize,
    bucket: Bucket,
    /// State of a xorshift generator (Marsaglia, 2003), for the odds of LFU counting.
    random: u64,
}

impl Pool {
    /// `seed` must not be zero.
    pub(super) const fn new(seed: u64) -> Self {
        Self { candidates: Vec::new(), table: 0, bucket: Bucket { layout: 0, index: 0 }, random: seed }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn offer(&mut self, candidate: Candidate) {
        let known = self.candidates.iter().any(|held| held.slot == candidate.slot && held.hash == candidate.hash);
        if known {
            return;
        }
        let position = self.candidates.partition_point(|held| held.score <= candidate.score);
        self.candidates.insert(position, candidate);
        if self.candidates.len() > EVICTION_POOL {
            self.candidates.remove(0);
        }
    }
}

impl Stripe {
    /// Drops one value by the policy in force.
    pub fn evict_one(&mut self, now: Time) -> Eviction {
        let policy = self.settings.policy();
        let eligible = if policy.is_volatile() { self.census.volatile } else { self.census.values };
        if policy == EvictionPolicy::NoEviction || eligible == 0 {
            return Eviction::NothingToDrop;
        }
        self.sample(policy, now);
        while let Some(candidate) = self.pool.candidates.pop() {
            let still_there = self.table(candidate.slot).with_hash(candidate.hash).find(|handle| {
                let held = Entry::at(&self.heap, *handle);
                held.kind() == Kind::Value
                    && held.stamp() == candidate.stamp
                    && score(policy, held, now, &self.settings) >= candidate.score
            });
            if let Some(handle) = still_there {
                self.counters.evicted += 1;
                self.table_mut(candidate.slot).is_thinned = true;
                self.drop_value(Address { slot: candidate.slot, hash: candidate.hash }, handle);
                return Eviction::Dropped;
            }
        }
        Eviction::NotYet
    }

    /// Moves the hand on until it has seen as many candidates as an eviction samples.
    fn sample(&mut self, policy: EvictionPolicy, now: Time) {
        let (mut wanted, mut visits) = (self.settings.samples(), 0);
        // One more than a full round, since the hand may start in the middle of a table.
        for _ in 0..=self.tables.len() {
            let Some(slot) = self.slots.at(self.pool.table) else { return };
            let (table, heap, mut found) = (&self.tables[self.pool.table], &self.heap, Vec::new());
            let stopped = table.walk(self.pool.bucket, |handle| {
                visits += 1;
                let held = Entry::at(heap, handle);
                if held.kind() == Kind::Value && (!policy.is_volatile() || held.expiry().is_some()) {
                    found.push(handle);
                }
                found.len() < wanted && visits < EVICTION_VISITS_MAX
            });
            wanted -= found.len();
            for handle in found {
                let held = Entry::at(&self.heap, handle);
                let score = score(policy, held, now, &self.settings);
                self.pool.offer(Candidate { score, slot, hash: self.hash_of(handle), stamp: held.stamp() });
            }
            if let Some(bucket) = stopped {
                self.pool.bucket = bucket;
                return;
            }
            self.pool.table = (self.pool.table + 1) % self.tables.len();
            self.pool.bucket = self.tables[self.pool.table].first_bucket();
            if wanted == 0 || visits >= EVICTION_VISITS_MAX {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clock::Time;

    use super::{Access, Pool, fresh, touched};
    use crate::store::Settings;

    const NOON: Time = Time::from_unix_ms(1_800_000_000_000);

    #[test]
    fn a_use_that_another_clock_noted_ahead_of_ours_is_a_fresh_one() {
        let (settings, ahead) = (Settings::default(), NOON.after(Duration::from_secs(1)));
        assert_eq!(Access::of(fresh(ahead, false), NOON, &settings).idle_seconds, 0);
        assert_eq!(Access::of(fresh(NOON, false), ahead, &settings).idle_seconds, 1);
        let next_minute = NOON.after(Duration::from_secs(60));
        let started = Access::of(fresh(next_minute, true), next_minute, &settings).frequency;
        assert_eq!(Access::of(fresh(next_minute, true), NOON, &settings).frequency, started);
    }

    #[test]
    fn counts_grow_ever_slower_and_fall_with_every_idle_minute() {
        let (settings, mut pool) = (Settings::default(), Pool::new(7));
        let mut bits = fresh(NOON, true);
        let mut counts = Vec::new();
        for uses in 1..=1_000_000_u32 {
            bits = touched(bits, NOON, true, &mut pool, &settings);
            if [100, 1_000, 10_000, 100_000, 1_000_000].contains(&uses) {
                counts.push(Access::of(bits, NOON, &settings).frequency);
            }
        }
        // Redis documents 10, 18, 49, 142 and 255 for its default factor ("Key eviction", LFU tuning).
        for (count, documented) in counts.iter().zip([10_u8, 18, 49, 142, 255]) {
            assert!(count.abs_diff(documented) <= documented / 4 + 3, "{counts:?}");
        }
        let later = Access::of(bits, NOON.after(Duration::from_secs(600)), &settings).frequency;
        assert_eq!(later, counts[4] - 10);
    }
}
