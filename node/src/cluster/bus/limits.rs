//! The bounds of the bus, each with its policy.

use std::time::Duration;

use node_core::limits::NODES_MAX;

use super::Channel;

/// How long a new connection has to say who it is and what it is for, TLS included; then it is closed.
pub(crate) const GREETING_MAX: Duration = Duration::from_secs(5);

/// Connections that have not said so yet. At the bound none is accepted, and the kernel's queue fills.
pub(crate) const HALF_OPEN_MAX: usize = 64;

/// Connections that are served at once, those of feeds aside, which their handler bounds. One more is told that it is one
/// too many, and closed. A node has at most three to each other.
pub(crate) const CONNECTIONS_MAX: usize = 4 * NODES_MAX;

/// Addresses that are dialled for calls, and as many for posts. What is for yet another is refused.
pub(crate) const LINES_MAX: usize = 4 * NODES_MAX;

/// How long dialling may take, TLS and greeting included; then the peer counts as unreachable.
pub(crate) const DIAL_MAX: Duration = Duration::from_secs(2);

/// How long after a failure a peer is not dialled again; calls fail at once meanwhile. As long as Raft's heartbeat: an
/// election must not wait for it.
pub(crate) const DIAL_PAUSE: Duration = Duration::from_millis(50);

/// The same after a peer has refused this node, which a person must put right.
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Calls to one peer on one channel that wait to be sent; one more is refused.
pub(crate) const CALLS_QUEUED: usize = 64;

/// Calls on one connection that wait for their answers. At the bound the caller's end sends no more, and the other end
/// reads no more.
pub(crate) const CALLS_IN_FLIGHT: usize = 64;

/// Posts to one peer that wait to be sent; one more is dropped. Gossip is told again, and news that waited is old.
pub(crate) const POSTS_QUEUED: usize = 64;

/// The longest that a call may wait for its answer. A connection on which nothing came for so long, though an answer is
/// due, is given up: behind a proxy, TCP alone would not notice.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How long sent bytes may stay unacknowledged before the kernel gives the connection up. Without it a peer that comes
/// back after a cut waits for a retransmission, which TCP puts off by up to two minutes.
pub(crate) const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(3);

/// After how long of silence the kernel asks whether the other end is still there.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(15);

/// After how long without use a connection is closed by the end that dialled it.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(60);

// Or a connection might be closed as idle while an answer is due.
const _: () = assert!(IDLE_MAX.as_millis() > ANSWER_MAX.as_millis());

/// How often the log tells of refused connections; the metric counts each.
pub(crate) const REFUSED_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How long accepting rests when it fails, as when there is no file descriptor left, instead of spinning on the error.
pub(crate) const ACCEPT_REST: Duration = Duration::from_millis(50);

/// The longest frame of a channel, in bytes; who sends a longer one is disconnected. That of a feed is its first: what
/// follows is framed by the feed itself.
pub(crate) const fn frame_bytes_max(channel: Channel) -> usize {
    match channel {
        Channel::Raft => 8 * 1024 * 1024,
        Channel::Gossip => 64 * 1024,
        Channel::Feed => 4 * 1024 * 1024,
        Channel::Control => 1024 * 1024,
    }
}
