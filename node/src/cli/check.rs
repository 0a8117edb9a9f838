//! `meridian config check`: says what is wrong with files, all of it, before a process depends on them.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use config::Kind;
use sim_wan::topology::Topology;

use super::{USAGE, wan};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Files of any kind: nodes, gateways, WAN topologies
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// The topology of a simulated WAN.
const WAN: Kind = Kind {
    name: "wan",
    keys: &["control", "links", "routes", "seed"],
    check: |path, text| {
        let name = path.display().to_string();
        let topology: Topology = config::parse_with(&name, text, wan::validated)?;
        Ok(format!("{} links, {} routes", topology.links.len(), topology.routes.len()))
    },
};

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for result in config::check(&args.files, &[WAN]) {
        match result {
            Ok(checked) => println!("{}: {}: {}", checked.path.display(), checked.kind, checked.about),
            Err(report) => {
                report.eprint()?;
                code = ExitCode::from(USAGE);
            }
        }
    }
    Ok(code)
}
