//! The bounds and the times of the Raft group, each with its reason or its policy.

use std::time::Duration;

use crate::cluster::bus::{
    Channel,
    limits::{ANSWER_MAX, frame_bytes_max},
};

/// How often the leader says that it leads.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(50);

/// After how long without a heartbeat a follower wants to lead: between these two, drawn anew each time. With them a new
/// leader came 650 ms after the end of the former one.
pub(crate) const ELECTION: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(400));

/// Entries of the log after which the map is written down whole, so that they can go.
pub(crate) const ENTRIES_PER_SNAPSHOT: u64 = 500;

/// Entries that stay nevertheless, for followers that are a little behind.
pub(crate) const ENTRIES_KEPT: u64 = 200;

/// Entries by which a follower may be behind; beyond that it gets the whole map instead.
pub(crate) const ENTRIES_BEHIND_MAX: u64 = 1_000;

/// Entries in one message.
pub(crate) const ENTRIES_PER_MESSAGE: u64 = 64;

/// Bytes of entries in one message. One entry always fits: see [`COMMAND_BYTES_MAX`].
pub(crate) const ENTRIES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The longest command, in bytes; a longer one is refused. The founding of a region of a thousand nodes with slots
/// scattered at random is some 300 KiB.
pub(crate) const COMMAND_BYTES_MAX: usize = 1024 * 1024;

/// How long sending the whole map may take.
pub(crate) const SNAPSHOT_MAX: Duration = Duration::from_secs(5);

/// How long the leader lets a member alone that is out of reach.
pub(crate) const UNREACHABLE_PAUSE: Duration = Duration::from_millis(100);

/// How long the leader tries to carry out what another node has proposed; then it answers that it does not know.
pub(crate) const PROPOSAL_MAX: Duration = Duration::from_secs(4);

/// How long a proposal waits before it looks for a leader again, if it is not told of one before.
pub(crate) const LEADER_PAUSE: Duration = Duration::from_millis(50);

/// How long the confirmation of leadership may take. Less than the shortest lease, or a report would come to nothing.
pub(crate) const CONFIRMATION_MAX: Duration = Duration::from_millis(150);

/// How long the end waits for openraft's tasks to let go of the file.
pub(crate) const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Bytes of the file that are kept in memory. The log and the map are smaller.
pub(crate) const CACHE_BYTES: usize = 8 * 1024 * 1024;

// What is sent fits a frame, with its envelope; what waits for a proposal waits longer than the proposal takes.
const _: () = assert!(ENTRIES_BYTES_MAX + 2 * COMMAND_BYTES_MAX < frame_bytes_max(Channel::Raft));
const _: () = assert!(PROPOSAL_MAX.as_millis() < ANSWER_MAX.as_millis());
const _: () = assert!(SNAPSHOT_MAX.as_millis() <= ANSWER_MAX.as_millis());
const _: () = assert!(ENTRIES_BEHIND_MAX > ENTRIES_PER_SNAPSHOT);
