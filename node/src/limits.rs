//! The bounds of a node's shell, each with its policy. What an operator may change is in the configuration instead.

use std::time::Duration;

/// Bytes that one read takes from a socket, into a buffer that all connections of a worker share.
///
/// Large enough that a pipeline of hundreds of small commands is one read, small enough to stay in the second-level
/// cache. What does not fit is read in the next turn.
pub const READ_BYTES: usize = 64 * 1024;

/// Bytes of replies after which a connection stops executing and writes. Waiting for that write is the back-pressure on
/// a client that sends but does not read: it holds this much and one reply, never more.
pub const OUTPUT_FLUSH_BYTES: usize = 64 * 1024;

/// Capacity up to which a buffer for replies is kept for another turn: what a turn that reached
/// [`OUTPUT_FLUSH_BYTES`] has grown to by doubling. A larger one is given back.
pub const OUTPUT_KEPT_BYTES: usize = 2 * OUTPUT_FLUSH_BYTES;

/// Buffers for replies that a worker keeps, 8 MiB at most. Those of a moment with more connections at work are given
/// back.
pub const OUTPUTS_KEPT: usize = 64;

/// Turns that a worker takes before it looks for news of its sockets again. Greater than tokio's 61, because a turn of a
/// connection is two polls, and with a hundred connections at work a look between them finds little and costs a system
/// call.
pub const EVENT_INTERVAL: u32 = 256;

/// The most that the buffer of an unfinished request grows by at once, whatever the client says is to come.
pub const PENDING_GROWTH_BYTES: usize = 1024 * 1024;

/// Accepted connections that wait for their worker. At the bound the acceptor waits, and the kernel's queue fills.
pub const ACCEPT_QUEUE: usize = 1_024;

/// The kernel's queue of connections that were not accepted yet; Redis's `tcp-backlog`.
pub const LISTEN_BACKLOG: i32 = 511;

/// How long the acceptor rests when the process has no file descriptor left, instead of spinning on the error.
pub const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How far below the persisted mark stamps stay; see `mark.rs`. Less than what the mark is moved above stamps, or
/// moving it would not help.
pub const MARK_MARGIN: Duration = Duration::from_millis(10);

const _: () = assert!(MARK_MARGIN.as_millis() * 2 < clock::limits::MARK_ABOVE_STAMPS.as_millis());

/// After how long of silence the kernel asks whether a client is still there; Redis's `tcp-keepalive`.
pub const KEEPALIVE: Duration = Duration::from_secs(300);

/// How long a TLS handshake may take; then the connection is closed.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How long connections get to finish what they are at when the node stops; then they are cut.
pub const DRAIN_MAX: Duration = Duration::from_secs(5);

/// How often housekeeping runs.
pub const HOUSEKEEPING_INTERVAL: Duration = Duration::from_millis(100);

/// How long housekeeping may sweep and collect in one round: a quarter of its interval, as Redis's active expiry.
pub const SWEEP_MAX: Duration = Duration::from_millis(25);

/// Entries that one sweep visits under one hold of a stripe's lock; commands wait for no longer.
pub const SWEEP_VISITS: usize = 1_024;

/// Tombstones that one collection looks at under one hold of a stripe's lock.
pub const COLLECT_ITEMS: usize = 1_024;

/// Longest argument that is kept in the slow log, in bytes; the rest is cut off and counted, as in Redis.
pub const SLOWLOG_ARGUMENT_BYTES: usize = 128;

/// Most arguments that are kept of a command in the slow log, as in Redis.
pub const SLOWLOG_ARGUMENTS: usize = 32;

/// Samples that the latency monitor keeps of an event, as in Redis; the oldest goes first.
pub const LATENCY_SAMPLES: usize = 160;

/// Kinds of errors that are counted one by one; what comes after is counted together, as a client can invent errors.
pub const ERROR_KINDS: usize = 128;

/// Longest name of a client, of its library and of the library's version, in bytes; a longer one is refused.
pub const CLIENT_NAME_BYTES: usize = 1_024;

/// After how long a request for a slot that is held is answered with TRYAGAIN instead of waiting on. As long as a
/// hand-over may refuse writes at all; a move holds slots for a tenth of it.
pub const HOLD_MAX: Duration = Duration::from_millis(100);

/// How often whoever waits for turns to pass looks again at once, before it goes to sleep in between. Most turns end
/// within microseconds.
pub const TURN_GLANCES: usize = 64;

/// How long whoever waits for turns to pass sleeps between two looks; nobody is told of the end of a turn.
pub const TURN_REST: Duration = Duration::from_millis(1);

/// How long `DEBUG SLEEP` sleeps at most.
pub const DEBUG_SLEEP_MAX: Duration = Duration::from_secs(60);

/// How often the rates for INFO are worked out.
pub const RATES_INTERVAL: Duration = Duration::from_secs(1);

/// Files that a node keeps open beside its clients' sockets: listeners, links, runtimes, state.
pub const FILES_BESIDE_CLIENTS: u64 = 128;

/// Connections for feeds that were accepted and wait to be looked at. One more is closed, and dialled again.
pub const FEEDS_WAITING: usize = 64;

/// How long a feed between nodes may be silent before its connection is given up.
pub const FEED_SILENCE_MAX: Duration = Duration::from_secs(3);

/// The longest pause before another node is dialled again for a feed. Short, since a replica that is away costs safety, and
/// a region has few of them.
pub const FEED_RECONNECT_MAX: Duration = Duration::from_millis(500);

/// How long a connection between nodes may take to say its last words.
pub const FAREWELL: Duration = Duration::from_millis(200);

/// How often a primary tells its replicas where the frontier is.
pub const FRONTIER_INTERVAL: Duration = Duration::from_millis(100);

/// How often the leader answers the reports that have come: what a lease is shortened by, at most.
pub const ROUND_INTERVAL: Duration = Duration::from_millis(20);

/// Reports that wait for the leader to look at them. One more is not answered, and its node reports again.
pub const REPORTS_WAITING: usize = 4_096;

/// How long a change of the map that an operator asks for may take to be agreed on.
pub const CHANGE_MAX: Duration = Duration::from_secs(10);

/// How long a primary that is to hand over waits for its replica to be connected, before any client waits. Policy: it refuses.
pub const FOLLOWER_MAX: Duration = Duration::from_secs(1);

/// How long a primary that hands over waits for its replica to catch up while clients wait. Then it goes on itself.
pub const HAND_OVER_MAX: Duration = Duration::from_millis(500);

/// How long a primary that has resigned waits for its successor. Then it takes the resignation back.
pub const SUCCESSION_MAX: Duration = Duration::from_secs(2);

/// For how long the mark of the clock may not cover the clock until a primary gives its slots to a replica: many times what a disk takes that
/// is merely slow.
pub const MARK_OVERDUE: Duration = Duration::from_secs(2);

/// How often that is looked at.
pub const MARK_LOOK: Duration = Duration::from_millis(250);

/// How long a move holds its slots, at most, until they are given: what the target lacks must have arrived by then. Else
/// requests go on here, and the mover tries again. It leaves the message that gives them some of the 10 ms for which writes may
/// wait.
pub const HOLD_BUDGET: Duration = Duration::from_millis(7);

/// For how long slots are held at most where the target is too busy to have everything any sooner: eight times as long, well
/// below [`HOLD_MAX`].
pub const HOLD_BUDGET_MAX: Duration = Duration::from_millis(56);

/// The pause after a hold, or a rehearsal of it, that took too long; it doubles from the first to the second. What disturbs
/// both, another process on the same core for instance, is over by then or lasts.
pub const MOVE_REST: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(160));

/// How often slots are held, or that is rehearsed, while they are prepared. Then that is undone, so that they can be stopped.
pub const MOVE_TRIES: usize = 24;

/// How long the mover rests after slots could not be handed over.
pub const MOVE_PAUSE: Duration = Duration::from_millis(200);

/// How long a target may take to answer that it takes slots, until it is told again.
pub const GIVE_MAX: Duration = Duration::from_millis(200);

/// How long a mover waits until it tells the target again, if that could not be told.
pub const GIVE_PAUSE: Duration = Duration::from_millis(20);

/// How long a target that has taken slots waits until its replicas have what it took. Then it has that confirmed without
/// them: a replica that is away must not keep slots from ever being confirmed.
pub const REPLICAS_MAX: Duration = Duration::from_millis(500);

/// How long a node waits to see in the map what it has had confirmed, until it says so again.
pub const CONFIRMED_MAX: Duration = Duration::from_millis(50);

/// How long gossip sleeps if it has nothing to do.
pub const GOSSIP_IDLE: Duration = Duration::from_secs(1);

/// Packets of gossip that wait to be looked at. One more is lost, and told again.
pub const GOSSIP_WAITING: usize = 1_024;

/// How long a shard of which nothing is left waits for those of its nodes that have failed, since what they hold may come
/// back. Then it goes on empty: a cache that misses is better than none.
pub const EMPTY_AFTER: Duration = Duration::from_secs(30);

/// How often a node asks the others for their time.
pub const CLOCK_ASK_INTERVAL: Duration = Duration::from_secs(1);

/// How long such an answer may take. Policy: that node is asked again in the next round.
pub const CLOCK_ASK_MAX: Duration = Duration::from_millis(500);

/// How often the leader compares the members of the Raft group with the map.
pub const SETTLE_INTERVAL: Duration = Duration::from_millis(200);

/// Requests of a client that the proxy collects before it forwards them. More of a pipeline is forwarded after that.
pub const RUN_REQUESTS_MAX: usize = 256;

/// Bytes of requests that the proxy collects before it forwards them. A larger request goes by itself.
pub const RUN_BYTES_MAX: usize = 256 * 1024;

/// How long the proxy goes on sending a request to where it may be carried out; then the client gets the last refusal.
/// Several times what a failover takes, and less than clients wait by default.
pub const FORWARD_MAX: Duration = Duration::from_secs(10);

/// How long a node may be silent while the proxy waits for its reply; then the connection counts as broken.
pub const FORWARD_SILENCE_MAX: Duration = Duration::from_secs(5);

/// How long the proxy rests before it sends again what was not carried out.
pub const FORWARD_REST: Duration = Duration::from_millis(20);

/// Redirections that the proxy follows at once. Then it rests between them: nodes that disagree settle that first.
pub const FORWARD_HOPS_MAX: usize = 4;

/// How long the proxy may take to connect to a node. Then the map is asked again, which may name another by now.
pub const DIAL_MAX: Duration = Duration::from_secs(1);

/// Connections of the proxy to one node, for each worker and protocol. At the bound a run waits for one, and is
/// refused after [`FORWARD_MAX`].
pub const UPSTREAMS_MAX: usize = 32;

/// Nodes that a worker's proxy keeps connections to. At the bound those that nobody uses are closed.
pub const UPSTREAM_TARGETS_MAX: usize = 256;

/// How often whoever has a stream through a gateway looks whether it should still be there: a tenth of the time after which a
/// gateway is forgotten.
pub const GATEWAY_RECHECK: Duration = Duration::from_millis(100);

/// How often a gateway tells each node of its region that it is there. Three may be lost before it is forgotten.
pub const ATTACH_INTERVAL: Duration = Duration::from_millis(250);

const _: () = assert!(ATTACH_INTERVAL.as_millis() * 4 <= node_core::limits::GATEWAY_SILENCE_MAX.as_millis());

/// How long a gateway waits for a node's answer to that. Then it says it again.
pub const ATTACH_PATIENCE: Duration = Duration::from_millis(500);

/// After how long without an answer of any node in the map a gateway calls the seeds that it was configured with.
pub const SEEDS_AFTER: Duration = Duration::from_secs(1);

/// Streams of other regions that arrive at a primary at a time: from every region with some primaries, each twice.
///
/// Policy: one more is closed; its gateway tries again.
pub(crate) const STREAMS_IN_MAX: usize = 1_024;

/// How often it is looked whether certificates were renewed.
pub(crate) const CERTIFICATES_INTERVAL: Duration = Duration::from_secs(5);

/// Changes of other regions that wait to be carried out. One more is refused.
pub(crate) const REGION_CHANGES_WAITING: usize = 8;

/// How often a client that waits for other regions is looked after: a part of a heartbeat.
pub(crate) const REGION_RECHECK: Duration = Duration::from_millis(10);
