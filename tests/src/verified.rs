//! The comparison of regions: `meridian region verify`, as a program would run it.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::{Region, meridian};

/// What a comparison has found.
#[derive(Clone, Debug, Deserialize)]
pub struct Verified {
    /// Whether the regions hold the same.
    pub agree: bool,
    /// How many keys were compared, by region.
    pub keys: std::collections::BTreeMap<String, u64>,
    /// In how many slots something differs.
    pub slots_differing: u64,
    /// How many keys differ, counted once for each region that differs.
    pub keys_differing: u64,
    /// Those of them that are listed.
    pub differences: Vec<Differing>,
    /// Bytes that were sent to nodes.
    pub bytes_sent: u64,
    /// Bytes that came from them.
    pub bytes_received: u64,
}

/// A key in which one region differs.
#[derive(Clone, Debug, Deserialize)]
pub struct Differing {
    /// Its slot.
    pub slot: u16,
    /// The key.
    pub key: String,
    /// `missing`, `older` or `conflict`.
    pub is: String,
    /// What else is said of it.
    pub note: String,
    /// The region.
    #[serde(rename = "in")]
    pub region: String,
}

impl Verified {
    /// What differs, as key, word and region, sorted.
    pub fn found(&self) -> Vec<(&str, &str, &str)> {
        let found = self.differences.iter();
        let mut found: Vec<_> = found.map(|of| (of.key.as_str(), of.is.as_str(), of.region.as_str())).collect();
        found.sort_unstable();
        found
    }
}

/// What the command has said, and how it has ended.
#[derive(Clone, Debug)]
pub struct Said {
    /// The exit code.
    pub code: Option<i32>,
    /// The objects that it printed, one from each line.
    pub lines: Vec<Value>,
    /// What it complained of.
    pub complaints: String,
}

impl Said {
    /// What was found, of the last comparison if there was more than one.
    ///
    /// # Errors
    /// If there was none; with what it complained of.
    pub fn verified(&self) -> Result<Verified> {
        let result = self.lines.iter().rev().find_map(|line| line.get("result"));
        let result = result.with_context(|| format!("nothing was found: {}", self.complaints))?;
        serde_json::from_value(result.clone()).with_context(|| format!("not what is promised: {result}"))
    }
}

/// Runs `meridian region verify` over a node of each of these regions, with these words besides.
///
/// # Errors
/// If it cannot be started, or prints what is no JSON.
pub fn verify<'r>(regions: impl IntoIterator<Item = &'r Region>, words: &[&str]) -> Result<Said> {
    let nodes: Vec<_> = regions.into_iter().map(|region| region.addr.as_str()).collect();
    let mut command = Command::new(meridian()?);
    command.args(["region", "verify", "--json", "--nodes", &nodes.join(",")]).args(words).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let lines = String::from_utf8_lossy(&output.stdout);
    let lines = lines.lines().map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}")));
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Said { code: output.status.code(), lines: lines.collect::<Result<_>>()?, complaints })
}
