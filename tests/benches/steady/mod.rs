//! A steady load on the primaries of a region, in pipelines and at an even pace, and who owns the same keys in another.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use meridian_tests::{Member, Node, Region, members};
use node_core::slot::Slot;

/// Writes that are sent at once, at the least.
const PIPELINE: u32 = 20;
/// How often in a second writes are sent, at the most.
const PIPELINES_PER_SECOND: u32 = 1_000;
/// Keys that are written to, per primary.
const KEYS: usize = 100_000;

/// A primary of the source, and an owner of some of its slots in the target.
pub(crate) struct Way<'l> {
    pub(crate) source: &'l Node,
    pub(crate) target: &'l Node,
    /// Keys of those slots, 16 bytes each.
    keys: Vec<String>,
}

impl Way<'_> {
    /// A key of its own, in the slot of one that is written to.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.keys[0])
    }
}

/// A way for each primary of a region.
pub(crate) fn ways<'l>(from: &'l Region, to: &'l Region) -> Result<Vec<Way<'l>>> {
    let (sources, targets) = (members(from)?, members(to)?);
    let primaries = sources.iter().filter(|member| member.is_primary);
    let way = |member: &Member| {
        let mut keys = (0..).map(|number| format!("key:{number:012}"));
        let first = keys.find(|key| member.owns(slot(key))).context("an owner of nothing")?;
        let target = targets.iter().find(|member| member.owns(slot(&first))).context("nobody owns the slot")?;
        let are_theirs = |key: &String| member.owns(slot(key)) && target.owns(slot(key));
        let keys = [first].into_iter().chain(keys.filter(are_theirs)).take(KEYS).collect();
        let (source, target) = (&from.nodes[from.place(&member.addr)], &to.nodes[to.place(&target.addr)]);
        anyhow::Ok(Way { source, target, keys })
    };
    primaries.map(way).collect()
}

fn slot(key: &str) -> u16 {
    Slot::of(key.as_bytes()).number()
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
            let number = index as usize % way.keys.len();
            pipeline.cmd("SET").arg(&way.keys[number]).arg(value(number as u32)).ignore();
        }
        pipeline.exec(&mut connection)?;
        count += at_once;
        written.fetch_add(at_once.into(), Relaxed);
    }
    Ok(())
}
