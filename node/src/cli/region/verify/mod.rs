//! `meridian region verify`: whether regions hold the same, and where not; `--repair` mends it.
//!
//! Links bring every write to every region, and `seen` says what has arrived. Whether all of that is *true* is another question: one
//! for an operator after an accident, or before a region is given up. This answers it from outside, as a client of all the regions at
//! once, through REGION DIGEST and REGION ROWS of their primaries, and takes nobody's word for anything but what lies in memory.
//!
//! ```text
//! look      from digests of all slots to the rows of a few keys
//! compare   what differs, and in what way (pure; the rules stand there)
//! repair    the newest version to who lacks it    report   what is said of it all
//! ```
//!
//! # What "agree" means
//! What a reader could see is the same: every key with a value that does not end within a minute has the same value, expiry and stamp in
//! all regions, as of the moment at which it was looked at. Memory differs in what readers do not see, and replicas are not asked.
//! What a region has evicted it lacks, and that is reported: whether it is as it should be is not for a program to say.
//!
//! # What it costs
//! Each node hashes what it holds once, some 200 ns for an entry, in steps of some milliseconds between which it serves its clients. If
//! regions agree, each sends 20 bytes for 16 slots, whatever they hold.
//!
//! Left out: replicas; keys beyond [`DIFFERENCES_MAX`](super::limits::DIFFERENCES_MAX) in one run; and regions of which each has a password
//! of its own.

mod compare;
mod look;
mod repair;
mod report;

use std::{process::ExitCode, time::Duration};

use clap::Args;
use config::PeerAddress;

use self::look::{Findings, Looker};
use super::{
    connection::{ConnectionArgs, Dialler},
    contact::{Region, meet},
};
use crate::cli::cluster::{
    UsageError,
    output::{ChangeArgs, Consent, Output},
};

/// Compare what regions hold, and say where they differ
///
/// Digests of all slots are compared, and where they differ the keys: each is missing, older or in conflict in some region. What is only
/// on its way is waited for. --repair merges the newest version of each into the regions that lack it, after it has shown its plan
/// and asked; what was forgotten under a floor is left, since it may have been deleted. Exit codes: 0 the regions agree (after the
/// repair, if one was asked for), 1 they differ or cannot be asked, 2 asked for wrongly.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Any node of each region, where clients connect; of one region there may be several
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', required = true)]
    nodes: Vec<PeerAddress>,

    /// Mend what differs
    #[arg(long)]
    repair: bool,

    /// How many keys are listed
    #[arg(long, value_name = "KEYS", default_value_t = 100)]
    limit: usize,

    /// How long what may be on its way is waited for
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = config::values::duration::parse)]
    patience: Duration,

    #[command(flatten)]
    change: ChangeArgs,

    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) async fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let (mut output, consent) = (args.change.output(), args.change.consent());
    let dialler = args.connection.dialler()?;
    let mut regions = meet(&dialler, &args.nodes).await?;
    if let [region] = &regions[..] {
        let name = &region.identity.name;
        return Err(UsageError::new(format!("all of these nodes are of {name}: name one of another region too")).into());
    }
    let findings = look(&args, &dialler, &mut regions, &mut output).await?;
    if !args.repair || !repair::is_due(&findings) {
        return Ok(exit_code(&findings));
    }
    let findings = mend(&args, &dialler, &findings, &mut regions, &mut output, consent).await?;
    Ok(exit_code(&findings))
}

/// Compares, and says what was found.
async fn look(
    args: &VerifyArgs,
    dialler: &Dialler,
    regions: &mut [Region],
    output: &mut Output,
) -> anyhow::Result<Findings> {
    let findings = Looker { regions, patience: args.patience }.look(output).await?;
    let lines = report::lines(&findings, regions, dialler.traffic(), args.limit);
    output.table(
        &lines,
        &serde_json::json!({ "result": report::json(&findings, regions, dialler.traffic(), args.limit) }),
    )?;
    Ok(findings)
}

/// Mends what can be mended, if that is agreed to, and compares again.
async fn mend(
    args: &VerifyArgs,
    dialler: &Dialler,
    findings: &Findings,
    regions: &mut [Region],
    output: &mut Output,
    consent: Consent,
) -> anyhow::Result<Findings> {
    if !output.agree(&repair::plan(findings, regions), consent)? {
        return Ok(findings.clone());
    }
    let mended = repair::mend(findings, regions, output).await?;
    output.table(&[mended.line()], &serde_json::json!({ "mended": mended.json() }))?;
    look(args, dialler, regions, output).await
}

fn exit_code(findings: &Findings) -> ExitCode {
    if findings.agree() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
