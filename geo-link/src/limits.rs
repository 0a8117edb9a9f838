//! The bounds of the gateway, each with its policy. Those of the protocol are in
//! [`geo_link_core::limits`]; what an operator may change is in [`LinkOptions`](crate::LinkOptions).

use std::time::Duration;

/// Incoming connections at a time, those that are still being greeted among them: every region with a few primaries, twice.
///
/// Policy: further ones wait in the listen queue.
pub const INCOMING_MAX: usize = 512;

/// Bytes that wait to be written to a socket. With more, nothing is taken from the feed: there it can be conflated.
pub const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// Room made for each read from a socket, in bytes: a few TLS records.
pub const READ_BYTES: usize = 64 * 1024;

/// Capacity, in bytes, above which an outbox that a very large batch has blown up is given back.
pub const OUTBOX_BYTES_KEPT: usize = 4 * 1024 * 1024;

/// Items that are applied before other links get their turn; about as many microseconds.
pub const ITEMS_PER_TURN: usize = 256;

/// Frames that are handled before other links get their turn.
pub const FRAMES_PER_TURN: usize = 64;

/// How often a batch that waits for the persisted mark is looked at again: about as long as the mark takes to move.
pub const MARK_RECHECK: Duration = Duration::from_millis(1);

/// How long a connection may take to say its last words.
pub const FAREWELL: Duration = Duration::from_secs(1);

/// How often the gauges and the status of a link are brought up to date.
pub const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);

/// Slots that are named in the log when they differ from what another region holds.
pub const SLOTS_NAMED_MAX: usize = 5;

/// How often lag is put into its gauge.
pub const LAG_INTERVAL: Duration = Duration::from_secs(1);

/// How often an incoming connection that is turned away is logged as a warning; the others are counted, and are logged
/// at DEBUG. Whoever can reach the port could fill the disk otherwise.
pub const TURNED_AWAY_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Tunnels through a gateway at a time: every primary of a large region to each of its peers, were this its only
/// gateway. One more is refused, and goes by another.
pub const TUNNELS_MAX: usize = 1_024;

/// The buffer of one direction of a tunnel, in bytes: two TLS records. When it is full its reader waits.
pub const TUNNEL_BUFFER_BYTES: usize = 32 * 1024;

/// How long a gateway waits for one of a peer's to be connected, TLS included: several round trips around the earth, and
/// one lost packet. Then it dials the next.
pub const TUNNEL_DIAL_MAX: Duration = Duration::from_secs(3);

/// How long a gateway dials those of a peer in all. Then the primary is told that none is reached.
pub const TUNNEL_REACH_MAX: Duration = Duration::from_secs(8);

/// How long a primary waits for a gateway to have reached its peer; a little longer than that takes. Then it gives it up.
pub const VERDICT_MAX: Duration = Duration::from_secs(10);

const _: () = assert!(VERDICT_MAX.as_millis() > TUNNEL_REACH_MAX.as_millis() + FAREWELL.as_millis());

/// After how long without a byte in either direction a tunnel is closed. Its ends give up several times sooner; this
/// is for tunnels that have no ends any more.
pub const TUNNEL_SILENCE_MAX: Duration = Duration::from_secs(30);

/// The longest first frame that a gateway takes of a primary, in bytes. Who sends a longer one is refused.
pub const WANTED_BYTES_MAX: usize = 1_024;

/// The longest name that a gateway calls a primary by, in bytes. Who gives a longer one is refused.
pub const TUNNEL_NAME_BYTES_MAX: usize = 64;

/// How much of what stood in its way a gateway tells a primary, in characters. The rest is cut off.
pub const TUNNEL_REASON_CHARS_MAX: usize = 512;

/// The longest verdict that is taken of a gateway, in bytes. A longer one ends the connection.
pub const VERDICT_BYTES_MAX: usize = 4_096;

const _: () = assert!(VERDICT_BYTES_MAX > 4 * TUNNEL_REASON_CHARS_MAX + 64);
