//! A steady load on the primaries of a region, in pipelines and at an even pace, and who owns the same keys in another.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use meridian_tests::{Node, Region, key_of, members};

/// Writes that are sent at once, at the least.
const PIPELINE: u32 = 20;
/// How often in a second writes are sent, at the most.
const PIPELINES_PER_SECOND: u32 = 1_000;
/// Keys that are written to, per primary.
const KEYS: u32 = 100_000;
/// A primary of the source, a hash tag of its slots, and who owns that in the target.
pub(crate) struct Way<'l> {
    pub(crate) source: &'l Node,
    pub(crate) target: &'l Node,
    pub(crate) tag: String,
}

/// A way for each primary of a region.
pub(crate) fn ways<'l>(from: &'l Region, to: &'l Region) -> Result<Vec<Way<'l>>> {
    let (sources, targets) = (members(from)?, members(to)?);
    let primaries = sources.iter().filter(|member| member.is_primary);
    let way = |member| {
        let tag = key_of(from, member, "tag")?;
        let slot: u16 = to.run(&["CLUSTER", "KEYSLOT", &tag])?;
        let target = targets.iter().find(|member| member.owns(slot)).context("nobody owns the slot")?;
        anyhow::Ok(Way {
            source: &from.nodes[from.place(&member.addr)],
            target: &to.nodes[to.place(&target.addr)],
            tag,
        })
    };
    primaries.map(way).collect()
}

/// Writes at an even pace until it is told to end; `value` says what, by the number of the key.
pub(crate) fn load(
    way: &Way<'_>,
    rate: u32,
    value: impl Fn(u32) -> String,
    ending: &AtomicBool,
    written: &AtomicU64,
) -> Result<()> {
    let mut connection = way.source.connect()?;
    let (began, mut count) = (Instant::now(), 0_u32);
    let at_once = PIPELINE.max(rate / PIPELINES_PER_SECOND);
    while !ending.load(Relaxed) {
        let due = began + Duration::from_secs_f64(f64::from(count) / f64::from(rate));
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut pipeline = redis::pipe();
        for index in count..count + at_once {
            let number = index % KEYS;
            pipeline.cmd("SET").arg(format!("{{{}}}:{number:07}", way.tag)).arg(value(number)).ignore();
        }
        pipeline.exec(&mut connection)?;
        count += at_once;
        written.fetch_add(at_once.into(), Relaxed);
    }
    Ok(())
}
