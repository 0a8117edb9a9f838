//! Every bound of the protocol, with what it was chosen against and what happens at it.
//!
//! What an operator may change is in [`SenderOptions`](crate::SenderOptions), [`ReceiverOptions`](crate::ReceiverOptions)
//! and [`RefillOptions`](crate::RefillOptions) instead. The bounds lean on one another; the compiler checks those that
//! must.

use std::time::Duration;

use node_core::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

/// The version of the protocol that this build speaks. A peer that speaks another is refused.
pub const PROTOCOL_VERSION: u16 = 3;

/// Room in a frame for what is not key or value: the envelope, and the other columns of a batch's body.
pub const FRAME_OVERHEAD_MAX: usize = 1024 * 1024;

/// The longest frame that is taken once a peer was greeted, in bytes, unless configured otherwise: room for the
/// largest record that there can be, and whatever one turn of a feed put beside it.
///
/// Policy: a frame that announces more ends the link before a byte of it is stored. The buffer grows with what has
/// really arrived, so the announcement alone costs nothing.
pub const FRAME_BYTES_MAX: usize = KEY_BYTES_MAX + VALUE_BYTES_MAX + FRAME_OVERHEAD_MAX;

/// The longest frame of a greeting, in bytes: a welcome carries what was seen, per origin and run of equal slots. At
/// its worst, with no two neighbouring slots equal, an origin takes 230 KiB, so this is room for 72 such origins.
///
/// Policy: the link ends. A region in that state is refilled by whoever dials it with less to say.
pub const GREETING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest frame of what a sender says before it is let in, in bytes: a greeting names runs of slots, 32 KiB at worst.
///
/// Policy: as above.
pub const SMALL_FRAME_BYTES_MAX: usize = 64 * 1024;

/// How many origins a row or a table of `seen` may name: more than all regions in four lives each.
///
/// Policy: a message with more is malformed.
pub const ORIGINS_MAX: usize = 256;

/// The longest name of a region, in bytes: that of a DNS label.
pub const NAME_BYTES_MAX: usize = 63;

/// The longest text of a refusal, in bytes; longer ones are cut.
pub const REASON_BYTES_MAX: usize = 512;

/// The shortest body that is compressed, in bytes: a heartbeat, or a record or two, has hardly anything that lz4 could point back to,
/// and the compressor's table of 16 KiB would be cleared for it.
pub const COMPRESS_BYTES_MIN: usize = 96;

/// The longest body that is compressed, in bytes. A longer one holds some very large value: compressing it would hold
/// up every other link of the thread for 100 ms and more, so it goes as it is.
pub const COMPRESS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What LZ4 can make of a byte at most; a batch that claims more is a bomb and ends the link.
pub const LZ4_RATIO_MAX: usize = 255;

/// Capacity, in bytes, above which a buffer that a very large batch has blown up is given back.
pub const BUFFER_BYTES_KEPT: usize = 4 * 1024 * 1024;

/// How long either side waits for the other's greeting. Policy: the link ends, and is dialled again.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a receiver answers if nothing calls for an answer: it says that it is alive, also while it holds, or
/// while a batch of half a gigabyte is still arriving.
pub const KEEPALIVE: Duration = Duration::from_secs(1);

/// How often a held batch is looked at again at the latest. It is looked at earlier if the clock says when; but a
/// clock may be set.
pub const HOLD_RECHECK: Duration = Duration::from_millis(100);

/// How long a hold lasts before it is reported. Shorter ones are what clocks near their bounds do now and then.
pub const HOLD_NOTICE: Duration = Duration::from_millis(250);

/// How long nothing must have had to wait for a hold to be over. Batches of a clock that stays ahead wait for moments
/// each, one behind the other: that is one hold, and not hundreds.
pub const HOLD_QUIET: Duration = Duration::from_secs(1);

/// How often the slots are looked through for records of origins that speak no more.
///
/// Measured with two origins: 40 us if there are none, 1 ms if there are some in every slot.
pub const ORPHANS_INTERVAL: Duration = Duration::from_secs(1);

/// How long nothing may arrive from a region before the others are asked to relay it: many heartbeats, and longer than a connection
/// takes to come back that was only broken.
pub const DEAF_AFTER: Duration = Duration::from_secs(2);

/// How long a stream that arrives waits for the owners of slots before it goes on without those that are not there, and the
/// longest pause before one of them is tried again.
pub const OWNERS_PATIENCE: Duration = Duration::from_millis(250);

/// The least time between two welcomes of a stream: owners that come back together are one round.
pub const ROUND_INTERVAL: Duration = Duration::from_millis(20);

/// How many batches' sizes and times a sender remembers while they are not acknowledged.
///
/// Policy: the feed is not polled while so many are out; at a millisecond per batch these are 16 s of distance.
pub const BATCHES_IN_FLIGHT_MAX: usize = 16_384;

/// Slots of which one frame says what is held, 16 KiB of sums: other frames wait for no more than that.
///
/// Policy: the rest goes in further frames.
pub const AUDIT_SLOTS_MAX: usize = 2_048;

const _: () = assert!(FRAME_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(GREETING_BYTES_MAX < FRAME_BYTES_MAX && SMALL_FRAME_BYTES_MAX < GREETING_BYTES_MAX);
const _: () = assert!(COMPRESS_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(HOLD_RECHECK.as_millis() < HOLD_NOTICE.as_millis());
const _: () = assert!(HOLD_NOTICE.as_millis() < HOLD_QUIET.as_millis());
