//! A key of a region is a register: in random worlds in virtual time, each from one seed.
//!
//! Real stores, feeds and intakes, the real map, governor, tenure, assignment and routing; a network, clocks and a Raft log
//! that are made up. Clients set, count, delete and read a few keys while an operator lets replicas take over and moves
//! slots. What they have seen is judged by [`scenario::linearizable`].
//!
//! As designed no seed fails. With any one rule broken some do, which shows that the check would notice. A failing seed is
//! printed with the command that replays it; see `store_support::seeds`.

#[path = "simulated/clients.rs"]
mod clients;
#[path = "simulated/feeds.rs"]
mod feeds;
#[path = "simulated/government.rs"]
mod government;
#[path = "simulated/moves.rs"]
mod moves;
#[path = "simulated/orders.rs"]
mod orders;
#[path = "simulated/process.rs"]
mod process;
#[path = "simulated/raft.rs"]
mod raft;
#[path = "../../node/core/tests/store_support/mod.rs"]
mod store_support;
#[path = "simulated/world.rs"]
mod world;

use store_support::seeds::Seeds;
use world::World;

/// Worlds of either weather in one run, unless the environment says otherwise.
const SEEDS: u64 = 100;
/// Seeds that a bug was found with.
const ONCE_FAILED: &str = include_str!("../seeds/register.txt");
/// Worlds in which a broken rule must show.
const SEEDS_TO_SHOW: u64 = 1_000;

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// A primary whose lease is over answers.
    ServesAfterLease,
    /// Neither an heir nor the target of a move has to have caught up.
    NobodyCatchesUp,
    /// Slots are read while they are held.
    ReadsHeldSlots,
    /// A replica answers for its shard.
    ReplicaAnswers,
    /// The source of a move goes on serving until it gives.
    NobodyHolds,
    /// The source of a move goes on serving until the map says that it has given.
    ServesWhatItGave,
    /// The target of a move serves before it takes.
    TargetServesEarly,
    /// The target of a move takes what has not arrived in full.
    TakesParts,
    /// A new primary serves what its predecessor may have given.
    DoubtIsNo,
    /// `WAIT` waits for nobody.
    WaitsForNobody,
}

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
            let mut world = World::new(seed, is_stormy, None);
            let _ = world.run();
            world.trace
        });
        assert_eq!(traces[0], traces[1], "world {seed}");
    }
}

fn run_all(is_stormy: bool) {
    let seeds = Seeds::choose(ONCE_FAILED, SEEDS);
    let (mut operations, mut faults, mut moved, mut undone) = (0, 0, 0, 0);
    for seed in seeds.all() {
        let mut world = World::new(seed, is_stormy, None);
        if let Err(wrong) = world.run() {
            fail(seed, is_stormy, &wrong, &world);
        }
        operations += world.history.len();
        faults += world.faults;
        let count = |what: &str| world.trace.iter().filter(|line| line.contains(what) && line.contains("Ok(")).count();
        (moved, undone) = (moved + count("Moved {"), undone + count("Unprepare {"));
    }
    let Seeds { first, count, .. } = seeds;
    println!(
        "{count} worlds from seed {first}: {operations} operations, {faults} faults, {moved} moves confirmed, {undone} undone"
    );
}

fn fail(seed: u64, is_stormy: bool, wrong: &str, world: &World) -> ! {
    let test = if is_stormy { "what_was_replicated" } else { "key_is_a_register" };
    let replay =
        format!("MERIDIAN_TEST_SEED={seed} MERIDIAN_TEST_SEEDS=1 cargo test -p meridian-tests --test simulated {test}");
    panic!("{}\nseed {seed}, at {:?}: {wrong}\nreplay: {replay}", world.trace.join("\n"), world.now);
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
    to_serve_after_the_lease_would_show: ServesAfterLease true 11,
    to_wait_for_nobody_to_catch_up_would_show: NobodyCatchesUp false 4,
    to_read_held_slots_would_show: ReadsHeldSlots false 13,
    to_answer_as_a_replica_would_show: ReplicaAnswers false 1,
    to_hold_nothing_while_slots_change_hands_would_show: NobodyHolds false 5,
    to_serve_what_was_given_would_show: ServesWhatItGave false 4,
    to_serve_what_was_not_taken_would_show: TargetServesEarly false 2,
    to_take_what_is_not_whole_would_show: TakesParts false 34,
    to_take_doubt_for_a_no_would_show: DoubtIsNo false 48,
    to_wait_for_no_replica_would_show: WaitsForNobody true 4,
}

fn shows(broken: Broken, is_stormy: bool, likely: u64) {
    let breaks = |seed| {
        let wrong = World::new(seed, is_stormy, Some(broken)).run().err()?;
        // It must be for the rule that it breaks.
        World::new(seed, is_stormy, None).run().is_ok().then_some((seed, wrong))
    };
    let shown = [likely].into_iter().chain(1..SEEDS_TO_SHOW).find_map(breaks);
    let (seed, wrong) = shown.unwrap_or_else(|| panic!("{broken:?} does not show in {SEEDS_TO_SHOW} worlds"));
    let line = wrong.lines().next().unwrap_or_default();
    println!("{broken:?} shows in world {seed}: {line}");
}
