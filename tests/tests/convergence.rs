//! The promise that everything else is for: when the links are up and writes stop, all regions hold the same.
//!
//! Three regions write onto the same thousand keys at the same time, as fast as they can: values with and without
//! expiry, deletes, expiries on what they find. Then something happens to one of them, while much of what was written is
//! still on its way; the others go on, it comes back, and all three write on while it catches up. In the end every key
//! must have the same value, the same expiry or the same absence in all three. Same is not enough, it must also be
//! right: each value was written to that very key, and on the keys that nobody gave an expiry to, what stands is the
//! write with the greatest stamp. The stamps themselves are not seen from here, but each lies between the moments at which
//! its command was sent and answered, by a clock that all regions of a lab share. So what stands must be the last write
//! of one of the regions, and must not have been answered before another write to that key was sent.

use std::{
    collections::HashMap,
    env, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use meridian_tests::{Entry, Lab, Links, Region, Seed, note, of_one_node, until, until_same_entries, with_lab};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// The keys that all regions write to. The even ones never get an expiry.
const KEYS: usize = 1_000;
/// Writes of each region, unless `MERIDIAN_TEST_WRITES` says otherwise.
const WRITES: usize = 10_000;
/// Commands that are sent at once.
const PIPELINE: usize = 100;
/// How long a cut lasts, by the lag that the region that is cut off reports.
const CUT_SECONDS: f64 = 10.0;
/// How far the clocks of two processes on one machine may disagree.
const SKEW: Duration = Duration::from_millis(20);
/// Before, during and after what happens to one of them.
const PHASES: usize = 3;

#[test]
fn regions_that_write_the_same_keys_through_a_cut_end_up_the_same() {
    with_lab(&of_one_node(&[]), |lab| {
        let mut writers = Writers::new(lab)?;
        let unlucky = writers.unlucky;
        note(&format!("{} is cut off", lab.regions[unlucky].name));
        writers.write(lab, |_| true)?;
        lab.wan.partition(&[&lab.regions[unlucky].name])?;
        writers.write(lab, |_| true)?;
        until_cut_off(&lab.regions[unlucky])?;
        lab.wan.heal()?;
        writers.write(lab, |_| true)?;
        let entries = until_settled(lab)?;
        for (index, entry) in entries.iter().enumerate().step_by(2) {
            ensure!(entry.expires_ms < 0, "{} expires, and nobody asked for that", key(index));
            writers.ensure_greatest(index, &entry.value)?;
        }
        Ok(())
    });
}

#[test]
fn regions_end_up_the_same_when_one_loses_its_memory_while_all_write() {
    with_lab(&of_one_node(&[]), |lab| {
        let mut writers = Writers::new(lab)?;
        let unlucky = writers.unlucky;
        note(&format!("{} is killed and started empty", lab.regions[unlucky].name));
        writers.write(lab, |_| true)?;
        lab.regions[unlucky].kill()?;
        writers.write(lab, |region| region != unlucky)?;
        lab.regions[unlucky].restart()?;
        writers.write(lab, |_| true)?;
        until("it is complete", || Ok(lab.regions[unlucky].status()?.complete.then_some(())))?;
        // What it had acknowledged and not sent yet is lost with it, so which write was the last nobody can say.
        until_settled(lab).map(drop)
    });
}

/// Waits until all regions hold the same, and demands that it was written there.
fn until_settled(lab: &Lab) -> Result<Vec<Entry>> {
    lab.until_settled("after")?;
    let keys: Vec<_> = (0..KEYS).map(key).collect();
    let entries = until_same_entries(&lab.regions, &keys)?;
    for (index, entry) in entries.iter().enumerate() {
        let Some(value) = &entry.value else { continue };
        let of_key = value.split(':').nth(1).and_then(|of_key| of_key.parse().ok());
        ensure!(of_key == Some(index), "{} has {value}, which was not written there", keys[index]);
    }
    let present = entries.iter().filter(|entry| entry.value.is_some()).count();
    note(&format!("{present} of {KEYS} keys are present, all alike in {} regions", lab.regions.len()));
    ensure!(present > 0, "nothing is left to compare");
    Ok(entries)
}

/// Waits until a region has given up all its links, which then have to be made anew, and knows that it has heard nothing
/// for as long as a cut is to last.
fn until_cut_off(region: &Region) -> Result<()> {
    until(&format!("{} is cut off for {CUT_SECONDS} s", region.name), || {
        let Links { out, incoming } = region.status()?.links;
        let lags = |seconds: Option<f64>| seconds.is_some_and(|seconds| seconds >= CUT_SECONDS);
        let cut = !out.iter().any(|link| link.up) && incoming.iter().all(|link| !link.up && lags(link.lag_seconds));
        Ok(cut.then_some(()))
    })
}

/// One writer in each region.
struct Writers {
    writers: Vec<Writer>,
    /// The region to which something happens, by its index.
    unlucky: usize,
    /// Writes of each region in each phase.
    writes: usize,
}

impl Writers {
    fn new(lab: &Lab) -> Result<Self> {
        let seed = Seed::choose()?;
        seed.announce("convergence");
        let writes = match env::var("MERIDIAN_TEST_WRITES") {
            Ok(text) => text.parse().context("MERIDIAN_TEST_WRITES is no number")?,
            Err(_) => WRITES,
        };
        note(&format!("{writes} writes in each of {} regions", lab.regions.len()));
        let mut random = Pcg64Mcg::seed_from_u64(seed.0);
        let writers = lab.regions.iter().map(|region| Writer::new(&region.name, random.random()));
        let writers = writers.collect();
        Ok(Self { writers, unlucky: random.random_range(0..lab.regions.len()), writes: writes / PHASES })
    }

    /// One phase: all these regions write at once.
    fn write(&mut self, lab: &Lab, takes_part: impl Fn(usize) -> bool) -> Result<()> {
        let writes = self.writes;
        thread::scope(|scope| {
            let pairs = lab.regions.iter().zip(&mut self.writers).enumerate().filter(|(index, _)| takes_part(*index));
            let threads = pairs.map(|(_, (region, writer))| scope.spawn(move || writer.write(region, writes)));
            let threads: Vec<_> = threads.collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("a writer does not panic"))
        })
    }

    /// Ensures that what stands at a key that never expires may be what the write with the greatest stamp left there.
    fn ensure_greatest(&self, index: usize, stands: &Option<String>) -> Result<()> {
        let lasts: Vec<_> = self.writers.iter().filter_map(|writer| writer.last.get(&index)).collect();
        let Some(latest) = lasts.iter().map(|last| last.sent).max() else {
            ensure!(stands.is_none(), "{} has {stands:?}, and nobody wrote there", key(index));
            return Ok(());
        };
        let may_be = lasts.iter().any(|last| last.value == *stands && last.answered + SKEW >= latest);
        ensure!(may_be, "{} has {stands:?}; the last writes of the regions are {lasts:?}", key(index));
        Ok(())
    }
}

/// Writes in one region, and remembers what it wrote last.
struct Writer {
    name: String,
    random: Pcg64Mcg,
    written: usize,
    /// Its last SET or DEL of each key.
    last: HashMap<usize, Last>,
}

/// A write that was the last of its region to a key.
#[derive(Debug)]
struct Last {
    sent: Instant,
    answered: Instant,
    /// What it left there; nothing if it was a delete.
    value: Option<String>,
}

impl Writer {
    fn new(name: &str, seed: u64) -> Self {
        Self { name: name.to_owned(), random: Pcg64Mcg::seed_from_u64(seed), written: 0, last: HashMap::new() }
    }

    fn write(&mut self, region: &Region, writes: usize) -> Result<()> {
        let mut connection = region.connect()?;
        let mut left = writes;
        while left > 0 {
            let count = left.min(PIPELINE);
            let (mut pipeline, mut left_there) = (redis::Pipeline::new(), HashMap::new());
            for _ in 0..count {
                pipeline.add_command(self.command(&mut left_there)).ignore();
            }
            let sent = Instant::now();
            pipeline.exec(&mut connection).with_context(|| format!("in {}", region.name))?;
            let answered = Instant::now();
            let lasts = left_there.into_iter().map(|(index, value)| (index, Last { sent, answered, value }));
            self.last.extend(lasts);
            left -= count;
        }
        Ok(())
    }

    /// The next command: of ten, two delete, two give an expiry where that may be, most of them far away, the rest set.
    /// What it leaves at its key goes to `left_there`.
    fn command(&mut self, left_there: &mut HashMap<usize, Option<String>>) -> redis::Cmd {
        let index = self.random.random_range(0..KEYS);
        let may_expire = !index.is_multiple_of(2);
        let expires_ms: u32 = match self.random.random_range(0..4) {
            0 => self.random.random_range(1..500),
            _ => self.random.random_range(3_600_000..7_200_000),
        };
        self.written += 1;
        let mut command = redis::Cmd::new();
        match self.random.random_range(0..10) {
            0..2 => {
                left_there.insert(index, None);
                command.arg("DEL").arg(key(index));
            }
            2..4 if may_expire => {
                command.arg("PEXPIRE").arg(key(index)).arg(expires_ms);
            }
            choice => {
                let value = format!("{}:{index}:{}", self.name, self.written);
                command.arg("SET").arg(key(index)).arg(&value);
                if may_expire && choice == 4 {
                    command.arg("PX").arg(expires_ms);
                }
                left_there.insert(index, Some(value));
            }
        }
        command
    }
}

fn key(index: usize) -> String {
    format!("key:{index}")
}
