//! What differs between regions that should hold the same, key by key; and whether it is still on its way. Pure.
//!
//! For each key the greatest version among all regions is the *newest*: by the order of `merge`, so that it is what all
//! of them would hold if nothing stood in the way. A region that does not hold it differs, unless a reader sees nothing there
//! and is to see nothing. There are these cases, of which the words are what a person reads:
//!
//! | word | the region | can it be mended |
//! |---|---|---|
//! | older | holds an earlier version, which the newest was written over | yes |
//! | missing | has nothing newer than a deleted or dropped version, or nothing at all | yes |
//! | missing | dropped that very version: evicted, or ended by its clock | yes, if there is room |
//! | missing | has no trace of the key, and its floor is above the version | no |
//! | conflict | holds a version that the newest was written beside: neither side had seen the other | yes, the newest wins |
//! | conflict | holds something else under the same stamp | no |
//!
//! # A floor is not argued with
//! What is absent at a region whose floor is at or above the version may have been deleted there, and the delete forgotten; or evicted, and
//! the marker forgotten. Nothing that is left tells which. `merge` refuses such a record from wherever it comes (rule: whatever is
//! forgotten raises the floor, and nothing at or under it comes back), and a repair that went around that would be the way
//! in which deleted values return. To drop the key everywhere else instead would lose what is most likely right: a region that
//! lacked a delete was sent it with its link, which gives a slot whole to whoever has seen less than its floor. So it is left,
//! and said; who knows better writes the key anew.
//!
//! # What is on its way
//! A difference may be nothing but distance. `seen` tells: a slot that has seen an origin up to the stamp of a record, and holds neither
//! that record nor what replaced it, will not get it any more. So [`Pending`] remembers which version of each key a region has to
//! reach, reads the rows again, and lets a key go once the region has reached it, even if by then there is a yet newer one on its way: a key that is
//! written all the time agrees as of the first look. What a region has seen past, and still lacks, is *settled*.
//!
//! The stamps of a conflict of the second kind are the same, so nothing will ever decide it. No two writes share a stamp, so
//! something has gone wrong that this file does not know of, and a person should look.

use std::collections::BTreeMap;

use clock::Stamp;
use node_core::{
    slot::Slot,
    store::{Seen, Version},
};

use crate::cli::region::replies::{Row, SlotRows};

/// In what way a region differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// It holds an earlier version.
    Older,
    /// The newest version has never come.
    Missing,
    /// It has dropped that version.
    Dropped,
    /// There is no trace of the key, and the floor is above the version.
    Forgotten,
    /// It holds what was written beside the newest version.
    Conflict,
    /// It holds something else under the same stamp.
    Torn,
}

impl What {
    /// The word for it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Older => "older",
            Self::Missing | Self::Dropped | Self::Forgotten => "missing",
            Self::Conflict | Self::Torn => "conflict",
        }
    }

    /// What else is to be said of it.
    pub(super) const fn note(self) -> &'static str {
        match self {
            Self::Older => "",
            Self::Missing => "never arrived",
            Self::Dropped => "evicted or ended there",
            Self::Forgotten => "forgotten there, perhaps deleted",
            Self::Conflict => "neither had seen the other",
            Self::Torn => "one stamp, two contents",
        }
    }

    /// Whether to merge the newest version would mend it.
    pub(super) const fn is_mendable(self) -> bool {
        !matches!(self, Self::Forgotten | Self::Torn)
    }
}

/// One key in which one region differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) slot: Slot,
    pub(super) key: Vec<u8>,
    /// Which region, by its place.
    pub(super) region: usize,
    pub(super) what: What,
    /// The version there, if there is any.
    pub(super) held: Option<Version>,
    /// The newest version anywhere.
    pub(super) newest: Version,
    /// Where that is, by place.
    pub(super) newest_at: usize,
    /// Whether it may still arrive by itself.
    pub(super) on_its_way: bool,
}

/// Compares what regions know of the same keys of a slot, as of `at_ms`, in milliseconds since 1970.
pub(super) fn compare(slot: Slot, regions: &[SlotRows], at_ms: u64) -> Vec<Difference> {
    let mut keys: Vec<&Vec<u8>> = regions.iter().flat_map(|region| region.rows.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut differences = Vec::new();
    for key in keys {
        let held = regions.iter().enumerate().filter_map(|(place, region)| Some((region.rows.get(key)?, place)));
        let newest = held.max_by_key(|(row, place)| (row.version, std::cmp::Reverse(*place)));
        let Some((newest, newest_at)) = newest else { continue };
        for (region, known) in regions.iter().enumerate() {
            let row = known.rows.get(key);
            let Some(what) = what(row, known.floor, newest, &regions[newest_at].seen, at_ms) else { continue };
            let on_its_way = known.seen.at(newest.version.stamp.origin) < newest.version.stamp.time;
            let held = row.map(|row| row.version);
            let newest = newest.version;
            differences.push(Difference { slot, key: key.clone(), region, what, held, newest, newest_at, on_its_way });
        }
    }
    differences
}

/// In what way a region with this row of a key, or none, differs from the newest.
fn what(row: Option<&Row>, floor: Stamp, newest: &Row, newest_has_seen: &Seen, at_ms: u64) -> Option<What> {
    let is_shown = newest.is_readable(at_ms);
    let Some(row) = row else {
        let forgotten = newest.version.stamp <= floor;
        return is_shown.then_some(if forgotten { What::Forgotten } else { What::Missing });
    };
    if row.version == newest.version {
        return (is_shown || row.is_readable(at_ms)).then_some(What::Torn).filter(|_| row != newest);
    }
    if row.is_readable(at_ms) {
        let stamp = row.version.stamp;
        let was_seen = newest_has_seen.at(stamp.origin) >= stamp.time;
        return Some(if was_seen { What::Older } else { What::Conflict });
    }
    let dropped = row.version.stamp == newest.version.stamp;
    is_shown.then_some(if dropped { What::Dropped } else { What::Missing })
}

/// Keys of a slot whose differences may be on their way.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    slot: Slot,
    /// By region and key: the version that the region has to reach.
    due: BTreeMap<(usize, Vec<u8>), Version>,
    /// What was found at the last look and is not settled.
    unsettled: Vec<Difference>,
}

impl Pending {
    /// Begins with what a first look has found.
    pub(super) fn new(slot: Slot, regions: &[SlotRows], at_ms: u64) -> Self {
        let unsettled = compare(slot, regions, at_ms);
        let due = unsettled.iter().map(|found| ((found.region, found.key.clone()), found.newest)).collect();
        Self { slot, due, unsettled }
    }

    /// The slot.
    pub(super) const fn slot(&self) -> Slot {
        self.slot
    }

    /// Whether nothing is left to be judged.
    pub(super) fn is_done(&self) -> bool {
        self.due.is_empty()
    }

    /// The keys that are left.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.due.keys().map(|(_, key)| key.as_slice())
    }

    /// Judges by another look. Returns what is settled.
    pub(super) fn judge(&mut self, regions: &[SlotRows], at_ms: u64) -> Vec<Difference> {
        let (mut settled, mut due) = (Vec::new(), BTreeMap::new());
        self.unsettled.clear();
        for found in compare(self.slot, regions, at_ms) {
            let of = (found.region, found.key.clone());
            let Some(first) = self.due.get(&of) else { continue };
            if found.what != What::Torn && found.held >= Some(*first) {
                continue;
            }
            if regions[found.region].seen.at(first.stamp.origin) >= first.stamp.time {
                settled.push(Difference { on_its_way: false, ..found });
            } else {
                due.insert(of, *first);
                self.unsettled.push(Difference { on_its_way: true, ..found });
            }
        }
        self.due = due;
        settled
    }

    /// What is left when patience ends.
    pub(super) fn into_unsettled(self) -> Vec<Difference> {
        self.unsettled
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
