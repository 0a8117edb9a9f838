//! An exhaustive model of replication: merge, `seen`, frontier, floor, feed, and the ways in which a region begins and ends.
//!
//! Random worlds find what happens often. What only happens when a delete is forgotten between two halves of a scan for
//! a region that has just come back under a new name, they find late or never. Here a checker ([stateright]) walks through
//! *every* order of a handful of such steps, and asks in each world that can be reached whether the promises hold
//! ([`properties`]). Where one does not, it tells the shortest way there. So that this ends, the model is small: one slot, two keys,
//! three regions, and per configuration ([`configurations`]) a bound on what happens.
//!
//! # What is modelled
//! - *Merge*: the greater stamp wins; at equal stamps a value beats a marker; for an absent key the floor decides ([`region`]).
//! - *Stamps* above the region's clock, the key's stamp and the floor; clocks that agree, or drift in any way.
//! - *Forgetting*, at the frontier or before it; the floor rises either way. Eviction leaves a marker.
//! - *The feed* (`feed.rs`): the tail (what the source stamped, or what replaced it, then a watermark), and the scan (what the consumer
//!   has not seen, whoever stamped it; the whole slot if it lies under the floor), at any moment and between any two regions. So a
//!   ring that is outrun, a cut of any length and the way around a cut are all among the runs.
//! - *The frontier* (`frontier.rs`) from the rows that feeds bring along.
//! - *Lives*: a region that loses all, a replica that lags and takes over, a region that joins with nothing and clones by a
//!   scan, one that is removed. Each is a new origin; records of those that ended are owed to whoever lacks them.
//! - *What is late*: a record ahead of its watermark, one that arrives any time after it was sent, a scan in two halves
//!   between which anything happens.
//!
//! # What is left out, and why that is sound
//! - *Messages in flight.* A delivery takes what the source has at that moment: a pull. What a slow message adds to that is a
//!   source that moves on meanwhile. As far as records go this is what a late record shows, and as far as `seen` goes a scan in two
//!   halves; a batch of several is one after the other, and a source that has not moved on is simply pulled later.
//! - *A cursor in the log.* The consumer's `seen` stands for it. A cursor that is further on than `seen` has records that arrived ahead of
//!   their watermark, which is a step of its own; one that is further back sends what is stale.
//! - *The ring.* A scan may happen although nothing was lost, which is more than the real thing does. At rest only what it does by
//!   itself counts: a scan is owed for origins that have ended, and to whoever has seen nothing or lacks what was forgotten.
//! - *Ties.* No two stamps have one time. A region never issues a time twice, so a tie is between regions and decided by their names: the
//!   model has both orders. `seen` and the frontier compare times alone, and one that is up to a time includes every stamp of that time.
//! - *Values.* A stamp names what was written; two records of one stamp differ in being a marker or not, no more.
//! - *Several primaries, moving slots, flushes, expiry, relayed tails.* The first two are simulated in `tests/simulated`; a flush is a floor
//!   that rises with nothing under it; an expiry is an eviction; what is relayed by a tail comes here by a scan.
//! - *How news of a life spreads.* Everybody knows at once that an origin has ended, but for the frontier: there a row counts as
//!   the former life's until the new one has reported.
//!
//! # How the number of worlds is kept down
//! Times are ranks, what nothing depends on is dropped, and names of regions and keys do not count (`canonical.rs`).

mod canonical;
pub mod configurations;
mod feed;
mod frontier;
pub mod properties;
pub mod region;
pub mod rules;
mod telling;
pub mod world;

use stateright::{Checker, CheckerBuilder, HasDiscoveries, Model, Property};

use crate::{
    configurations::{Clocks, Configuration, Frontier},
    region::{Kind, REGIONS, Time},
    rules::{Broken, Rules},
    world::{Action, World, places},
};

/// One configuration under one set of rules, as the checker wants it.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// What is explored.
    pub configuration: Configuration,
    /// The rules.
    pub rules: Rules,
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
        Some(self.step(world, action)?.least(&self.configuration))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

/// What a walk through all worlds of a configuration came to.
#[derive(Debug)]
pub struct Explored {
    /// Worlds that can be reached.
    pub worlds: usize,
    /// Steps between them.
    pub steps: usize,
    /// Steps of the longest shortest way to any of them.
    pub depth: usize,
    /// Whether some world came to rest after all that may be written was.
    pub came_to_rest: bool,
    /// A way to each property that does not hold.
    pub failures: Vec<Trace>,
}

/// A way to a world in which a property does not hold.
#[derive(Debug)]
pub struct Trace {
    /// What should have held.
    pub property: &'static str,
    /// The steps, each with the world that it led to.
    pub steps: Vec<(Action, World)>,
    frontier: Frontier,
}

impl Checked {
    /// One configuration under the rules as designed.
    pub const fn as_designed(configuration: Configuration) -> Self {
        Self { configuration, rules: Rules::DESIGN }
    }

    /// One configuration with one rule broken.
    pub const fn broken(configuration: Configuration, broken: Broken) -> Self {
        Self { configuration, rules: Rules::but(broken) }
    }

    /// Walks through all worlds, or until a property fails.
    pub fn explore(self) -> Explored {
        self.run(self.checker().finish_when(HasDiscoveries::AnyFailures))
    }

    /// The shortest way to a world in which `property` fails, if there is one within so many steps.
    pub fn shortest_way_to_break(self, property: &'static str, depth_max: usize) -> Explored {
        // The checker stops some worlds after a failure, and keeps the last way that it has found.
        let to = |depth| {
            // The first world has depth one, and one of the last depth is not looked at.
            let builder = self.checker().target_max_depth(depth + 2);
            let mut explored = self.run(builder.finish_when(HasDiscoveries::AnyOf([property].into())));
            explored.failures.retain(|trace| trace.property == property);
            explored
        };
        (1..depth_max).map(to).find(|explored| !explored.failures.is_empty()).unwrap_or_else(|| to(depth_max))
    }

    fn run(self, builder: CheckerBuilder<Self>) -> Explored {
        let checker = builder.threads(THREADS).spawn_bfs().join();
        let discoveries = checker.discoveries();
        let (mut failures, mut came_to_rest) = (Vec::new(), false);
        for (property, path) in discoveries {
            if property == properties::CAME_TO_REST {
                came_to_rest = true;
                continue;
            }
            let steps = self.with_lasting_names(&path.into_states());
            failures.push(Trace { property, steps, frontier: self.configuration.frontier });
        }
        let (worlds, steps) = (checker.unique_state_count(), checker.state_count());
        Explored { worlds, steps, depth: checker.max_depth() - 1, came_to_rest, failures }
    }

    /// The same way where a name means the same region from the first step to the last.
    fn with_lasting_names(self, worlds: &[World]) -> Vec<(Action, World)> {
        let mut world = World::new(&self.configuration);
        let mut steps = Vec::new();
        for least in &worlds[1..] {
            let mut actions = Vec::new();
            self.actions(&world, &mut actions);
            let step = actions.into_iter().filter_map(|action| Some((action, self.step(&world, action)?)));
            let step = step
                .into_iter()
                .find(|(_, next)| next.least(&self.configuration) == *least)
                .expect("renaming keeps every step");
            world = step.1;
            steps.push(step);
        }
        steps
    }

    fn step(&self, world: &World, action: Action) -> Option<World> {
        Some(world.after(action, &self.configuration, self.rules)?.reduced(&self.configuration))
    }

    fn local_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let top = world.top();
        for (region, key) in places(world).filter(|(_, key)| *key < self.configuration.keys) {
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
            for key in 0..self.configuration.keys {
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

/// The checker's threads.
const THREADS: usize = 2;
