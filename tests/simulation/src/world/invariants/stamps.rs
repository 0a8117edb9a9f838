//! Stamps increase.
//!
//! DESIGN, rule 3 and the clock: a local write is stamped above everything that it could have seen, and no restart, promotion or
//! clock that is set back reissues a stamp or goes below one. So each origin's stamps increase in each slot, and a
//! region's stamps of a key increase over all its failovers, but for what died with a primary.

use std::{collections::BTreeMap, time::Duration};

use clock::{Origin, Stamp, Time};
use scenario::history::Key;

use crate::region::{Region, Written};

/// The last stamps.
#[derive(Debug, Default)]
pub(in crate::world) struct Stamps {
    /// Of each origin at each stripe of its node.
    of_origins: BTreeMap<(Origin, usize), Time>,
    /// Of each region, by key, and when that was written.
    of_keys: BTreeMap<(usize, Key), (Stamp, Duration)>,
}

impl Stamps {
    pub(super) fn note(&mut self, region: &Region, place: usize, written: &Written) -> Result<(), String> {
        let Written { index, key, stamp, address, at, is_flush, .. } = *written;
        let store = &region.processes[index].store;
        let stripe = store.stripe_of(address.slot);
        let last = self.of_origins.insert((stamp.origin, stripe), stamp.time);
        // A flush has one stamp for all keys.
        let is_above = |last: Time| stamp.time > last || is_flush && stamp.time == last;
        if let Some(last) = last.filter(|last| !is_above(*last)) {
            return Err(format!("{stamp:?} of {key} comes after {last:?} of the same origin"));
        }
        let former = self.of_keys.insert((place, key), (stamp, at));
        match former {
            Some((former, at)) if former >= stamp && !region.may_have_lost(at) => {
                Err(format!("{stamp:?} of {key} comes after {former:?} of the same region"))
            }
            _ => Ok(()),
        }
    }
}
