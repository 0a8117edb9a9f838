//! `cargo run -p meridian-tests --release -- soak --minutes N`: new worlds for the simulations, on all cores, until the time is over.
//!
//! Each simulation is the test that `cargo test` runs, run over and over with seeds that nobody has tried. A seed that fails is written into its
//! file in `tests/seeds`, where `cargo test` finds it from then on, and named with what went wrong. The exit code is 0 if none did.

mod soak;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// What the suite can do besides being run by `cargo test`.
#[derive(Debug, Parser)]
#[command(name = "meridian-tests")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try new seeds of all simulations, and keep those that fail
    Soak(soak::SoakArgs),
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Soak(args) => soak::run(&args),
    }
}
