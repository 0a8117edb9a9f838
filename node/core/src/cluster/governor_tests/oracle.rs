//! What must never happen, and what must have happened at the end.

use std::{collections::BTreeSet, time::Duration};

use super::{
    moves::{CARGO, cargo},
    process::Process,
};
use crate::cluster::{ClusterMap, Health, Keeping, MapCommand, NodeId, Run, ShardId};

/// What went by, as far as it matters to what is allowed.
#[derive(Default)]
pub(super) struct Oracle {
    /// Writes that a `WAIT 1` has acknowledged, and that nothing excuses to be gone.
    acknowledged: BTreeSet<(ShardId, u64)>,
    /// Acknowledged writes that were lost with all the nodes that had them.
    pub(super) excused: u64,
    pub(super) promotions: u64,
    /// How often the slot that moves has another owner.
    pub(super) moves: u64,
    /// Acknowledged writes.
    pub(super) all: u64,
}

impl Oracle {
    /// A primary under its lease has acknowledged these to one who waited.
    pub(super) fn acknowledge(&mut self, shard: ShardId, writes: &[u64]) {
        self.acknowledged.extend(writes.iter().map(|write| (shard, *write)));
        self.all += writes.len() as u64;
    }

    /// A process is gone, and what it held. What no memory holds any more is excused, also if it should turn up again
    /// from a message that was on its way.
    pub(super) fn crashed(&mut self, processes: &[Process]) {
        let before = self.acknowledged.len();
        self.acknowledged.retain(|(shard, write)| {
            let is_of = |process: &&Process| process.is_up && (process.shard == *shard || *shard == CARGO);
            processes.iter().filter(is_of).any(|process| process.memory.has(*write))
        });
        self.excused += (before - self.acknowledged.len()) as u64;
    }

    /// A promotion was applied to the map `before`.
    pub(super) fn promoted(
        &mut self,
        now: Duration,
        before: &ClusterMap,
        processes: &[Process],
        command: &MapCommand,
    ) -> Result<(), String> {
        let MapCommand::Promote { shard, node, run, former, .. } = command else { return Ok(()) };
        self.promotions += 1;
        if alive(processes, *former).is_some_and(|former| former.has_lease(now)) {
            return Err(format!("shard {shard} has another primary while the lease of {:?} still runs", former.0));
        }
        let has_taken =
            |former: &Process| former.resigning.is_some() && former.custody.keeping(cargo()) == Keeping::Taken;
        if alive(processes, *former).is_some_and(has_taken) {
            return Err(format!("{:?} has handed over, and with it what it had just taken", former.0));
        }
        match alive(processes, (*node, *run)) {
            Some(new) => self.inherits(before, processes, new),
            None => Ok(()),
        }
    }

    /// At rest the primary of each shard has all that was acknowledged.
    pub(super) fn at_rest(&self, map: &ClusterMap, processes: &[Process]) -> Result<(), String> {
        for (id, shard) in map.shards() {
            let primary = alive(processes, (shard.primary, shard.run)).ok_or("a primary is gone at rest")?;
            if let Some(write) = self.lost(id, primary).first() {
                return Err(format!("shard {id} lost write {write}, which was acknowledged"));
            }
            let lost = if map.owner(cargo()) == Some(id) { self.lost(CARGO, primary) } else { Vec::new() };
            if let Some(write) = lost.first() {
                return Err(format!("shard {id} lost write {write} to the slot that moves, which was acknowledged"));
            }
        }
        Ok(())
    }

    /// What a new primary lacks may be lost only if nobody has it who answers.
    fn inherits(&mut self, before: &ClusterMap, processes: &[Process], new: &Process) -> Result<(), String> {
        let is_taken =
            processes.iter().any(|process| process.is_up && process.custody.keeping(cargo()) == Keeping::Taken);
        let keeps_cargo = before.owner(cargo()) == Some(new.shard) && !is_taken;
        let cargoes = if keeps_cargo { self.lost(CARGO, new) } else { Vec::new() };
        let lost = self.lost(new.shard, new).into_iter().map(|write| (new.shard, write));
        for (shard, write) in lost.chain(cargoes.into_iter().map(|write| (CARGO, write))).collect::<Vec<_>>() {
            let has_it = |(id, node): &(NodeId, &crate::cluster::Node)| {
                node.health == Health::Up
                    && node.shard == new.shard
                    && alive(processes, (*id, node.run)).is_some_and(|other| other.memory.has(write))
            };
            if let Some((other, _)) = before.nodes().find(has_it) {
                return Err(format!("{:?} was promoted and lacks write {write}, which {other:?} has", new.node.id));
            }
            self.acknowledged.remove(&(shard, write));
            self.excused += 1;
        }
        Ok(())
    }

    fn lost(&self, shard: ShardId, primary: &Process) -> Vec<u64> {
        let acknowledged = self.acknowledged.range((shard, 0)..=(shard, u64::MAX)).map(|(_, write)| *write);
        acknowledged.filter(|write| !primary.memory.has(*write)).collect()
    }
}

/// Two nodes of a shard must never both take writes.
pub(super) fn one_writes(now: Duration, processes: &[Process], shard: ShardId) -> Result<(), String> {
    let writers: Vec<_> = processes.iter().filter(|process| process.shard == shard && process.may_write(now)).collect();
    match writers.as_slice() {
        [a, b, ..] => Err(format!("{:?} and {:?} both take writes of shard {shard}", a.node.id, b.node.id)),
        _ => Ok(()),
    }
}

/// Two nodes of any shards must never both take writes to one slot.
pub(super) fn one_keeps(now: Duration, processes: &[Process]) -> Result<(), String> {
    let keepers: Vec<_> = processes.iter().filter(|process| process.may_write_cargo(now)).collect();
    match keepers.as_slice() {
        [a, b, ..] => Err(format!("{:?} and {:?} both take writes to the slot that moves", a.node.id, b.node.id)),
        _ => Ok(()),
    }
}

fn alive(processes: &[Process], (node, run): (NodeId, Run)) -> Option<&Process> {
    processes.iter().find(|process| process.node.id == node && process.node.run == run && process.is_up)
}
