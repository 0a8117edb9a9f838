//! The bounds of a node's core, each with its policy. What an operator may change is in the configuration instead.

use std::time::Duration;

/// Longest key, in bytes; Redis's own bound. Longer ones are refused with an error.
pub const KEY_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Longest value, in bytes; Redis's own bound. A command that would make a longer one is refused with an error.
pub const VALUE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Entries that a scan visits under one hold of a stripe's lock; then it lets others in and goes on.
///
/// A visit is a cache miss, some 100 ns: a command waits for 0.1 ms at most.
pub const SCAN_ENTRIES_PER_HOLD: usize = 1_024;

/// How far ahead of the present a stamp must lie to be stamped anew when a region comes back from the future.
///
/// What lies ahead by less is waited for in less time than an operator takes to ask; and stamps of other regions, which lie ahead by as much as
/// clocks may differ, are far below it.
pub const RESTAMP_HORIZON: Duration = Duration::from_secs(10);

/// How many keys a replica of a restamped primary remembers of what looks as if it were of the future and is not: what came with slots from
/// another shard since.
pub const KEPT_MAX: usize = 100_000;

/// How many times the greatest drift lies between a clock that is right and the stamps with which a region that comes back from the future goes
/// on: whoever was just promoted somewhere stamps past its drift, by a clock that may be ahead of ours by as much.
pub const RESTAMP_DRIFTS: u32 = 2;

/// Entries that a SCAN looks at for each key that its COUNT asks for: tombstones, markers and ended values are passed
/// over, and without a bound a slot full of them would be one long call. Then SCAN replies with what it has. Redis
/// looks at as many empty buckets.
pub const SCAN_ENTRIES_PER_KEY: usize = 10;

/// Entries that one call of REGION DIGEST or REGION ROWS looks at; then it says where to go on.
///
/// Each is hashed, some 200 ns: the worker's other clients wait for 4 ms at most.
pub const DIGEST_ENTRIES_PER_CALL: usize = 16 * 1_024;

/// Buckets that a slot is divided into at most where its digests are compared: 20 KiB of digests for each step.
pub const DIGEST_BUCKETS_MAX: u16 = 1_024;

/// Bytes of keys that one call of REGION ROWS lists; one more key is always listed. Then it says where to go on.
pub const ROWS_BYTES_PER_CALL: usize = 256 * 1_024;

/// Bytes of records that a feed takes out under one hold of a stripe's lock, before it lets others in.
pub const FEED_BYTES_PER_HOLD: usize = 64 * 1024;

/// Log items that a feed reads under one hold of a stripe's lock.
pub const FEED_ITEMS_PER_HOLD: usize = 256;

/// Items of the log and entries of slots that a feed looks at in one poll, be they of no use to its consumer, as after a cut, when most of
/// what there is has arrived by another way; each hold of a lock counts as one more. Then whoever polls has others take their turn.
///
/// An item is passed over in some 15 ns, an entry is a cache miss: others wait for half a millisecond, or for three.
pub const FEED_LOOKS_PER_POLL: usize = 32 * 1_024;

/// Keys that are fetched ahead together: about as many loads are on their way at a time in today's processors.
pub const PREFETCHED_KEYS: usize = 16;

/// How often that is done for the keys of one command: for 1,024 of them, which a cache has room for until they are used.
pub const PREFETCHES_PER_HOLD: usize = 64;

/// From how many bytes of entries and tables on it is worth while to fetch ahead: below, all is in the cache.
pub const PREFETCH_FROM_BYTES: usize = 1024 * 1024;

/// Candidates for eviction that a stripe remembers between evictions; Redis keeps as many.
pub const EVICTION_POOL: usize = 16;

/// Entries that one eviction may look at before it gives the lock back; the next goes on where it stopped.
pub const EVICTION_VISITS_MAX: usize = 4_096;

/// Greatest number of stripes of a node: a set of them is a 64-bit mask.
pub const STRIPES_MAX: usize = 64;

/// Nodes of one region. A map of so many is some 100 KiB in a Raft snapshot; Redis recommends no more.
pub const NODES_MAX: usize = 1_000;

/// Nodes of a region that vote in its Raft group. The others only learn what was decided.
pub const VOTERS_MAX: usize = 5;

/// The greatest weight of a shard, in percent of one of ordinary size.
pub const WEIGHT_MAX: u16 = 10_000;

/// How far beyond its share of the slots a primary may be, in percent. Beyond it slots move; Redis's own tool has the same
/// threshold.
pub const PLACEMENT_EXCESS_PERCENT: u64 = 2;

/// Longest packet of gossip, in bytes: news of a hundred members. A longer one is refused; what does not fit goes with the
/// next.
pub const GOSSIP_PACKET_BYTES_MAX: usize = 4 * 1024;

/// Packets of gossip that wait to be sent. Beyond it the oldest is dropped: gossip says everything more than once.
pub const GOSSIP_TRANSMITS_MAX: usize = 1_024;

/// How many nodes one announces itself to at a time; others have their turn later.
pub const GOSSIP_KNOCKS_PER_TURN: usize = 16;

/// How often somebody is asked for a sign of life before a suspicion that was heard of is one's own.
pub const GOSSIP_ASKS: u8 = 2;

/// How often a node passes on a piece of news: enough for some thousand nodes, each telling two others at a time.
pub const GOSSIP_REPEATS: u8 = 10;

/// Gateways that a node knows. One more is refused until another is forgotten; a region has use for a few.
pub const GATEWAYS_MAX: usize = 64;

/// Tokens that may be joined: one from each primary of a large region. More are refused.
pub const TOKEN_PAIRS_MAX: usize = 1_024;

/// Longest name and longest address of a gateway, in bytes: a host name and a port. A longer one is refused.
pub const GATEWAY_TEXT_BYTES_MAX: usize = 272;

/// Longest name and longest address of another region, in bytes. A longer one is refused.
pub const REGION_TEXT_BYTES_MAX: usize = GATEWAY_TEXT_BYTES_MAX;

/// Addresses at which another region is dialled. More are refused; each leads to all of it.
pub const REGION_ADDRESSES_MAX: usize = 64;

/// Regions that a gateway leads to: all that there can be beside its own. One that names more is refused.
pub const GATEWAY_PEERS_MAX: usize = 62;

/// After how long without a word a gateway is forgotten: several of its calls, one of which may be lost. Until then streams
/// that go by it may wait in vain.
pub const GATEWAY_SILENCE_MAX: Duration = Duration::from_secs(1);

/// How long a gateway is the last choice after no connection came about by it. Then it is tried again.
pub const GATEWAY_ASIDE: Duration = Duration::from_secs(5);

/// How long a better gateway must have been there before streams that are well move to it. One that comes and goes drags
/// none along.
pub const GATEWAY_SETTLED: Duration = Duration::from_secs(5);

/// Conflicts that the ledger keeps. One more takes the place of the oldest; the counter goes on.
pub const CONFLICTS_KEPT: usize = 1_024;

/// What the ledger of conflicts keeps of a key, in bytes. A longer one is cut.
pub const CONFLICT_KEY_BYTES_MAX: usize = 512;

/// For how long the measured offset of another node's clock counts: some rounds of asking.
pub const CLOCK_OFFSET_FRESH: Duration = Duration::from_secs(5);
