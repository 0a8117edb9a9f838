//! The bounds of what an operator does, each with its policy.

use std::time::Duration;

/// How long one question to one node may take. Policy: it counts as not answering.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks at the same thing.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// How often a request is sent anew in all, because a node sent it on, did not answer, or knew no leader. Policy: it has
/// failed. With the pauses between it is some ten seconds: several elections long.
pub(super) const ATTEMPTS_MAX: usize = 40;

/// Between two attempts, unless the node has just said who is to be asked.
pub(super) const ATTEMPT_PAUSE: Duration = Duration::from_millis(250);

/// How long a change may take to be known by every node that is up. Policy: the command fails and names who lacks it; the
/// change stays.
pub(super) const KNOWN_MAX: Duration = Duration::from_secs(30);

/// How long a move may go on without a single slot arriving. Policy: it is stopped, its slots stay where they are, and
/// the command fails.
pub(super) const STALLED: Duration = Duration::from_secs(60);

/// The most slots of one move. More at once would take no less time, and leave more undone when a node dies.
pub(super) const CHUNK_SLOTS: usize = 512;

/// How many pairs of shards move slots at once; the others wait. Each takes part of the nodes' time from their clients.
pub(super) const PAIRS_AT_ONCE: usize = 4;

/// Between two lines about the same work where there is no terminal.
pub(super) const LINE_EVERY: Duration = Duration::from_secs(2);

/// The fewest digits of a node's id that stand for it.
pub(super) const ID_DIGITS_MIN: usize = 4;

/// How often a move that is to stop is told so while its slots are just changing hands, with [`POLL`] in between. Policy: then the
/// command fails with that.
pub(super) const STOPS_MAX: usize = 50;

/// How long a change that needs a primary waits for one that has failed to be replaced, or to be found well. Policy: the command
/// fails and names it.
pub(super) const PRIMARY_MAX: Duration = Duration::from_secs(5);
