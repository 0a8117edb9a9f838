//! HTTP as an operator uses it: small requests to this machine.

use std::{sync::OnceLock, time::Duration};

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};
use ureq::Agent;

/// How long an answer may take before it is none.
const TIMEOUT: Duration = Duration::from_secs(10);

fn agent() -> &'static Agent {
    static AGENT: OnceLock<Agent> = OnceLock::new();
    // A proxy of the environment cannot reach this machine's loopback. Connections are not kept: the process at the
    // other end may be killed between two requests.
    AGENT.get_or_init(|| {
        let config = Agent::config_builder().timeout_global(Some(TIMEOUT)).proxy(None).max_idle_connections(0);
        config.build().new_agent()
    })
}

/// `GET`, as text.
///
/// # Errors
/// If there is no answer, or one that is not 2xx.
pub(crate) fn read_text(url: &str) -> Result<String> {
    let response = agent().get(url).call().with_context(|| format!("GET {url}"))?;
    response.into_body().read_to_string().with_context(|| format!("GET {url}"))
}

/// `GET`, as JSON.
///
/// # Errors
/// As for `read_text`, and if it is not such JSON.
pub fn read_json<T: DeserializeOwned>(url: &str) -> Result<T> {
    serde_json::from_str(&read_text(url)?).with_context(|| format!("GET {url}"))
}

/// The sum of all samples of a metric of the process whose admin port this is; zero if it has none.
///
/// # Errors
/// If it does not answer, or not with metrics.
pub(crate) fn metric(admin: &str, name: &str) -> Result<f64> {
    let text = read_text(&format!("http://{admin}/metrics"))?;
    let of_name = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([' ', '{']))
    };
    let samples = text.lines().filter(of_name).map(|line| {
        let value = line.rsplit(' ').next().unwrap_or_default();
        value.parse::<f64>().with_context(|| format!("no sample: {line}"))
    });
    samples.sum()
}

/// `PUT` of JSON.
///
/// # Errors
/// If there is no answer, or one that is not 2xx.
pub(crate) fn put(url: &str, body: &impl Serialize) -> Result<()> {
    agent().put(url).send_json(body).map(drop).with_context(|| format!("PUT {url}"))
}

/// `POST` of JSON.
///
/// # Errors
/// If there is no answer, or one that is not 2xx.
pub(crate) fn post(url: &str, body: &impl Serialize) -> Result<()> {
    agent().post(url).send_json(body).map(drop).with_context(|| format!("POST {url}"))
}
