//! Reads that are older than what their region knew: the search that two oracles share.
//!
//! What a region knows of a key raises a bar: a write or a delete that it had certainly seen by then. A read that was called
//! later must not return what is certainly older. Since every such bar holds for ever, it is enough to remember the latest of
//! each region and kind, and one pass in the order of time finds all.

use std::{collections::BTreeMap, time::Duration};

use super::Finding;
use crate::{
    history::{Action, History, Key, Operation, Place},
    order::Order,
};

/// What a region had seen by a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar<'a> {
    /// Since when, at the latest.
    pub(super) known: Duration,
    /// What.
    pub(super) write: &'a Operation,
    /// The operation that showed it.
    pub(super) shown: &'a Operation,
}

/// Complains of each read that is older than a bar that `bars_of` makes of an operation.
pub(super) fn older_reads<'a>(
    history: &'a History,
    order: &Order<'a>,
    bars_of: impl Fn(&'a Operation) -> Option<Bar<'a>>,
    what: &str,
) -> Finding {
    let mut finding = Finding::default();
    let mut groups: BTreeMap<(Place, Key), Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        groups.entry((operation.region, operation.key)).or_default().push(operation);
    }
    for ((region, _), operations) in groups {
        let mut bars: Vec<_> = operations.iter().filter_map(|operation| bars_of(operation)).collect();
        bars.sort_by_key(|bar| bar.known);
        let mut reads: Vec<_> = operations.into_iter().filter(|operation| operation.read().is_some()).collect();
        reads.sort_by_key(|read| read.called);
        let mut bars = bars.into_iter().peekable();
        let mut best: BTreeMap<(Place, bool), Bar<'_>> = BTreeMap::new();
        for read in reads {
            while let Some(bar) = bars.next_if(|bar| bar.known < read.called) {
                let kept = best.entry((bar.write.region, bar.write.action == Action::Flush)).or_insert(bar);
                if bar.write.called > kept.write.called || history.may_be_forgotten(region, kept.known, bar.known) {
                    *kept = bar;
                }
            }
            finding.judged += 1;
            let Some(written) = read.read_value().and_then(|value| order.write(value)) else { continue };
            let holds = |bar: &&Bar<'_>| !history.may_be_forgotten(region, bar.known, read.called);
            if let Some(bar) = best.values().filter(holds).find(|bar| order.is_before(written, bar.write)) {
                finding.complain(read.key, what.to_owned(), &[written, bar.write, bar.shown, read]);
            }
        }
    }
    finding
}
