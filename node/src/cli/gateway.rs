//! `meridian gateway`: loads the configuration and runs a gateway until it is told to stop.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use config::{GatewayConfig, Offset};

use super::USAGE;
use crate::gateway;

#[derive(Debug, Args)]
pub(super) struct GatewayArgs {
    /// The configuration file; `config/deploy/gateway.toml` is an example with every key
    #[arg(long, value_name = "FILE", env = "MERIDIAN_CONFIG")]
    config: PathBuf,

    /// Sets this gateway's clock wrong on purpose, such as -250ms; for tests
    #[arg(long, value_name = "DURATION", env = "MERIDIAN_CLOCK_OFFSET", allow_hyphen_values = true)]
    clock_offset: Option<Offset>,
}

pub(super) fn run(args: &GatewayArgs) -> anyhow::Result<ExitCode> {
    let mut config = match GatewayConfig::load(&args.config) {
        Ok(config) => config,
        Err(report) => {
            report.eprint()?;
            return Ok(ExitCode::from(USAGE));
        }
    };
    config.clock.offset = args.clock_offset.unwrap_or(config.clock.offset);
    gateway::run(&config)?;
    Ok(ExitCode::SUCCESS)
}
