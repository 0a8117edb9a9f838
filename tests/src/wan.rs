//! The control of the simulated WAN.

use anyhow::Result;
use serde_json::{Value, json};

use crate::http;

/// A WAN between regions, whose links can be changed and cut.
#[derive(Clone, Debug)]
pub struct Wan {
    control: String,
}

impl Wan {
    pub(crate) fn at(control: &str) -> Self {
        Self { control: format!("http://{control}") }
    }

    /// Where the control is, as `HOST:PORT`.
    pub fn control(&self) -> &str {
        self.control.trim_start_matches("http://")
    }

    /// Changes one link: any of `delay_ms`, `jitter_ms`, `rate_mbit`, `loss`, `state`.
    ///
    /// # Errors
    /// If it refuses, or does not answer.
    pub fn change(&self, from: &str, to: &str, change: &Value) -> Result<()> {
        http::put(&format!("{}/links/{from}/{to}", self.control), change)
    }

    /// Cuts these regions off from all others, both ways; everything is lost in silence.
    ///
    /// # Errors
    /// If it refuses, or does not answer.
    pub fn partition(&self, regions: &[&str]) -> Result<()> {
        http::post(&format!("{}/partition", self.control), &json!({ "regions": regions }))
    }

    /// Puts every link up again.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn heal(&self) -> Result<()> {
        http::post(&format!("{}/heal", self.control), &json!({}))
    }

    /// The one-way delay of a link at present, in milliseconds.
    ///
    /// # Errors
    /// If it does not answer, or has no such link.
    pub fn delay_ms(&self, from: &str, to: &str) -> Result<f64> {
        let all: Value = http::read_json(&format!("{}/links", self.control))?;
        let links = all["links"].as_array().into_iter().flatten();
        let link = links.into_iter().find(|link| link["from"] == from && link["to"] == to);
        link.and_then(|link| link["delay_ms"].as_f64()).ok_or_else(|| anyhow::anyhow!("no link {from} -> {to}"))
    }
}
