//! A region that is cut off under load: how soon it has caught up, and what the cut costs in memory.
//!
//! A lab of three linked clusters is started, and in one of them writers keep up a load of values of 100 bytes over all its primaries. Another
//! is then cut off from everybody for a while. What is printed: how long after the cut is healed its lag is below a second again, as its own
//! primaries say, and the resident sets of the first region's processes before the cut and at its end, and as long before it as it lasts: until a node's
//! log is full, after a million writes, it grows in any case.
//!
//! ```text
//! cargo bench -p meridian-tests --bench long_cut [-- WRITES_PER_SECOND [SECONDS]]
//! ```
//! Asserts nothing.

mod steady;

use std::{
    env, fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use meridian_tests::{Lab, Region};
use steady::{Way, load, ways};

/// Writes per second in all, unless said otherwise.
const RATE: u32 = 5_000;
/// How long the cut lasts, unless said otherwise.
const SECONDS: u64 = 60;
/// The load before the cut: every key is there by then.
const WARM_UP: Duration = Duration::from_secs(45);
/// Caught up: lag below this.
const CAUGHT_UP_SECONDS: f64 = 1.0;
/// Longer than anybody wants to wait for that.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> Result<()> {
    let mut numbers = env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let rate = numbers.next().map_or(RATE, |rate: u64| rate as u32);
    let seconds = numbers.next().unwrap_or(SECONDS);
    let lab = Lab::start(&[])?;
    let [from, to, _] = &lab.regions[..] else { anyhow::bail!("the default lab has three regions") };
    let ways = ways(from, to)?;
    let (ending, written) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let share = rate / ways.len() as u32;
        let (ending, written) = (&ending, &written);
        let loads: Vec<_> =
            ways.iter().map(|way| scope.spawn(move || load(way, share, plain, ending, written))).collect();
        let measured = measure(&lab, (from, to), &ways, seconds, written);
        ending.store(true, Relaxed);
        loads.into_iter().try_for_each(|load| load.join().expect("a load does not panic"))?;
        measured
    })
}

fn measure(
    lab: &Lab,
    (from, to): (&Region, &Region),
    ways: &[Way<'_>],
    seconds: u64,
    written: &AtomicU64,
) -> Result<()> {
    thread::sleep(WARM_UP);
    let earlier = resident(from)?;
    thread::sleep(Duration::from_secs(seconds));
    let before = resident(from)?;
    let (begun, count) = (Instant::now(), written.load(Relaxed));
    lab.wan.partition(&[&to.name])?;
    thread::sleep(Duration::from_secs(seconds));
    let during = (written.load(Relaxed) - count) as f64 / begun.elapsed().as_secs_f64();
    let (after, lag) = (resident(from)?, greatest_lag(to, &from.name)?);
    println!("{} is cut off for {seconds} s; {} takes {during:.0} writes/s; the lag is {lag:.1} s", to.name, from.name);
    println!("  MiB          {seconds:>3} s before it  when it begins     at its end");
    for (((name, earlier), (_, before)), (_, after)) in earlier.iter().zip(before).zip(after) {
        println!("  {name:<12} {:>14.1} {:>14.1} {:>14.1}", mib(*earlier), mib(before), mib(after));
    }
    lab.wan.heal()?;
    let healed = Instant::now();
    for way in ways {
        way.source.run::<()>(&["SET", &marker(way), "healed"])?;
    }
    while greatest_lag(to, &from.name)? > CAUGHT_UP_SECONDS {
        anyhow::ensure!(healed.elapsed() < PATIENCE, "not caught up after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(50));
    }
    for way in ways {
        way.target.until_result(&["GET", &marker(way)], &Some("healed".to_owned()))?;
    }
    println!("  caught up {:.1?} after it was healed", healed.elapsed());
    Ok(())
}

/// A key of a way that is written when the cut is healed.
fn marker(way: &Way<'_>) -> String {
    way.key("marker")
}

/// The greatest lag behind a region, in seconds, as the primaries of another say.
fn greatest_lag(region: &Region, behind: &str) -> Result<f64> {
    let lags = region.nodes_of_role("primary").map(|node| {
        let all: Vec<(String, f64)> = node.run(&["REGION", "LAG"])?;
        all.into_iter().find(|(name, _)| name == behind).map(|(_, lag)| lag).context("no such region")
    });
    lags.collect::<Result<Vec<_>>>().map(|lags| lags.into_iter().fold(0.0, f64::max))
}

/// The resident set of each node and gateway of a region, in bytes.
fn resident(region: &Region) -> Result<Vec<(String, u64)>> {
    let nodes = region.nodes.iter().map(|node| (node.name.clone(), node.pid));
    let gateways = region.gateways.iter().map(|gateway| (gateway.id.clone(), gateway.pid));
    let of = |(name, pid): (String, u32)| {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has a resident set")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok((name, kib * 1_024))
    };
    nodes.chain(gateways).map(of).collect()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A value of 100 bytes.
fn plain(_: u32) -> String {
    "v".repeat(100)
}
