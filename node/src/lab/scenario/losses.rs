//! What may go with processes that are about to die or to hang.
//!
//! A primary takes its last moments with it: what it had acknowledged and no replica had. If nobody of its shard is left, all goes that
//! had not left the region, which is as much as its links lag.

use std::collections::BTreeSet;

use scenario::history::Place;

use super::{
    run::Run,
    targets::{self, Process},
};

/// Notes what may go with these processes.
///
/// # Errors
/// If a region has a place that no history has.
pub(super) async fn bereave(run: &Run<'_>, names: &[String]) -> anyhow::Result<()> {
    let region = |name: &String| match targets::process(run.plan, name) {
        Process::Node(region, _) => Some(region),
        Process::Gateway => None,
    };
    let regions: BTreeSet<_> = names.iter().filter_map(region).collect();
    for region in regions {
        let is_going = |name: &String| names.contains(name) || !run.is_fit(name);
        let bereft = |shards: Vec<(String, Vec<String>)>| {
            let shards = shards.into_iter().filter(|(primary, _)| names.contains(primary));
            let whole = shards.map(|(_, replicas)| replicas.iter().all(is_going));
            whole.reduce(|one, other| one || other)
        };
        // If nobody tells who is what, everybody may be a primary.
        let whole = targets::shards(run, region).await.map_or(Some(true), bereft);
        if let Some(whole) = whole {
            lose(run, Place(u8::try_from(region)?), whole);
        }
    }
    Ok(())
}

fn lose(run: &Run<'_>, region: Place, whole: bool) {
    let (now, window) = (run.now(), run.scenario.loss_window);
    // Without a look at its links all may be lost.
    let unsent = if whole { run.lag_out_of(region).map_or(now, |lag| lag + window) } else { window };
    run.open_loss(region, now.saturating_sub(unsent), whole);
}
