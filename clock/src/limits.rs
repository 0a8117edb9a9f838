//! Every bound of this crate, with what it was chosen against and what happens at it.
//!
//! The bounds lean on one another: what a node persists ahead of its clock, and what it jumps by on promotion, must
//! stay within what its peers accept. The compiler checks those that must.

use std::time::Duration;

/// How far ahead of the local clock a stamp may lie, unless configured otherwise.
///
/// Policy: a stamp further ahead is neither applied nor dropped; its link holds until the clocks agree. Hosts under
/// NTP agree within some tens of milliseconds even when badly tuned, so half a second is a fault, not noise.
pub const MAX_DRIFT_DEFAULT: Duration = Duration::from_millis(500);

/// How far ahead of the clock the persisted high-water mark is put.
///
/// A restart begins at the mark, so this is how far the first stamps of a quick restart lie in the future. Below
/// [`MAX_DRIFT_DEFAULT`], with a fifth of it left for honest skew, or peers would hold the link of whoever restarts.
pub const MARK_AHEAD: Duration = Duration::from_millis(400);

/// How little may be left before the mark when a new one is asked for.
///
/// Half of [`MARK_AHEAD`]: five small writes of the state file a second, and 200 ms for each to reach the disk before
/// a write has to wait for it.
pub const MARK_RENEWAL: Duration = Duration::from_millis(200);

/// How far above the greatest stamp the mark is put, where stamps run ahead of the clock.
///
/// Shorter than any restart takes, so that a process that crashes in a loop does not run away from its clock; long
/// enough that a peer whose clock is ahead costs no more than some 40 small writes of the state file a second.
pub const MARK_ABOVE_STAMPS: Duration = Duration::from_millis(50);

/// The size of a state file that is looked at, in bytes. A longer one is refused unread.
pub const STATE_BYTES_MAX: usize = 256;

/// How often the anchor is to be corrected against the system clock.
///
/// A counter whose calibration is 100 ppm off, worse than was ever reported, is 100 us off by then.
pub const REANCHOR_INTERVAL: Duration = Duration::from_secs(1);

/// How far ahead of a sample the correction that follows from it takes effect.
///
/// Readers go on with the old line until then, so that two threads never read off different lines at one instant,
/// unless publishing a line takes a thread longer than this. A sample that comes sooner after the last is not used.
pub const SWITCH_AHEAD: Duration = Duration::from_millis(50);

/// How fast a small error is worked off: 500 us per second, the rate of `adjtime`.
///
/// Several times the worst drift of a counter, so that the error always shrinks; far below anything that a client
/// could see in an expiry.
pub const SLEW_PPM: u64 = 500;

/// How much of its speed the wall clock loses while it waits for a system clock that was set back.
///
/// Seven eighths: a second is waited out in 1.14 s, and yet watermarks and expiries never stand still.
pub const BRAKE_PPM: u64 = 875_000;

/// The greatest error that is slewed: worked off in 20 s at [`SLEW_PPM`].
///
/// Beyond it the wall clock jumps if it is behind, and brakes if it is ahead.
pub const SLEW_MAX: Duration = Duration::from_millis(10);

/// The greatest step back of the system clock that is waited out by braking.
///
/// Beyond it somebody corrected a clock that was plainly wrong, and expiries on the wrong clock would do more harm
/// than time that goes back once: the step is followed, and counted.
pub const BRAKE_MAX: Duration = Duration::from_secs(10);

/// How many times the system clock is read for one sample; the tightest read counts.
pub const SAMPLE_READS: usize = 5;

/// How many exchanges with a peer the minimum-delay filter remembers (`NSTAGE` of RFC 5905).
///
/// Policy: the oldest makes room.
pub const EXCHANGES_KEPT: usize = 8;

/// How fast an old exchange loses its worth (`PHI` of RFC 5905): what two clocks may drift apart unnoticed.
pub const DRIFT_PPM: u32 = 15;

/// The longest round trip that says anything about a clock. A slower exchange is refused.
pub const ROUND_TRIP_MAX: Duration = Duration::from_secs(10);

const _: () = assert!(MARK_AHEAD.as_millis() < MAX_DRIFT_DEFAULT.as_millis());
const _: () = assert!(MARK_RENEWAL.as_millis() < MARK_AHEAD.as_millis());
const _: () = assert!(MARK_ABOVE_STAMPS.as_millis() < MARK_RENEWAL.as_millis());
const _: () = assert!(SWITCH_AHEAD.as_millis() < REANCHOR_INTERVAL.as_millis());
const _: () = assert!(SLEW_MAX.as_millis() < BRAKE_MAX.as_millis());
const _: () = assert!(SLEW_PPM < 1_000_000 && BRAKE_PPM < 1_000_000);
