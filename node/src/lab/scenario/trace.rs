//! What a run that failed leaves: enough to see what happened, and the command that runs it again.
//!
//! ```text
//! DIR/scenario.toml   the scenario, as it was
//! DIR/verdict.txt     what was found
//! DIR/trace.jsonl     what happened when, and every operation, one to a line
//! DIR/NAME.log        what each process said; the files of the lab are beside it
//! ```
//! The same seed makes clients ask for the same. How processes interleave does not follow from it: what is replayed is the same
//! load and the same faults, not the same race.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use scenario::{history::History, verdict::Verdict};
use serde_json::json;

use super::run::Run;

/// Writes all of it.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write(run: &Run<'_>, file: &Path, verdict: &Verdict, replay: &str) -> io::Result<()> {
    let dir = &run.plan.dir;
    fs::copy(file, dir.join("scenario.toml"))?;
    fs::write(dir.join("verdict.txt"), format!("{verdict}\nreplay: {replay}\n"))?;
    let mut trace = BufWriter::new(File::create(dir.join("trace.jsonl"))?);
    let history = run.history.borrow();
    let History { regions, judged, may_miss, losses, skews, .. } = &*history;
    let judge = json!({ "regions": regions, "judged": judged, "may_miss": may_miss, "losses": losses, "skews": skews });
    writeln!(trace, "{}", json!({ "run": judge, "seed": run.seed }))?;
    for (at, event) in run.events.borrow().iter() {
        writeln!(trace, "{}", json!({ "at": at.as_secs_f64(), "event": event }))?;
    }
    for operation in &history.operations {
        writeln!(trace, "{}", json!({ "operation": operation }))?;
    }
    for last in &history.last {
        writeln!(trace, "{}", json!({ "last": last }))?;
    }
    trace.flush()
}
