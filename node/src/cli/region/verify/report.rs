//! What a comparison says, to a person and to a program.

use node_core::store::Version;
use serde_json::{Value, json};

use super::{compare::Difference, look::Findings};
use crate::{
    cli::region::{connection::Traffic, contact::Region},
    terminal::{Line, Style, grouped},
};

/// What of a key is shown to a person.
const KEY_CHARS_MAX: usize = 32;

/// What was found, with at most `limit` keys.
pub(super) fn lines(findings: &Findings, regions: &[Region], traffic: &Traffic, limit: usize) -> Vec<Line> {
    let names = names(regions);
    let mut lines = vec![head(findings, &names)];
    if !findings.agree() {
        lines.extend(table(findings, regions, limit));
    }
    let (sent, received) = traffic.bytes();
    let (sent, received) = (grouped(sent), grouped(received));
    lines.push(Line::default().with(Style::Dim, format!("{sent} bytes sent, {received} received.")));
    lines
}

fn names(regions: &[Region]) -> String {
    let names: Vec<_> = regions.iter().map(|region| region.identity.name.as_str()).collect();
    let (last, others) = names.split_last().expect("regions were named");
    format!("{} and {last}", others.join(", "))
}

fn head(findings: &Findings, names: &str) -> Line {
    if findings.agree() {
        let keys = findings.keys.iter().max().copied().unwrap_or_default();
        return Line::default().with(Style::Good, format!("{names} agree: 16,384 slots, {} keys.", grouped(keys)));
    }
    let (slots, keys) = (findings.slots() as u64, findings.differences.len() as u64);
    let more = if findings.is_cut { " or more" } else { "" };
    let [slots, keys] = [(slots, "slot"), (keys, "key")].map(|(count, word)| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{} {word}{plural}", grouped(count))
    });
    Line::default().with(Style::Bad, format!("{names} differ in {slots}: {keys}{more}."))
}

fn table(findings: &Findings, regions: &[Region], limit: usize) -> Vec<Line> {
    let key = |found: &Difference| {
        let text = found.key.escape_ascii().to_string();
        if text.len() > KEY_CHARS_MAX { format!("{}...", &text[..KEY_CHARS_MAX - 3]) } else { text }
    };
    let shown = || findings.differences.iter().take(limit);
    let width = |texts: &mut dyn Iterator<Item = usize>, least: usize| texts.max().unwrap_or(0).max(least) + 2;
    let keys = width(&mut shown().map(|found| key(found).len()), 3);
    let names = width(&mut regions.iter().map(|region| region.identity.name.len()), 6);
    let row = |style, cells: [&str; 7]| {
        let [slot, name, what, region, held, newest, at] = cells;
        let line = Line::default().left(style, 8, &format!("  {slot}")).left(style, keys, name);
        let line = line.left(style, 10, what).left(style, names, region).left(style, STAMP, held);
        line.left(style, STAMP, newest).left(style, names, at)
    };
    let mut lines = vec![row(Style::Dim, ["slot", "key", "is", "in", "holds", "newest", "of"])];
    for found in shown() {
        let name = |region: usize| regions[region].identity.name.as_str();
        let (slot, held, newest) = (found.slot.to_string(), version(found.held), version(Some(found.newest)));
        let key = key(found);
        let cells = [&slot, &key, found.what.word(), name(found.region), &held, &newest, name(found.newest_at)];
        let note = if found.on_its_way { "perhaps on its way" } else { found.what.note() };
        lines.push(row(Style::Plain, cells).with(Style::Dim, note));
    }
    let hidden = findings.differences.len().saturating_sub(limit) as u64;
    if hidden > 0 {
        lines.push(Line::default().with(Style::Dim, format!("  and {} more: see --limit", grouped(hidden))));
    }
    lines
}

/// The width of a stamp and a space.
const STAMP: usize = 25;

fn version(version: Option<Version>) -> String {
    version.map_or_else(|| "-".to_owned(), |version| version.stamp.to_string())
}

/// The same to a program.
pub(super) fn json(findings: &Findings, regions: &[Region], traffic: &Traffic, limit: usize) -> Value {
    let name = |region: usize| regions[region].identity.name.as_str();
    let differences = findings.differences.iter().take(limit).map(|found| {
        json!({
            "slot": found.slot.number(),
            "key": String::from_utf8_lossy(&found.key),
            "is": found.what.word(),
            "note": if found.on_its_way { "perhaps on its way" } else { found.what.note() },
            "in": name(found.region),
            "holds": found.held.map(|version| version.stamp.to_string()),
            "newest": found.newest.stamp.to_string(),
            "of": name(found.newest_at),
        })
    });
    let (sent, received) = traffic.bytes();
    let keys = regions.iter().zip(&findings.keys);
    json!({
        "agree": findings.agree(),
        "keys": keys.map(|(region, keys)| (region.identity.name.clone(), json!(keys))).collect::<serde_json::Map<_, _>>(),
        "slots_differing": findings.slots(),
        "keys_differing": findings.differences.len(),
        "is_cut": findings.is_cut,
        "differences": differences.collect::<Vec<_>>(),
        "bytes_sent": sent,
        "bytes_received": received,
    })
}
