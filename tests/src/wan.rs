//! The control of the simulated WAN.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::http;

/// A WAN between regions, whose links can be changed and cut.
#[derive(Clone, Debug)]
pub struct Wan {
    /// None in a lab of one region.
    control: Option<String>,
}

impl Wan {
    pub(crate) fn at(control: Option<&str>) -> Self {
        Self { control: control.map(str::to_owned) }
    }

    /// Where the control is, as `HOST:PORT`; empty if there is none.
    pub fn control(&self) -> &str {
        self.control.as_deref().unwrap_or_default()
    }

    fn url(&self, path: &str) -> Result<String> {
        let control = self.control.as_ref().context("a lab of one region has no WAN")?;
        Ok(format!("http://{control}{path}"))
    }

    /// Changes one link: any of `delay_ms`, `jitter_ms`, `rate_mbit`, `loss`, `state`.
    ///
    /// # Errors
    /// If it refuses, or does not answer.
    pub fn change(&self, from: &str, to: &str, change: &Value) -> Result<()> {
        http::put(&self.url(&format!("/links/{from}/{to}"))?, change)
    }

    /// Cuts these regions off from all others, both ways; everything is lost in silence.
    ///
    /// # Errors
    /// If it refuses, or does not answer.
    pub fn partition(&self, regions: &[&str]) -> Result<()> {
        http::post(&self.url("/partition")?, &json!({ "regions": regions }))
    }

    /// Puts every link up again.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn heal(&self) -> Result<()> {
        http::post(&self.url("/heal")?, &json!({}))
    }

    /// The one-way delay of a link at present, in milliseconds.
    ///
    /// # Errors
    /// If it does not answer, or has no such link.
    pub fn delay_ms(&self, from: &str, to: &str) -> Result<f64> {
        let all: Value = http::read_json(&self.url("/links")?)?;
        let links = all["links"].as_array().into_iter().flatten();
        let link = links.into_iter().find(|link| link["from"] == from && link["to"] == to);
        link.and_then(|link| link["delay_ms"].as_f64()).ok_or_else(|| anyhow::anyhow!("no link {from} -> {to}"))
    }
}
