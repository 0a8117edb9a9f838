//! How long after it was written a value can be read in another region, over the distance that lies between them.
//!
//! A lab is started with 50, 100 and 150 ms one way between its regions. On each link in turn, one client writes
//! values of 100 bytes at an even pace, and another asks the other region for the next one until it is there. What is
//! printed is the time from before the write was sent until the answer that had it, less the one-way delay: so it
//! contains both clients' round trips on loopback, the batching of the link, and whatever the machine does besides.
//!
//! ```text
//! cargo bench -p meridian-tests --bench delay [-- WRITES_PER_SECOND [SECONDS]]
//! ```
//! Asserts nothing.

use std::{
    env, thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use meridian_tests::{Lab, Region, of_one_node};

/// Writes per second and link, unless said otherwise.
const RATE: u32 = 1_000;
/// How long each link is measured, unless said otherwise.
const SECONDS: u32 = 5;
/// Values that are asked for at once.
const LOOK_AHEAD: usize = 32;

fn main() -> Result<()> {
    let mut numbers = env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let rate: u32 = numbers.next().unwrap_or(RATE);
    let seconds: u32 = numbers.next().unwrap_or(SECONDS);
    let lab = Lab::start(&of_one_node(&[]))?;
    lab.until_settled("before")?;
    println!("readable elsewhere, ms after the one-way delay, at {rate} writes/s for {seconds} s per link");
    println!("{:<24} {:>8} {:>8} {:>8} {:>8}", "link", "one way", "p50", "p99", "max");
    for (from, to) in lab.pairs() {
        let one_way = lab.wan.delay_ms(&from.name, &to.name)?;
        let delays = measure(from, to, rate, (rate * seconds) as usize)?;
        let beyond = |share: f64| {
            let index = ((delays.len() - 1) as f64 * share) as usize;
            delays[index].as_secs_f64() * 1e3 - one_way
        };
        let link = format!("{} -> {}", from.name, to.name);
        println!("{link:<24} {one_way:>8.0} {:>8.1} {:>8.1} {:>8.1}", beyond(0.5), beyond(0.99), beyond(1.0));
    }
    Ok(())
}

/// The delays of so many writes, in ascending order.
fn measure(from: &Region, to: &Region, rate: u32, count: usize) -> Result<Vec<Duration>> {
    let key = |index: usize| format!("delay:{}:{}:{index}", from.id, to.id);
    let (mut writer, mut reader) = (from.connect()?, to.connect()?);
    let value = "v".repeat(100);
    let written = thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let began = Instant::now();
            let write = |index: usize| {
                let due = began + Duration::from_secs(1) * index as u32 / rate;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let sent = Instant::now();
                redis::cmd("SET").arg(key(index)).arg(&value).exec(&mut writer).map(|()| sent)
            };
            (0..count).map(write).collect::<Result<Vec<_>, _>>()
        });
        let mut read = Vec::with_capacity(count);
        while read.len() < count {
            let mut pipeline = redis::pipe();
            for index in read.len()..count.min(read.len() + LOOK_AHEAD) {
                pipeline.cmd("EXISTS").arg(key(index));
            }
            let there: Vec<bool> = pipeline.query(&mut reader)?;
            let now = Instant::now();
            read.extend(there.into_iter().take_while(|there| *there).map(|_| now));
            // Leaves the core to those that are measured.
            thread::sleep(Duration::from_micros(200));
        }
        let sent = writing.join().expect("the writer does not panic")?;
        anyhow::Ok(sent.into_iter().zip(read).collect::<Vec<_>>())
    })?;
    let mut delays: Vec<_> = written.into_iter().map(|(sent, read)| read - sent).collect();
    delays.sort_unstable();
    Ok(delays)
}
