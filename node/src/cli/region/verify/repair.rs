//! Mending what differs: the newest version of a key goes to whoever lacks it.
//!
//! The record is fetched anew from the region that had it, so what is carried is what is there now, and merged where it is lacking: by
//! the one `merge`, which may still find it stale or refuse it. So a repair cannot do harm that the links could not do. It may be broken off and
//! begun again at any time, and run while everybody writes.
//!
//! What cannot be mended by that is left, and the plan says so: see `compare`. Nothing is deleted, and nothing is stamped.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{compare::Difference, look::Findings};
use crate::{
    cli::{
        cluster::output::{Output, Plan},
        region::{connection::AskError, contact::Region},
    },
    terminal::{Line, Style, grouped},
};

/// What is about to be done.
pub(super) fn plan(findings: &Findings, regions: &[Region]) -> Plan {
    let mut counts: BTreeMap<(usize, &str), u64> = BTreeMap::new();
    for found in mendable(findings) {
        *counts.entry((found.region, found.what.word())).or_default() += 1;
    }
    let name = |region: usize| regions[region].identity.name.as_str();
    let mut lines: Vec<Line> = counts
        .iter()
        .map(|((region, word), count)| {
            let text = format!("Merge {} into {}: {word} there.", keys(*count), name(*region));
            Line::default().with(Style::Plain, text)
        })
        .collect();
    let left = findings.differences.len() as u64 - counts.values().sum::<u64>();
    if left > 0 {
        let text = format!("Leave {} that no merge can mend: see above why.", keys(left));
        lines.push(Line::default().with(Style::Warn, text));
    }
    let merges =
        counts.iter().map(|((region, word), count)| json!({ "into": name(*region), "what": word, "keys": count }));
    Plan { lines, json: json!({ "merges": merges.collect::<Vec<_>>(), "left": left }) }
}

/// Whether there is anything that can be mended.
pub(super) fn is_due(findings: &Findings) -> bool {
    mendable(findings).next().is_some()
}

fn mendable(findings: &Findings) -> impl Iterator<Item = &Difference> {
    findings.differences.iter().filter(|found| found.what.is_mendable())
}

fn keys(count: u64) -> String {
    if count == 1 { "1 key".to_owned() } else { format!("{} keys", grouped(count)) }
}

/// What has become of a repair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mended {
    /// Records that won.
    applied: u64,
    /// Records that were no news any more, or are gone.
    stale: u64,
    /// Records that were refused, and why the last one was.
    refused: u64,
    reason: Option<String>,
}

impl Mended {
    /// To a person.
    pub(super) fn line(&self) -> Line {
        let mut text = format!("{} merged", grouped(self.applied));
        if self.stale > 0 {
            text.push_str(&format!(", {} no longer needed", grouped(self.stale)));
        }
        if self.refused > 0 {
            text.push_str(&format!(", {} refused", grouped(self.refused)));
        }
        if let Some(reason) = &self.reason {
            text.push_str(&format!(" ({reason})"));
        }
        Line::default().with(if self.refused == 0 { Style::Good } else { Style::Warn }, text + ".")
    }

    /// To a program.
    pub(super) fn json(&self) -> Value {
        json!({ "applied": self.applied, "stale": self.stale, "refused": self.refused, "reason": self.reason })
    }
}

/// Carries the records.
///
/// # Errors
/// Those of a region that cannot be asked; those of standard output. What was merged until then stays.
pub(super) async fn mend(findings: &Findings, regions: &mut [Region], output: &mut Output) -> anyhow::Result<Mended> {
    let (mut mended, of) = (Mended::default(), mendable(findings).count());
    for (done, found) in mendable(findings).enumerate() {
        output.progress("keys mended", done, of)?;
        let Some(record) = regions[found.newest_at].fetch(&found.key).await? else {
            mended.stale += 1;
            continue;
        };
        match regions[found.region].merge(&found.key, &record).await {
            Ok(outcome) if outcome == "APPLIED" => mended.applied += 1,
            Ok(outcome) if outcome == "STALE" => mended.stale += 1,
            Ok(_) => mended.refused += 1,
            Err(AskError::Refused { reason, .. }) => {
                mended.refused += 1;
                mended.reason = Some(reason);
            }
            Err(error) => return Err(error.into()),
        }
    }
    output.progress("keys mended", of, of)?;
    Ok(mended)
}
