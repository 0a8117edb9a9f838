//! `meridian region restamp`: a region whose clock was ahead comes back to the present.
//!
//! Every primary is asked what it holds from the future, which is the plan; who agrees to it has each of them stamp that anew, one after
//! the other, and waits until it has. Whoever is interrupted half-way says the same again: where nothing lies in the future any more
//! there is nothing to do.

use std::process::ExitCode;

use clap::Args;
use node_core::resp::Value;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    WhereArgs,
    connection::AskError,
    contact::{Region, meet},
    limits::{CHANGE_POLL, RESTAMP_MAX},
    replies,
};
use crate::{
    cli::cluster::output::Plan,
    terminal::{Line, Style, grouped},
};

/// Bring a region back whose clock was ahead, once that is set right
///
/// What a region has stamped in the future wins over all that comes until time has caught up, and other regions hold its links as long.
/// Values, deletes and expiries stay what they are and are given stamps of the present, in a new life of the region; other regions then
/// take them. Each shard stops for a moment, and its replicas are fed anew. If several regions took stamps of the future in, restamp the one whose
/// clock was furthest ahead last.
#[derive(Debug, Args)]
pub(crate) struct RestampArgs {
    #[command(flatten)]
    common: WhereArgs,
}

/// What a primary holds from the future.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    region: String,
    primary: String,
    records: u64,
    slots: u64,
    ahead_ms: u64,
}

pub(super) async fn run(args: RestampArgs) -> anyhow::Result<ExitCode> {
    let mut output = args.common.change.output();
    let mut regions = meet(&args.common.connection.dialler()?, &args.common.nodes).await?;
    let mut found = Vec::new();
    for (index, region) in regions.iter_mut().enumerate() {
        for primary in region.primaries() {
            found.push((index, look(region, &primary).await?));
        }
    }
    found.retain(|(_, found)| found.ahead_ms > 0);
    if found.is_empty() {
        output.result("Nothing lies in the future.", json!({ "restamped": [] }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let all: Vec<_> = found.iter().map(|(_, found)| found.clone()).collect();
    let plan = Plan {
        lines: all.iter().map(line).collect(),
        json: json!({ "restamp": all.iter().map(Found::json).collect::<Vec<_>>() }),
    };
    if !output.agree(&plan, args.common.change.consent())? {
        return Ok(ExitCode::SUCCESS);
    }
    for (done, (index, found)) in found.iter().enumerate() {
        output.progress("primaries restamped", done, all.len())?;
        restamp(&mut regions[*index], &found.primary).await?;
    }
    output.progress("primaries restamped", all.len(), all.len())?;
    let records: u64 = all.iter().map(|found| found.records).sum();
    let text = format!("{} records were given stamps of the present.", grouped(records));
    output.result(&text, json!({ "restamped": all.iter().map(Found::json).collect::<Vec<_>>() }))?;
    Ok(ExitCode::SUCCESS)
}

/// Has a primary restamp, and waits until it has.
async fn restamp(region: &mut Region, primary: &str) -> anyhow::Result<()> {
    region.ask(primary, &[b"REGION", b"RESTAMP"]).await?;
    let deadline = Instant::now() + RESTAMP_MAX;
    loop {
        sleep(CHANGE_POLL).await;
        let why = match look(region, primary).await {
            Ok(Found { ahead_ms: 0, .. }) => return Ok(()),
            Ok(_) => "it still holds stamps of the future; its log says why".to_owned(),
            // It goes on as another life, and answers when it has a lease for that.
            Err(error) if error.may_pass() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        anyhow::ensure!(Instant::now() < deadline, "{} is not restamped: {primary}: {why}", region.identity.name);
    }
}

/// Asks a primary what it holds from the future.
async fn look(region: &mut Region, primary: &str) -> Result<Found, AskError> {
    let reply = region.ask(primary, &[b"REGION", b"RESTAMP", b"DRYRUN"]).await?;
    let [records, slots, ahead_ms] = numbers(&reply).ok_or_else(|| AskError::Misfit(primary.to_owned()))?;
    Ok(Found { region: region.identity.name.clone(), primary: primary.to_owned(), records, slots, ahead_ms })
}

/// The numbers of a reply that names each.
fn numbers(reply: &Value) -> Option<[u64; 3]> {
    let pairs = replies::list(reply)?;
    let number = |name: &str| {
        let at = pairs.iter().step_by(2).position(|word| replies::text(word).as_deref() == Some(name))?;
        match pairs.get(2 * at + 1)? {
            Value::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    };
    Some([number("records")?, number("slots")?, number("ahead-ms")?])
}

impl Found {
    fn json(&self) -> serde_json::Value {
        let Self { region, primary, records, slots, ahead_ms } = self;
        json!({
            "region": region, "primary": primary, "records": records, "slots": slots,
            "ahead_seconds": *ahead_ms as f64 / 1e3,
        })
    }
}

fn line(found: &Found) -> Line {
    let (records, slots) = (grouped(found.records), grouped(found.slots));
    let ahead = std::time::Duration::from_millis(found.ahead_ms).as_secs_f64();
    let line = Line::default().with(Style::Bold, format!("{} {}", found.region, found.primary));
    line.with(
        Style::Plain,
        format!("  {records} records of {slots} slots lie in the future, the furthest stamp by {ahead:.3} s"),
    )
}

#[cfg(test)]
mod tests {
    use node_core::resp::Value;

    use super::numbers;

    #[test]
    fn numbers_are_found_by_their_names() {
        let pair = |name: &str, number| [Value::Bulk(name.as_bytes().to_vec()), Value::Integer(number)];
        let reply = [pair("slots", 2), pair("another", 9), pair("records", 7), pair("ahead-ms", 3_600_000)];
        assert_eq!(numbers(&Value::Array(reply.concat())), Some([7, 2, 3_600_000]));
        assert_eq!(numbers(&Value::Array(pair("slots", 2).to_vec())), None);
    }
}
