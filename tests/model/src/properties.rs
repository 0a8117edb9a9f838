//! What must hold in every world that can be reached. Each property is one promise of the design.

use stateright::Property;

use crate::{
    Checked,
    region::{KEYS, Kind, Time},
    rules::Rules,
    world::{World, places},
};

/// The property that shows that the others are not true of nothing.
pub const CAME_TO_REST: &str = "what may be written was, and came to rest";

/// All properties.
pub fn all() -> Vec<Property<Checked>> {
    vec![
        Property::always("a key never goes back", |_, world: &World| never_goes_back(world)),
        Property::always("nothing at or under the floor is let in", |_, world: &World| floor_holds(world)),
        Property::always("evicting is local", |_, world: &World| evicting_is_local(world)),
        Property::always("seen claims only what is there", |_, world: &World| seen_is_true(world)),
        Property::always("the frontier is behind everybody", |_, world: &World| frontier_is_true(world)),
        Property::always("at rest regions agree on what they hold", |checked, world: &World| {
            regions_agree(world, checked.rules)
        }),
        Property::always("at rest regions are identical if nothing was dropped early", |checked, world: &World| {
            regions_are_identical(world, checked.rules)
        }),
        Property::sometimes(CAME_TO_REST, |checked, world: &World| world.is_at_rest(checked.rules) && world.is_spent()),
    ]
}

/// A reader never sees a value older than anything that this region had of the key.
fn never_goes_back(world: &World) -> bool {
    places(world).all(|(region, key)| {
        let held = &world.regions[region].held[key];
        held.entry.is_none_or(|entry| entry.time >= held.known)
    })
}

fn floor_holds(world: &World) -> bool {
    world.regions.iter().all(|region| !region.witness.let_in_under_floor)
}

fn evicting_is_local(world: &World) -> bool {
    world.regions.iter().all(|region| !region.witness.evicted_by_another)
}

/// Every record of an origin up to its `seen`, or what replaced it, has arrived or lies under the floor.
fn seen_is_true(world: &World) -> bool {
    let issued = world.issued.iter().filter(|issued| issued.time > Time::ZERO);
    issued.into_iter().all(|issued| {
        world.members().all(|region| {
            let region = &world.regions[region];
            let is_claimed = issued.time <= region.seen[usize::from(issued.origin)];
            !is_claimed || region.held[usize::from(issued.key)].known >= issued.time || region.floor >= issued.time
        })
    })
}

/// Of those regions that never lost anything and whose present life is known, all have seen up to the frontier whoever speaks.
fn frontier_is_true(world: &World) -> bool {
    world.members().all(|keeper| {
        let knows = |other: usize| other == keeper || usize::from(world.regions[keeper].rows[other].of) == other;
        let frontier = world.regions[keeper].frontier;
        let known = || world.members().filter(|other| knows(*other));
        known().filter(|other| !world.regions[*other].began_with_less).all(|region| {
            let mut speaking = known();
            speaking.all(|origin| world.regions[region].seen[origin] >= frontier)
        })
    })
}

/// A value that is there when all has been delivered is the newest of which any region knows.
fn regions_agree(world: &World, rules: Rules) -> bool {
    !world.is_at_rest(rules)
        || (0..KEYS).all(|key| {
            let newest = world.members().map(|region| world.regions[region].held[key].known).max();
            values(world, key).all(|value| value.is_none_or(|time| Some(time) == newest))
        })
}

fn regions_are_identical(world: &World, rules: Rules) -> bool {
    !world.is_complete
        || !world.is_at_rest(rules)
        || (0..KEYS).all(|key| {
            let mut values = values(world, key);
            let first = values.next();
            values.all(|value| Some(value) == first)
        })
}

/// The stamps of the values that the regions hold of a key.
fn values(world: &World, key: usize) -> impl Iterator<Item = Option<Time>> {
    world.members().map(move |region| {
        let value = world.regions[region].held[key].entry.filter(|entry| entry.kind == Kind::Value);
        value.map(|value| value.time)
    })
}

impl World {
    /// Whether all that has to be delivered has been: everybody has seen everybody up to now, nothing is on its way, and nobody
    /// owes a scan.
    pub fn is_at_rest(&self, rules: Rules) -> bool {
        if self.late.is_some() || self.walk.is_some() {
            return false;
        }
        let top = self.top();
        let has_seen = |region: usize, origin: usize| self.regions[region].seen[origin] == top;
        let is_up_to_date = |region: usize| self.members().all(|origin| has_seen(region, origin));
        self.members().all(is_up_to_date) && self.links().all(|(from, to)| !self.owes_a_scan(from, to, rules))
    }

    /// Whether all stamps were issued that may be.
    fn is_spent(&self) -> bool {
        self.left.writes == 0 && self.left.deletes == 0
    }
}
