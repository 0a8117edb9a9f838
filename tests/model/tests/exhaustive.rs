//! Every order of a handful of steps: as designed no promise breaks, and with any one rule broken some promise does.
//!
//! Run it with `--nocapture` to see how many worlds there are, and the counterexamples, told step by step.

use std::time::Instant;

use meridian_model::{
    Checked,
    configurations::{
        self, Budget,
        Clocks::{Agree, Drift},
        Configuration, Frontier, QUIET, three, two,
    },
    rules::Broken,
};

#[test]
fn as_designed_no_order_of_steps_breaks_a_promise() {
    let mut failed = Vec::new();
    for configuration in configurations::ALL {
        let start = Instant::now();
        let explored = Checked::as_designed(configuration).explore();
        println!("{}: {explored}, {:.1?}", configuration.name, start.elapsed());
        explored.failures.iter().for_each(|trace| println!("{trace}"));
        if !explored.failures.is_empty() || !explored.came_to_rest {
            failed.push(configuration.name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn any_broken_rule_breaks_a_promise() {
    let table = table();
    assert!(Broken::ALL.iter().all(|rule| table.iter().any(|(broken, ..)| broken == rule)), "a rule is missing");
    let mut missed = Vec::new();
    for (broken, configuration, promise) in table {
        let start = Instant::now();
        let explored = Checked::broken(configuration, broken).shortest_way_to_break(promise, DEPTH_MAX);
        println!("{broken:?}: {explored}, {:.1?}", start.elapsed());
        explored.failures.iter().for_each(|trace| println!("{trace}"));
        if explored.failures.is_empty() {
            missed.push(broken);
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

/// No counterexample is longer.
const DEPTH_MAX: usize = 12;

const GOES_BACK: &str = "a key never goes back";
const FLOOR: &str = "nothing at or under the floor is let in";
const LOCAL: &str = "evicting is local";
const SEEN: &str = "seen claims only what is there";
const FRONTIER: &str = "the frontier is behind everybody";
const AGREE: &str = "at rest regions agree on what they hold";

/// Each rule, where it is broken, and what then does not hold.
fn table() -> Vec<(Broken, Configuration, &'static str)> {
    let one = Budget { writes: 1, deletes: 1, early: 1, ..QUIET };
    let write = Budget { writes: 1, ..QUIET };
    let both = Budget { writes: 1, deletes: 1, ..QUIET };
    let of = |budget| three("", Agree, budget).of_one_key();
    let drifting = three("", Drift, one).of_one_key();
    let reported = |budget| two("", Agree, budget).with(Frontier::Reported).of_one_key();
    let of_two_keys = |budget| three("", Agree, budget);
    vec![
        (Broken::NoFloor, of(one), GOES_BACK),
        (Broken::NoReset, of(one), SEEN),
        (Broken::FreeForget, of(one), GOES_BACK),
        (Broken::FreeAtFrontier, reported(Budget { late: 1, ..both }), GOES_BACK),
        (Broken::FloorFalls, of_two_keys(Budget { deletes: 2, early: 2, ..QUIET }), SEEN),
        (Broken::NoDeleteOfAbsent, of(both), GOES_BACK),
        (Broken::OriginScan, of(both), SEEN),
        (Broken::SameOrigin, of(Budget { failovers: 1, ..write }), SEEN),
        (Broken::ArrivalDecides, of(Budget { evictions: 1, records: 1, ..write }), LOCAL),
        (Broken::LastArrivalWins, of(Budget { writes: 2, ..QUIET }), GOES_BACK),
        (Broken::FrontierOfOneRegion, reported(both), FRONTIER),
        (Broken::FrontierOfOwnOrigins, three("", Agree, write).with(Frontier::Reported), FRONTIER),
        (Broken::SeenFirst, of(write), SEEN),
        (Broken::TailWithoutReplacements, of(Budget { writes: 2, ..QUIET }), SEEN),
        (Broken::TailPassesOverForgotten, of(one), SEEN),
        (Broken::WholeDropsNothing, of(one), AGREE),
        (Broken::WholeWithoutFloor, of(one), SEEN),
        (Broken::HeardIsIgnored, of(Budget { records: 1, leaves: 1, ..one }), AGREE),
        (Broken::NobodySendsOrphans, of(Budget { leaves: 1, ..both }), AGREE),
        (Broken::StampUnderFloor, drifting, FLOOR),
        (Broken::StampUnderHeld, drifting, GOES_BACK),
        (Broken::ScanClaimsItsEnd, of_two_keys(Budget { walks: 1, ..write }), SEEN),
        (Broken::ScanGoesOn, of_two_keys(Budget { deletes: 1, early: 1, walks: 1, ..QUIET }), SEEN),
    ]
}
