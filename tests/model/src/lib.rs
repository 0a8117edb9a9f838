//! An exhaustive model of replication.

mod canonical;
pub mod configurations;
mod feed;
mod frontier;
pub mod properties;
pub mod region;
pub mod rules;
pub mod world;

use stateright::{Model, Property};

use crate::{
    configurations::{Clocks, Configuration},
    region::{KEYS, Kind, REGIONS, Time},
    rules::Rules,
    world::{Action, World, places},
};

/// One configuration under one set of rules, as the checker wants it.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// What is explored.
    pub configuration: Configuration,
    /// The rules.
    pub rules: Rules,
    /// Whether worlds that differ in names alone are one.
    pub symmetric: bool,
}

impl Model for Checked {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.configuration)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.local_actions(world, actions);
        self.deliveries(world, actions);
        self.lives(world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let next = world.after(action, &self.configuration, self.rules)?.reduced(&self.configuration);
        Some(if self.symmetric { next.least() } else { next })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

impl Checked {
    fn local_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let top = world.top();
        for (region, key) in places(world) {
            for (kind, left) in [(Kind::Value, world.left.writes), (Kind::Tombstone, world.left.deletes)] {
                if left == 0 {
                    continue;
                }
                let least = world.stamped_above(region, key, self.rules);
                let least = if self.configuration.clocks == Clocks::Drift { least } else { top };
                actions.extend((least.0..=top.0).map(|above| Action::Write { region, key, kind, above: Time(above) }));
            }
            match world.regions[region].held[key].entry {
                Some(entry) if entry.kind == Kind::Value && world.left.evictions > 0 => {
                    actions.push(Action::Evict(region, key));
                }
                Some(entry) if entry.kind != Kind::Value => actions.push(Action::Forget(region, key)),
                _ => {}
            }
        }
    }

    fn deliveries(&self, world: &World, actions: &mut Vec<Action>) {
        for (from, to) in world.links() {
            let is_ahead = world.regions[from].seen[from] == world.top();
            let drifts = self.configuration.clocks == Clocks::Drift && !is_ahead;
            for catches_up in [true, false].into_iter().take(1 + usize::from(drifts)) {
                actions.push(Action::Tail(from, to, catches_up));
                actions.push(Action::Scan(from, to, catches_up));
            }
            for key in 0..KEYS {
                if world.left.records > 0 {
                    actions.push(Action::Record(from, to, key));
                }
                if world.left.late > 0 && world.late.is_none() {
                    actions.push(Action::Send(from, to, key));
                }
                if world.left.walks > 0 && world.walk.is_none() {
                    actions.push(Action::BeginScan(from, to, key));
                }
            }
        }
        actions.extend(world.late.map(|_| Action::Arrive));
        actions.extend(world.walk.map(|_| Action::EndScan));
    }

    fn lives(&self, world: &World, actions: &mut Vec<Action>) {
        let has_peers = world.members().count() > 1;
        for region in world.members().filter(|_| has_peers) {
            if world.left.crashes > 0 {
                actions.push(Action::Crash(region));
            }
            if world.left.failovers > 0 && world.replica.is_none() {
                actions.push(Action::Follow(region));
            }
            if world.left.leaves > 0 {
                actions.push(Action::Leave(region));
            }
        }
        actions.extend(world.replica.map(|_| Action::Failover));
        if world.left.joins > 0 {
            let absent = (0..REGIONS).filter(|region| !world.regions[*region].is_member);
            actions.extend(absent.map(Action::Join));
        }
    }
}
