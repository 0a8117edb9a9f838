//! How slots go from shard to shard, while clients use them: the shell's mover and taker, about the real custody.
//!
//! As in the shell: the source rehearses, has the move prepared by the map and tells the target so, rehearses again, holds
//! the slots, waits for the last acknowledgement, and gives. The target takes, and tells the map once its replicas have it;
//! whoever knows that nothing was taken has it undone. In the moment in which slots are given an operator, the network and,
//! in a storm, faults strike more often than by chance.

use std::time::Duration;

use node_core::{
    cluster::{Answer, Cargo, Epoch, MapCommand, NodeId, Offer, leaving},
    slot::Slot,
};
use rand::RngExt;

use super::{
    Event, Region, What,
    process::{Holder, Process},
    raft::{Proposer, Who},
};
use crate::Broken;

/// How far the target may be behind for slots to be held.
const REHEARSAL_MAX: Duration = Duration::from_millis(80);
/// How long slots are held until they are given.
const HOLD_BUDGET: Duration = Duration::from_millis(120);
/// How often slots are held, or that is rehearsed, while they are prepared.
const TRIES: usize = 3;
/// Between two tries to hand slots over.
const MOVE_PAUSE: Duration = Duration::from_millis(100);
/// How long the map, or what the target knows of it, is waited for.
const CHANGE_MAX: Duration = Duration::from_millis(1_000);
/// How long an answer is waited for, until the offer is repeated.
const GIVE_MAX: Duration = Duration::from_millis(60);
/// How long a target waits for its replicas until it reports without them.
const REPLICAS_MAX: Duration = Duration::from_millis(500);
/// How long a node waits to see in the map what it has said, until it says so again.
const CONFIRMED_MAX: Duration = Duration::from_millis(50);
/// How long it may take in bad times until the leader hears.
const SLOW_MS: u64 = 400;
/// Between two looks at a move.
const LOOK_EVERY_MS: u64 = 8;

/// How far a move is. Times are true time, but those of which the target is to have everything.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The target is to have soon what there was at this moment of local time.
    Rehearsal { of: Duration, until: Duration },
    /// The outcome of the preparation is waited for.
    Agreement,
    /// The target is told that it is prepared.
    Telling { until: Duration },
    /// Turns that began before the hold are waited for.
    Quiet { ends: Duration, until: Duration },
    /// The target is to have what there was at this moment of local time.
    CatchUp { of: Duration, until: Duration },
    /// It is given, and said again at this time.
    Giving { again: Duration },
    /// Withdrawn: the map is waited for.
    Voiding { until: Duration },
}

/// Slots that are given to another shard.
#[derive(Clone, Debug)]
pub(crate) struct Handing {
    target: NodeId,
    cargo: Cargo,
    prepared: Option<Epoch>,
    tries: usize,
    stage: Stage,
}

/// How far a primary is with what it says to the map.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settling {
    again: Duration,
    /// What replicas are to have of what was taken then: all as of this local time.
    taken: Option<(Epoch, Duration)>,
}

impl Handing {
    fn first(&self) -> Slot {
        self.cargo.slots.iter().next().expect("a cargo is not empty")
    }
}

impl Process {
    fn local(&self, now: Duration) -> Duration {
        self.clock.at(now).monotonic
    }

    /// When a move was prepared by the map that is here.
    fn prepared(&self, slot: Slot) -> Option<Epoch> {
        self.map.moving(slot).and_then(|moving| moving.prepared)
    }
}

impl Region {
    /// Has a process look at its moves as long as there are any.
    pub(crate) fn look_for_moves(&mut self, index: usize) {
        let process = &mut self.processes[index];
        let may_move = process.map.moves().len() > 0 || process.handing.is_some();
        if may_move && !std::mem::replace(&mut process.looks_at_moves, true) {
            self.soon(index, LOOK_EVERY_MS, What::LookAtMoves);
        }
    }

    /// Carries on what moves away from a process, and says to the map what is to be said.
    pub(crate) fn look_at_moves(&mut self, index: usize) {
        self.processes[index].looks_at_moves = false;
        self.look_for_moves(index);
        self.settle(index);
        let process = &mut self.processes[index];
        match process.handing.take() {
            None if self.now >= process.handing_again => {
                let begun = self.begin_handing(index);
                self.processes[index].handing = begun;
            }
            None => {}
            Some(handing) => {
                let next = self.carry_on(index, handing);
                if next.is_none() {
                    self.processes[index].let_go(Holder::Mover);
                    self.processes[index].handing_again = self.now + MOVE_PAUSE;
                }
                self.processes[index].handing = next;
            }
        }
    }

    fn begin_handing(&mut self, index: usize) -> Option<Handing> {
        let process = &self.processes[index];
        let (id, shard) = process.map.shard_of(process.node.id)?;
        if shard.primary != process.node.id || process.progress.serving() != Some(shard.incarnation) {
            return None;
        }
        let is_here = |cargo: &Cargo| {
            let first = cargo.slots.iter().next();
            first.is_some_and(|slot| process.custody.keeping(slot) != node_core::cluster::Keeping::Gone)
        };
        let is_fed = |node: &NodeId, cargo: &Cargo| {
            process.movers.get(node).is_some_and(|mover| mover.is_online && mover.since == cargo.since)
        };
        let mut ready = leaving(&process.map, id).into_iter();
        let (target, cargo) = ready.find(|(target, cargo)| is_fed(target, cargo) && is_here(cargo))?;
        let prepared = process.prepared(cargo.slots.iter().next()?);
        let stage = match prepared {
            Some(at) if process.custody.has_given(at) => Stage::Giving { again: self.now },
            Some(at) => self.tell_target(index, target, at),
            None => self.rehearsal(index),
        };
        Some(Handing { target, cargo, prepared, tries: TRIES, stage })
    }

    fn rehearsal(&self, index: usize) -> Stage {
        Stage::Rehearsal { of: self.processes[index].local(self.now), until: self.now + REHEARSAL_MAX }
    }

    fn carry_on(&mut self, index: usize, mut handing: Handing) -> Option<Handing> {
        let (now, process) = (self.now, &self.processes[index]);
        let mover = process.movers.get(&handing.target).filter(|mover| mover.since == handing.cargo.since);
        handing.stage = match (handing.stage, handing.prepared) {
            (Stage::Rehearsal { of, .. }, None) if self.has_caught_up(mover, of) => {
                self.prepare(index, &handing)?;
                Stage::Agreement
            }
            (Stage::Rehearsal { of, .. }, Some(_)) if self.has_caught_up(mover, of) => {
                if self.broken != Some(Broken::NobodyHolds) {
                    self.processes[index].hold(Holder::Mover, handing.cargo.slots.clone());
                }
                Stage::Quiet { ends: self.processes[index].turns_until.max(now), until: now + HOLD_BUDGET }
            }
            (Stage::Quiet { ends, until }, _) if now >= ends => Stage::CatchUp { of: process.local(now), until },
            (Stage::CatchUp { of, until }, Some(at)) if now <= until && self.has_caught_up(mover, of) => {
                let given = self.processes[index].change_hands(|custody, map| custody.give(map, at));
                self.processes[index].let_go(Holder::Mover);
                note!(self, "{index} gives what was prepared at {at}: {}", given.is_ok());
                self.offer(index, given.ok()?, true)
            }
            (Stage::Rehearsal { until, .. } | Stage::Quiet { until, .. } | Stage::CatchUp { until, .. }, at)
                if now > until =>
            {
                self.processes[index].let_go(Holder::Mover);
                handing.tries -= 1;
                match at {
                    _ if handing.tries > 0 => self.rehearsal(index),
                    Some(at) => self.withdraw(index, at)?,
                    None => return None,
                }
            }
            (Stage::Telling { until }, Some(at)) if now > until => self.withdraw(index, at)?,
            (Stage::Giving { again }, Some(at)) => {
                if !process.custody.has_given(at) {
                    return None;
                }
                if now < again {
                    Stage::Giving { again }
                } else {
                    let given = self.processes[index].change_hands(|custody, map| custody.give(map, at));
                    self.offer(index, given.ok()?, false)
                }
            }
            (Stage::Voiding { until }, at) if now > until || process.prepared(handing.first()) != at => return None,
            (stage, _) => stage,
        };
        Some(handing)
    }

    /// Asks the map for the preparation.
    fn prepare(&mut self, index: usize, handing: &Handing) -> Option<()> {
        let process = &self.processes[index];
        let shard = |node| process.map.shard_of(node).filter(|(_, shard)| shard.primary == node).map(|(id, _)| id);
        let (from, to) = (shard(process.node.id)?, shard(handing.target)?);
        let Cargo { slots, since } = handing.cargo.clone();
        let by = Proposer::Mover((index, process.node.run));
        self.after_ms(10, Event::Append(Some(by), MapCommand::Prepare { slots, from, to, since }));
        Some(())
    }

    /// The primary knows what became of the preparation that it asked for.
    pub(crate) fn handed(&mut self, index: usize) {
        let process = &self.processes[index];
        let Some(handing) = &process.handing else { return };
        if !matches!(handing.stage, Stage::Agreement) {
            return;
        }
        let (target, prepared) = (handing.target, process.prepared(handing.first()));
        let stage = prepared.map(|at| self.tell_target(index, target, at));
        let process = &mut self.processes[index];
        match (stage, &mut process.handing) {
            (Some(stage), Some(handing)) => (handing.prepared, handing.stage) = (prepared, stage),
            _ => {
                process.handing = None;
                process.handing_again = self.now + MOVE_PAUSE;
            }
        }
    }

    /// Tells the target what was prepared.
    fn tell_target(&mut self, index: usize, target: NodeId, at: Epoch) -> Stage {
        let by = (index, self.processes[index].node.run);
        let to = self.index_of(target);
        self.send(index, (to, self.processes[to].node.run), What::Prepared { by, at });
        Stage::Telling { until: self.now + CHANGE_MAX }
    }

    /// A target answers as soon as it knows.
    pub(crate) fn tell_prepared(&mut self, index: usize, by: Who, at: Epoch) {
        if self.processes[index].map.epoch() >= at {
            self.send(index, by, What::Told(at));
        } else {
            self.soon(index, 10, What::Prepared { by, at });
        }
    }

    /// The target knows what was prepared.
    pub(crate) fn told(&mut self, index: usize, at: Epoch) {
        self.hand_over_now(index, at);
        let stage = self.rehearsal(index);
        let handing = self.processes[index].handing.as_mut().filter(|handing| handing.prepared == Some(at));
        if let Some(handing) = handing.filter(|handing| matches!(handing.stage, Stage::Telling { .. })) {
            handing.stage = stage;
        }
    }

    /// An operator has either end hand over at this very moment, now and then.
    fn hand_over_now(&mut self, index: usize, at: Epoch) {
        let map = self.processes[index].map.clone();
        let Some((slot, moving)) = map.moves_prepared(at).next() else { return };
        let shard = if self.random.random_ratio(2, 3) { map.owner(slot) } else { Some(moving.to) };
        let Some((shard, primary)) = shard.and_then(|id| Some((id, map.shard(id)?.primary))) else { return };
        let heir = map.replicas(shard).next().map(|(node, _)| node);
        if let Some(heir) = heir.filter(|_| self.random.random_ratio(1, 4)) {
            let primary = self.index_of(primary);
            self.soon(primary, HOLD_BUDGET.as_millis() as u64, What::HandOver(heir));
        }
    }

    fn withdraw(&mut self, index: usize, at: Epoch) -> Option<Stage> {
        let process = &mut self.processes[index];
        process.settling.again = self.now;
        process.custody.withdraw(at).then_some(Stage::Voiding { until: self.now + CHANGE_MAX })
    }

    fn offer(&mut self, index: usize, offer: Offer, is_first: bool) -> Stage {
        let by = (index, self.processes[index].node.run);
        let to = self.index_of(offer.to);
        let victim = [index, to, to, self.raft.leader.0][self.random.random_range(0..4)];
        let (fails, is_before) = (is_first && self.random.random_ratio(1, 4), self.random.random_ratio(1, 2));
        if fails && is_before {
            self.fail_now(victim);
        }
        let is_lost = is_first && self.random.random_ratio(1, 3);
        if is_lost {
            self.break_feed(index, offer.to);
        }
        if self.processes[index].is_up && !self.processes[index].is_stopped && !is_lost {
            self.send(index, (to, self.processes[to].node.run), What::Give(by, offer));
        }
        if fails && !is_before {
            self.fail_now(victim);
        }
        Stage::Giving { again: self.now + self.random.random_range(GIVE_MAX / 3..GIVE_MAX * 2) }
    }

    /// Slots are offered to a process.
    pub(crate) fn take_slots(&mut self, index: usize, by: Who, offer: &Offer) {
        let (now, process) = (self.now, &mut self.processes[index]);
        let was_unconfirmed = process.custody.is_unconfirmed();
        let prepared = process.map.prepared(offer.prepared);
        let answer = process.change_hands(|custody, map| custody.take(map, offer));
        process.settling.again = now;
        if answer == Answer::Taken {
            process.store.stamp_above_slots(&prepared);
            process.taken_at = process.taken_at.filter(|_| was_unconfirmed).or(Some(now));
            if self.random.random_ratio(1, 3) {
                self.after_ms(SLOW_MS, Event::FailNow(index));
            }
        }
        note!(self, "{index} is given what was prepared at {}: {answer:?}", offer.prepared);
        self.send(index, by, What::Answer(offer.prepared, answer));
    }

    /// The target has answered.
    pub(crate) fn taken(&mut self, index: usize, prepared: Epoch, answer: Answer) {
        let process = &mut self.processes[index];
        process.change_hands(|custody, _| custody.answered(prepared, answer));
        let is_giving = process
            .handing
            .as_ref()
            .is_some_and(|handing| handing.prepared == Some(prepared) && matches!(handing.stage, Stage::Giving { .. }));
        if is_giving && answer != Answer::AskTheMap {
            process.handing = None;
            process.handing_again = self.now + MOVE_PAUSE;
            process.settling.again = self.now;
        }
    }

    /// A process says what it has to say of moves that are prepared, until the map shows it.
    fn settle(&mut self, index: usize) {
        let (now, process) = (self.now, &mut self.processes[index]);
        if now < process.settling.again {
            return;
        }
        let (local, map) = (process.local(now), process.map.clone());
        for command in self.processes[index].custody.settle(&map) {
            let process = &mut self.processes[index];
            if let MapCommand::Moved { prepared } = command {
                let (_, moment) = *process.settling.taken.insert(
                    process.settling.taken.filter(|(taken, _)| *taken == prepared).unwrap_or((prepared, local)),
                );
                let has_all =
                    process.followers.values().all(|follower| !follower.is_online || follower.as_of >= moment);
                if !has_all && local < moment + REPLICAS_MAX {
                    continue;
                }
            }
            self.processes[index].settling.again = now + CONFIRMED_MAX;
            let late = if self.random.random_ratio(1, 2) { SLOW_MS } else { 10 };
            self.soon(index, late, What::Say(command));
        }
    }
}
