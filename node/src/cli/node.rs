//! `meridian node`: loads the configuration and runs a node until it is told to stop.

use std::process::ExitCode;

use config::Overrides;

use super::USAGE;
use crate::{logging, node};

pub(super) fn run(overrides: &Overrides) -> anyhow::Result<ExitCode> {
    let config = match overrides.load() {
        Ok(config) => config,
        Err(report) => {
            report.eprint()?;
            return Ok(ExitCode::from(USAGE));
        }
    };
    logging::install(&config.log);
    let file = overrides.config.as_ref().map(|path| path.display().to_string());
    node::run(config, file)?;
    Ok(ExitCode::SUCCESS)
}
