//! The rules that keep regions from going back: merge, `seen`, frontier, floor and feed, in random worlds.
//!
//! A seed makes a world (see `store_support::world`) of two to four regions and all that can befall them. As designed no
//! seed fails. With any one rule broken some do, which shows that the check would notice.
//!
//! A failing seed is printed with the command that replays it; see `store_support::seeds`.

mod store_support;
#[path = "store_support/world/mod.rs"]
mod world;

use node_core::store::Sabotage;
use store_support::seeds::{Seeds, variable};
use world::{Broken, Summary, World};

/// Seeds that a bug was found with.
const ONCE_FAILED: &str = include_str!("../../../tests/seeds/forgetting.txt");
/// Likewise, of those whose clocks go wrong.
const ONCE_FAILED_DRIFTING: &str = include_str!("../../../tests/seeds/drifting.txt");
/// Worlds of one run, unless the environment says otherwise: some seconds.
const SEEDS: u64 = 100;
/// Of those whose clocks go wrong: each time links scan every slot.
const SEEDS_THAT_DRIFT: u64 = 20;
/// Worlds in which a broken rule must show.
const SEEDS_TO_SHOW: u64 = 4_000;

#[test]
fn no_value_ever_comes_back_and_regions_agree_at_rest() {
    let seeds = Seeds::choose(ONCE_FAILED, SEEDS);
    let (mut worlds, mut pristine, mut lossy, mut winners, mut misses) = (0, 0, 0, 0, 0);
    for seed in seeds.all() {
        let summary = judge(seed);
        worlds += 1;
        pristine += u64::from(summary.pristine);
        lossy += u64::from(summary.lossy);
        winners += summary.winners;
        misses += summary.misses;
    }
    let Seeds { first, count, .. } = seeds;
    println!(
        "{worlds} worlds, new ones from seed {first}: {pristine} pristine, {lossy} lossy, {misses} misses of {winners}"
    );
    assert!(count < SEEDS || pristine > 0 && lossy > 0, "the worlds do not exercise every oracle");
}

#[test]
fn without_the_floor_it_would_show() {
    shows(Broken::Rule(Sabotage::NoFloor));
}

#[test]
fn without_whole_slots_it_would_show() {
    shows(Broken::Rule(Sabotage::NoReset));
}

#[test]
fn forgetting_early_for_free_would_show() {
    shows(Broken::Rule(Sabotage::FreeForget));
}

#[test]
fn not_deleting_what_is_absent_would_show() {
    shows(Broken::Rule(Sabotage::NoDeleteOfAbsent));
}

#[test]
fn scanning_the_own_origin_alone_would_show() {
    shows(Broken::Rule(Sabotage::OriginScan));
}

#[test]
fn going_on_under_the_old_origin_would_show() {
    shows(Broken::SameOrigin);
}

#[test]
fn a_region_comes_back_from_the_future_and_takes_nothing_with_it() {
    let seeds = Seeds::choose(ONCE_FAILED_DRIFTING, SEEDS_THAT_DRIFT);
    let (mut worlds, mut pristine, mut lossy, mut restamped) = (0, 0, 0, 0);
    for seed in seeds.all() {
        let summary = World::that_drifts(seed, None).run().unwrap_or_else(|(wrong, trace)| {
            let replay = format!(
                "MERIDIAN_TEST_SEED={seed} MERIDIAN_TEST_SEEDS=1 cargo test -p meridian-node-core --test \
                 store_forgetting from_the_future -- --nocapture"
            );
            panic!("seed {seed}: {wrong}\n{}\nreplay: {replay}", trace.join("\n"));
        });
        worlds += 1;
        pristine += u64::from(summary.pristine);
        lossy += u64::from(summary.lossy);
        restamped += summary.restamped;
    }
    let Seeds { first, count, .. } = seeds;
    println!(
        "{worlds} worlds that drift, new ones from seed {first}: {pristine} pristine, {lossy} lossy, {restamped} records \
         restamped"
    );
    assert!(count < SEEDS_THAT_DRIFT || restamped > 0, "nothing was ever of the future");
}

fn judge(seed: u64) -> Summary {
    World::new(seed, None).run().unwrap_or_else(|(wrong, trace)| {
        let replay = format!(
            "MERIDIAN_TEST_SEED={seed} MERIDIAN_TEST_SEEDS=1 cargo test -p meridian-node-core --test store_forgetting \
             no_value_ever -- --nocapture"
        );
        panic!("seed {seed}: {wrong}\n{}\nreplay: {replay}", trace.join("\n"));
    })
}

fn shows(broken: Broken) {
    let first = variable("MERIDIAN_TEST_SEED").unwrap_or(1);
    let shown = (first..first + SEEDS_TO_SHOW).find_map(|seed| {
        let (wrong, _) = World::new(seed, Some(broken)).run().err()?;
        Some((seed, wrong))
    });
    let (seed, wrong) = shown.unwrap_or_else(|| panic!("{broken:?} does not show in {SEEDS_TO_SHOW} worlds"));
    println!("{broken:?} shows in world {seed}: {wrong}");
}
