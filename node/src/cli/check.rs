//! `meridian config check`: says what is wrong with files, all of it, before a process depends on them.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use config::Kind;
use scenario::Scenario;
use sim_wan::topology::Topology;

use super::{USAGE, wan};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Files of any kind: nodes, gateways, WAN topologies, scenarios
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

/// What a lab lives through.
const SCENARIO: Kind = Kind {
    name: "scenario",
    keys: &["about", "seed", "speed", "duration", "loss_window", "lab", "region", "load", "timeline", "expect"],
    check: |path, _| {
        let scenario = Scenario::load(path)?;
        let (regions, events) = (scenario.regions.len(), scenario.timeline.len());
        Ok(format!("{regions} regions, {events} events, {} expectations", scenario.expect.len()))
    },
};

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for result in config::check(&args.files, &[WAN, SCENARIO]) {
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

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::WAN;

    #[test]
    fn the_example_wans_are_valid() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/wan");
        let files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty());
        for result in config::check(&files, &[WAN]) {
            let checked = result.unwrap_or_else(|report| panic!("{report}"));
            assert_eq!(checked.kind, "wan");
        }
    }
}
