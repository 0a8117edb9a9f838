//! The alerts, in a real Prometheus: they fire when a link is cut and resolve when it is healed. And the dashboard: each of its panels
//! has something to show.
//!
//! `config/prometheus/meridian.rules.test.yml` says when each alert fires, on made-up series. This shows that the series
//! are really there, under the names and with the labels that the rules look for, and that they really move. The rules
//! are those that are shipped, but in a copy of which every `for:` and `interval:` is divided ([`FASTER`]); thresholds
//! and ranges stay. Prometheus scrapes as much faster. It is the one that a lab has if it is told to.
//!
//! On a machine without Prometheus this says so and passes, unless `CI` is set: there a skipped test is a failed one.

use std::{
    collections::BTreeSet,
    env, io,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use meridian_tests::{Lab, note, of_one_node, read_json, until, with_lab};
use serde_json::Value;

/// Has a lab watched by rules that are faster than those that are shipped.
const FASTER: &str = "--prometheus=5";

/// An alert that fires: its name, and the link that it is about.
type Alert = (String, String, String);

#[test]
fn alerts_fire_when_a_link_is_cut_and_resolve_when_it_is_healed() {
    if !is_installed() {
        return;
    }
    with_lab(&of_one_node(&["--regions=us-east,eu-west", FASTER]), |lab| {
        let lab: &Lab = lab;
        let prometheus = Prometheus::of(lab)?;
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
    with_lab(&["--regions=us-east,eu-west", "--primaries=1", FASTER], |lab| {
        let prometheus = Prometheus::of(lab)?;
        for region in &lab.regions {
            region.run::<()>(&["SET", &region.name, "read here"])?;
            region.until_result(&["GET", &region.name], &Some("read here".to_owned()))?;
        }
        for (title, queries) in panels()? {
            // Those that show a number show zero where they find nothing, so what they look for is looked for by itself.
            for metric in queries.iter().flat_map(|query| metrics(query)) {
                until(&format!("there is a {metric} for {title}"), || {
                    Ok((prometheus.query(metric)? > 0).then_some(()))
                })?;
            }
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

/// The metrics that a query looks at.
fn metrics(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("meridian_") || *word == "up")
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

/// The Prometheus of a lab.
struct Prometheus {
    url: String,
}

impl Prometheus {
    fn of(lab: &Lab) -> Result<Self> {
        let address = lab.prometheus.as_ref().context("the lab does not say where its Prometheus is")?;
        Ok(Self { url: format!("http://{address}/api/v1") })
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
