//! A real Prometheus beside a run, with the alert rules that are shipped.
//!
//! The rules are a copy in which every `for:` and `interval:` is divided by [`FASTER`], and scraping is as much faster; thresholds
//! stay. It runs only if the scenario expects something of an alert, and then it must be installed.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::Stdio,
};

use anyhow::{Context, bail};
use scenario::rules;
use serde_json::Value;
use tokio::process::{Child, Command};

use super::super::{look, plan::Plan};

/// By how much the rules are faster than those that are shipped.
const FASTER: u64 = 5;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Alerts {
    address: SocketAddr,
    /// It ends when its standard input closes, however this process ends.
    _process: Child,
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
        _ => bail!(
            "the scenario expects an alert, and no `prometheus` can be run here: install it, or leave the alert out"
        ),
    }
}

impl Alerts {
    /// Starts it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn start(plan: &Plan) -> anyhow::Result<Self> {
        let dir = &plan.dir;
        fs::write(dir.join("rules.yml"), rules::faster(config::ALERT_RULES, FASTER)?)?;
        let admins = plan.nodes().map(|node| node.admin).chain(plan.gateways().map(|gateway| gateway.admin));
        fs::write(dir.join("prometheus.yml"), rules::scraping(admins, FASTER))?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new("sh");
        // Prometheus knows no leash, so a shell holds it.
        command.args(["-c", r#""$@" & child=$!; read -r _; kill "$child"; wait "$child""#, "sh", "prometheus"]);
        command.arg(format!("--config.file={}", dir.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
        let log = File::create(dir.join("prometheus.log"))?;
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).process_group(0);
        Ok(Self { address, _process: command.spawn().context("cannot start prometheus")? })
    }

    /// The names of the alerts that fire; none while it does not answer.
    pub(super) async fn firing(&self) -> BTreeSet<String> {
        let answer: Option<Value> = look::read_json(self.address, "/api/v1/alerts").await;
        let alerts = answer.as_ref().and_then(|answer| answer["data"]["alerts"].as_array());
        let firing = alerts.into_iter().flatten().filter(|alert| alert["state"] == "firing");
        firing.filter_map(|alert| alert["labels"]["alertname"].as_str().map(str::to_owned)).collect()
    }
}
