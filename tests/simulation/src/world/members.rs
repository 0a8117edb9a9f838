//! Regions come and go while the others run.
//!
//! In some worlds an operator has the others know of the last region only when all have begun, or removes it, for good or until it
//! returns. Who is removed is not told: it serves its clients, and finds its links refused. What it had not sent by then is lost by
//! declaration, until it is linked again.

use std::time::Duration;

use clock::RegionId;
use geo_link_core::Refusal;
use node_core::cluster::Peer;
use rand::RngExt;

use super::{EndId, Event, NAMES, World};
use crate::region::Injury;

/// Between two looks of the operator.
const LOOK: Duration = Duration::from_millis(80);
/// When something is done about the region, and how long it is until the next.
const PAUSE_MS: std::ops::Range<u64> = 200..1_200;

/// What an operator does about the last region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing.
    Stays,
    /// The others do not know of it at first.
    Joins,
    /// It is removed.
    Leaves,
    /// It is removed, and is added again.
    Returns,
}

impl Plan {
    /// One of them.
    pub(super) const fn of(number: u32) -> Self {
        match number {
            0 | 1 => Self::Joins,
            2 => Self::Leaves,
            3 | 4 => Self::Returns,
            _ => Self::Stays,
        }
    }

    /// What is to be said of it, in order.
    const fn steps(self) -> &'static [bool] {
        match self {
            Self::Stays => &[],
            Self::Joins => &[true],
            Self::Leaves => &[false],
            Self::Returns => &[false, true],
        }
    }
}

impl World {
    /// The operator begins.
    pub(super) fn begin_plan(&mut self) {
        if !self.plan.steps().is_empty() {
            let pause = self.random.random_range(PAUSE_MS);
            self.after(Duration::from_millis(pause), Event::Member(0));
        }
    }

    /// The operator looks how far the step is.
    pub(super) fn look_at_plan(&mut self, step: usize) {
        let Some(is_member) = self.plan.steps().get(step).copied() else { return };
        let (place, now) = (self.regions.len() - 1, self.now);
        let subject = self.regions[place].make.id;
        if !is_member && !self.regions[place].is_removed {
            self.remove_by_declaration(place);
        }
        let mut is_done = true;
        for other in 0..place {
            if self.regions[other].knows(subject) != is_member {
                is_done = false;
                if self.random.random_ratio(1, 2) {
                    self.regions[other].now = now;
                    self.regions[other].set_member(subject, is_member);
                }
            }
        }
        if !is_done {
            return self.after(LOOK, Event::Member(step));
        }
        self.note(|| format!("all others know that {} is a region: {is_member}", NAMES[place]));
        self.steps_done = step + 1;
        let pause = if self.is_spared { 1..2 } else { PAUSE_MS };
        let pause = self.random.random_range(pause);
        self.after(Duration::from_millis(pause), Event::Member(step + 1));
    }

    /// Whether all was said.
    pub(super) const fn is_plan_done(&self) -> bool {
        self.steps_done == self.plan.steps().len()
    }

    /// What the others lack of a region is lost, unless it brings it when it returns. If it does not, nobody sends again what one of the
    /// others had and loses with a primary.
    fn remove_by_declaration(&mut self, place: usize) {
        let may_lose_more = self.options.is_stormy && self.plan == Plan::Leaves;
        let from = if may_lose_more { Duration::ZERO } else { self.oldest_lacking(place).unwrap_or(self.now) };
        self.faults += 1;
        self.note(|| format!("{} is removed: lost from {from:?} on", NAMES[place]));
        self.regions[place].is_removed = true;
        self.regions[place].injuries.push(Injury { from, until: None, whole: false });
    }

    /// Ends what a removal costs, once the region is linked again.
    pub(super) fn look_at_removed(&mut self) {
        let place = self.regions.len() - 1;
        if self.regions[place].is_removed && self.is_plan_done() && self.is_member(place) && self.is_linked() {
            self.regions[place].is_removed = false;
        }
    }

    /// Whether two regions know of one another.
    pub(super) fn are_peers(&self, one: usize, other: usize) -> bool {
        one != other
            && self.regions[one].knows(self.regions[other].make.id)
            && self.regions[other].knows(self.regions[one].make.id)
    }

    /// Whether all others know of a region.
    pub(super) fn is_member(&self, place: usize) -> bool {
        (0..self.regions.len()).all(|other| other == place || self.are_peers(place, other))
    }

    /// The regions that are judged: all but one that was removed.
    pub(super) fn members(&self) -> impl Iterator<Item = usize> {
        let last = self.regions.len() - 1;
        (0..=last).filter(move |place| *place != last || self.is_member(last))
    }

    /// Links begin and end with what nodes know of other regions.
    pub(super) fn follow_members(&mut self, region: usize) {
        self.turn_away(region);
        for index in 0..self.regions[region].processes.len() {
            let process = &self.regions[region].processes[index];
            let now = process.clock.at(self.now);
            let Some(inbound) = self.inbound[region][index].as_mut().filter(|it| it.peers != process.peers) else {
                continue;
            };
            let former = inbound.set_peers(process.peers.clone(), now);
            let stays = |peer: &Peer, among: &[Peer]| among.iter().any(|other| other == peer);
            let gone: Vec<RegionId> =
                former.iter().filter(|peer| !stays(peer, &process.peers)).map(|peer| peer.id).collect();
            let new: Vec<RegionId> =
                process.peers.iter().filter(|peer| !stays(peer, &former)).map(|peer| peer.id).collect();
            let life = inbound.life;
            for id in gone {
                self.end_links_at(region, index, place_of(id));
            }
            for id in new {
                self.begin_stream_at(region, index, life, place_of(id));
            }
            self.wishes_changed(region, index);
        }
    }

    fn end_links_at(&mut self, region: usize, index: usize, other: usize) {
        let ends: Vec<EndId> = self
            .outgoing
            .iter()
            .filter(|(_, end)| (end.region, end.index, end.to) == (region, index, other))
            .map(|(id, _)| *id)
            .collect();
        ends.into_iter().for_each(|id| self.end_outgoing(id));
        let ends: Vec<EndId> = self
            .incoming
            .iter()
            .filter(|(_, end)| (end.region, end.index, end.from()) == (region, index, other))
            .map(|(id, _)| *id)
            .collect();
        ends.into_iter().for_each(|id| self.refuse_incoming(id, no_peer()));
    }

    /// Gateways end the streams of who is no region any more.
    fn turn_away(&mut self, region: usize) {
        let is_unknown = |split: &super::gateways::Splitting| {
            let sender = split.split.id().map(|id| id.region());
            self.gateways[split.gateway].region == region
                && sender.is_some_and(|sender| !self.regions[region].knows(sender))
        };
        let ends: Vec<EndId> = self.splits.iter().filter(|(_, split)| is_unknown(split)).map(|(id, _)| *id).collect();
        ends.into_iter().for_each(|id| self.refuse_split(id, no_peer()));
    }
}

/// What is said to who is no region.
pub(super) fn no_peer() -> Refusal {
    Refusal::Region("which is no peer of it any more".to_owned())
}

/// The place of a region.
fn place_of(id: RegionId) -> usize {
    usize::from(id.number()) - 1
}
