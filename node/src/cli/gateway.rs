//! `meridian gateway`: loads the configuration and runs a gateway until it is told to stop.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use config::GatewayConfig;

use super::USAGE;
use crate::gateway;

#[derive(Debug, Args)]
pub(super) struct GatewayArgs {
    /// The configuration file; `config/deploy/gateway.toml` is an example with every key
    #[arg(long, value_name = "FILE", env = "MERIDIAN_CONFIG")]
    config: PathBuf,
}

pub(super) fn run(args: &GatewayArgs) -> anyhow::Result<ExitCode> {
    let config = match GatewayConfig::load(&args.config) {
        Ok(config) => config,
        Err(report) => {
            report.eprint()?;
            return Ok(ExitCode::from(USAGE));
        }
    };
    gateway::run(&config)?;
    Ok(ExitCode::SUCCESS)
}
