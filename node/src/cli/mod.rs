//! The command line: what can be asked for, and the exit codes: 0 done, 1 failed, 2 bad usage or configuration.

mod check;
pub(crate) mod cluster;
mod gateway;
mod node;
mod region;
mod wan;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::lab::{self, LabArgs, leash};

/// The exit code for what was asked wrongly; clap's own.
const USAGE: u8 = 2;

/// A geo-replicated, multi-region cache that speaks the Redis protocol.
#[derive(Debug, Parser)]
#[command(name = "meridian", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// Stop when standard input ends: how children of a lab end with it, however it ends
    #[arg(long, global = true, hide = true)]
    until_stdin_closes: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node: a region of its own, or one that is linked to others
    Node(Box<config::Overrides>),
    /// Run a gateway of a region that is a cluster
    ///
    /// It joins the nodes of its region to the gateways of other regions, and holds nothing: run several, of which any carries on
    /// when another dies.
    Gateway(gateway::GatewayArgs),
    /// Simulate the WAN between regions on one machine
    Wan(wan::WanArgs),
    /// Run whole regions on this machine, and show how they keep up with one another
    Lab(Box<LabArgs>),
    /// Operate the cluster of a region: create it, look at it, change it
    ///
    /// Nodes are reached at their bus, the address of `listen` in the section [cluster] of their files. Any node of a cluster
    /// will do: a request goes on by itself to the one that leads. Every change shows its plan first and asks; --yes goes
    /// ahead, --dry-run goes no further. Exit codes: 0 done, 1 failed, 2 asked for wrongly.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Operate regions, as clients of all of them see them
    #[command(subcommand)]
    Region(region::RegionCommand),
    /// Look at configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check files without starting anything
    Check(check::CheckArgs),
}

/// Does what the command line asks for.
pub fn main() -> ExitCode {
    let Arguments { command, until_stdin_closes } = Arguments::parse();
    let outcome = run(command, until_stdin_closes);
    outcome.unwrap_or_else(|error| {
        eprintln!("meridian: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: Command, until_stdin_closes: bool) -> anyhow::Result<ExitCode> {
    if until_stdin_closes {
        leash::until_stdin_closes()?;
    }
    match command {
        Command::Node(overrides) => node::run(&overrides),
        Command::Gateway(args) => gateway::run(&args),
        Command::Wan(args) => wan::run(&args),
        Command::Lab(args) => lab::run(*args),
        Command::Cluster(command) => cluster::run(command),
        Command::Region(command) => region::run(command),
        Command::Config(ConfigCommand::Check(args)) => check::run(&args),
    }
}
