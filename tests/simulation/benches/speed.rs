//! How fast worlds are: simulated seconds of loaded regions per second of one core.
//!
//! `cargo bench -p meridian-simulation`. A night of sweeping is worth what this number is times what a night is.

#![expect(clippy::disallowed_methods, reason = "a bench is no part of the simulation: it reads the clock")]

use std::time::{Duration, Instant};

use simulation::{World, WorldOptions};

/// How long clients ask in each world.
const TIME: Duration = Duration::from_secs(10);
/// Regions, shards of each, replicas of each of those.
const SHAPES: [(u8, u16, u16); 3] = [(3, 1, 0), (3, 1, 1), (3, 2, 1)];

fn main() {
    for shape in SHAPES {
        for is_stormy in [false, true] {
            let options = WorldOptions { time: TIME, shape: Some(shape), ..WorldOptions::new(1, is_stormy) };
            let mut world = World::new(options);
            let began = Instant::now();
            match world.work(TIME) {
                Ok(operations) => {
                    let (virtual_time, real) = (world.now().as_secs_f64(), began.elapsed().as_secs_f64());
                    println!(
                        "{shape:?}, storm {is_stormy}: {virtual_time:.1} s with {operations} operations in {real:.2} s: {:.0} seconds per second",
                        virtual_time / real
                    );
                }
                Err(wrong) => println!("{shape:?}: {wrong}"),
            }
        }
    }
}
