//! A region never has two primaries for a slot.
//!
//! DESIGN, rule 9: a primary that loses its lease stops taking writes before anyone is promoted in its place. So whenever a node has
//! answered a client there is no other that would answer for the same slot at this moment.

use node_core::slot::Slot;

use super::World;

impl World {
    pub(super) fn check_primaries(&self, region: usize, index: usize, slot: Slot) -> Result<(), String> {
        let processes = &self.regions[region].processes;
        let would_answer = |other: &usize| {
            let process = &processes[*other];
            *other != index && process.is_up && process.would_write(slot, process.clock.at(self.now).monotonic)
        };
        match (0..processes.len()).find(would_answer) {
            Some(other) => Err(format!("{other} would write in {slot:?} where {index} has just answered")),
            None => Ok(()),
        }
    }
}
