//! The promise that everything else is for: when the links are up and writes stop, all regions hold the same.
//!
//! Three regions write onto the same thousand keys at the same time, as fast as they can: values with and without
//! expiry, deletes, expiries on what they find. In the middle one of them is cut off, goes on alone, and comes back while
//! all three still write. Then every key must have the same value, the same expiry or the same absence in all three.
//! Same is not enough, it must also be right: each value was written to that very key, and on the keys that nobody
//! gave an expiry to, a region's value that stands is the last that this region wrote there.

use std::{collections::HashMap, env, sync::Barrier, thread};

use anyhow::{Context, Result, ensure};
use meridian_tests::{Lab, Links, Region, Seed, note, until, until_same_entries, with_lab};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// The keys that all regions write to. The even ones never get an expiry.
const KEYS: usize = 1_000;
/// Writes of each region, unless `MERIDIAN_TEST_WRITES` says otherwise.
const WRITES: usize = 10_000;
/// Commands that are sent at once.
const PIPELINE: usize = 100;
/// Before the cut, during it, and after it.
const PHASES: usize = 3;

#[test]
fn three_regions_that_write_the_same_keys_through_a_cut_end_up_the_same() {
    with_lab(&[], |lab| {
        let lab: &Lab = lab;
        let seed = Seed::choose()?;
        seed.announce("convergence");
        let writes = match env::var("MERIDIAN_TEST_WRITES") {
            Ok(text) => text.parse().context("MERIDIAN_TEST_WRITES is no number")?,
            Err(_) => WRITES,
        };
        let cut_off = &lab.regions[(seed.0 % lab.regions.len() as u64) as usize].name;
        note(&format!("{writes} writes in each region, {cut_off} is cut off for the second third"));
        let last = write_through_a_cut(lab, seed, writes, cut_off)?;
        lab.until_settled("after")?;
        let keys: Vec<_> = (0..KEYS).map(key).collect();
        let entries = until_same_entries(&lab.regions, &keys)?;
        let mut present = 0;
        for (index, entry) in entries.iter().enumerate() {
            let Some(value) = &entry.value else { continue };
            present += 1;
            let (region, rest) = value.split_once(':').context("a value that nobody wrote")?;
            let of_key = rest.split(':').next().and_then(|of_key| of_key.parse().ok());
            ensure!(of_key == Some(index), "{} has {value}, which was written to another key", keys[index]);
            if index.is_multiple_of(2) {
                let expected = last[region].get(&index);
                ensure!(expected == Some(value), "{} has {value}, {region} wrote {expected:?} last", keys[index]);
                ensure!(entry.expires_ms < 0, "{} expires, and nobody asked for that", keys[index]);
            }
        }
        note(&format!("{present} of {KEYS} keys are present, all alike in {} regions", lab.regions.len()));
        ensure!(present > 0, "nothing is left to compare");
        Ok(())
    });
}

/// The value that a region wrote last to each key, and did not delete since.
type Last = HashMap<usize, String>;

/// Writes in all regions at once, in phases. One region is cut off between the first and the second, while much of the
/// first is still on its way, and for as long after the second as its links take to be given up. It is healed when the
/// third begins.
fn write_through_a_cut(lab: &Lab, seed: Seed, writes: usize, cut_off: &str) -> Result<HashMap<String, Last>> {
    let barrier = Barrier::new(lab.regions.len() + 1);
    thread::scope(|scope| {
        let writers = lab.regions.iter().map(|region| {
            let barrier = &barrier;
            scope.spawn(move || {
                let mut writer = Writer::new(region, seed);
                // Whoever fails goes through all phases nevertheless, since the others wait for everybody.
                let phases: Vec<_> = (0..PHASES).map(|_| phase(barrier, || writer.write(writes / PHASES))).collect();
                phases.into_iter().collect::<Result<()>>()?;
                Ok((region.name.clone(), writer.last))
            })
        });
        let writers: Vec<_> = writers.collect();
        phase(&barrier, || Ok(()))?;
        let cut = lab.wan.partition(&[cut_off]);
        let written = phase(&barrier, || Ok(()));
        let given_up = until_unlinked(lab.region(cut_off));
        let healed = lab.wan.heal();
        let written_again = phase(&barrier, || Ok(()));
        cut.and(written).and(given_up).and(healed).and(written_again)?;
        writers.into_iter().map(|writer| writer.join().expect("a writer does not panic")).collect()
    })
}

/// Begins when all others begin, and ends when all have ended.
fn phase(barrier: &Barrier, write: impl FnOnce() -> Result<()>) -> Result<()> {
    barrier.wait();
    let written = write();
    barrier.wait();
    written
}

/// Waits until a region has given up all its links.
fn until_unlinked(region: &Region) -> Result<()> {
    until(&format!("all links of {} are down", region.name), || {
        let Links { out, incoming } = region.status()?.links;
        Ok((!out.iter().any(|link| link.up) && !incoming.iter().any(|link| link.up)).then_some(()))
    })
}

/// Writes in one region, and remembers what it wrote last.
struct Writer<'a> {
    region: &'a Region,
    random: Pcg64Mcg,
    written: usize,
    last: Last,
}

impl<'a> Writer<'a> {
    fn new(region: &'a Region, seed: Seed) -> Self {
        let random = Pcg64Mcg::seed_from_u64(seed.0.wrapping_mul(64).wrapping_add(region.id.into()));
        Self { region, random, written: 0, last: Last::new() }
    }

    fn write(&mut self, writes: usize) -> Result<()> {
        let mut connection = self.region.connect()?;
        let mut left = writes;
        while left > 0 {
            let count = left.min(PIPELINE);
            let mut pipeline = redis::Pipeline::new();
            for _ in 0..count {
                pipeline.add_command(self.command()).ignore();
            }
            pipeline.exec(&mut connection).with_context(|| format!("in {}", self.region.name))?;
            left -= count;
        }
        Ok(())
    }

    /// The next command: of ten, six set, two delete, two give an expiry, most of them far away.
    fn command(&mut self) -> redis::Cmd {
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
                self.last.remove(&index);
                command.arg("DEL").arg(key(index));
            }
            2..4 if may_expire => {
                command.arg("PEXPIRE").arg(key(index)).arg(expires_ms);
            }
            choice => {
                let value = format!("{}:{index}:{}", self.region.name, self.written);
                command.arg("SET").arg(key(index)).arg(&value);
                if may_expire && choice == 4 {
                    command.arg("PX").arg(expires_ms);
                }
                self.last.insert(index, value);
            }
        }
        command
    }
}

fn key(index: usize) -> String {
    format!("key:{index}")
}
