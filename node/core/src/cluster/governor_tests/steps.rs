//! What happens in a [`World`], one event at a time.

use std::{rc::Rc, time::Duration};

use clock::{Incarnation, Time};
use rand::{RngExt, seq::IndexedRandom};

use super::{
    super::{Moment, Report},
    Broken,
    moves::copy_of,
    oracle::{one_keeps, one_writes},
    process::REPORT_EVERY,
    world::{Asked, Event, SUSPICION, WRITE_EVERY, What, World},
};
use crate::cluster::{Health, MapCommand, NodeId, Run, Term};

impl World {
    pub(super) fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::For(index, run, what) => return self.handle_for(index, run, what),
            Event::Commit(number) => return self.commit(number),
            Event::Elect => self.elect(),
            Event::Unrest if !self.is_calm => {
                self.elect();
                self.after_ms(4_000, Event::Unrest);
            }
            Event::Unrest => {}
            Event::Confirm(asked) => self.confirm(asked),
            Event::Fault if !self.is_calm => self.fault(),
            Event::Fault => {}
            Event::Move => self.begin_move(),
            Event::Crash(index) => {
                self.crash(index);
                self.after_ms(30, Event::Start(index));
            }
            Event::Start(index) => self.start(index),
            Event::Resume(index) => self.resume(index),
        }
        Ok(())
    }

    /// A process begins its loops.
    pub(super) fn begin(&mut self, index: usize) {
        let run = self.processes[index].node.run;
        self.after_ms(100, Event::For(index, run, What::Tick));
        self.after_ms(100, Event::For(index, run, What::Write));
        self.after_ms(10, Event::For(index, run, What::Leadership));
    }

    /// Sends a process a map. It may be late.
    pub(super) fn send_map(&mut self, index: usize, map: usize) {
        let run = self.processes[index].node.run;
        let late = if !self.is_calm && self.random.random_ratio(1, 8) { 1_500 } else { 20 };
        self.after_ms(late, Event::For(index, run, What::Map(map)));
    }

    /// Sees to it that somebody is elected if the leader is gone.
    pub(super) fn ensure_leader(&mut self, index: usize) {
        if self.raft.leader.0 == index {
            self.after_ms(600, Event::Elect);
        }
    }

    fn handle_for(&mut self, index: usize, run: Run, what: What) -> Result<(), String> {
        let process = &mut self.processes[index];
        if !process.is_up || process.node.run != run {
            return Ok(());
        }
        if process.is_stopped {
            self.waiting.entry(index).or_default().push(what);
            return Ok(());
        }
        let (now, shard) = (self.now, process.shard);
        let local = process.clock.at(now);
        match what {
            What::Tick => self.tick(index),
            What::Write => self.write(index),
            What::Leadership => {
                let leads = (self.raft.leader == (index, run)).then_some(self.raft.term);
                process.governor.handle_leadership(local, leads.map(|term| told(self.broken, term)));
            }
            What::Map(map) => {
                let map = Rc::clone(&self.raft.maps[map]);
                process.follow(now, &map);
                if let Some(term) = process.governor.term().filter(|_| self.broken == Some(Broken::AnyMapSettles)) {
                    process.governor.handle_outcome(term, &map);
                }
            }
            What::Outcome(term, map) => {
                let map = Rc::clone(&self.raft.maps[map]);
                process.follow(now, &map);
                process.governor.handle_outcome(told(self.broken, term), &map);
            }
            What::Propose(term, command) => self.propose((index, run), term, command),
            What::Report(report, asked) => self.report((index, run), report, asked),
            What::Confirmed(asked, map) => self.answer(asked, map),
            What::Standing(asked, standing) => process.take(now, asked, standing),
            What::Feed(from, incarnation, fed) => {
                let (count, last) = (fed.writes.len(), fed.cargo.last().copied());
                if process.take_in(incarnation, &fed) {
                    self.send(index, from.0, What::Acknowledged((index, run), incarnation, count, last));
                }
            }
            What::Acknowledged(by, incarnation, count, last) => {
                self.acknowledged(index, by, incarnation, (count, last))
            }
            What::Ask(command) => self.asked((index, run), command),
            What::Haul(haul) => self.handle_haul(index, haul),
        }
        self.govern(index);
        one_writes(self.now, &self.processes, shard)?;
        one_keeps(self.now, &self.processes)
    }

    /// If it leads, it decides.
    fn govern(&mut self, index: usize) {
        let wall = Time::from_unix_ms(self.now.as_millis() as u64);
        let Some(term) = self.raft_term_of(index) else { return };
        let process = &self.processes[index];
        let (run, local) = (process.node.run, process.clock.at(self.now));
        if let Some(command) = self.processes[index].governor.poll_command(local, wall) {
            self.note(format!("{index} in {term:?} wants {}", brief(&command)));
            let late = if !self.is_calm && self.random.random_ratio(1, 10) { 2_000 } else { 3 };
            self.after_ms(late, Event::For(index, run, What::Propose(term, command)));
        }
    }

    fn propose(&mut self, by: (usize, Run), term: Term, command: MapCommand) {
        let is_in_term = self.raft.term == term || self.broken == Some(Broken::ProposedInAnyTerm);
        if self.raft.leader == by && is_in_term {
            let number = self.raft.append(Some(by), Some(command));
            self.after_commit(number);
        }
    }

    fn after_commit(&mut self, number: u64) {
        let late = if !self.is_calm && self.random.random_ratio(1, 6) { 1_000 } else { 20 };
        self.after_ms(late, Event::Commit(number));
    }

    /// A leader that is there commits an entry of its term, and with it all before.
    fn commit(&mut self, number: u64) -> Result<(), String> {
        if !self.raft.may_commit(number) {
            return Ok(());
        }
        if !self.is_running(self.raft.leader) {
            self.after_ms(100, Event::Commit(number));
            return Ok(());
        }
        while let Some(entry) = self.raft.commit(number) {
            let Some(command) = entry.command else { continue };
            let mut map = (**self.raft.map()).clone();
            let outcome = map.apply(&command);
            self.note(format!("{}: {:?}", brief(&command), outcome.as_ref().map(|_| map.epoch())));
            if outcome.is_ok() {
                let before = Rc::clone(self.raft.map());
                self.oracle.promoted(self.now, &before, &self.processes, &command)?;
                self.oracle.moves += u64::from(matches!(command, MapCommand::Moved { .. }));
                self.raft.maps.push(Rc::new(map));
                (0..self.processes.len()).for_each(|index| self.send_map(index, self.raft.maps.len() - 1));
            }
            if let Some((index, run)) = entry.proposer {
                let outcome = What::Outcome(self.raft.term, self.raft.maps.len() - 1);
                self.after_ms(30, Event::For(index, run, outcome));
            }
        }
        Ok(())
    }

    fn elect(&mut self) {
        let running = |index: &usize| self.is_running((*index, self.processes[*index].node.run));
        let able: Vec<usize> = (0..self.processes.len()).filter(running).collect();
        let Some(index) = able.choose(&mut self.random).copied() else { return self.after_ms(500, Event::Elect) };
        if self.is_calm && self.is_running(self.raft.leader) {
            return;
        }
        let (former, kept) = (self.raft.leader, self.random.random_range(0..=self.raft.uncommitted()));
        let leader = (index, self.processes[index].node.run);
        let number = self.raft.elect(leader, kept);
        self.note(format!("{index} leads in {:?} and keeps {kept}", self.raft.term));
        self.after_commit(number);
        self.after_ms(50, Event::For(leader.0, leader.1, What::Leadership));
        let late = if self.random.random_ratio(1, 2) { 2_500 } else { 50 };
        self.after_ms(late, Event::For(former.0, former.1, What::Leadership));
        if !self.is_calm && self.random.random_ratio(1, 4) {
            // The one before comes back at once.
            self.after_ms(600, Event::Elect);
        }
    }

    /// A node's own loop.
    fn tick(&mut self, index: usize) {
        let now = self.now;
        let suspects = self.suspects(index);
        let process = &mut self.processes[index];
        process.reconsider(now);
        let returning = process.custody.returning().clone();
        process.custody.returned(&returning);
        let (report, asked, run) = (process.report(suspects), process.clock.at(now), process.node.run);
        let lost = !self.is_calm && self.random.random_ratio(1, 6);
        let leader = if lost { self.random.random_range(0..self.processes.len()) } else { self.raft.leader.0 };
        self.send(index, leader, What::Report(report, asked));
        self.after(REPORT_EVERY, Event::For(index, run, What::Tick));
    }

    /// A report has come to one who may be the leader.
    fn report(&mut self, (index, run): (usize, Run), mut report: Report, asked: Duration) {
        let process = &mut self.processes[index];
        let (local, Some(term)) = (process.clock.at(self.now), process.governor.term()) else { return };
        let by = self.index_of(report.node.id);
        let arrived = Some(Moment { term, at: local });
        match self.broken {
            Some(Broken::MadeWhenItArrives) => report.after = arrived,
            Some(Broken::ResignedInAnyTerm) if report.resigns_to.is_some() => report.after = report.after.max(arrived),
            Some(Broken::AnyReport) => report.after = Some(Moment { term, at: Duration::MAX }),
            Some(Broken::OvertakenCounts) => {
                self.made_up += 1;
                report.number = self.made_up;
            }
            Some(Broken::SuccessorInAnyRun) => {
                let run = |(id, run)| (id, self.raft.map().node(id).map_or(run, |node| node.run));
                report.resigns_to = report.resigns_to.map(run);
            }
            _ => {}
        }
        let process = &mut self.processes[index];
        let asked = Asked {
            by: (by, report.node.run),
            at: asked,
            leader: (index, run),
            term: self.raft.term,
            told: term,
            is_resigning: report.resigns_to.is_some(),
            map: self.raft.maps.len() - 1,
        };
        process.governor.handle_report(local, report);
        self.after_ms(if self.is_calm { 3 } else { 40 }, Event::Confirm(asked));
    }

    /// A majority is asked whether there is a later leader.
    fn confirm(&mut self, asked: Asked) {
        let leads = self.raft.leader == asked.leader && self.raft.term == asked.term && self.is_running(asked.leader);
        let ready = self.raft.ready.filter(|_| leads).or((self.broken == Some(Broken::Unconfirmed)).then_some(0));
        if let Some(ready) = ready {
            let confirmed = What::Confirmed(asked, asked.map.max(ready));
            self.after_ms(if self.is_calm { 3 } else { 40 }, Event::For(asked.leader.0, asked.leader.1, confirmed));
        }
    }

    fn answer(&mut self, asked: Asked, map: usize) {
        let (index, map) = (asked.leader.0, Rc::clone(&self.raft.maps[map]));
        let process = &mut self.processes[index];
        if self.broken != Some(Broken::AnsweredByOldMap) {
            process.follow(self.now, &map);
        }
        let (local, id) = (process.clock.at(self.now), self.processes[asked.by.0].node.id);
        let process = &mut self.processes[index];
        let Some(mut standing) = process.governor.answer(local, asked.told, id, asked.by.1) else { return };
        if self.broken == Some(Broken::GrantedWhilePending) && !asked.is_resigning {
            let shard = process.map.shard_of(id).filter(|(_, shard)| (shard.primary, shard.run) == (id, asked.by.1));
            let is_up = process.map.node(id).is_some_and(|node| node.run == asked.by.1 && node.health == Health::Up);
            standing.lease = shard.filter(|_| is_up).map(|(_, shard)| shard.incarnation);
        }
        self.send_to(index, asked.by, What::Standing(asked.at, standing));
    }

    /// A primary takes a write if it may, and sends its replicas what it has.
    fn write(&mut self, index: usize) {
        let now = self.now;
        let process = &mut self.processes[index];
        let run = process.node.run;
        if process.may_write(now) {
            self.writes += 1;
            Rc::make_mut(&mut process.memory.writes).push(self.writes);
        }
        if process.may_write_cargo(now) {
            self.writes += 1;
            Rc::make_mut(&mut process.memory.cargo).push(self.writes);
        }
        if let Some(incarnation) = process.tenure {
            self.feeds += 1;
            let (fed, map) = (Rc::new(copy_of(&process.memory, self.feeds)), Rc::clone(&process.map));
            for (replica, _) in map.replicas(process.shard) {
                let to = self.index_of(replica);
                self.send(index, to, What::Feed((index, run), incarnation, Rc::clone(&fed)));
            }
        }
        self.haul(index);
        self.after(WRITE_EVERY, Event::For(index, run, What::Write));
    }

    /// A replica has told its primary how much it has.
    fn acknowledged(
        &mut self,
        index: usize,
        (by, run): (usize, Run),
        incarnation: Incarnation,
        (count, last): (usize, Option<u64>),
    ) {
        let replica = self.processes[by].node.id;
        let process = &mut self.processes[index];
        if process.tenure != Some(incarnation) {
            return;
        }
        let has_all = count == process.memory.writes.len() && last == process.memory.cargo.last().copied();
        if let Some(resigning) = process.resigning.as_mut().filter(|resigning| resigning.to == replica && has_all) {
            resigning.has_all = Some(run);
        }
        let is_allowed = process.may_write(self.now) || self.broken == Some(Broken::AcknowledgedWithoutLease);
        if is_allowed && count > process.acknowledged {
            self.oracle.acknowledge(process.shard, &process.memory.writes[process.acknowledged..count]);
            process.acknowledged = count;
        }
        self.cargo_acknowledged(index, replica, last);
    }

    /// Whom a node suspects.
    fn suspects(&self, observer: usize) -> Vec<(NodeId, Run)> {
        let is_long_ago = |since: &Duration| self.now > *since + SUSPICION;
        let suspects = |index: &usize| {
            let is_cut =
                self.cuts.get(&(*index, observer)).is_some_and(|(from, until)| self.now < *until && is_long_ago(from));
            let is_illusion = self.illusions.get(&(observer, *index)).is_some_and(|until| self.now < *until);
            *index != observer && (is_cut || is_illusion || self.silent.get(index).is_some_and(is_long_ago))
        };
        let named = |index: usize| {
            let id = self.processes[index].node.id;
            Some((id, self.processes[observer].map.node(id)?.run))
        };
        (0..self.processes.len()).filter(suspects).filter_map(named).collect()
    }

    /// One of the things that go wrong.
    fn fault(&mut self) {
        let index = self.random.random_range(0..self.processes.len());
        let other = self.random.random_range(0..self.processes.len());
        let until = self.now + Duration::from_millis(self.random.random_range(100..3_000));
        match self.random.random_range(0..16) {
            0..3 => self.crash_for(index),
            3 => [index, other].into_iter().for_each(|index| self.crash_for(index)),
            4 if self.random.random_ratio(1, 4) => (0..self.processes.len()).for_each(|index| self.crash_for(index)),
            4..7 => {
                self.stop(index);
                self.after_ms(4_000, Event::Resume(index));
            }
            7 => self.cut(index, other, until),
            8..10 => (0..self.processes.len()).for_each(|other| {
                self.cut_for_a_while(index, other);
                self.cut_for_a_while(other, index);
            }),
            10..12 => drop(self.illusions.insert((index, other), until)),
            12 => {
                let (id, _) = self.raft.map().shards().next().expect("there is a shard");
                let number = self.raft.append(None, Some(MapCommand::SetWeight { shard: id, weight: 100 }));
                self.after_commit(number);
            }
            _ => self.hand_over_in_the_storm(index),
        }
        self.after_ms(self.fault_every_ms, Event::Fault);
    }

    /// One thing goes wrong, in a world in which nothing does by itself, for a while.
    pub(super) fn one_fault(&mut self) -> Result<(), String> {
        let index = self.random.random_range(0..self.processes.len());
        let time = Duration::from_millis([1, 300, 1_500, 5_000][self.random.random_range(0..4)]);
        match self.random.random_range(0..3) {
            0 => self.crash(index),
            1 => self.stop(index),
            _ => (0..self.processes.len()).for_each(|other| self.cut(index, other, self.now + time)),
        }
        self.pass(time)
    }

    fn cut_for_a_while(&mut self, from: usize, to: usize) {
        if self.random.random_ratio(3, 4) {
            let until = self.now + Duration::from_millis(self.random.random_range(100..3_000));
            self.cut(from, to, until);
        }
    }

    fn cut(&mut self, from: usize, to: usize, until: Duration) {
        self.note(format!("{from} does not reach {to} until {until:?}"));
        self.cuts.insert((from, to), (self.now, until));
    }

    /// The primary of a node's shard hands over, while all that could go wrong with that does.
    fn hand_over_in_the_storm(&mut self, index: usize) {
        let shard = self.processes[index].shard;
        let primary = (0..self.processes.len()).find(|index| {
            let process = &self.processes[*index];
            process.shard == shard && process.may_write(self.now)
        });
        let Some(to) = primary.and_then(|primary| self.hand_over(primary)) else { return };
        match self.random.random_range(0..6) {
            0 => self.after_ms(300, Event::Crash(to)),
            1 => {
                self.after_ms(400, Event::Elect);
                self.after_ms(1_500, Event::Elect);
            }
            _ => {}
        }
    }

    fn crash_for(&mut self, index: usize) {
        self.crash(index);
        let time = if self.random.random_ratio(1, 2) { 100 } else { 4_000 };
        self.after_ms(time, Event::Start(index));
    }

    /// A primary hands over to one of its replicas. Returns to which, if it can.
    pub(super) fn hand_over(&mut self, index: usize) -> Option<usize> {
        let process = &self.processes[index];
        let replicas: Vec<NodeId> = process.map.replicas(process.shard).map(|(id, _)| id).collect();
        let is_able = process.may_write(self.now) && !process.is_stopped;
        let to = replicas.choose(&mut self.random).copied().filter(|_| is_able)?;
        self.note(format!("{index} hands over to {to:?}"));
        self.processes[index].resign(self.now, to);
        Some(self.index_of(to))
    }

    /// Sends to whatever process the node has now.
    pub(super) fn send(&mut self, from: usize, to: usize, what: What) {
        self.send_to(from, (to, self.processes[to].node.run), what);
    }

    pub(super) fn send_to(&mut self, from: usize, (to, run): (usize, Run), what: What) {
        let is_cut = self.cuts.get(&(from, to)).is_some_and(|(_, until)| self.now < *until);
        let is_lost = is_cut || self.random.random_ratio(1, 30);
        if from == to {
            self.after(Duration::ZERO, Event::For(to, run, what));
        } else if self.is_calm || !is_lost {
            let late = if !self.is_calm && self.random.random_ratio(1, 12) { 1_500 } else { 15 };
            self.after_ms(late, Event::For(to, run, what));
        }
    }

    fn raft_term_of(&self, index: usize) -> Option<Term> {
        let told = self.processes[index].governor.term()?;
        Some(if self.broken == Some(Broken::NoTerms) { self.raft.term } else { told })
    }

    fn is_running(&self, (index, run): (usize, Run)) -> bool {
        let process = &self.processes[index];
        process.node.run == run && process.is_up && !process.is_stopped
    }

    pub(super) fn index_of(&self, id: NodeId) -> usize {
        self.processes.iter().position(|process| process.node.id == id).expect("no node joins later")
    }
}

/// In which term a governor believes to be.
fn told(broken: Option<Broken>, term: Term) -> Term {
    if broken == Some(Broken::NoTerms) { Term(1) } else { term }
}

/// A command, as far as a trace needs it.
fn brief(command: &MapCommand) -> String {
    match command {
        MapCommand::Started { node } => format!("Started {:?} {:?}", node.id, node.run),
        other => format!("{other:?}"),
    }
}
