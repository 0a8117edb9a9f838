//! Every bound of the simulator, each with its policy.
//!
//! A simulator that queues without bound tells lies about back-pressure before it runs out of memory, and one whose
//! bound is too small throttles what it should only delay (1,024 reads in flight are 2 MB/s for 200-byte writes at
//! 100 ms). So the bounds count bytes, stand well above bandwidth times delay, and what meets them waits.

use std::time::Duration;

/// What one connection may have on one line, sent and not yet taken by the receiver, in bytes.
///
/// Policy: the sender is not read from until some of it is taken. Stands for TCP's windows. 1 Gbit/s over 200 ms keeps
/// 25 MB in flight; this allows 2.6 Gbit/s there, and 10 Gbit/s over 50 ms.
pub const WINDOW: usize = 64 << 20;

/// The least window of a connection on a line with a rate, in bytes. There the window follows the rate and the delay,
/// as a congestion window would, so that a slow line is not owed minutes of data after a cut.
pub const WINDOW_MIN: usize = 1 << 20;

/// What all connections together may have on one line, in bytes. Policy: senders wait.
///
/// Eight connections whose receivers stopped reading do not fill it by themselves.
pub const LINE_TOTAL: usize = 768 << 20;

/// How long a sender waits before it looks again whether a line whose total was used up has room.
pub const LINE_TOTAL_RECHECK: Duration = Duration::from_millis(10);

/// What a chunk costs beside its payload, in bytes: its places in queues, and the block it may pin. Charged against
/// the bounds above, so that many tiny chunks cannot use more memory than few large ones.
pub const CHUNK_OVERHEAD: usize = 128;

/// What a connection may hold beyond its window, in bytes: the last chunk, which may overshoot it, and after that only
/// chunks without payload (handshake, end, reset). Policy: no more is taken.
pub const CONTROL_ALLOWANCE: usize = CHUNK_MAX + 64 * CHUNK_OVERHEAD;

/// The longest time for which bytes wait in front of a line with a rate. Policy: senders wait.
///
/// A bound in time, not in bytes: the router's buffer then adds the same worst delay to a slow line as to a fast one.
pub const QUEUE_TIME: Duration = Duration::from_millis(100);

/// The greatest chunk that the proxy reads and sends at once, in bytes.
pub const CHUNK_MAX: usize = 64 << 10;

/// How long the transmission of one chunk on a line with a rate may take: chunks are cut to it, down to one segment.
/// Otherwise the first byte of a chunk would wait for its last.
pub const CHUNK_TIME: Duration = Duration::from_millis(1);

/// What one TCP segment carries, in bytes: loss is per segment, so a large chunk meets it more often than a small one.
pub const SEGMENT: usize = 1_460;

/// Connections that cross one line. Policy: a further one is reset.
pub const CONNECTIONS_PER_LINE: usize = 4_096;

/// Lines of one network: 63 regions, each joined to each. Policy: the topology is refused.
pub const LINES: usize = 63 * 62;

/// Routes of one topology, each a listening socket. Policy: the topology is refused.
pub const ROUTES: usize = 1_024;

/// The longest delay and the greatest jitter. Policy: a greater one is refused.
pub const DELAY_MAX: Duration = Duration::from_secs(60);

/// The lowest rate, in bits per second. Policy: a lower one is refused.
pub const RATE_MIN: u64 = 1_000;

/// The highest rate, in bits per second. Policy: a higher one is refused; leave the rate out for an unlimited line.
pub const RATE_MAX: u64 = 1_000_000_000_000;

/// The shortest wait beyond a round trip before a lone lost segment is sent again: Linux's `TCP_RTO_MIN`.
pub const RETRANSMIT_WAIT_MIN: Duration = Duration::from_millis(200);

/// The longest wait beyond a round trip between two retransmissions.
///
/// Linux's default is 120 s; this is what `net.ipv4.tcp_rto_max_ms = 1000` sets. After a cut data flows again within
/// this time and a round trip, however long the cut was: a test that heals a line need not wait for minutes.
pub const RETRANSMIT_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long sent data may go unacknowledged before the connection is given up: what Linux's `tcp_retries2 = 15` comes
/// to. Both ends are then reset. A connection that sends nothing survives a cut of any length.
pub const GIVE_UP: Duration = Duration::from_millis(924_600);

/// How long a handshake may take before it is given up: what Linux's `tcp_syn_retries = 6` comes to.
pub const HANDSHAKE_GIVE_UP: Duration = Duration::from_secs(127);

/// How long a listener rests after `accept` failed, say for want of file descriptors. Policy: it tries again for ever.
pub const ACCEPT_REST: Duration = Duration::from_millis(50);

/// The size of a block into which a connection is read, in bytes; chunks are slices of it.
pub const READ_BLOCK: usize = 256 << 10;

/// A block with less room than this is left to its chunks and a new one begun, in bytes.
pub const READ_ROOM_MIN: usize = 16 << 10;

/// The greatest body of a control request, in bytes. Policy: 413.
pub const CONTROL_BODY: usize = 64 << 10;

// A chunk must fit every bound that it is held against, and one connection must not be able to fill a line.
const _: () = assert!(CHUNK_MAX < WINDOW_MIN && WINDOW_MIN <= WINDOW && 8 * WINDOW < LINE_TOTAL);
const _: () = assert!(SEGMENT <= CHUNK_MAX && READ_ROOM_MIN < CHUNK_MAX && CHUNK_MAX <= READ_BLOCK);

#[cfg(test)]
mod tests {
    use super::{GIVE_UP, HANDSHAKE_GIVE_UP, RETRANSMIT_WAIT_MAX, WINDOW};

    #[test]
    fn a_gigabit_over_two_hundred_milliseconds_fits_the_window() {
        let bytes_in_flight = 1_000_000_000 / 8 / 5;
        assert!(WINDOW >= 2 * bytes_in_flight);
    }

    #[test]
    fn a_connection_outlives_many_retransmissions() {
        assert!(HANDSHAKE_GIVE_UP > 100 * RETRANSMIT_WAIT_MAX && GIVE_UP > HANDSHAKE_GIVE_UP);
    }
}
