//! The alerts, in a real Prometheus: they fire when a link is cut and resolve when it is healed. And the dashboard: each of its panels
//! has something to show.
//!
//! `config/prometheus/meridian.rules.test.yml` says when each alert fires, on made-up series. This shows that the series
//! are really there, under the names and with the labels that the rules look for, and that they really move. The rules
//! are those that are shipped, but in a copy of which every `for:` and `interval:` is divided by [`FASTER`]; thresholds
//! and ranges stay. Prometheus scrapes as much faster.
//!
//! The dashboard is asked of the Prometheus that a lab has if it is told to.
//!
//! On a machine without Prometheus this says so and passes, unless `CI` is set: there a skipped test is a failed one.

use std::{
    collections::BTreeSet,
    env, fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use meridian_tests::{Lab, Leashed, note, of_one_node, read_json, until, with_lab};
use scenario::rules;
use serde_json::Value;

/// By how much the rules are faster than those that are shipped.
const FASTER: u64 = 5;

/// An alert that fires: its name, and the link that it is about.
type Alert = (String, String, String);

#[test]
fn alerts_fire_when_a_link_is_cut_and_resolve_when_it_is_healed() {
    if !is_installed() {
        return;
    }
    with_lab(&of_one_node(&["--regions=us-east,eu-west"]), |lab| {
        let lab: &Lab = lab;
        let prometheus = Prometheus::start(lab)?;
        for (from, _) in lab.pairs() {
            from.run::<()>(&["SET", "written in", &from.name])?;
        }
        for healthy in ["meridian:link_up:max == 1", "meridian:replication_lag_seconds:max < 1"] {
            until(&format!("{healthy} for both links"), || Ok((prometheus.query(healthy)? == 2).then_some(())))?;
        }
        ensure!(prometheus.firing()?.is_empty(), "{:?} although all is well", prometheus.firing()?);

        lab.wan.partition(&["us-east"])?;
        let expected = ["MeridianLinkDown", "MeridianReplicationLagHigh"].into_iter().flat_map(|name| {
            let links = lab.pairs();
            links.map(move |(from, to)| (name.to_owned(), from.name.clone(), to.name.clone()))
        });
        let expected: BTreeSet<Alert> = expected.collect();
        until("the alerts fire", || {
            let firing = prometheus.firing()?;
            ensure!(firing.is_superset(&expected), "these fire: {firing:?}");
            Ok(Some(()))
        })?;
        ensure!(prometheus.firing()? == expected, "more fires than what is wrong: {:?}", prometheus.firing()?);

        lab.wan.heal()?;
        until("the alerts resolve", || {
            let firing = prometheus.firing()?;
            ensure!(firing.is_empty(), "these fire: {firing:?}");
            Ok(Some(()))
        })
    });
}

#[test]
fn every_panel_of_the_dashboard_has_something_to_show() {
    if !is_installed() {
        return;
    }
    with_lab(&["--regions=us-east,eu-west", "--primaries=1", "--prometheus"], |lab| {
        let address = lab.prometheus.as_ref().context("the lab does not say where its Prometheus is")?;
        let prometheus = Prometheus { url: format!("http://{address}/api/v1"), _process: None };
        for region in &lab.regions {
            region.run::<()>(&["SET", &region.name, "read here"])?;
            region.until_result(&["GET", &region.name], &Some("read here".to_owned()))?;
        }
        for (title, queries) in panels()? {
            until(&format!("there is something to show as {title}"), || {
                let shown: Result<Vec<_>> = queries.iter().map(|query| prometheus.query(query)).collect();
                Ok(shown?.into_iter().any(|series| series > 0).then_some(()))
            })?;
        }
        Ok(())
    });
}

/// The panels of the dashboard, each by its title, with what they ask for of all regions.
fn panels() -> Result<Vec<(String, Vec<String>)>> {
    let dashboard: Value = serde_json::from_str(include_str!("../../config/grafana/meridian.json"))?;
    let panels = dashboard["panels"].as_array().context("no panels")?.iter().filter(|panel| panel["type"] != "row");
    let panels = panels.map(|panel| {
        let title = panel["title"].as_str().context("a panel without a title")?;
        let queries = panel["targets"].as_array().into_iter().flatten().map(|target| {
            ensure!(target["datasource"]["uid"] == "${datasource}", "{title} asks a Prometheus of its own");
            let query = target["expr"].as_str().context("no query")?;
            Ok(query.replace("$__rate_interval", "20s").replace("$region", ".*"))
        });
        Ok((title.to_owned(), queries.collect::<Result<_>>()?))
    });
    panels.collect()
}

fn is_installed() -> bool {
    match Command::new("prometheus").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound && env::var_os("CI").is_none() => {
            note("SKIPPED: prometheus is not installed, the alerts are not tested (Debian: package prometheus)");
            false
        }
        Err(error) => panic!("cannot run prometheus: {error}"),
    }
}

/// A Prometheus that scrapes a lab.
struct Prometheus {
    url: String,
    /// None if it is the lab's own.
    _process: Option<Leashed>,
}

impl Prometheus {
    fn start(lab: &Lab) -> Result<Self> {
        let dir = lab.dir.path();
        fs::write(dir.join("rules.yml"), rules::faster(config::ALERT_RULES, FASTER)?)?;
        let targets = lab.regions.iter().map(|region| (&region.name, &region.admin));
        let config = rules::scraping(targets, FASTER);
        fs::write(dir.join("prometheus.yml"), config)?;
        let address = free_address()?;
        let mut command = Command::new("sh");
        // Prometheus knows no leash, so a shell holds it.
        command.args(["-c", r#""$@" & child=$!; read -r _; kill "$child"; wait "$child""#, "sh", "prometheus"]);
        command.arg(format!("--config.file={}", dir.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn").stdout(Stdio::null());
        let process = Leashed::start(&mut command, &dir.join("prometheus.log"))?;
        Ok(Self { url: format!("http://{address}/api/v1"), _process: Some(process) })
    }

    /// The alerts that fire.
    fn firing(&self) -> Result<BTreeSet<Alert>> {
        let answer: Value = read_json(&format!("{}/alerts", self.url))?;
        let alerts = answer["data"]["alerts"].as_array().context("no list of alerts")?;
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing").map(|alert| {
            let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
            (label("alertname"), label("from"), label("to"))
        });
        Ok(firing.collect())
    }

    /// How many series a query has.
    fn query(&self, query: &str) -> Result<usize> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer: Value = read_json(&format!("{}/query?query={encoded}", self.url))?;
        Ok(answer["data"]["result"].as_array().context("no result")?.len())
    }
}

/// An address that nobody listens at.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
