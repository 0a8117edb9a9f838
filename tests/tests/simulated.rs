//! A key of a region is a register: in random worlds in virtual time, each from one seed.
//!
//! Real stores, feeds and intakes, the real map, governor, tenure, assignment and routing; a network, clocks and a Raft log
//! that are made up. Clients set, count, delete and read a few keys while an operator lets replicas take over and moves
//! slots. What they have seen is judged by [`scenario::linearizable`].
//!
//! As designed no seed fails. With any one rule broken some do, which shows that the check would notice. A failing seed is
//! printed with the command that replays it; see `seeds`. How such a world comes about stands in the crate `simulation`.

#[path = "../../node/core/tests/store_support/seeds.rs"]
mod seeds;

use seeds::Seeds;
use simulation::{Broken, Region};

/// Worlds of either weather in one run, unless the environment says otherwise.
const SEEDS: u64 = 100;
/// Seeds that a bug was found with.
const ONCE_FAILED: &str = include_str!("../seeds/register.txt");
/// Worlds in which a broken rule must show.
const SEEDS_TO_SHOW: u64 = 1_000;

#[test]
fn key_is_a_register_whoever_takes_over_and_wherever_its_slot_goes() {
    run_all(false);
}

#[test]
fn what_was_replicated_is_never_lost_nor_goes_back_whoever_fails() {
    run_all(true);
}

#[test]
fn same_seed_makes_the_same_world() {
    for (seed, is_stormy) in [(1, false), (2, true), (3, true)] {
        let traces = [(); 2].map(|()| {
            let mut region = Region::alone(seed, is_stormy, None);
            let _ = region.run();
            region.trace().to_vec()
        });
        assert_eq!(traces[0], traces[1], "world {seed}");
    }
}

fn run_all(is_stormy: bool) {
    let seeds = Seeds::choose(ONCE_FAILED, SEEDS);
    let (mut operations, mut faults, mut moved, mut undone) = (0, 0, 0, 0);
    for seed in seeds.all() {
        let mut region = Region::alone(seed, is_stormy, None);
        if let Err(wrong) = region.run() {
            fail(seed, is_stormy, &wrong, &region);
        }
        operations += region.operations();
        faults += region.faults();
        let count =
            |what: &str| region.trace().iter().filter(|line| line.contains(what) && line.contains("Ok(")).count();
        (moved, undone) = (moved + count("Moved {"), undone + count("Unprepare {"));
    }
    let Seeds { first, count, .. } = seeds;
    println!(
        "{count} worlds from seed {first}: {operations} operations, {faults} faults, {moved} moves confirmed, {undone} undone"
    );
}

fn fail(seed: u64, is_stormy: bool, wrong: &str, region: &Region) -> ! {
    let test = if is_stormy { "what_was_replicated" } else { "key_is_a_register" };
    let replay =
        format!("MERIDIAN_TEST_SEED={seed} MERIDIAN_TEST_SEEDS=1 cargo test -p meridian-tests --test simulated {test}");
    panic!("{}\nseed {seed}, at {:?}: {wrong}\nreplay: {replay}", region.trace().join("\n"), region.now());
}
/// Each rule is needed: broken, it shows. The number is of a world in which it did when this was written.
macro_rules! shows {
    ($($test:ident: $broken:ident $is_stormy:literal $seed:literal,)*) => {$(
        #[test]
        fn $test() {
            shows(Broken::$broken, $is_stormy, $seed);
        }
    )*};
}

shows! {
    to_serve_after_the_lease_would_show: ServesAfterLease true 43,
    to_wait_for_nobody_to_catch_up_would_show: NobodyCatchesUp false 114,
    to_read_held_slots_would_show: ReadsHeldSlots false 4,
    to_answer_as_a_replica_would_show: ReplicaAnswers false 1,
    to_hold_nothing_while_slots_change_hands_would_show: NobodyHolds false 19,
    to_serve_what_was_given_would_show: ServesWhatItGave false 5,
    to_serve_what_was_not_taken_would_show: TargetServesEarly false 2,
    to_take_what_is_not_whole_would_show: TakesParts false 11,
    to_take_doubt_for_a_no_would_show: DoubtIsNo false 17,
    to_wait_for_no_replica_would_show: WaitsForNobody true 10,
}

fn shows(broken: Broken, is_stormy: bool, likely: u64) {
    let breaks = |seed| {
        let wrong = Region::alone(seed, is_stormy, Some(broken)).run().err()?;
        // It must be for the rule that it breaks.
        Region::alone(seed, is_stormy, None).run().is_ok().then_some((seed, wrong))
    };
    let shown = [likely].into_iter().chain(1..SEEDS_TO_SHOW).find_map(breaks);
    let (seed, wrong) = shown.unwrap_or_else(|| panic!("{broken:?} does not show in {SEEDS_TO_SHOW} worlds"));
    let line = wrong.lines().next().unwrap_or_default();
    println!("{broken:?} shows in world {seed}: {line}");
}
