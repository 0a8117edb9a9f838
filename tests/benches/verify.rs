//! What it costs to know that two regions hold the same.
//!
//! A million keys with values of 100 bytes are written in one region, and `meridian region verify` compares it with the other once
//! all of them have arrived there. What is printed is how long that takes, and how many bytes go to nodes and come from them, as a share
//! of the bytes of the keys and values of one region. Then a thousand keys are changed where nobody sends them on, and it is compared again: to find
//! them, which lists them, and to mend them.
//!
//! ```text
//! cargo bench -p meridian-tests --bench verify [-- KEYS]
//! ```
//! Asserts nothing.

use std::{env, time::Instant};

use anyhow::{Context, Result};
use meridian_tests::{Lab, Region, of_one_node, set, until, verify};

/// Keys, unless said otherwise.
const KEYS: u64 = 1_000_000;
/// Of which so many are made to differ.
const DIFFERING: u64 = 1_000;

fn main() -> Result<()> {
    let keys: u64 = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(KEYS);
    let lab = Lab::start(&of_one_node(&["--regions=a,b,c", "--wan=none"]))?;
    let [a, b, c] = &lab.regions[..] else { panic!("three regions") };
    let value = "v".repeat(100);
    set(c, (0..keys).map(|index| (format!("key:{index:012}"), &value)))?;
    for region in [a, b] {
        until("all keys have arrived", || Ok((region.status()?.keys >= keys).then_some(())))?;
    }
    let held = keys * (16 + 100);
    println!("{keys} keys of 16 bytes with values of 100 in two regions, {held} bytes in each of them");
    println!("{:<34} {:>9} {:>10} {:>12} {:>9}", "", "seconds", "sent", "received", "of that");
    measure("equal", [a, b], held, &[])?;
    let stamp = stamp_above(c)?;
    let mut connection = a.connect()?;
    for index in 0..DIFFERING {
        let key = format!("key:{:012}", index * (keys / DIFFERING));
        redis::cmd("REGION").arg("MERGE").arg(key).arg(&stamp).arg("VALUE").arg("another").exec(&mut connection)?;
    }
    measure("1,000 keys older in one", [a, b], held, &[])?;
    measure("the same, mended and compared again", [a, b], held, &["--repair", "--yes"])
}

/// A stamp above all that a region has written, which it has passed.
fn stamp_above(region: &Region) -> Result<String> {
    region.run::<()>(&["SET", "last", "one"])?;
    let fetched: Vec<String> = region.run(&["REGION", "FETCH", "last"])?;
    let (time, origin) = fetched[0].split_once('@').context("a stamp has an origin")?;
    Ok(format!("{:016x}@{origin}", u64::from_str_radix(time, 16)? - 1))
}

fn measure(what: &str, regions: [&Region; 2], held: u64, words: &[&str]) -> Result<()> {
    let began = Instant::now();
    let said = verify(regions, words)?;
    let seconds = began.elapsed().as_secs_f64();
    let found = said.verified()?;
    let (sent, received) = (found.bytes_sent, found.bytes_received);
    let share = (sent + received) as f64 / held as f64 * 100.0;
    println!("{what:<34} {seconds:>9.2} {sent:>10} {received:>12} {share:>8.3}%");
    Ok(())
}
