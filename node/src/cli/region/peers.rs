//! `meridian region add` and `meridian region remove`: another region comes or goes, in each of the regions that are named.
//!
//! Each region decides for itself whom it is linked with, since regions share no consensus. So this asks one node of each, and waits
//! until that node shows the change. Whoever is interrupted half-way says the same again: what is done already is done once more.

use std::process::ExitCode;

use clap::Args;
use clock::RegionId;
use config::{PeerAddress, RegionName};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    WhereArgs,
    contact::{Region, meet},
    limits::{CHANGE_MAX, CHANGE_POLL},
    status,
};
use crate::{
    cli::cluster::output::Plan,
    terminal::{Line, Style},
};

/// Link regions with another one, while all of them run
///
/// The new region names the others in its own files, and is added here at each of them. It clones the nearest and then hears all; see
/// `meridian region status`. One that is known already is reached at these addresses from now on.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Its name, which its certificate bears
    name: RegionName,

    /// Its number, 1 to 63
    #[arg(long, value_parser = region_id)]
    id: RegionId,

    /// Where one of its gateways is dialled; repeat it for more
    #[arg(long, value_name = "HOST:PORT")]
    addr: Vec<PeerAddress>,

    #[command(flatten)]
    common: WhereArgs,
}

/// End the links with a region for good, while the others run
///
/// Nobody's forgetting waits for it any more. If it is added again it is a new region: it goes on in a younger life, and nothing that
/// was deleted without it comes back.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Its name
    name: RegionName,

    #[command(flatten)]
    common: WhereArgs,
}

/// What is to be done in each region.
struct Change<'a> {
    /// To a person, before the names of the regions.
    text: String,
    words: Vec<&'a str>,
    name: &'a RegionName,
    /// Whether it is to be there afterwards.
    is_there: bool,
}

pub(super) async fn add(args: AddArgs) -> anyhow::Result<ExitCode> {
    let (id, addrs) = (args.id.to_string(), args.addr.iter().map(ToString::to_string).collect::<Vec<_>>());
    let mut words = vec!["REGION", "ADD", args.name.as_str(), &id];
    words.extend(addrs.iter().map(String::as_str));
    let reached = if addrs.is_empty() { "where files say".to_owned() } else { addrs.join(", ") };
    let text = format!("Add {} (id {id}, reached at {reached}) in", args.name);
    carry_out(&Change { text, words, name: &args.name, is_there: true }, &args.common).await
}

pub(super) async fn remove(args: RemoveArgs) -> anyhow::Result<ExitCode> {
    let words = vec!["REGION", "REMOVE", args.name.as_str()];
    let text = format!("Remove {} in", args.name);
    carry_out(&Change { text, words, name: &args.name, is_there: false }, &args.common).await
}

async fn carry_out(change: &Change<'_>, args: &WhereArgs) -> anyhow::Result<ExitCode> {
    let mut output = args.change.output();
    let mut regions = meet(&args.connection.dialler()?, &args.nodes).await?;
    let names: Vec<_> = regions.iter().map(|region| region.identity.name.clone()).collect();
    let lines = vec![Line::default().with(Style::Plain, format!("{} {}.", change.text, names.join(", ")))];
    let plan = Plan { lines, json: json!({ "words": change.words, "regions": names }) };
    if !output.agree(&plan, args.change.consent())? {
        return Ok(ExitCode::SUCCESS);
    }
    for (done, region) in regions.iter_mut().enumerate() {
        output.progress("regions changed", done, names.len())?;
        change_one(change, region).await?;
    }
    output.progress("regions changed", names.len(), names.len())?;
    let what = if change.is_there { "linked with" } else { "no longer linked with" };
    output.result(&format!("{} {what} {}.", names.join(", "), change.name), json!({ "regions": names }))?;
    Ok(ExitCode::SUCCESS)
}

/// Has it done in a region, and waits until it is.
async fn change_one(change: &Change<'_>, region: &mut Region) -> anyhow::Result<()> {
    let words: Vec<&[u8]> = change.words.iter().map(|word| word.as_bytes()).collect();
    let primaries = region.primaries();
    region.ask(&primaries[0], &words).await?;
    let deadline = Instant::now() + CHANGE_MAX;
    for primary in primaries {
        while status::peers(&region.status(&primary).await?).contains(&change.name.as_str()) != change.is_there {
            let name = &region.identity.name;
            anyhow::ensure!(Instant::now() < deadline, "{name}: {primary} does not know of it; its log says why");
            sleep(CHANGE_POLL).await;
        }
    }
    Ok(())
}

fn region_id(text: &str) -> Result<RegionId, String> {
    let number = text.parse().map_err(|_| "a number from 1 to 63".to_owned())?;
    RegionId::new(number).map_err(|error| error.to_string())
}
