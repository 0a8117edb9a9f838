//! What nodes and the leader say to one another, and how maps come about and are carried out.

use std::{rc::Rc, time::Duration};

use node_core::cluster::{ClusterMap, MapCommand, NodeId, Report, Run, foreign};
use rand::RngExt;

use super::{
    Asked, Event, Region, What,
    process::REPORTS,
    raft::{Proposer, Who},
};

/// How long a node does not answer until others suspect it.
const SUSPICION: Duration = Duration::from_millis(300);

impl Region {
    pub(crate) fn handle_for(&mut self, index: usize, what: What) {
        // As in the shell: after whatever the governor goes by, reports and maps and their times.
        let governs = matches!(
            what,
            What::Tick
                | What::Map(_)
                | What::Handed(_)
                | What::Leadership
                | What::Outcome(..)
                | What::Reported(..)
                | What::Confirmed(..)
        );
        match what {
            What::Tick if self.make.is_single => return self.keep_house_alone(),
            // Nobody leads where nothing is to be agreed on.
            What::Leadership if self.make.is_single => return,
            What::Tick => {
                let process = &self.processes[index];
                process.keep_house(process.clock.at(self.now));
                self.report(index);
                let run = process_run(self, index);
                self.after(self.lease / REPORTS, Event::For(index, run, What::Tick));
            }
            What::Report => self.report(index),
            What::Map(map) => self.take_map(index, map),
            What::CarryOut => self.carry_out(index),
            What::Quiet(former, next) => {
                let process = &mut self.processes[index];
                process.tenure.end();
                let slots = foreign(&former, &process.carried, process.node.id);
                process.follow_slots(&slots, process.clock.at(self.now));
                self.ask_anew(index, &slots);
                let late = if self.random.random_ratio(1, 5) { 80 } else { 4 };
                self.soon(index, late, What::Assign(next));
            }
            What::Assign(next) => {
                self.assign(index, *next);
                self.processes[index].is_carrying = false;
                self.carry_out(index);
            }
            What::Leadership => {
                let process = &mut self.processes[index];
                let leads = (self.raft.leader == (index, process.node.run)).then_some(self.raft.term);
                process.governor.handle_leadership(process.clock.at(self.now).monotonic, leads);
            }
            What::Outcome(term, map) => {
                let map = Rc::clone(&self.raft.maps[map]);
                self.processes[index].governor.handle_outcome(term, &map);
            }
            What::Reported(report, asked) => self.reported(index, report, asked),
            What::Confirmed(asked, map) => self.answer(asked, map),
            What::Standing(asked, standing) => self.processes[index].take(asked, &standing),
            What::Dial(connection) => self.dial(index, connection),
            What::Pump(connection) => self.pump(index, connection),
            What::HandOver(to) => self.hand_over(index, to),
            What::LookAtHandOver => self.look_at_hand_over(index),
            What::LookAtMoves => self.look_at_moves(index),
            What::Handed(map) => {
                self.take_map(index, map);
                self.handed(index);
            }
            What::Prepared { by, at } => self.tell_prepared(index, by, at),
            What::Told(at) => self.told(index, at),
            What::Give(by, offer) => self.take_slots(index, by, &offer),
            What::Answer(prepared, answer) => self.taken(index, prepared, answer),
            What::Say(command) => self.append(Some(Proposer::Settler((index, process_run(self, index)))), command),
            What::Request(request) => self.request(index, request),
            What::Turn(turn) => self.turn(index, &turn),
            What::Wait { client, attempt, stamp, until } => self.wait(index, client, attempt, stamp, until),
        }
        if governs {
            self.govern(index);
        }
    }

    fn take_map(&mut self, index: usize, map: usize) {
        let map = Rc::clone(&self.raft.maps[map]);
        let process = &mut self.processes[index];
        if self.make.is_single {
            process.serve(&map);
            self.has_changed |= process.follow_regions(&self.make.peers);
            return;
        }
        process.governor.handle_map(&map);
        process.route(&map);
        self.has_changed |= process.follow_regions(&self.make.peers);
        self.look_for_moves(index);
        self.soon(index, 2, What::CarryOut);
    }

    /// Carries out the map that clients are routed by, one step after the other.
    fn carry_out(&mut self, index: usize) {
        let now = self.now;
        let process = &mut self.processes[index];
        if process.is_carrying || process.carried.epoch() >= process.map.epoch() {
            return;
        }
        process.is_carrying = true;
        let former = std::mem::replace(&mut process.carried, Rc::clone(&process.map));
        let next = process.wanted(&process.carried);
        let serves = process.progress.serving();
        if serves.is_some() && serves != next.incarnation() {
            process.tenure.give_up(process.clock.at(now).monotonic);
            process.publish_lease();
        }
        let (quiet, run) = (process.turns_until.saturating_sub(now), process.node.run);
        self.after(quiet, Event::For(index, run, What::Quiet(former, Box::new(next))));
        self.soon(index, 1, What::Report);
    }

    /// If it leads, it decides.
    fn govern(&mut self, index: usize) {
        let process = &mut self.processes[index];
        let (who, now) = ((index, process.node.run), process.clock.at(self.now));
        let Some(term) = process.governor.term() else { return };
        if let Some(command) = process.governor.poll_command(now.monotonic, now.wall) {
            self.after_ms(3, Event::Append(Some(Proposer::Governor(who, term)), command));
        }
    }

    /// A command comes to whoever leads.
    pub(crate) fn append(&mut self, proposer: Option<Proposer>, command: MapCommand) {
        let is_in_term = match proposer {
            Some(Proposer::Governor(who, term)) => self.raft.leader == who && self.raft.term == term,
            Some(Proposer::Mover((index, _)) | Proposer::Settler((index, _))) => {
                !self.is_cut(index, self.raft.leader.0)
            }
            None => true,
        };
        if is_in_term && self.is_running(self.raft.leader) {
            let number = self.raft.append(proposer, Some(command));
            self.after_ms(8, Event::Commit(number));
            if matches!(proposer, Some(Proposer::Mover(_) | Proposer::Settler(_))) && self.random.random_ratio(1, 5) {
                // The worst moment of all.
                self.fail_now(self.raft.leader.0);
            }
        } else if let Some(proposer) = proposer {
            self.tell(proposer);
        }
    }

    /// The outcome of a command is known.
    fn tell(&mut self, proposer: Proposer) {
        let newest = self.raft.newest();
        match proposer {
            Proposer::Governor((index, run), term) => {
                self.after_ms(5, Event::For(index, run, What::Outcome(term, newest)));
            }
            Proposer::Mover((index, run)) => {
                let late = if self.random.random_ratio(1, 4) { 200 } else { 20 };
                self.after_ms(late, Event::For(index, run, What::Handed(newest)));
            }
            Proposer::Settler((index, run)) => self.after_ms(20, Event::For(index, run, What::Map(newest))),
        }
    }

    /// A leader that is there commits an entry of its term, and with it all before.
    pub(crate) fn commit(&mut self, number: u64) {
        if !self.raft.may_commit(number) {
            return;
        }
        if !self.is_running(self.raft.leader) || self.cut_off.is_some_and(|(index, _)| index == self.raft.leader.0) {
            return self.after_ms(100, Event::Commit(number));
        }
        while let Some(entry) = self.raft.commit(number) {
            let Some(command) = entry.command else { continue };
            let mut map = ClusterMap::clone(self.raft.map());
            let outcome = map.apply(&command);
            note!(self, "{}: {:?}", brief(&command), outcome.as_ref().map(|_| map.epoch()));
            if outcome.is_ok() {
                self.raft.maps.push(Rc::new(map));
                self.has_changed = true;
                let newest = self.raft.newest();
                for index in 0..self.processes.len() {
                    if !self.is_cut(self.raft.leader.0, index) {
                        let late = if self.random.random_ratio(1, 5) { 300 } else { 12 };
                        self.soon(index, late, What::Map(newest));
                    }
                }
            }
            entry.proposer.into_iter().for_each(|proposer| self.tell(proposer));
        }
    }

    pub(crate) fn elect(&mut self) {
        if self.is_running(self.raft.leader) && !self.is_isolated(self.raft.leader.0) {
            return;
        }
        let able = |index: &usize| self.is_running((*index, process_run(self, *index))) && !self.is_isolated(*index);
        let able: Vec<usize> = (0..self.processes.len()).filter(able).collect();
        if able.is_empty() {
            return self.after_ms(100, Event::Elect);
        }
        let index = able[self.random.random_range(0..able.len())];
        let (former, kept) = (self.raft.leader, self.random.random_range(0..=self.raft.uncommitted()));
        let (number, lost) = self.raft.elect((index, process_run(self, index)), kept);
        note!(self, "{index} leads in {:?}", self.raft.term);
        self.after_ms(10, Event::Commit(number));
        self.soon(index, 5, What::Leadership);
        self.after_ms(2_500, Event::For(former.0, former.1, What::Leadership));
        for proposer in lost.into_iter().filter(|proposer| matches!(proposer, Proposer::Mover(_))) {
            self.tell(proposer);
        }
    }

    /// A node says to the leader what it is and has.
    fn report(&mut self, index: usize) {
        let suspects = self.suspects(index);
        let process = &mut self.processes[index];
        let now = process.clock.at(self.now);
        let report = process.report(now, suspects);
        self.send(index, self.raft.leader, What::Reported(report, now.monotonic));
    }

    /// Whom a node suspects.
    fn suspects(&self, observer: usize) -> Vec<(NodeId, Run)> {
        let is_long_ago = |since: Duration| self.now > since + SUSPICION;
        let is_isolated = |index: usize| self.cut_off.is_some_and(|(one, since)| one == index && is_long_ago(since));
        let suspects = |index: &usize| {
            let is_silent = self.silent.get(index).is_some_and(|since| is_long_ago(*since));
            *index != observer && (is_silent || is_isolated(observer))
        };
        let named = |index: usize| {
            let id = self.processes[index].node.id;
            Some((id, self.processes[observer].map.node(id)?.run))
        };
        (0..self.processes.len()).filter(suspects).filter_map(named).collect()
    }

    /// A report has come to one who may be the leader.
    fn reported(&mut self, index: usize, report: Report, asked: Duration) {
        let process = &mut self.processes[index];
        let by = (report.node.id, report.node.run);
        let (leader, local) = ((index, process.node.run), process.clock.at(self.now).monotonic);
        process.governor.handle_report(local, report);
        let Some(term) = process.governor.term() else { return };
        let by = (self.index_of(by.0), by.1);
        let asked = Asked { by, at: asked, leader, term, map: self.raft.newest() };
        self.after_ms(8, Event::Confirm(asked));
    }

    /// A majority is asked whether there is a later leader.
    pub(crate) fn confirm(&mut self, asked: Asked) {
        let leads = self.raft.leader == asked.leader && self.raft.term == asked.term;
        let is_heard = self.is_running(asked.leader) && !self.is_isolated(asked.leader.0);
        if let Some(ready) = self.raft.ready.filter(|_| leads && is_heard) {
            let (index, run) = asked.leader;
            self.after_ms(3, Event::For(index, run, What::Confirmed(asked, asked.map.max(ready))));
        }
    }

    fn answer(&mut self, asked: Asked, map: usize) {
        let (index, map) = (asked.leader.0, Rc::clone(&self.raft.maps[map]));
        let id = self.processes[asked.by.0].node.id;
        let process = &mut self.processes[index];
        process.governor.handle_map(&map);
        let local = process.clock.at(self.now).monotonic;
        if let Some(standing) = process.governor.answer(local, asked.term, id, asked.by.1) {
            self.send(index, asked.by, What::Standing(asked.at, standing));
        }
    }

    fn is_isolated(&self, index: usize) -> bool {
        self.cut_off.is_some_and(|(one, _)| one == index)
    }

    fn is_running(&self, (index, run): Who) -> bool {
        let process = &self.processes[index];
        process.node.run == run && process.is_up && !process.is_stopped
    }
}

fn process_run(world: &Region, index: usize) -> Run {
    world.processes[index].node.run
}

/// A command, as far as a trace needs it.
fn brief(command: &MapCommand) -> String {
    match command {
        MapCommand::Started { node } => format!("Started {:?} {:?}", node.id, node.run),
        other => format!("{other:?}"),
    }
}
