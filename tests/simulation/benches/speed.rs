//! How fast worlds are: simulated seconds of loaded regions per second of one core, whoever else wants it.
//!
//! `cargo bench --profile soak -p meridian-simulation`, or with `-- '(3, 1, 0)'` those alone whose line contains that. A night of sweeping is worth what this number is
//! times what a night is; it is built in the same way.

#![expect(clippy::disallowed_methods, reason = "a bench is no part of the simulation: it reads the clock")]

use std::{
    env, fs,
    time::{Duration, Instant},
};

use simulation::{World, WorldOptions};

/// How long clients ask in each world.
const TIME: Duration = Duration::from_secs(10);
/// Regions, shards of each, replicas of each of those.
const SHAPES: [(u8, u16, u16); 3] = [(3, 1, 0), (3, 1, 1), (3, 2, 1)];
/// Clients in a hurry, some hundred requests a second in each region, and such that take ten and a hundred times as long from one to the next.
const PACES: [u32; 3] = [1, 10, 100];

fn main() {
    let only = env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let weathers = [false, true];
    let all = SHAPES.into_iter().flat_map(|shape| weathers.map(|is_stormy| (shape, is_stormy)));
    for ((shape, is_stormy), pace) in all.flat_map(|world| PACES.map(|pace| (world, pace))) {
        let name = format!("{shape:?}, {}, pace {pace}:", if is_stormy { "stormy" } else { "calm" });
        if only.as_ref().is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let options = WorldOptions { shape: Some(shape), pace: Some(pace), ..WorldOptions::new(1, is_stormy) };
        let mut world = World::new(options);
        let began = Clock::now();
        match world.work(TIME * pace) {
            Ok(operations) => {
                let (virtual_time, real) = (world.now().as_secs_f64(), began.elapsed());
                println!(
                    "{name} {virtual_time:.1} s with {operations} operations in {real:.2} s: {:.0} seconds per second",
                    virtual_time / real
                );
            }
            Err(wrong) => println!("{name} {wrong}"),
        }
    }
}

/// What this thread has had of a core, where the system tells; else the time.
struct Clock {
    began: Instant,
    used: Option<u64>,
}

impl Clock {
    fn now() -> Self {
        Self { began: Instant::now(), used: used() }
    }

    /// In seconds.
    fn elapsed(&self) -> f64 {
        match (self.used, used()) {
            (Some(before), Some(now)) => (now - before) as f64 / 1e9,
            _ => self.began.elapsed().as_secs_f64(),
        }
    }
}

/// Nanoseconds of a core that this thread has had.
fn used() -> Option<u64> {
    fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}
