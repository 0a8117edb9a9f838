//! A region of one node, without a map: it begins its lives by itself.
//!
//! As in the shell (`node.rs`, `housekeeping.rs`, `mark.rs`): each start is a life younger than the one that stands in the state file, above the mark that
//! stands there; nobody leads, there is no lease, and nobody follows. Who is told that its life is over writes the younger one down and ends, to be started again.
//! Which other regions there are lies on the disk as well: here that is the map, which is there for nothing else but to say where requests and streams go.

use std::{rc::Rc, time::Duration};

use clock::{HighWater, Incarnation, Origin, State, Time};
use node_core::cluster::{ClusterMap, Life};
use rand::RngExt;

use super::{Process, Region, What, weather::Ailment};

/// How often it looks after the mark, and forgets.
const HOUSEKEEPING_MS: u64 = 100;
/// A process that has ended is started again within so many milliseconds.
const STARTED_AGAIN_MS: std::ops::Range<u64> = 20..200;

impl Region {
    /// A process starts with what stands on its disk.
    pub(super) fn begin_alone(&mut self) {
        let map = Rc::clone(self.raft.map());
        let process = &mut self.processes[0];
        let state = self.disk.map_or(State::FIRST, State::next_life);
        let now = process.clock.at(self.now).wall;
        let start = state.mark.max(now);
        let origin = Origin::new(self.make.id, state.incarnation);
        process.store.begin_life(origin, start, start);
        process.store.set_owned(self.load.slots().clone(), 1);
        self.make.max_memory.into_iter().for_each(|bytes| process.store.settings().set_max_memory(bytes));
        process.marks = Some(HighWater::resume(state.mark));
        process.progress.serves(state.incarnation);
        process.speaks = Some(Life { origin, birth: start, is_restamped: false });
        process.lease_until = Duration::MAX;
        process.serve(&map);
        process.follow_regions(&self.make.peers);
        self.disk = Some(state);
        self.has_changed = true;
        note!(self, "it starts as {origin}, above {start:?}");
        self.keep_mark(start);
        self.soon(0, HOUSEKEEPING_MS, What::Tick);
    }

    /// What housekeeping does now and then.
    pub(super) fn keep_house_alone(&mut self) {
        let process = &self.processes[0];
        process.keep_house(process.clock.at(self.now));
        let store = &process.store;
        let reached = (0..store.stripes()).map(|index| store.lock(index).issued()).max().unwrap_or(Time::ZERO);
        self.keep_mark(reached);
        self.soon(0, HOUSEKEEPING_MS, What::Tick);
    }

    /// Has the mark lie ahead of the clock, and of what was `reached`. In a process that is done before anything so late is stamped.
    pub(super) fn keep_mark(&mut self, reached: Time) {
        let process = &mut self.processes[0];
        let now = process.clock.at(self.now).wall;
        let (Some(marks), Some(disk)) = (&mut process.marks, &mut self.disk) else { return };
        if let Some(mark) = marks.poll(now, reached) {
            marks.persisted(mark);
            disk.mark = marks.mark();
        }
    }

    /// It hears that its life is over: the next one begins at once.
    pub(super) fn outlive_alone(&mut self, last: Incarnation) {
        let Some(disk) = self.disk.as_mut().filter(|disk| !disk.incarnation.is_after(last)) else { return };
        disk.incarnation = last;
        note!(self, "it hears that its life is over: {last:?}");
        let pause = Duration::from_millis(self.random.random_range(STARTED_AGAIN_MS));
        self.fail_with(0, Ailment::Ends, pause);
    }

    pub(super) fn is_well_alone(&self) -> bool {
        self.processes.iter().all(|process| process.is_up && !process.is_stopped && process.speaks.is_some())
    }
}

impl Process {
    /// Clients are routed by this map from here on, unless it is an old one.
    pub(super) fn serve(&mut self, map: &Rc<ClusterMap>) {
        if map.epoch() > self.map.epoch() {
            self.map = Rc::clone(map);
            self.reroute();
        }
    }
}
