//! At rest the greatest stamp stands, everywhere.
//!
//! DESIGN, rule 3. Clients see no stamps, so the oracle `winner` complains only of what is certain; here all stamps are known. Of
//! everything that was stamped and did not die with a primary no region may hold less than the greatest, and where it holds
//! just that, it holds its value.

use std::{collections::BTreeMap, time::Duration};

use scenario::history::{Key, Kind};

use super::{World, held};
use crate::region::{Process, Written};

/// What was stamped, by key.
#[derive(Debug, Default)]
pub(in crate::world) struct Greatest(BTreeMap<Key, Vec<(usize, Written)>>);

impl Greatest {
    pub(super) fn note(&mut self, region: usize, written: &Written) {
        if matches!(written.key.kind, Kind::Shared | Kind::Own(_)) {
            self.0.entry(written.key).or_default().push((region, *written));
        }
    }
}

impl World {
    /// When the oldest was written of what others lack of a region, or may lack.
    pub(in crate::world) fn oldest_lacking(&self, place: usize) -> Option<Duration> {
        let others = || (0..self.regions.len()).filter(|other| *other != place).map(|other| &self.regions[other]);
        let is_there = |written: &Written| {
            let holds = |process: &Process| process.is_up && held(process, written.name) >= Some(written.stamp);
            others().all(|region| region.owner(written.name).is_some_and(holds))
        };
        let of_region = self.invariants.greatest.0.values().flatten().filter(|(from, _)| *from == place);
        of_region.map(|(_, written)| written).filter(|written| !is_there(written)).map(|written| written.at).min()
    }

    pub(super) fn check_greatest(&self) -> Result<(), String> {
        for (key, all) in &self.invariants.greatest.0 {
            let stays = all.iter().filter(|(from, written)| !self.regions[*from].may_have_lost(written.at));
            let Some((_, greatest)) = stays.max_by_key(|(_, written)| written.stamp) else { continue };
            for region in self.members().map(|place| &self.regions[place]).filter(|region| !region.may_miss()) {
                let Some(process) = region.owner(greatest.name) else { continue };
                let held = held(process, greatest.name);
                if held < Some(greatest.stamp) {
                    let id = region.make.id;
                    return Err(format!("{id} holds {held:?} of {key}, and {greatest:?} was written"));
                }
                let standing = self.standing(region, greatest.name).filter(|(stamp, ..)| *stamp == greatest.stamp);
                if let Some((_, number, _)) = standing.filter(|(_, number, _)| Some(*number) != greatest.value) {
                    return Err(format!("{number} stands at {key} in the place of {greatest:?}"));
                }
            }
        }
        Ok(())
    }
}
