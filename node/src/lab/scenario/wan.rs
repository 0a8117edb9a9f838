//! The digger in the cable trench: links of the WAN, by its control.

use anyhow::Context;
use config::RegionName;
use hyper::Method;
use scenario::{LinkPath, timeline::LinkChange};
use serde_json::{Value, json};

use super::super::{look, plan::Plan};

/// Changes a link, or both ways.
///
/// # Errors
/// If the WAN refuses, or does not answer.
pub(super) async fn change(plan: &Plan, link: &LinkPath, change: LinkChange) -> anyhow::Result<()> {
    for (from, to) in link.pairs() {
        let body = match change {
            LinkChange::Cut => json!({ "state": "blackhole" }),
            LinkChange::Reset => json!({ "state": "reset" }),
            LinkChange::Slow(delay) => json!({ "delay_ms": delay.as_secs_f64() * 1e3 }),
            LinkChange::Jitter(jitter) => json!({ "jitter_ms": jitter.as_secs_f64() * 1e3 }),
            LinkChange::Loss(millionths) => json!({ "loss": f64::from(millionths) / 1e6 }),
            LinkChange::Rate(rate) => json!({ "rate_mbit": rate }),
            LinkChange::Mend => as_planned(plan, from, to)?,
        };
        send(plan, Method::PUT, &format!("/links/{from}/{to}"), &body).await?;
    }
    Ok(())
}

/// Cuts a region off from all others.
///
/// # Errors
/// If the WAN refuses, or does not answer.
pub(super) async fn isolate(plan: &Plan, region: &RegionName) -> anyhow::Result<()> {
    send(plan, Method::POST, "/partition", &json!({ "regions": [region.as_str()] })).await
}

/// Ends all cuts.
///
/// # Errors
/// If the WAN does not answer.
pub(super) async fn heal(plan: &Plan) -> anyhow::Result<()> {
    send(plan, Method::POST, "/heal", &json!({})).await
}

/// What brings a link back to what it was at the start.
fn as_planned(plan: &Plan, from: &RegionName, to: &RegionName) -> anyhow::Result<Value> {
    let link = plan.link(from.as_str(), to.as_str()).with_context(|| format!("there is no link {from} -> {to}"))?;
    let planned = serde_json::to_value(link)?;
    let keys = ["delay_ms", "jitter_ms", "rate_mbit", "loss"];
    let mut body = json!({ "state": "up" });
    for key in keys {
        // A rate that is not there is no limit, which the control calls null.
        body[key] = planned.get(key).cloned().unwrap_or(Value::Null);
    }
    Ok(body)
}

async fn send(plan: &Plan, method: Method, path: &str, body: &Value) -> anyhow::Result<()> {
    let topology = plan.topology.as_ref().context("a lab of one region has no WAN")?;
    look::send_json(topology.control, method, path, body)
        .await
        .with_context(|| format!("the WAN refuses {path} {body}"))
}
