//! What an operator may change while the store runs, and the few numbers that all stripes share.
//!
//! All but [`News`] are atomics, read and written relaxed: each stands for itself, and a stripe that sees a change a moment later
//! does no harm.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use clock::Time;

use super::news::News;

/// Which entries give way when memory is full. The names are Redis's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvictionPolicy {
    /// None: writes that need memory are refused.
    #[default]
    NoEviction,
    /// Of all, the least recently used.
    AllKeysLru,
    /// Of all, the least frequently used.
    AllKeysLfu,
    /// Of all, any.
    AllKeysRandom,
    /// Of those that expire, the least recently used.
    VolatileLru,
    /// Of those that expire, the least frequently used.
    VolatileLfu,
    /// Of those that expire, any.
    VolatileRandom,
    /// Of those that expire, the one that does so first.
    VolatileTtl,
}

impl EvictionPolicy {
    /// Every policy, with its name in Redis's configuration.
    pub const NAMES: [(Self, &'static str); 8] = [
        (Self::NoEviction, "noeviction"),
        (Self::AllKeysLru, "allkeys-lru"),
        (Self::AllKeysLfu, "allkeys-lfu"),
        (Self::AllKeysRandom, "allkeys-random"),
        (Self::VolatileLru, "volatile-lru"),
        (Self::VolatileLfu, "volatile-lfu"),
        (Self::VolatileRandom, "volatile-random"),
        (Self::VolatileTtl, "volatile-ttl"),
    ];

    /// The name in Redis's configuration.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].1
    }

    /// The policy of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(policy, _)| *policy)
    }

    /// Whether access counts are kept instead of access times.
    pub const fn is_lfu(self) -> bool {
        matches!(self, Self::AllKeysLfu | Self::VolatileLfu)
    }

    /// Whether only entries that expire give way.
    pub const fn is_volatile(self) -> bool {
        matches!(self, Self::VolatileLru | Self::VolatileLfu | Self::VolatileRandom | Self::VolatileTtl)
    }
}

/// A rule of the design, broken on purpose, so that a test can show that its check would notice.
///
/// Compiled in only with the feature `sabotage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Sabotage {
    /// Records under the floor are let in.
    NoFloor = 1,
    /// A consumer under the source's floor does not get the whole slot.
    NoReset,
    /// Forgetting early does not raise the floor.
    FreeForget,
    /// Deleting an absent key leaves no tombstone.
    NoDeleteOfAbsent,
    /// A scan sends only what the source itself stamped.
    OriginScan,
}

/// What all stripes share.
#[derive(Debug)]
pub struct Settings {
    max_memory: AtomicUsize,
    policy: AtomicU8,
    samples: AtomicUsize,
    lfu_log_factor: AtomicU32,
    lfu_decay_minutes: AtomicU32,
    tombstone_budget: AtomicUsize,
    pub(super) frontier: AtomicU64,
    /// Up to where the replicas of this node have followed; the frontier does not pass it.
    frontier_limit: AtomicU64,
    pub(super) used_bytes: AtomicUsize,
    pub(super) tombstone_bytes: AtomicUsize,
    /// Whether a reader of the log waits for the next append.
    pub(super) news: News,
    #[cfg(feature = "sabotage")]
    sabotage: AtomicU8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_memory: AtomicUsize::new(0),
            policy: AtomicU8::new(EvictionPolicy::default() as u8),
            samples: AtomicUsize::new(5),
            lfu_log_factor: AtomicU32::new(10),
            lfu_decay_minutes: AtomicU32::new(1),
            tombstone_budget: AtomicUsize::new(64 * 1024 * 1024),
            frontier: AtomicU64::new(0),
            frontier_limit: AtomicU64::new(u64::MAX),
            used_bytes: AtomicUsize::new(0),
            tombstone_bytes: AtomicUsize::new(0),
            news: News::new(),
            #[cfg(feature = "sabotage")]
            sabotage: AtomicU8::new(0),
        }
    }
}

impl Settings {
    /// The memory limit in bytes; zero is none.
    #[inline]
    pub fn max_memory(&self) -> usize {
        self.max_memory.load(Relaxed)
    }

    /// Sets the memory limit in bytes; zero is none.
    pub fn set_max_memory(&self, bytes: usize) {
        self.max_memory.store(bytes, Relaxed);
    }

    /// Which entries give way at the limit.
    #[inline]
    pub fn policy(&self) -> EvictionPolicy {
        EvictionPolicy::NAMES[usize::from(self.policy.load(Relaxed))].0
    }

    /// Sets which entries give way at the limit.
    pub fn set_policy(&self, policy: EvictionPolicy) {
        self.policy.store(policy as u8, Relaxed);
    }

    /// How many candidates each eviction looks at, at least 1.
    pub fn samples(&self) -> usize {
        self.samples.load(Relaxed)
    }

    /// Sets how many candidates each eviction looks at.
    pub fn set_samples(&self, samples: usize) {
        self.samples.store(samples.max(1), Relaxed);
    }

    /// How slowly access counts saturate; Redis's `lfu-log-factor`.
    pub fn lfu_log_factor(&self) -> u32 {
        self.lfu_log_factor.load(Relaxed)
    }

    /// Sets `lfu-log-factor`.
    pub fn set_lfu_log_factor(&self, factor: u32) {
        self.lfu_log_factor.store(factor, Relaxed);
    }

    /// After how many idle minutes an access count falls by one; zero is never. Redis's `lfu-decay-time`.
    pub fn lfu_decay_minutes(&self) -> u32 {
        self.lfu_decay_minutes.load(Relaxed)
    }

    /// Sets `lfu-decay-time`.
    pub fn set_lfu_decay_minutes(&self, minutes: u32) {
        self.lfu_decay_minutes.store(minutes, Relaxed);
    }

    /// How many bytes tombstones and markers may hold before the oldest are forgotten early.
    pub fn tombstone_budget(&self) -> usize {
        self.tombstone_budget.load(Relaxed)
    }

    /// Sets the budget for tombstones and markers, in bytes.
    pub fn set_tombstone_budget(&self, bytes: usize) {
        self.tombstone_budget.store(bytes, Relaxed);
    }

    /// Says up to where the replicas of this node have followed: the frontier does not pass that, so that nothing is
    /// forgotten which one of them still needs to hear. [`Time::MAX`] if there are none.
    pub fn set_frontier_limit(&self, limit: Time) {
        self.frontier_limit.store(limit.ntp64(), Relaxed);
    }

    /// Moves the frontier on. It never goes back.
    pub(super) fn advance_frontier(&self, frontier: Time) {
        let limited = frontier.ntp64().min(self.frontier_limit.load(Relaxed));
        self.frontier.fetch_max(limited, Relaxed);
    }

    /// Takes over the frontier of a primary that this node follows. It may go back: another primary knows other things.
    pub fn set_frontier(&self, frontier: Time) {
        self.frontier.store(frontier.ntp64(), Relaxed);
    }

    /// The time up to which every region is known to have seen every origin.
    pub fn frontier(&self) -> Time {
        Time::from_ntp64(self.frontier.load(Relaxed))
    }

    /// Whether this rule is broken on purpose; never, without the feature `sabotage`.
    #[cfg(not(feature = "sabotage"))]
    pub(super) const fn is_sabotaged(&self, _: Sabotage) -> bool {
        false
    }

    /// Whether this rule is broken on purpose.
    #[cfg(feature = "sabotage")]
    pub(super) fn is_sabotaged(&self, rule: Sabotage) -> bool {
        self.sabotage.load(Relaxed) == rule as u8
    }

    /// Breaks a rule.
    #[cfg(feature = "sabotage")]
    pub fn sabotage(&self, rule: Sabotage) {
        self.sabotage.store(rule as u8, Relaxed);
    }

    /// Bytes that entries, tables and tombstones hold.
    #[inline]
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Relaxed)
    }

    /// Bytes that tombstones and markers hold.
    pub fn tombstone_bytes(&self) -> usize {
        self.tombstone_bytes.load(Relaxed)
    }
}
