//! What a gateway's process costs per record, on the side that sends and on the side that receives.
//!
//! A lab of two linked regions is started, each of two primaries and one gateway, with no distance between them. Both gateways are kept on one core, with the
//! writer; the nodes and the WAN are on the other. The writer keeps up a load of values that look like JSON, 100 bytes of it, over 100,000 keys of 16 bytes. What is printed, for
//! several rates: how many records arrived per second, microseconds of processor time per record of each process, by the kernel's account and with what it takes when
//! nobody writes subtracted, the bytes that went over the link, and how long after the last write all was there. Each rate costs less per record than the one before:
//! batches are larger.
//!
//! ```text
//! cargo bench -p meridian-tests --bench gateway_cost [-- SECONDS]
//! ```
//! Asserts nothing.

mod steady;

use std::{
    env,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use meridian_tests::{CpuTime, Gateway, Lab, Node, pin};
use steady::{Way, load, ways};

/// Writes per second.
const RATES: [u32; 6] = [5_000, 20_000, 50_000, 100_000, 200_000, 250_000];
/// How long each is measured, unless said otherwise.
const SECONDS: u32 = 10;
/// The core of the gateways and the writer, and that of all others.
const CORES: [usize; 2] = [1, 0];

fn main() -> Result<()> {
    let seconds = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(SECONDS);
    let shape = ["--regions=us-east,eu-west", "--primaries=2", "--replicas=0", "--gateways=1", "--wan=none"];
    let lab = Lab::start(&shape)?;
    let [from, to] = &lab.regions[..] else { anyhow::bail!("two regions were asked for") };
    let (ways, gateway) = (ways(from, to)?, &from.gateways[0]);
    let way = ways.first().context("no primary")?;
    let pids = [way.source.pid, gateway.pid, to.gateways[0].pid, way.target.pid];
    for pid in [gateway.pid, to.gateways[0].pid, std::process::id()] {
        pin(pid, CORES[0])?;
    }
    let nodes = lab.regions.iter().flat_map(|region| &region.nodes).map(|node| node.pid);
    for pid in nodes.chain(lab.wan_pid) {
        pin(pid, CORES[1])?;
    }
    let now = || Costs::now(pids, gateway, way.target);
    let idle = {
        let before = now()?;
        thread::sleep(Duration::from_secs(seconds.into()));
        now()?.since(before)
    };
    let per_second = idle.times.map(|time| time / f64::from(seconds));
    println!("idle: {}", shown(per_second.map(|share| share * 1e3), "ms/s"));
    println!(
        "{:>9} {:>9} {:>14} {:>14} {:>14} {:>14} {:>9} {:>9}",
        "writes/s", "records/s", "sender's node", "its gateway", "the other's", "its node", "B/record", "behind"
    );
    for rate in RATES {
        let (before, began) = (now()?, Instant::now());
        let Load { written, lasted, behind } = write(way, rate, seconds)?;
        let elapsed = began.elapsed().as_secs_f64();
        let Costs { times, bytes, records } = now()?.since(before);
        let of_load = [0, 1, 2, 3].map(|place| (times[place] - per_second[place] * elapsed) * 1e6 / records);
        print!("{:>9.0} {:>9.0} ", written as f64 / lasted.as_secs_f64(), records / (lasted + behind).as_secs_f64());
        of_load.iter().for_each(|each| print!("{:>14} ", format!("{each:.2} us")));
        println!("{:>9.1} {behind:>9.0?}", bytes / records);
    }
    Ok(())
}

/// What was written.
struct Load {
    written: u64,
    /// From the first write to the last.
    lasted: Duration,
    /// From the last until it could be read in the other region.
    behind: Duration,
}

/// Keeps up a load for so long, and waits until all of it has arrived.
fn write(way: &Way<'_>, rate: u32, seconds: u32) -> Result<Load> {
    let (ending, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let value = |index: u32| {
        let padding = index.wrapping_mul(0x9E37_79B9);
        format!(
            "{{\"user_id\":{index:07},\"name\":\"user-{index:07}\",\"session\":\"{padding:08x}\",\"active\":true,\"roles\":[\"a\",\"b\"]}}"
        )
    };
    let began = Instant::now();
    thread::scope(|scope| {
        let (ending, written) = (&ending, &written);
        let load = scope.spawn(move || load(way, rate, value, ending, written));
        thread::sleep(Duration::from_secs(seconds.into()));
        ending.store(true, Relaxed);
        load.join().expect("a load does not panic")
    })?;
    let (lasted, last) = (began.elapsed(), Instant::now());
    let marker = way.key("marker");
    way.source.run::<()>(&["SET", &marker, &rate.to_string()])?;
    way.target.until_result(&["GET", &marker], &Some(rate.to_string()))?;
    Ok(Load { written: written.load(Relaxed), lasted, behind: last.elapsed() })
}

/// What there was so far.
#[derive(Clone, Copy)]
struct Costs {
    /// Seconds of processor time, per process.
    times: [f64; 4],
    /// That the sender's gateway passed on.
    bytes: f64,
    /// That the receiving node took in.
    records: f64,
}

impl Costs {
    /// Of these processes, of the sender's gateway, and of the receiving node.
    ///
    /// # Errors
    /// If one of them does not run.
    fn now(pids: [u32; 4], gateway: &Gateway, receiver: &Node) -> Result<Self> {
        let mut times = [0.0; 4];
        for (time, pid) in times.iter_mut().zip(pids) {
            *time = CpuTime::of(pid)?.sum().as_secs_f64();
        }
        let bytes = gateway.metric("meridian_tunnel_bytes_total")?;
        Ok(Self { times, bytes, records: receiver.metric("meridian_link_records_total")? })
    }

    fn since(self, before: Self) -> Self {
        let times = [0, 1, 2, 3].map(|place| self.times[place] - before.times[place]);
        Self { times, bytes: self.bytes - before.bytes, records: self.records - before.records }
    }
}

/// Numbers in a row.
fn shown(numbers: [f64; 4], unit: &str) -> String {
    numbers.map(|number| format!("{number:.1} {unit}")).join(", ")
}
