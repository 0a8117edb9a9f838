//! Regions that are linked keep what is promised: in random worlds in virtual time, each from one seed.
//!
//! As designed no seed fails. With any one rule broken the oracle or invariant that is of it complains in some, which shows that it
//! would notice. A failing seed is printed with the command that replays it; see `seeds`.

#[path = "../../../node/core/tests/store_support/seeds.rs"]
mod seeds;

use std::collections::BTreeMap;

use seeds::Seeds;
use simulation::{Broken, World, WorldOptions};

/// Worlds of either weather in one run, unless the environment says otherwise.
const SEEDS: u64 = 500;
/// Worlds in which a broken rule must show.
const SEEDS_TO_SHOW: u64 = 200;
/// Seeds that a bug was found with.
const ONCE_FAILED: &str = include_str!("../../seeds/worlds.txt");

#[test]
fn regions_keep_what_is_promised_in_calm_weather() {
    run_all(false);
}

#[test]
fn regions_keep_what_is_promised_whatever_goes_wrong() {
    run_all(true);
}

#[test]
fn same_seed_makes_the_same_world_byte_for_byte() {
    for (seed, is_stormy) in [(3, false), (3, true)] {
        let traces = [(); 2].map(|()| {
            let mut world = World::new(WorldOptions { is_traced: true, ..WorldOptions::new(seed, is_stormy) });
            let verdict = world.run();
            (world.trace(), verdict)
        });
        assert!(traces[0].0.len() > 1_000, "world {seed} has hardly a trace");
        assert_eq!(traces[0], traces[1], "world {seed}");
    }
}

fn run_all(is_stormy: bool) {
    let seeds = Seeds::choose(ONCE_FAILED, SEEDS);
    let (mut operations, mut faults, mut judged) = (0, 0, BTreeMap::new());
    for seed in seeds.all() {
        match World::new(WorldOptions::new(seed, is_stormy)).run() {
            Ok(verdict) => {
                (operations, faults) = (operations + verdict.operations, faults + verdict.faults);
                verdict.judged.into_iter().for_each(|(name, count)| *judged.entry(name).or_insert(0) += count);
            }
            Err(wrong) => fail(seed, is_stormy, &wrong),
        }
    }
    let Seeds { first, count, .. } = seeds;
    println!("{count} worlds from seed {first}: {operations} operations, {faults} faults, judged {judged:?}");
}

fn fail(seed: u64, is_stormy: bool, wrong: &str) -> ! {
    let mut world = World::new(WorldOptions { is_traced: true, ..WorldOptions::new(seed, is_stormy) });
    let _ = world.run();
    let test = if is_stormy { "whatever_goes_wrong" } else { "in_calm_weather" };
    let replay = format!(
        "MERIDIAN_TEST_SEED={seed} MERIDIAN_TEST_SEEDS=1 cargo test -p meridian-simulation --test worlds {test}"
    );
    panic!("{}\nseed {seed}, at {:?}: {wrong}\nreplay: {replay}", world.trace().join("\n"), world.now());
}

/// Each oracle and each invariant is awake: a rule that is broken shows to it. The number is of a world in which it did when this
/// was written.
macro_rules! shows {
    ($($test:ident: $broken:ident to $only:literal $is_stormy:literal $seed:literal,)*) => {$(
        #[test]
        fn $test() {
            shows(Broken::$broken, $only, $is_stormy, $seed);
        }
    )*};
}

shows! {
    a_value_that_arrives_in_part_would_show: TornValues to "written" false 1,
    a_replica_that_answers_would_show_as_going_back: ReplicaAnswers to "monotone" false 1,
    a_replica_that_answers_would_show_as_stale: ReplicaAnswers to "stale" false 1,
    a_replica_that_answers_would_show_as_no_register: ReplicaAnswers to "register" false 1,
    what_wins_by_arrival_would_show_after_a_delete: ArrivalDecides to "finality" false 1,
    a_token_that_waits_for_nothing_would_show: AwaitsNothing to "own-writes" false 1,
    records_that_are_lost_would_show_as_a_difference: LosesRecords to "equality" false 1,
    what_wins_by_arrival_would_show_at_rest: ArrivalDecides to "winner" false 1,
    records_that_are_lost_would_show_in_the_ledger: LosesRecords to "ledger" false 1,
    records_that_are_lost_would_show_against_what_is_claimed: LosesRecords to "seen" false 1,
    a_primary_without_a_lease_would_show: ServesAfterLease to "primaries" true 13,
    a_primary_that_stamps_by_the_wall_would_show: StampsByTheWall to "stamps" true 1,
    a_lag_that_is_told_too_small_would_show: LagOfNobody to "lag" true 1,
    a_sender_without_a_window_would_show: NoWindow to "bounds" true 1,
    records_that_are_lost_would_show_in_place_of_the_greatest: LosesRecords to "greatest" false 1,
    a_region_that_is_waited_for_when_it_is_gone_would_show: WaitsForTheRemoved to "frontier" false 1,
    a_flush_of_one_stripe_would_show: FlushesOneStripe to "finality" false 1,
    a_flush_that_stays_home_would_show_as_a_difference: FlushStaysHome to "equality" false 1,
    a_flush_that_stays_home_would_show_at_rest: FlushStaysHome to "winner" false 1,
    a_flush_that_stays_home_would_show_against_what_is_claimed: FlushStaysHome to "seen" false 1,
    a_replica_that_drops_slots_and_is_fed_on_would_show: FollowsOn to "seen" false 12,
    a_replay_that_claims_what_it_does_not_bring_would_show: ReplaysClaimMore to "seen" false 1,
}

fn shows(broken: Broken, only: &'static str, is_stormy: bool, likely: u64) {
    let world = |seed, broken| {
        World::new(WorldOptions { broken, only: Some(only), ..WorldOptions::new(seed, is_stormy) }).run()
    };
    let breaks = |seed| {
        let wrong = world(seed, Some(broken)).err().filter(|wrong| wrong.starts_with(only))?;
        // It must be for the rule that it breaks.
        world(seed, None).is_ok().then_some((seed, wrong))
    };
    let shown = [likely].into_iter().chain(1..SEEDS_TO_SHOW).find_map(breaks);
    let (seed, wrong) = shown.unwrap_or_else(|| panic!("{broken:?} does not show to {only} in {SEEDS_TO_SHOW} worlds"));
    let lines: Vec<_> = wrong.lines().take(2).collect();
    println!("{broken:?} shows to {only} in world {seed}: {}", lines.join(" "));
}
