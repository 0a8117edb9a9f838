//! The bounds of a lab, each with its policy.

use std::{ops::RangeInclusive, time::Duration};

/// Regions of one lab: one alone must be a cluster, since one node is what `meridian node` alone is; and at
/// most what a simulated WAN can join pairwise. Policy: refused before anything starts.
pub(super) const REGIONS: RangeInclusive<usize> = 1..=20;

/// Routes of the WAN: one from each region to each gateway of each other, and so many regions have one each. Policy: refused
/// before anything starts.
pub(super) const ROUTES_MAX: u16 = 20 * 19;

/// Nodes of one lab, and gateways: the ports of a kind come in hundreds. Policy: refused before anything starts.
pub(super) const NODES_MAX: u16 = 99;

/// How long all links may take to come up. Policy: the lab says what is missing, shows the logs, and fails.
///
/// A loaded machine with two cores and a debug build took three seconds; this leaves room for twenty regions on it.
pub(super) const READY: Duration = Duration::from_secs(90);

/// How long a child may take to end once it was asked to. Policy: it is killed.
pub(super) const GRACE: Duration = Duration::from_secs(8);

/// How long a child whose parent is gone may take to end by itself. Policy: it exits on the spot.
pub(super) const ORPHAN_GRACE: Duration = Duration::from_secs(4);

/// How long one look at a process may take. Policy: it counts as not answering until the next look.
pub(super) const LOOK: Duration = Duration::from_secs(2);

/// The greatest answer to such a look, in bytes. Policy: it counts as not answering.
pub(super) const ANSWER_LEN: usize = 4 << 20;

/// A lag that no lab can reach by running. Policy: it is shown as none.
pub(super) const LAG_OF_A_STRANGER: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Between two looks while the lab starts.
pub(super) const READY_POLL: Duration = Duration::from_millis(50);

/// Between two looks for the live view on a terminal.
pub(super) const REFRESH: Duration = Duration::from_millis(500);

/// Between two lines of the view where there is no terminal.
pub(super) const LINE_EVERY: Duration = Duration::from_secs(5);

/// How much of a log is read from its end, in bytes, and how many lines of that are shown, when a child died.
pub(super) const TAIL_LEN: u64 = 16 << 10;
/// See [`TAIL_LEN`].
pub(super) const TAIL_LINES: usize = 12;

// A child that outlives its leash must be gone before whoever waits for it kills it.
const _: () = assert!(ORPHAN_GRACE.as_millis() < GRACE.as_millis());
