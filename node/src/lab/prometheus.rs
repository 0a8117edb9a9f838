//! A real Prometheus beside a lab, with the alert rules that are shipped: what an operator would be told.
//!
//! It scrapes every node and gateway, each under the name of its region. A run that takes seconds has the rules in a copy in which every
//! `for:` and `interval:` is divided, and scraping is as much faster; thresholds stay.

use std::{
    cmp::Reverse,
    fs::{self, File},
    net::SocketAddr,
    process::Stdio,
};

use anyhow::{Context, bail};
use scenario::rules;
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time,
};

use super::{
    limits, look,
    plan::{PROMETHEUS, Plan, PrometheusPlan},
};

/// An alert that fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alert {
    /// What it is called.
    pub(super) name: String,
    /// Whether somebody should come now.
    pub(super) is_critical: bool,
    /// What it says of whom.
    pub(super) summary: String,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Prometheus {
    address: SocketAddr,
    /// It ends when its standard input closes, however this process ends.
    process: Child,
}

/// Makes sure that there is a Prometheus.
///
/// # Errors
/// If there is none.
pub(super) fn check_installed() -> anyhow::Result<()> {
    let mut command = std::process::Command::new("prometheus");
    let status = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => bail!("no `prometheus` can be run here: install it (Debian: package prometheus), or do without alerts"),
    }
}

impl Prometheus {
    /// Starts it, if there is one in the plan.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn start(plan: &Plan) -> anyhow::Result<Option<Self>> {
        let Some(PrometheusPlan { address, faster }) = plan.prometheus else { return Ok(None) };
        let file = |extension| plan.file(PROMETHEUS, extension);
        fs::write(plan.dir.join("rules.yml"), rules::faster(config::ALERT_RULES, faster)?)?;
        let targets = plan.regions.iter().flat_map(|region| {
            let admins = region.nodes.iter().map(|node| node.admin);
            let admins = admins.chain(region.gateways.iter().map(|gateway| gateway.admin));
            admins.map(|admin| (&region.name, admin))
        });
        fs::write(file("yml"), rules::scraping(targets, faster))?;
        let mut command = Command::new("sh");
        // Prometheus knows no leash, so a shell holds it.
        command.args(["-c", r#""$@" & child=$!; read -r _; kill "$child"; wait "$child""#, "sh", "prometheus"]);
        command.arg(format!("--config.file={}", file("yml").display()));
        command.arg(format!("--storage.tsdb.path={}", file("data").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
        let log = File::create(file("log"))?;
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).process_group(0);
        Ok(Some(Self { address, process: command.spawn().context("cannot start prometheus")? }))
    }

    /// Ends it, before its files go.
    pub(super) async fn stop(mut self) {
        drop(self.process.stdin.take());
        let _ = time::timeout(limits::GRACE, self.process.wait()).await;
    }

    /// The alerts that fire, the critical ones first; none if it does not answer.
    pub(super) async fn firing(&self) -> Option<Vec<Alert>> {
        let answer: Value = look::read_json(self.address, "/api/v1/alerts").await?;
        Some(firing(&answer))
    }
}

/// Those that fire in an answer of Prometheus.
fn firing(answer: &Value) -> Vec<Alert> {
    let alerts = answer["data"]["alerts"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let alert = |alert: &Value| Alert {
        name: text(&alert["labels"]["alertname"]),
        is_critical: alert["labels"]["severity"] == "critical",
        summary: text(&alert["annotations"]["summary"]),
    };
    let mut firing: Vec<_> = alerts.filter(|alert| alert["state"] == "firing").map(alert).collect();
    firing.sort_by(|a, b| {
        (Reverse(a.is_critical), &a.name, &a.summary).cmp(&(Reverse(b.is_critical), &b.name, &b.summary))
    });
    firing
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::firing;

    #[test]
    fn what_fires_is_told_the_critical_first() {
        let alert = |name: &str, severity: &str, state: &str| json!({"labels": {"alertname": name, "severity": severity}, "annotations": {"summary": "it is so"}, "state": state});
        let answer = json!({"data": {"alerts": [
            alert("A", "warning", "firing"), alert("B", "critical", "firing"), alert("C", "critical", "pending"),
        ]}});
        let told: Vec<_> = firing(&answer).into_iter().map(|alert| (alert.name, alert.is_critical)).collect();
        assert_eq!(told, [("B".to_owned(), true), ("A".to_owned(), false)]);
        assert!(firing(&json!({"status": "error"})).is_empty());
    }
}
