//! What goes wrong between regions: lines are cut, one way or both, lose, delay, and carry little; gateways hang and end; clocks jump.
//!
//! What goes wrong within a region its own weather does. Everything that goes wrong ends after a while, and at the end all of it.

use std::time::Duration;

use rand::RngExt;
use sim_wan::model::{Change, Delay, LineChange, Loss, Rate, State};

use super::{Event, NAMES, World};

/// Between two faults.
pub(super) const EVERY: Duration = Duration::from_millis(400);
/// What a slow line carries, in thousand bits per second. A stream without writes says so much by itself.
const SLOW_KBIT: std::ops::Range<u32> = 16..200;
/// How far clocks jump.
const AHEAD_MS: std::ops::Range<u64> = 300..2_000;
/// So far at the most, and those whose clocks are ahead anyway.
pub(super) const AHEAD_MAX: Duration = Duration::from_millis(AHEAD_MS.end);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing arrives on a line.
    Cut(usize, usize),
    /// All connections of a line are reset, and no new ones made.
    Reset(usize, usize),
    /// Nothing leaves a region, nor arrives there.
    Isolated(usize),
    /// A line loses packets, and is uneven.
    Bad(usize, usize),
    /// A line carries less than what there is to say.
    Slow(usize, usize),
    GatewayEnds(usize),
    GatewayStops(usize),
    /// The clocks of all nodes of a region are set anew.
    Clocks(usize),
    /// They jump ahead, further than others follow, and are set back.
    Ahead(usize),
    /// All nodes of a region end at once.
    Lost(usize),
}

impl World {
    /// Something goes wrong, unless that is over.
    pub(super) fn fault(&mut self) {
        if self.is_spared {
            return;
        }
        self.after(EVERY * self.options.pace(), Event::Fault);
        let count = self.regions.len();
        let from = self.random.random_range(0..count);
        let to = (from + self.random.random_range(1..count)) % count;
        let gateway = self.random.random_range(0..self.gateways.len());
        let fault = match self.random.random_range(0..12) {
            0..2 => Fault::Cut(from, to),
            2..4 => Fault::Reset(from, to),
            4..5 => Fault::Isolated(from),
            5..7 => Fault::Bad(from, to),
            7..9 => Fault::Slow(from, to),
            9..10 => Fault::GatewayEnds(gateway),
            10..11 => Fault::GatewayStops(gateway),
            _ if self.has_jumps && self.random.random_ratio(1, 2) => Fault::Ahead(from),
            _ if self.random.random_ratio(1, 4) && self.regions[from].is_well() => Fault::Lost(from),
            _ => Fault::Clocks(from),
        };
        let long = self.random.random_ratio(1, 3);
        let length = self.random.random_range(if long { 800..2_500 } else { 20..400 });
        self.faults += 1;
        self.note(|| format!("{fault:?} for {length} ms"));
        self.strike(fault);
        self.after(Duration::from_millis(length), Event::Mend(fault));
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Cut(from, to) => self.change_line(from, to, LineChange::state(State::Blackhole)),
            Fault::Reset(from, to) => self.change_line(from, to, LineChange::state(State::Reset)),
            Fault::Isolated(region) => {
                for other in (0..self.regions.len()).filter(|other| *other != region) {
                    self.change_line(region, other, LineChange::state(State::Blackhole));
                    self.change_line(other, region, LineChange::state(State::Blackhole));
                }
            }
            Fault::Bad(from, to) => {
                let loss = Loss::new(f64::from(self.random.random_range(1..30_u32)) / 100.0).ok();
                let jitter = Delay::from_ms(f64::from(self.random.random_range(0..100_u32))).ok();
                self.change_line(from, to, LineChange { loss, jitter, ..LineChange::default() });
            }
            Fault::Slow(from, to) => {
                let rate = Rate::from_mbit(f64::from(self.random.random_range(SLOW_KBIT)) / 1_000.0).ok();
                self.change_line(from, to, LineChange { rate: Some(rate), ..LineChange::default() });
            }
            Fault::GatewayEnds(gateway) | Fault::GatewayStops(gateway) if self.is_inside(gateway) => {}
            Fault::GatewayEnds(gateway) => self.end_gateway(gateway),
            Fault::GatewayStops(gateway) => self.gateways[gateway].is_stopped = self.gateways[gateway].is_up,
            Fault::Lost(index) => {
                let length = Duration::from_millis(self.random.random_range(50..1_000));
                let region = &mut self.regions[index];
                region.now = self.now;
                region.end_all(length);
                self.follow_lives(index);
            }
            Fault::Ahead(region) => {
                let ahead = self.random.random_range(AHEAD_MS);
                let region = &mut self.regions[region];
                region.now = self.now;
                region.set_clocks_ahead(Duration::from_millis(ahead));
            }
            Fault::Clocks(region) => {
                let region = &mut self.regions[region];
                region.now = self.now;
                (0..region.processes.len()).for_each(|index| region.set_clock(index));
            }
        }
    }

    pub(super) fn mend(&mut self, fault: Fault) {
        self.note(|| format!("{fault:?} is over"));
        match fault {
            Fault::Cut(from, to) | Fault::Reset(from, to) => {
                self.change_line(from, to, LineChange::state(State::Up));
            }
            Fault::Isolated(region) => {
                for other in (0..self.regions.len()).filter(|other| *other != region) {
                    self.change_line(region, other, LineChange::state(State::Up));
                    self.change_line(other, region, LineChange::state(State::Up));
                }
            }
            Fault::Bad(from, to) => {
                let (loss, jitter) = (Some(Loss::NONE), Some(Delay::ZERO));
                self.change_line(from, to, LineChange { loss, jitter, ..LineChange::default() });
            }
            Fault::Slow(from, to) => {
                self.change_line(from, to, LineChange { rate: Some(None), ..LineChange::default() });
            }
            Fault::Ahead(region) => {
                let region = &mut self.regions[region];
                region.now = self.now;
                (0..region.processes.len()).for_each(|index| region.set_clock(index));
            }
            Fault::GatewayEnds(gateway) => {
                if !self.gateways[gateway].is_up && !self.is_inside(gateway) {
                    self.begin_gateway(gateway);
                }
            }
            Fault::GatewayStops(gateway) => self.resume_gateway(gateway),
            Fault::Clocks(_) | Fault::Lost(_) => {}
        }
    }

    fn resume_gateway(&mut self, gateway: usize) {
        if std::mem::take(&mut self.gateways[gateway].is_stopped) {
            self.let_go(gateway);
            self.wake_splits_of(gateway);
        }
    }

    fn change_line(&mut self, from: usize, to: usize, change: LineChange) {
        let change = Change::Line { from: NAMES[from].to_owned(), to: NAMES[to].to_owned(), change };
        self.network.change(&change).expect("the line is there");
    }

    /// Ends everything that goes wrong, for good.
    pub(super) fn mend_all(&mut self) {
        self.note(|| "everything is mended".to_owned());
        self.is_spared = true;
        self.regions.iter_mut().for_each(|region| region.is_spared = true);
        let count = self.regions.len();
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                self.mend(Fault::Cut(from, to));
                self.mend(Fault::Bad(from, to));
                self.mend(Fault::Slow(from, to));
            }
        }
        if self.has_jumps {
            (0..count).for_each(|region| self.mend(Fault::Ahead(region)));
        }
        for gateway in 0..self.gateways.len() {
            self.mend(Fault::GatewayEnds(gateway));
            self.mend(Fault::GatewayStops(gateway));
        }
    }
}
