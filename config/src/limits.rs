//! The bounds of the configuration itself: how far each setting may be turned.
//!
//! The policy is the same for all settings: a value outside is refused before the process starts, and the report names
//! the range.

use std::{ops::RangeInclusive, time::Duration};

use crate::Size;

/// The greatest file that is read. A thousandfold of what a hand writes; more is a mistaken path.
pub const FILE_LEN_MAX: Size = Size::mib(1);

/// The most problems of one file that are looked for: nobody fixes more in one go. What lies behind them is found when
/// these are fixed. It also bounds the time that a file of nothing but mistakes can take.
pub const PROBLEMS: usize = 50;

/// Worker threads.
pub const WORKERS: RangeInclusive<u16> = 1..=1_024;
/// Stripes of a node: a set of them is a 64-bit mask in its core.
pub const STRIPES: RangeInclusive<u32> = 1..=64;
/// Length of the log's ring in records.
pub const LOG_RECORDS: RangeInclusive<u64> = 1_024..=1 << 32;
/// Keys looked at per eviction, as in Redis.
pub const MAXMEMORY_SAMPLES: RangeInclusive<u32> = 1..=64;
/// What the decay of access counters is a multiple of: entries remember the minute of their last access, as in Redis.
pub const LFU_DECAY_UNIT: Duration = Duration::from_secs(60);
/// The slowest decay that differs from none: the minutes of an entry are 16 bits and begin anew after 45 days.
pub const LFU_DECAY_TIME_MAX: Duration = Duration::from_secs(60 * 65_535);

/// Length of one argument. The least is Redis's; above the greatest an entry would not fit a batch frame.
pub const PROTO_MAX_BULK_LEN: RangeInclusive<Size> = Size::mib(1)..=Size::mib(512);
/// Length of a key.
pub const MAX_KEY_LEN: RangeInclusive<Size> = Size::bytes(1)..=Size::mib(512);
/// Length of an inline command.
pub const PROTO_INLINE_MAX_SIZE: RangeInclusive<Size> = Size::kib(1)..=Size::mib(16);
/// Arguments of one command.
pub const MAX_MULTIBULK_LEN: RangeInclusive<u32> = 16..=1 << 30;
/// Connected clients.
pub const MAXCLIENTS: RangeInclusive<u32> = 1..=1_000_000;

/// How long a primary may go on alone. Below the least the pauses of an ordinary machine would end leases.
pub const LEASE: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(60);
/// How many reports go into a lease at least: one may be lost, and one late, and the lease still goes on.
pub const REPORTS_PER_LEASE: u32 = 4;
/// The interval of reports.
pub const REPORT_EVERY: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(15);
/// The interval of probes.
pub const GOSSIP_EVERY: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(10);
/// How far behind a replica may be and count.
pub const MIN_REPLICAS_MAX_LAG: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);

/// What one batch carries before compression.
pub const BATCH: RangeInclusive<Size> = Size::kib(1)..=Size::mib(16);
/// How long a record waits for company.
pub const BATCH_DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(1);
/// The interval of heartbeats.
pub const HEARTBEAT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
/// The interval at which regions are compared; zero is never.
pub const AUDIT_INTERVAL: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);
/// The first pause and the longest one between attempts to connect.
pub const RECONNECT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);
/// Addresses of one peer: more gateways than a region has use for.
pub const PEER_ADDRESSES: usize = 16;
/// How far clocks may differ before a link holds.
pub const MAX_DRIFT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
/// How much longer a write to the disk may be made to take, for tests.
pub const DISK_DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10);

/// Entries of the slow log.
pub const SLOWLOG_MAX_LEN: RangeInclusive<u32> = 0..=1_000_000;
