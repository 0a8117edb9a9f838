//! Watching a run: the lag of each link, whether regions are well, what was forgotten, and a line of progress now and then.

use std::time::Duration;

use scenario::history::Place;
use tokio::time::{self, Instant, MissedTickBehavior};

use super::{
    super::{
        link::Link,
        look::{self, Snapshot, Status},
        plan::NodePlan,
        prometheus::Prometheus,
    },
    limits,
    run::{Run, Sample},
};
use crate::terminal::Style;

/// Looks again and again. It ends with the run, which drops it.
pub(super) async fn watch(run: &Run<'_>, alerts: Option<&Prometheus>) {
    let mut tick = time::interval(limits::WATCH_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut progress = Instant::now();
    loop {
        tick.tick().await;
        look(run).await;
        if let Some(alerts) = alerts {
            for alert in alerts.firing().await.into_iter().flatten() {
                if run.fired.borrow_mut().insert(alert.name.clone()) {
                    run.say(Style::Warn, format!("alert {} fires", alert.name));
                }
            }
        }
        if progress.elapsed() >= limits::PROGRESS_EVERY {
            progress = Instant::now();
            run.say(Style::Dim, line(run));
        }
    }
}

/// Looks once.
pub(super) async fn look(run: &Run<'_>) {
    let begun = run.now();
    let snapshot = Snapshot::take(run.plan, run.clusters).await;
    let place = |index: usize| u8::try_from(index).map(Place).expect("limits::REGIONS fits");
    let lag = |(from, to)| ((place(from), place(to)), Link::between(run.plan, &snapshot, from, to).lag());
    let sample = Sample { at: run.now(), lags: run.plan.pairs().map(lag).collect() };
    run.samples.borrow_mut().push(sample);
    close_losses(run, &snapshot, begun);
    note_misses(run, &snapshot).await;
}

/// A loss is over when its region is well, as of a look that began after it.
fn close_losses(run: &Run<'_>, snapshot: &Snapshot, begun: Duration) {
    let now = run.now();
    let mut history = run.history.borrow_mut();
    run.open_losses.borrow_mut().retain(|(index, since)| {
        let loss = &mut history.losses[*index];
        let is_over = *since < begun && is_well(run, snapshot, loss.region);
        if is_over {
            loss.until = now;
        }
        !is_over
    });
}

/// Whether each shard of a region has a primary that runs and holds all again. Whoever is cut off or slow may still be replaced, and
/// until then counts as none.
pub(super) fn is_well(run: &Run<'_>, snapshot: &Snapshot, region: Place) -> bool {
    let primaries = snapshot.named_primaries(run.plan, region.0.into());
    let is_well = |(node, status): &(&NodePlan, Option<&Status>)| {
        run.is_fit(&node.name) && status.is_some_and(|status| status.complete)
    };
    !primaries.is_empty() && primaries.iter().all(is_well)
}

/// What regions have evicted, or forgotten before all others had seen it, they may lack.
async fn note_misses(run: &Run<'_>, snapshot: &Snapshot) {
    for place in run.places() {
        let index = usize::from(place.0);
        if run.history.borrow().may_miss.contains(&place) {
            continue;
        }
        let statuses = snapshot.nodes_of(run.plan, index).iter().flatten();
        let has_forgotten = statuses.into_iter().any(|status| status.forgotten_early > 0);
        if has_forgotten || evicts(run, index).await {
            run.history.borrow_mut().may_miss.push(place);
        }
    }
}

/// Whether a region has evicted anything. Only one that has a limit is asked.
async fn evicts(run: &Run<'_>, index: usize) -> bool {
    if !run.scenario.regions[index].set.contains_key("memory.maxmemory") {
        return false;
    }
    for node in &run.plan.regions[index].nodes {
        let metrics = look::read_text(node.admin, "/metrics").await.unwrap_or_default();
        let evicted = metrics.lines().filter(|line| line.starts_with("meridian_evicted_total"));
        let count = |line: &str| line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok());
        if evicted.filter_map(count).any(|count| count > 0.0) {
            return true;
        }
    }
    false
}

/// A line of progress.
fn line(run: &Run<'_>) -> String {
    let operations = run.history.borrow().operations.len();
    let samples = run.samples.borrow();
    let lags = samples.last().map(|sample| &sample.lags);
    let worst = lags.into_iter().flatten().filter_map(|(link, lag)| Some((*link, (*lag)?)));
    let worst = worst.max_by(|(_, one), (_, other)| one.total_cmp(other));
    let history = run.history.borrow();
    let worst = worst.map_or_else(
        || "no lag is known".to_owned(),
        |((from, to), lag)| {
            format!("the greatest lag is {:.0} ms, {} -> {}", lag * 1e3, history.name(from), history.name(to))
        },
    );
    format!("{operations} operations; {worst}")
}
