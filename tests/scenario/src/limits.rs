//! The bounds of scenarios, each with its policy.

use std::{ops::RangeInclusive, time::Duration};

use config::Size;

/// Clients of one region. Policy: the file is refused.
pub const CLIENTS: RangeInclusive<u16> = 1..=64;

/// Keys of one scenario. All are read in all regions at the end. Policy: the file is refused.
pub const KEYS: RangeInclusive<u32> = 1..=100_000;

/// Operations per second of one region. Policy: the file is refused.
pub const RATE: RangeInclusive<u32> = 1..=20_000;

/// How long the load may run, and when the last event may be; the history of all of it is kept in memory. Policy: the file is
/// refused.
pub const DURATION: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(24 * 3_600);

/// The size of a value. The least has room for the name of its writer. Policy: the file is refused.
pub const VALUE_SIZE: RangeInclusive<Size> = Size::bytes(96)..=Size::mib(1);

/// How much faster than written a timeline may run. Policy: the file is refused.
pub const SPEED: RangeInclusive<u32> = 1..=1_000;

/// Operations that are kept of one run. Policy: the load ends early, and the verdict says so.
pub const OPERATIONS_MAX: usize = 2_000_000;

/// How much later than its time a value may be read that has expired: a read that was on its way, a clock that was slewed.
/// Policy: an oracle does not complain.
pub const EXPIRY_SLACK: Duration = Duration::from_millis(250);

/// How many violations of one promise a verdict shows. Policy: it says how many more there are.
pub const VIOLATIONS_SHOWN: usize = 3;
