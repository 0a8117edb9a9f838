//! `meridian region`: operating regions as seen from one another.

mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use super::cluster::run_to_end;

/// One thing to do with regions.
#[derive(Debug, Subcommand)]
pub(super) enum RegionCommand {
    // What each does is said by its arguments, in `--help` as well.
    Verify(verify::VerifyArgs),
}

pub(super) fn run(command: RegionCommand) -> anyhow::Result<ExitCode> {
    run_to_end(async {
        match command {
            RegionCommand::Verify(args) => verify::run(args).await,
        }
    })
}
