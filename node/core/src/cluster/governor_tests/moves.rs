//! One slot that moves from shard to shard: how its owner gives it and its target takes it, with all that goes wrong.
//!
//! The rules are those of [`Custody`](crate::cluster::Custody); here are the feed, the hold and the messages, as a node's shell
//! has them.

use std::{rc::Rc, time::Duration};

use rand::{RngExt, seq::IteratorRandom};

use super::{
    Broken,
    process::{Memory, Process},
    world::{Event, What, World},
};
use crate::{
    cluster::{Answer, ClusterMap, Epoch, Health, Keeping, MapCommand, NodeId, Offer, Run, ShardId},
    slot::{Slot, SlotSet},
};

/// How long slots are held until the owner goes on.
const HOLD: Duration = Duration::from_millis(250);
/// How long a target waits for its replicas until it reports without them.
const REPLICAS: Duration = Duration::from_millis(800);
/// A slot begins to move about as often.
const MOVE_EVERY_MS: u64 = 1_500;

/// How far a process is with giving and taking.
#[derive(Clone, Default)]
pub(super) struct Moves {
    /// Since when the slot is held, and the last write before that.
    pub(super) holds: Option<(Duration, Option<u64>)>,
    /// The feed to the target: to which process, of which beginning of the move, and a number.
    feeding: Option<((usize, Run), Epoch, u64)>,
    /// The last write that the target has acknowledged on it.
    acknowledged: Option<Option<u64>>,
    /// The number of the feed that arrives, and its number by the custody.
    arriving: Option<(u64, u64)>,
    /// Since when what was taken waits for replicas, and its last write.
    taken: Option<(Duration, Option<u64>)>,
    /// The last write that each replica is known to have.
    replicas: Vec<(NodeId, Option<u64>)>,
    /// The last write that was acknowledged to a client who waited.
    pub(super) promised: Option<u64>,
}

/// A message about the slot.
#[derive(Clone)]
pub(super) enum Haul {
    /// What the owner has, on a feed of this number.
    Feed((usize, Run), Epoch, u64, Rc<Vec<u64>>),
    /// What the target has of it.
    Arrived(u64, Option<u64>),
    Give((usize, Run), Offer),
    Answer(Epoch, Answer),
}

/// The slot that moves.
pub(super) fn cargo() -> Slot {
    Slot::new(0).expect("a slot")
}

fn slots() -> SlotSet {
    [cargo()].into_iter().collect()
}

impl Process {
    /// Drops what is here of the slot, if it is neither here nor on its way here.
    pub(super) fn follow_cargo(&mut self, former: &ClusterMap) {
        let (owner, target) = (self.map.owner(cargo()), self.map.target(cargo()));
        let begins = target == Some(self.shard) && former.target(cargo()) != target;
        if begins || owner != Some(self.shard) && target != Some(self.shard) {
            self.memory.cargo = Rc::default();
        }
        let moving = self.map.moving(cargo());
        if self.moves.feeding.is_some_and(|(_, since, _)| moving.is_none_or(|moving| moving.since != since)) {
            (self.moves.feeding, self.moves.acknowledged) = (None, None);
        }
        if moving.is_none_or(|moving| moving.prepared.is_none()) {
            (self.moves.holds, self.moves.taken) = (None, None);
        }
    }

    fn last(&self) -> Option<u64> {
        self.memory.cargo.last().copied()
    }
}

impl World {
    /// A slot begins to move, or stops.
    pub(super) fn begin_move(&mut self) {
        let map = Rc::clone(self.raft.map());
        let owner = map.owner(cargo());
        let target = map.shards().map(|(id, _)| id).filter(|id| Some(*id) != owner).choose(&mut self.random);
        let command = match (map.moving(cargo()), target) {
            (None, Some(to)) => Some(MapCommand::Move { slots: slots(), to }),
            (Some(_), _) if self.random.random_ratio(1, 8) => Some(MapCommand::StopMove { slots: slots() }),
            _ => None,
        };
        if let Some(command) = command {
            let number = self.raft.append(None, Some(command));
            self.after_ms(20, Event::Commit(number));
        }
        self.after_ms(2 * MOVE_EVERY_MS, Event::Move);
    }

    /// What a primary does for the slot, whenever it writes.
    pub(super) fn haul(&mut self, index: usize) {
        if self.processes[index].tenure.is_none() {
            return;
        }
        self.give(index);
        self.settle(index);
    }

    fn give(&mut self, index: usize) {
        let (now, dice) = (self.now, self.random.random_range(0..20));
        let process = &mut self.processes[index];
        let (map, run) = (Rc::clone(&process.map), process.node.run);
        let Some(moving) = map.moving(cargo()).filter(|moving| !moving.is_in_doubt()) else { return };
        if map.owner(cargo()) != Some(process.shard) {
            return;
        }
        let Some(target) = map.shard(moving.to).map(|shard| (shard.primary, shard.run)) else { return };
        let to = (self.index_of(target.0), target.1);
        let process = &mut self.processes[index];
        if dice == 0 || process.moves.feeding.is_none_or(|(fed, since, _)| (fed, since) != (to, moving.since)) {
            self.feeds += 1;
            (process.moves.feeding, process.moves.acknowledged) = (Some((to, moving.since, self.feeds)), None);
        }
        if let Some((_, since, number)) = process.moves.feeding {
            let feed = Haul::Feed((index, run), since, number, Rc::clone(&process.memory.cargo));
            self.send_to(index, to, What::Haul(feed));
        }
        let broken = self.broken;
        let process = &mut self.processes[index];
        let is_close = process.moves.acknowledged.is_some();
        let Some(prepared) = moving.prepared else {
            if is_close && dice % 2 == 0 {
                let (from, since) = (process.shard, moving.since);
                self.ask(index, MapCommand::Prepare { slots: slots(), from, to: moving.to, since });
            }
            return;
        };
        if process.custody.has_given(prepared) {
            if broken == Some(Broken::WithdrawsWhatItGave) && dice == 1 {
                return process.custody.answered(prepared, Answer::Refused);
            }
            self.offer(index, prepared);
            return;
        }
        let has_all =
            |moment: Option<u64>| process.moves.acknowledged.is_some_and(|acknowledged| acknowledged >= moment);
        match process.moves.holds {
            None if is_close && dice > 3 => process.moves.holds = Some((now, process.last())),
            Some((_, moment)) if has_all(moment) || broken == Some(Broken::GivenBeforeAllArrived) => {
                self.offer(index, prepared);
                self.processes[index].moves.holds = None;
            }
            Some((since, _)) if now > since + HOLD => process.moves.holds = None,
            None if dice == 2 => _ = process.custody.withdraw(prepared),
            _ => {}
        }
    }

    fn offer(&mut self, index: usize, prepared: Epoch) {
        let process = &mut self.processes[index];
        let (map, run) = (Rc::clone(&process.map), process.node.run);
        let Ok(offer) = process.custody.give(&map, prepared) else { return };
        self.note(format!("{index} gives what was prepared at {prepared}"));
        self.send_to(index, (self.index_of(offer.to), offer.run), What::Haul(Haul::Give((index, run), offer)));
    }

    /// A primary says what it has to say of moves that are prepared.
    fn settle(&mut self, index: usize) {
        let (now, broken) = (self.now, self.broken);
        let process = &mut self.processes[index];
        let map = Rc::clone(&process.map);
        for command in process.custody.settle(&map) {
            let has_it = |(id, _): (NodeId, _)| {
                let taken = process.moves.taken.and_then(|(_, last)| last);
                process.moves.replicas.iter().any(|(replica, last)| *replica == id && *last >= taken)
            };
            let mut replicas = map.replicas(process.shard).filter(|(_, node)| node.health == Health::Up);
            let is_safe = !matches!(command, MapCommand::Moved { .. })
                || broken == Some(Broken::ReportsBeforeItsReplicas)
                || replicas.all(has_it)
                || process.moves.taken.is_none_or(|(since, _)| now > since + REPLICAS);
            drop(replicas);
            if is_safe {
                return self.ask(index, command);
            }
        }
    }

    /// Asks whoever leads for a change of the map.
    fn ask(&mut self, index: usize, command: MapCommand) {
        self.send(index, self.raft.leader.0, What::Ask(command));
    }

    /// A leader is asked for a change of the map.
    pub(super) fn asked(&mut self, by: (usize, Run), command: MapCommand) {
        if self.raft.leader == by {
            let number = self.raft.append(None, Some(command));
            let late = if !self.is_calm && self.random.random_ratio(1, 6) { 1_000 } else { 20 };
            self.after_ms(late, Event::Commit(number));
        }
    }

    /// A message about the slot has come.
    pub(super) fn handle_haul(&mut self, index: usize, haul: Haul) {
        let (now, broken) = (self.now, self.broken);
        let process = &mut self.processes[index];
        let (map, run) = (Rc::clone(&process.map), process.node.run);
        match haul {
            Haul::Feed(from, since, number, writes) => {
                let sender = self.processes[from.0].node.id;
                let process = &mut self.processes[index];
                let is_expected = process.tenure.is_some()
                    && map.moving(cargo()).is_some_and(|moving| moving.to == process.shard && moving.since == since)
                    && process.moves.arriving.is_none_or(|(known, _)| known <= number);
                if !is_expected {
                    return;
                }
                if process.moves.arriving.is_none_or(|(known, _)| known < number) {
                    let begun = process.custody.begins_to_arrive(sender, since, &slots());
                    if begun.is_none() && broken != Some(Broken::FeedsOverWhatItTook) {
                        return;
                    }
                    // Half of it, until the next message.
                    process.memory.cargo = Rc::new(writes[..writes.len() / 2].to_vec());
                    process.moves.arriving = Some((number, begun.unwrap_or_default()));
                    if broken == Some(Broken::TakesParts) {
                        process.custody.has_arrived(sender, since, begun.unwrap_or_default());
                    }
                    return;
                }
                let Some((_, feed)) = process.moves.arriving else { return };
                if process.custody.keeping(cargo()) != Keeping::Taken {
                    if writes.len() >= process.memory.cargo.len() {
                        process.memory.cargo = writes;
                    }
                    process.custody.has_arrived(sender, since, feed);
                }
                let last = process.last();
                self.send_to(index, from, What::Haul(Haul::Arrived(number, last)));
            }
            Haul::Arrived(number, last) => {
                if process.moves.feeding.is_some_and(|(_, _, feeding)| feeding == number) {
                    let known = process.moves.acknowledged.flatten();
                    process.moves.acknowledged = Some(known.max(last));
                }
            }
            Haul::Give(from, offer) => {
                if broken == Some(Broken::TakesWhatItRefused) {
                    process.custody.forget_refusals();
                }
                let answer = process.custody.take(&map, &offer);
                if answer == Answer::Taken && process.moves.taken.is_none() {
                    process.moves.taken = Some((now, process.last()));
                }
                self.note(format!("{index} is given what was prepared at {}: {answer:?}", offer.prepared));
                self.send_to(index, from, What::Haul(Haul::Answer(offer.prepared, answer)));
                self.settle(index);
            }
            Haul::Answer(prepared, answer) => process.custody.answered(prepared, answer),
        }
        debug_assert_eq!(self.processes[index].node.run, run);
    }

    /// A replica has told its primary how much it has of the slot.
    pub(super) fn cargo_acknowledged(&mut self, index: usize, replica: NodeId, last: Option<u64>) {
        let is_allowed = self.processes[index].may_write(self.now);
        let process = &mut self.processes[index];
        process.moves.replicas.retain(|(id, _)| *id != replica);
        process.moves.replicas.push((replica, last));
        let is_owner = process.map.owner(cargo()) == Some(process.shard)
            || process.custody.keeping(cargo()) == Keeping::Taken && self.broken == Some(Broken::PromisesTooSoon);
        if is_allowed && is_owner && last > process.moves.promised {
            let is_new = |write: &&u64| Some(**write) > process.moves.promised && Some(**write) <= last;
            let writes: Vec<u64> = process.memory.cargo.iter().filter(is_new).copied().collect();
            process.moves.promised = last;
            self.oracle.acknowledge(CARGO, &writes);
        }
    }
}

/// Under which the oracle knows writes to the slot, whoever has it.
pub(super) const CARGO: ShardId = ShardId(u16::MAX);

/// What a primary sends its replicas.
pub(super) fn copy_of(memory: &Memory, number: u64) -> Memory {
    Memory { number, ..memory.clone() }
}
