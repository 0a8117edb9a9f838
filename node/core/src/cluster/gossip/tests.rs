//! A region in virtual time: nodes that gossip over wires with delay, loss and cuts, and what each comes to believe.
//!
//! Every claim is tried with many seeds and with 4 to 12 nodes. A failure names the seed; `try_seeds` with that one alone
//! replays it. Besides its own claim each test checks, after every event, that no node ever suspects one that is well.

use std::time::Duration;

use foca::{Member, Message};
use rand::RngExt;

use super::{Liveness, life::Life, packet::Packet, world::World};
use crate::cluster::MapCommand;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Seeds for each size of a region.
const SEEDS: u64 = 6;

#[test]
fn every_survivor_suspects_who_was_killed_and_nobody_else() {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    try_seeds(|world| {
        let victim = world.any_node();
        world.kill(victim);
        let killed_at = world.now;
        world.run_until("somebody suspects", 2 * SECOND, |world| {
            world.others(victim).any(|node| world.suspects(node, victim))
        });
        first.push(world.now - killed_at);
        world.run_until("all suspect", 2 * SECOND, |world| world.all_suspect(victim));
        last.push(world.now - killed_at);
        world.run(5 * SECOND);
        assert!(world.all_suspect(victim));
        assert!(world.others(victim).all(|node| world.process(node).suspects().len() == 1));
    });
    print_spread("the first survivor suspects after", first);
    print_spread("all survivors suspect after", last);
}

#[test]
fn a_broken_connection_makes_it_faster_and_proves_nothing() {
    let mut last = Vec::new();
    try_seeds(|world| {
        let victim = world.any_node();
        let witness = world.others(victim).next().unwrap();
        world.hint(witness, victim);
        world.run(5 * SECOND);
        assert!(world.is_well());
        world.kill(victim);
        let killed_at = world.now;
        world.hint(witness, victim);
        world.run_until("all suspect", SECOND, |world| world.all_suspect(victim));
        last.push(world.now - killed_at);
    });
    print_spread("all survivors suspect, one having seen a connection break, after", last);
}

#[test]
fn two_of_a_region_of_two_suspect_one_another() {
    try_seeds_of([2, 3], |world| {
        let victim = world.any_node();
        world.kill(victim);
        world.run_until("all suspect", 2 * SECOND, |world| world.all_suspect(victim));
    });
}

#[test]
fn who_is_well_is_never_suspected_though_packets_are_lost() {
    try_seeds(|world| {
        world.loss = 0.02;
        world.run(30 * SECOND);
        world.loss = 0.0;
        world.run_until("all is well", SECOND, World::is_well);
    });
}

#[test]
fn who_was_stopped_is_believed_again_within_a_second() {
    let mut took = Vec::new();
    for (stopped, keeps_packets) in [(10 * SECOND, true), (10 * SECOND, false), (SECOND, true), (SECOND, false)] {
        try_seeds(|world| {
            let victim = world.any_node();
            world.stop(victim);
            world.run(stopped);
            assert!(stopped <= SECOND || world.all_suspect(victim));
            world.resume(victim, keeps_packets);
            let resumed_at = world.now;
            world.run_until("all is well", SECOND, World::is_well);
            took.push(world.now - resumed_at);
            world.run(5 * SECOND);
            assert!(world.is_well(), "and stays so");
        });
    }
    print_spread("nobody suspects who was resumed after", took);
}

#[test]
fn a_restarted_process_takes_the_place_of_its_former_self() {
    for (away, map_after) in [(MILLISECOND, Duration::ZERO), (MILLISECOND, SECOND), (10 * SECOND, 300 * MILLISECOND)] {
        try_seeds(|world| {
            let victim = world.any_node();
            world.kill(victim);
            world.run(away);
            let run = world.start(victim);
            world.run(map_after);
            world.restarted(victim, run);
            world.run_until("all believe in the new run", 2 * SECOND, |world| {
                world.others(victim).all(|node| world.believes(node, victim) == Some((run, Liveness::Alive)))
            });
            world.run_until("all is well", SECOND, World::is_well);
            world.lenient = false;
            world.run(5 * SECOND);
        });
    }
}

#[test]
fn a_process_rises_above_any_former_life_of_its_node_at_once() {
    try_seeds(|world| {
        let victim = world.any_node();
        world.kill(victim);
        // The others know it in a life that it had after a thousand stops.
        let former = Life { renewals: 1_000, ..Life::first(victim, world.map.node(victim).unwrap().run) };
        for node in world.others(victim).collect::<Vec<_>>() {
            let from = world.others(node).next().unwrap();
            let [from, to] = [from, node].map(|id| Life::first(id, world.map.node(id).unwrap().run));
            let packet = Packet::new(from, to, Message::Gossip, vec![Member::alive(former)]);
            world.deliver(node, packet.write().unwrap());
        }
        let run = world.start(victim);
        world.restarted(victim, run);
        world.run_until("all believe in the new run", SECOND, |world| {
            world.others(victim).all(|node| world.believes(node, victim) == Some((run, Liveness::Alive)))
        });
    });
}

#[test]
fn nobody_suspects_anybody_when_all_were_stopped_at_once() {
    for keeps_packets in [true, false] {
        try_seeds(|world| {
            let nodes: Vec<_> = world.nodes.keys().copied().collect();
            nodes.iter().for_each(|node| world.stop(*node));
            world.run(10 * SECOND);
            world.ill.clear();
            nodes.iter().for_each(|node| world.resume(*node, keeps_packets));
            world.run(5 * SECOND);
            assert!(world.is_well());
        });
    }
}

#[test]
fn who_was_stopped_writes_nobody_off_for_what_happened_meanwhile() {
    try_seeds(|world| {
        let victim = world.any_node();
        let witness = world.others(victim).next().unwrap();
        world.stop(victim);
        world.run_until("the witness suspects", 2 * SECOND, |world| world.suspects(witness, victim));
        world.stop(witness);
        world.resume(victim, false);
        // So long that the victim would be down by now, had it not answered all others since.
        world.run(3 * SECOND);
        world.resume(witness, false);
        world.run(3 * SECOND);
        assert!(world.is_well());
        assert_eq!(world.process(victim).foca.identity().renewals, 0);
    });
}

#[test]
fn a_run_that_only_the_map_knows_is_suspected_if_it_does_not_answer() {
    try_seeds(|world| {
        let victim = world.any_node();
        world.kill(victim);
        world.run(5 * SECOND);
        // It started, told the leader, and died before it had spoken to anybody else.
        let run = world.draw_run();
        world.restarted(victim, run);
        world.run_until("all suspect the new run", 3 * SECOND, |world| {
            world.others(victim).all(|node| world.process(node).suspects() == [(victim, run)])
        });
    });
}

#[test]
fn who_does_not_come_back_with_the_region_is_suspected() {
    try_seeds(|world| {
        let victim = world.any_node();
        let nodes: Vec<_> = world.nodes.keys().copied().collect();
        nodes.iter().for_each(|node| world.kill(*node));
        world.run(SECOND);
        for node in nodes.into_iter().filter(|node| *node != victim) {
            world.start(node);
            world.run(20 * MILLISECOND);
        }
        world.run_until("all suspect", 4 * SECOND, |world| world.all_suspect(victim));
        world.run_until("nobody else is suspected", SECOND, World::is_well);
    });
}

#[test]
fn a_cut_between_two_goes_unnoticed_among_others() {
    try_seeds(|world| {
        let (one, other) = (world.any_node(), world.any_node());
        world.cuts.insert((one, other));
        world.run(10 * SECOND);
        world.cuts.insert((other, one));
        world.run(10 * SECOND);
        assert!(world.is_well());
    });
}

#[test]
fn who_cannot_hear_or_cannot_be_heard_is_suspected_and_talks_nobody_into_suspecting_others() {
    for is_deaf in [true, false] {
        try_seeds(|world| {
            let victim = world.any_node();
            let others: Vec<_> = world.others(victim).collect();
            world.cuts.extend(others.iter().map(|other| if is_deaf { (*other, victim) } else { (victim, *other) }));
            world.ill.insert(victim);
            world.misled.insert(victim);
            world.run_until("all suspect", 3 * SECOND, |world| world.all_suspect(victim));
            world.run(10 * SECOND);
            assert!(world.all_suspect(victim));
            world.cuts.clear();
            world.ill.remove(&victim);
            world.lenient = true;
            world.run_until("all is well", 2 * SECOND, World::is_well);
        });
    }
}

#[test]
fn two_halves_find_together_after_any_cut() {
    for cut in [SECOND, 20 * SECOND] {
        try_seeds(|world| {
            let nodes: Vec<_> = world.nodes.keys().copied().collect();
            let (left, right) = nodes.split_at(nodes.len() / 2);
            let across = left.iter().flat_map(|one| right.iter().map(|other| (*one, *other)));
            world.cuts = across.flat_map(|(one, other)| [(one, other), (other, one)]).collect();
            world.lenient = true;
            world.run(cut);
            world.cuts.clear();
            world.run_until("all is well", 3 * SECOND, World::is_well);
        });
    }
}

#[test]
fn who_leaves_is_suspected_by_all_and_silent() {
    try_seeds(|world| {
        let victim = world.any_node();
        let now = world.now;
        let process = world.nodes.get_mut(&victim).unwrap().gossip.as_mut().unwrap();
        process.leave(now);
        assert_eq!(process.poll_timeout(), None);
        world.ill.insert(victim);
        world.run_until("all suspect", SECOND, |world| world.all_suspect(victim));
        world.run(5 * SECOND);
        assert!(world.all_suspect(victim));
    });
}

#[test]
fn who_is_taken_out_of_the_map_is_forgotten() {
    try_seeds(|world| {
        let gone = world.any_replica();
        world.apply(MapCommand::RemoveNode { node: gone });
        world.run(SECOND);
        assert!(world.others(gone).all(|node| world.believes(node, gone).is_none()));
        assert!(world.others(gone).all(|node| world.process(node).suspects().is_empty()));
    });
}

#[test]
fn the_same_seed_brings_the_same_packets() {
    let trace = |seed| {
        let mut world = World::new(seed, 5);
        world.loss = 0.05;
        world.lenient = true;
        world.run(5 * SECOND);
        world.sent
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}

/// Tries a claim with several seeds for each size of a region.
fn try_seeds(claim: impl FnMut(&mut World)) {
    try_seeds_of(4..=12, claim);
}

fn try_seeds_of(sizes: impl IntoIterator<Item = u8>, mut claim: impl FnMut(&mut World)) {
    for size in sizes {
        for seed in 0..SEEDS {
            println!("size {size}, seed {seed}");
            let mut world = World::new(seed, size);
            world.run_until("all have met", SECOND, World::have_all_met);
            // At any phase of the probes.
            let pause = world.random.random_range(0..400);
            world.run(pause * MILLISECOND);
            claim(&mut world);
        }
    }
}

fn print_spread(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_millis();
    println!("{what} (ms): {} median, {} at 90 %, {} at most", at(50), at(90), at(100));
}
