//! The delay of a link between clusters that take a steady load, with all links up, and beside a link that has become a black hole.
//!
//! A lab of three linked clusters is started. In one, writers keep up a load of values of 100 bytes over all its primaries, in
//! pipelines. Besides, for each primary a probe writes a value now and then, and another client asks its owner in a second region until it
//! is there: in the first seconds, in which all keys are new, and after. Then the link to the third region swallows everything, and the same is measured again: in the seconds in which nobody
//! knows yet, and when what is lost there is carried around the hole. What is printed is the time beyond the one-way delay.
//!
//! ```text
//! cargo bench -p meridian-tests --bench delay_under_load [-- WRITES_PER_SECOND [SECONDS]]
//! ```
//! Asserts nothing.

mod steady;

use std::{
    env,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use meridian_tests::Lab;
use serde_json::json;

use steady::{Way, load, ways};

/// Writes per second in all, unless said otherwise.
const RATE: u32 = 20_000;
/// How long each phase is measured, unless said otherwise.
const SECONDS: u32 = 6;
/// Probes per second and primary.
const PROBES: u32 = 200;

fn main() -> Result<()> {
    let mut numbers = env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let rate: u32 = numbers.next().unwrap_or(RATE);
    let seconds: u32 = numbers.next().unwrap_or(SECONDS);
    let lab = Lab::start(&[])?;
    // 100 ms apart, and 150 and 50 from the third.
    let [third, from, to] = &lab.regions[..] else { anyhow::bail!("the default lab has three regions") };
    let ways = ways(from, to)?;
    let one_way = lab.wan.delay_ms(&from.name, &to.name)?;
    let (ending, written) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let share = rate / ways.len() as u32;
        let (ending, written) = (&ending, &written);
        let loads: Vec<_> =
            ways.iter().map(|way| scope.spawn(move || load(way, share, plain, ending, written))).collect();
        println!("{} -> {}, {one_way} ms one way, {rate} writes/s; ms beyond", from.name, to.name);
        println!("{:<44} {:>9} {:>8} {:>8} {:>8}", "", "writes/s", "p50", "p99", "max");
        let phases = [
            ("in the first seconds", None),
            ("all links up", None),
            ("a black hole on the other link", Some(json!({ "state": "blackhole" }))),
            ("that link is known to be down", None),
            ("it is up again", Some(json!({ "state": "up" }))),
        ];
        let measured = phases.into_iter().enumerate().try_for_each(|(phase, (what, change))| {
            if let Some(change) = change {
                lab.wan.change(&from.name, &third.name, &change)?;
            }
            let (began, before) = (Instant::now(), written.load(Relaxed));
            let delays = probe(&ways, phase, PROBES * seconds)?;
            let per_second = (written.load(Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
            let beyond = |share: f64| {
                let index = ((delays.len() - 1) as f64 * share) as usize;
                delays[index].as_secs_f64() * 1e3 - one_way
            };
            println!("{what:<44} {per_second:>9.0} {:>8.1} {:>8.1} {:>8.1}", beyond(0.5), beyond(0.99), beyond(1.0));
            anyhow::Ok(())
        });
        ending.store(true, Relaxed);
        loads.into_iter().try_for_each(|load| load.join().expect("a load does not panic"))?;
        measured
    })
}

/// The delays of probes on each way, in ascending order.
fn probe(ways: &[Way<'_>], phase: usize, count: u32) -> Result<Vec<Duration>> {
    let delays = thread::scope(|scope| {
        let probes: Vec<_> = ways.iter().map(|way| scope.spawn(move || probe_one(way, phase, count))).collect();
        probes.into_iter().map(|probe| probe.join().expect("a probe does not panic")).collect::<Result<Vec<_>>>()
    })?;
    let mut delays: Vec<_> = delays.into_iter().flatten().collect();
    delays.sort_unstable();
    Ok(delays)
}

fn probe_one(way: &Way<'_>, phase: usize, count: u32) -> Result<Vec<Duration>> {
    let key = |index: u32| way.key(&format!("probe:{phase}:{index}"));
    let (mut writer, mut reader) = (way.source.connect()?, way.target.connect()?);
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let began = Instant::now();
            let write = |index: u32| {
                let due = began + Duration::from_secs(1) * index / PROBES;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let sent = Instant::now();
                redis::cmd("SET").arg(key(index)).arg(plain(index)).exec(&mut writer).map(|()| sent)
            };
            (0..count).map(write).collect::<Result<Vec<_>, _>>()
        });
        let mut read = Vec::with_capacity(count as usize);
        while (read.len() as u32) < count {
            let there: bool = redis::cmd("EXISTS").arg(key(read.len() as u32)).query(&mut reader)?;
            if there {
                read.push(Instant::now());
            } else {
                thread::sleep(Duration::from_micros(500));
            }
        }
        let sent = writing.join().expect("a writer does not panic")?;
        Ok(sent.into_iter().zip(read).map(|(sent, read)| read - sent).collect())
    })
}

/// A value of 100 bytes.
fn plain(_: u32) -> String {
    "v".repeat(100)
}
