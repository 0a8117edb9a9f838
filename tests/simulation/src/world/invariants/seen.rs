//! What a primary or a replica claims to have seen, it has.
//!
//! DESIGN, `seen`: "every record of that origin up to this stamp, or what replaced it, has arrived here". Of keys that are neither
//! deleted nor expire it can be asked: for each origin the last write of such a key up to what is claimed must be there, or one
//! with a greater stamp.

use std::{collections::BTreeMap, sync::Arc};

use clock::{Origin, Time};
use node_core::{cluster::Assignment, slot::SlotSet, store::Address};
use scenario::history::{Key, Kind};

use super::{World, held_at};
use crate::{
    names::LASTING,
    region::{Process, Region, Written},
};

/// What was written to keys that last, by whom and when, in the order of stamps.
#[derive(Debug, Default)]
pub(in crate::world) struct Claims(BTreeMap<(Key, Origin), (Address, Vec<Time>)>);

impl Claims {
    pub(super) fn note(&mut self, written: &Written) {
        let is_lasting = matches!(written.key.kind, Kind::Shared) && written.key.number < LASTING;
        if is_lasting {
            let claims = self.0.entry((written.key, written.stamp.origin));
            claims.or_insert_with(|| (written.address, Vec::new())).1.push(written.stamp.time);
        }
    }
}

impl World {
    pub(super) fn check_seen(&self) -> Result<(), String> {
        let regions = self.regions.iter().filter(|region| !region.may_miss());
        regions.flat_map(|region| region.processes.iter().map(move |process| (region, process))).try_for_each(
            |(region, process)| {
                if process.is_up { self.check_claims(region, process) } else { Ok(()) }
            },
        )
    }

    fn check_claims(&self, region: &Region, process: &Process) -> Result<(), String> {
        let store = &process.store;
        let Some(owned) = claimed_slots(process) else { return Ok(()) };
        for ((key, origin), (at, times)) in &self.invariants.seen.0 {
            if *origin == store.origin() || !owned.contains(at.slot) {
                continue;
            }
            let seen = store.lock(store.stripe_of(at.slot)).seen().at(at.slot, *origin);
            let claimed = times.partition_point(|time| *time <= seen).checked_sub(1).map(|last| times[last]);
            let held = held_at(process, *at, crate::names::name_of(*key)).map(|stamp| (stamp.time, stamp.origin));
            if let Some(time) = claimed.filter(|time| held < Some((*time, *origin))) {
                let (id, node) = (region.make.id, process.node.id);
                return Err(format!(
                    "{node:?} of {id} claims to have seen {origin} up to {seen:?} in {key}, and lacks {time:?}: it has {held:?}"
                ));
            }
        }
        Ok(())
    }
}

/// The slots of which it means something what a process has seen: those that a primary owns, and those that a replica is fed.
fn claimed_slots(process: &Process) -> Option<Arc<SlotSet>> {
    if process.speaks.is_some() {
        return process.store.owned();
    }
    let Assignment::Replica { .. } = process.assignment else { return None };
    let (shard, _) = process.carried.shard_of(process.node.id)?;
    let mut slots = process.carried.slots(shard);
    slots.subtract(&process.unsure);
    Some(Arc::new(slots))
}
