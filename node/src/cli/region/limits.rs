//! The bounds of what regions are asked for, each with its policy.

use std::time::Duration;

use node_core::limits::VALUE_BYTES_MAX;

/// How long a node may be silent, or take nothing, in the middle of a question, and take to be connected to. Policy: it counts as not
/// answering.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How much of a question is sent under one such wait.
pub(super) const SEND_BYTES: usize = 64 * 1_024;

/// The longest answer: a record with the longest value, and room for its key. Policy: the connection is closed.
pub(super) const REPLY_BYTES_MAX: usize = 2 * VALUE_BYTES_MAX;

/// How often something is asked for anew because a node does not answer or sends on, with [`ATTEMPT_PAUSE`] and a new look at the map
/// in between: longer than a failover takes. Policy: the command fails with the last error.
pub(super) const ATTEMPTS_MAX: usize = 12;

/// Between two attempts.
pub(super) const ATTEMPT_PAUSE: Duration = Duration::from_millis(400);

/// How many slots are compared at once: of which digests are in memory, and after how many progress is shown.
pub(super) const CHUNK_SLOTS: u16 = 1_024;

/// How many slots share a digest at the first look. Where nothing differs, 1,024 digests of 20 bytes are all that a region sends.
pub(super) const SPAN: u16 = 16;

/// How far ahead of all clocks the instant lies as of which regions are compared. What ends before that is left out: each region
/// ends it by its own clock, so for a moment some have it and some do not. A look takes seconds.
pub(super) const AHEAD: Duration = Duration::from_secs(60);

/// How often slots that differ are looked at before their keys are. What is on its way has arrived by then as a rule, and to list
/// keys costs more.
pub(super) const LOOKS: usize = 4;

/// Between two looks.
pub(super) const LOOK_PAUSE: Duration = Duration::from_millis(250);

/// How many keys a bucket of a large slot should hold: so many rows are read for one that differs.
pub(super) const BUCKET_KEYS: u32 = 256;

/// How many differences are kept. Policy: the comparison stops there and says so; mend these first.
pub(super) const DIFFERENCES_MAX: usize = 100_000;

/// How long a change of regions may take to be known where it was asked for: to be agreed on, during a failover at worst. Policy: the
/// command fails and says so; what it asked for may still happen.
pub(super) const CHANGE_MAX: Duration = Duration::from_secs(10);

/// How long a primary may take to be restamped: to be agreed on, and then the time that its records take, millions of them. Policy: the
/// command fails and says so; it may still happen.
pub(super) const RESTAMP_MAX: Duration = Duration::from_secs(60);

/// How often it is looked whether it is.
pub(super) const CHANGE_POLL: Duration = Duration::from_millis(50);
