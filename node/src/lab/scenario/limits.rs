//! The bounds of a run, each with its policy.

use std::time::Duration;

/// How long one node may take to answer a client. Policy: nobody knows whether the command was carried out.
pub(super) const ANSWER_MAX: Duration = Duration::from_millis(1_000);

/// For how long a client sends a refused command again. Policy: it was refused.
pub(super) const REFUSED_MAX: Duration = Duration::from_millis(500);

/// Between two attempts, unless the node has just said where to go.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Redirections that are followed at once. Policy: more mean that two nodes send to one another, and there is a pause between.
pub(super) const REDIRECTIONS_AT_ONCE: usize = 4;

/// The longest reply to a client, in bytes. Policy: the connection is closed.
pub(super) const REPLY_BYTES_MAX: usize = 8 << 20;

/// How long a client waits in another region for its own writes. Policy: it does not follow them this time.
pub(super) const FOLLOW_MAX: Duration = Duration::from_millis(1_500);

/// Between two looks at lag and health.
pub(super) const WATCH_EVERY: Duration = Duration::from_millis(200);

/// By how much the alert rules are faster than those that are shipped: a run takes seconds.
pub(super) const ALERTS_FASTER: u64 = 5;

/// How often the time of a slow process is shared out anew: between machines that are merely busy and those that hang.
pub(super) const TURN: Duration = Duration::from_millis(100);

/// Between two lines of progress.
pub(super) const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Between two comparisons of the regions at the end.
pub(super) const COMPARE_EVERY: Duration = Duration::from_millis(100);

/// How long regions may take to agree where no expectation says so. Policy: they are judged as they are.
pub(super) const AGREE_MAX: Duration = Duration::from_secs(15);

/// How long a region may take to be well again while processes are restarted one after another. Policy: the run has failed.
pub(super) const ROLL_MAX: Duration = Duration::from_secs(60);

/// How long a process may take to end that was told to. Policy: it is killed, and the run has failed if it is not gone then.
pub(super) const END_MAX: Duration = Duration::from_secs(8);
