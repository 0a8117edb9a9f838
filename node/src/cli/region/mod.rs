//! `meridian region`: operating regions as seen from one another, as a client of each.
//!
//! ```text
//! connection   one node, every byte counted             replies   what nodes answer
//! contact      one region: its map, its primaries       limits    the bounds
//! peers        add, remove                              restamp, status, verify: one subcommand each
//! ```

mod connection;
mod contact;
mod limits;
mod peers;
mod replies;
mod restamp;
mod status;
mod verify;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use config::PeerAddress;

use self::connection::ConnectionArgs;
use super::cluster::{output::ChangeArgs, run_to_end};

/// One thing to do with regions.
#[derive(Debug, Subcommand)]
pub(super) enum RegionCommand {
    // What each does is said by its arguments, in `--help` as well.
    Add(peers::AddArgs),
    Remove(peers::RemoveArgs),
    Restamp(restamp::RestampArgs),
    Status(status::StatusArgs),
    Verify(verify::VerifyArgs),
}

/// Where something is to be changed.
#[derive(Debug, Args)]
struct WhereArgs {
    /// Any node of a region in which this is to be done, where clients connect; one of each region
    #[arg(long, value_name = "HOST:PORT", required = true, value_delimiter = ',')]
    nodes: Vec<PeerAddress>,

    #[command(flatten)]
    change: ChangeArgs,

    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) fn run(command: RegionCommand) -> anyhow::Result<ExitCode> {
    run_to_end(async {
        match command {
            RegionCommand::Add(args) => peers::add(args).await,
            RegionCommand::Remove(args) => peers::remove(args).await,
            RegionCommand::Restamp(args) => restamp::run(args).await,
            RegionCommand::Status(args) => status::run(args).await,
            RegionCommand::Verify(args) => verify::run(args).await,
        }
    })
}
