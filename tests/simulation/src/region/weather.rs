//! What goes wrong in a region, and what that may cost.
//!
//! A primary that ends, hangs or is cut off may take with it what its replicas did not have. What they had is known here, so
//! the loss that is noted ([`Injury`]) is exact: from the moment as of which some replica that was there had everything, until
//! all is well again.

use std::time::Duration;

use clock::Offset;
use node_core::cluster::Run;
use rand::RngExt;

use super::{Event, Process, Region, What, founder};

/// Between two faults of a storm, after all is well again.
pub(super) const FAULT_MS: u64 = 600;

/// What a fault may have cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Injury {
    /// What was acknowledged from this time on.
    pub(crate) from: Duration,
    /// When all was well again, if it is.
    pub(crate) until: Option<Duration>,
    /// Nobody was left who had what the dead had.
    pub(crate) whole: bool,
}

/// What may go wrong with a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ailment {
    /// It ends, and starts again with nothing.
    Ends,
    /// It hangs.
    Stops,
    /// No other node of its region reaches it.
    IsCutOff,
}

impl Region {
    /// One thing goes wrong, if all is well.
    pub(super) fn fault(&mut self) {
        if self.is_spared || !self.is_well() {
            return self.after_ms(200, Event::Fault);
        }
        let index = self.random.random_range(0..self.processes.len());
        self.fail(index);
        self.after_ms(FAULT_MS * self.make.pace, Event::Fault);
    }

    /// A node fails, if that may be now.
    pub(crate) fn fail_now(&mut self, index: usize) {
        if self.is_stormy && !self.is_spared && self.is_well() {
            self.fail(index);
        }
    }

    fn fail(&mut self, index: usize) {
        let time = if self.random.random_ratio(1, 3) { 0..100 } else { 1_500..3_000 };
        let time = Duration::from_millis(self.random.random_range(time));
        let ailment = match self.random.random_range(0..3) {
            // With the one node all is gone; little would be left to judge.
            0 if self.make.is_single && self.random.random_ratio(2, 3) => Ailment::Stops,
            0 => Ailment::Ends,
            1 => Ailment::Stops,
            _ => Ailment::IsCutOff,
        };
        self.fail_with(index, ailment, time);
    }

    /// All processes end at once, and with them all that the region had; they are back after this time.
    pub(crate) fn end_all(&mut self, time: Duration) {
        note!(self, "all is lost");
        self.injuries.push(Injury { from: Duration::ZERO, until: None, whole: true });
        (0..self.processes.len()).for_each(|index| self.fail_with(index, Ailment::Ends, time));
    }

    /// All clocks jump ahead.
    pub(crate) fn set_clocks_ahead(&mut self, ahead: Duration) {
        note!(self, "all clocks jump ahead by {ahead:?}");
        let ahead = Offset::from_nanos(i64::try_from(ahead.as_nanos()).unwrap_or(i64::MAX));
        self.processes.iter_mut().for_each(|process| process.clock.offset = ahead);
    }

    /// A clock is set, within what it may be off.
    pub(crate) fn set_clock(&mut self, index: usize) {
        let most = self.make.offset_max;
        let offset = Offset::from_nanos(self.random.random_range(-most..most));
        note!(self, "the clock of {index} is set to be off by {offset:?}");
        self.processes[index].clock.offset = offset;
    }

    /// This goes wrong, for so long.
    pub(crate) fn fail_with(&mut self, index: usize, ailment: Ailment, time: Duration) {
        self.faults += 1;
        self.has_changed = true;
        self.injure(index);
        let who = (index, self.processes[index].node.run);
        match ailment {
            Ailment::Ends => {
                note!(self, "{index} ends");
                self.processes[index].is_up = false;
                self.waiting.retain(|(other, ..)| *other != index);
                self.lose_all_at(who);
            }
            Ailment::Stops => {
                note!(self, "{index} is stopped");
                self.processes[index].is_stopped = true;
            }
            Ailment::IsCutOff => {
                note!(self, "{index} is cut off");
                self.cut_off = Some((index, self.now));
            }
        }
        self.silent.insert(index, self.now);
        if self.raft.leader == who {
            self.after_ms(900, Event::Elect);
        }
        self.after(time, Event::Heal(index));
    }

    pub(super) fn heal(&mut self, index: usize) {
        note!(self, "{index} is well again");
        self.has_changed = true;
        self.silent.remove(&index);
        self.cut_off = None;
        if !self.processes[index].is_up {
            self.runs += 1;
            let (node, clock) = (founder(index as u16, Run(self.runs)), self.processes[index].clock);
            self.processes[index] = Process::new(node, clock, &self.make, &self.has_news, self.now);
            self.begin(index);
        }
        self.processes[index].is_stopped = false;
        for (_, event) in std::mem::take(&mut self.waiting) {
            self.after(Duration::ZERO, event);
        }
        let newest = self.raft.newest();
        self.soon(index, 5, What::Map(newest));
    }

    /// Notes what this process may take with it.
    fn injure(&mut self, index: usize) {
        let process = &self.processes[index];
        if process.progress.serving().is_none() {
            return;
        }
        let followers = process.followers.values().filter(|follower| follower.is_online);
        let known = followers.map(|follower| process.clock.true_time(follower.as_of)).min();
        // What it has taken and the map has not confirmed goes back, whoever has what was written there since.
        let taken = process.taken_at.filter(|_| process.custody.is_unconfirmed());
        let known = known.map(|known| taken.map_or(known, |taken| taken.min(known)));
        let injury = Injury { from: known.unwrap_or_default(), until: None, whole: known.is_none() };
        self.injuries.push(injury);
    }

    /// Ends what is over of its injuries.
    pub(crate) fn look_at_injuries(&mut self) {
        let is_open = self.injuries.iter().any(|injury| injury.until.is_none());
        if is_open && !self.is_removed && self.is_well() {
            let now = self.now;
            self.injuries.iter_mut().for_each(|injury| _ = injury.until.get_or_insert(now));
        }
    }
}
