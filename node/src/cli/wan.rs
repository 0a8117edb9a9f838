//! `meridian wan`: runs a simulated WAN as a process of its own, until it is told to stop.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use config::{LogFormat, LogLevel, Problem, Problems};
use sim_wan::{Wan, topology::Topology};

use super::USAGE;
use crate::{logging, node::StopSignals};

#[derive(Debug, Args)]
pub(super) struct WanArgs {
    /// The topology: links with their delays and losses, and routes across them
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// A topology whose parts fit together, or else a note of what does not.
pub(super) fn validated(topology: Topology, problems: &mut Problems) -> Topology {
    if let Err(error) = topology.validate() {
        problems.add(Problem::new(error.to_string()));
    }
    topology
}

pub(super) fn run(args: &WanArgs) -> anyhow::Result<ExitCode> {
    let topology = match config::load_with(&args.config, validated) {
        Ok(topology) => topology,
        Err(report) => {
            report.eprint()?;
            return Ok(ExitCode::from(USAGE));
        }
    };
    logging::install(&config::Log { level: LogLevel::Info, format: LogFormat::Text });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let signals = StopSignals::install()?;
        let wan = Wan::start(&topology)?;
        tracing::info!(control = %wan.control_addr(), routes = wan.routes().len(), "wan is up");
        signals.told().await;
        wan.shutdown().await;
        Ok(ExitCode::SUCCESS)
    })
}
