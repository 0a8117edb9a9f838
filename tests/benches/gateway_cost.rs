//! What a gateway's process costs per record, on the side that sends and on the side that receives.
//!
//! A lab of two linked regions is started, each of one primary with a replica and one gateway, with no distance between them. A writer keeps up a load of
//! values that look like JSON, 100 bytes of it, over 100,000 keys of some 16 bytes. What is printed, for several rates: microseconds of processor time per
//! record of each process, by the kernel's account and with what it takes when nobody writes subtracted, and the bytes that went over the link.
//! Each rate costs less per record than the one before: batches are larger.
//!
//! ```text
//! cargo bench -p meridian-tests --bench gateway_cost [-- SECONDS]
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
use meridian_tests::{Gateway, Lab};
use steady::{Way, load, ways};

/// Writes per second.
const RATES: [u32; 3] = [5_000, 20_000, 50_000];
/// How long each is measured, unless said otherwise.
const SECONDS: u32 = 10;
/// Clock ticks per second of the times in /proc, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

fn main() -> Result<()> {
    let seconds = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(SECONDS);
    let shape = ["--regions=us-east,eu-west", "--primaries=1", "--replicas=1", "--gateways=1", "--wan=none"];
    let lab = Lab::start(&shape)?;
    let [from, to] = &lab.regions[..] else { anyhow::bail!("two regions were asked for") };
    let (ways, gateway) = (ways(from, to)?, &from.gateways[0]);
    let way = ways.first().context("no primary")?;
    let pids = [from.pid, gateway.pid, to.gateways[0].pid, to.pid];
    let idle = {
        let before = Costs::now(pids, gateway)?;
        thread::sleep(Duration::from_secs(seconds.into()));
        Costs::now(pids, gateway)?.since(before)
    };
    let per_second = idle.times.map(|time| time / f64::from(seconds));
    println!("idle: {}", shown(per_second.map(|share| share * 1e3), "ms/s"));
    println!(
        "{:>9} {:>14} {:>14} {:>14} {:>14} {:>9}",
        "records/s", "sender's node", "its gateway", "the other's", "its node", "B/record"
    );
    for rate in RATES {
        let before = Costs::now(pids, gateway)?;
        let began = Instant::now();
        let written = write(way, rate, seconds)?;
        let elapsed = began.elapsed().as_secs_f64();
        let Costs { times, bytes } = Costs::now(pids, gateway)?.since(before);
        let of_load = [0, 1, 2, 3].map(|place| (times[place] - per_second[place] * elapsed) * 1e6 / written as f64);
        print!("{:>9.0} ", written as f64 / elapsed);
        of_load.iter().for_each(|each| print!("{:>14} ", format!("{each:.2} us")));
        println!("{:>9.1}", bytes / written as f64);
    }
    Ok(())
}

/// Keeps up a load for so long, waits until all of it has arrived, and says how much it was.
fn write(way: &Way<'_>, rate: u32, seconds: u32) -> Result<u64> {
    let (ending, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let value = |index: u32| {
        let padding = index.wrapping_mul(0x9E37_79B9);
        format!(
            "{{\"user_id\":{index:07},\"name\":\"user-{index:07}\",\"session\":\"{padding:08x}\",\"active\":true,\"roles\":[\"a\",\"b\"]}}"
        )
    };
    thread::scope(|scope| {
        let (ending, written) = (&ending, &written);
        let load = scope.spawn(move || load(way, rate, value, ending, written));
        thread::sleep(Duration::from_secs(seconds.into()));
        ending.store(true, Relaxed);
        load.join().expect("a load does not panic")
    })?;
    let marker = format!("{{{}}}:marker", way.tag);
    way.source.run::<()>(&["SET", &marker, &rate.to_string()])?;
    way.target.until_result(&["GET", &marker], &Some(rate.to_string()))?;
    Ok(written.load(Relaxed))
}

/// What processes took so far: seconds of processor time, and the bytes that the sender's gateway passed on.
#[derive(Clone, Copy)]
struct Costs {
    times: [f64; 4],
    bytes: f64,
}

impl Costs {
    /// Of these processes, and of this gateway.
    ///
    /// # Errors
    /// If one of them does not run.
    fn now(pids: [u32; 4], gateway: &Gateway) -> Result<Self> {
        let mut times = [0.0; 4];
        for (time, pid) in times.iter_mut().zip(pids) {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // The second field, in parentheses, may hold blanks; utime and stime are the 14th and 15th of all.
            let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
            *time = fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND;
        }
        Ok(Self { times, bytes: gateway.metric("meridian_relay_bytes_total")? })
    }

    fn since(self, before: Self) -> Self {
        let times = [0, 1, 2, 3].map(|place| self.times[place] - before.times[place]);
        Self { times, bytes: self.bytes - before.bytes }
    }
}

/// Numbers in a row.
fn shown(numbers: [f64; 4], unit: &str) -> String {
    numbers.map(|number| format!("{number:.1} {unit}")).join(", ")
}
