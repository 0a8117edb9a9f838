//! The operator of a cluster, and of regions: `meridian cluster` and `meridian region`, as a person would type them.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::{Lab, Node, Region, members, meridian, until};

/// Runs `meridian cluster` with these words, with the certificates of a node's file, and returns what it says.
///
/// # Errors
/// If it fails; with what it says of that.
pub fn operate(lab: &Lab, name: &str, words: &[&str]) -> Result<String> {
    let config = lab.dir.path().join(format!("{name}.toml"));
    let mut command = Command::new(meridian()?);
    run(command.arg("cluster").args(words).arg("--config").arg(config))
}

/// Has a node of a region take over from its primary, and tries again as long as that is not possible.
///
/// # Errors
/// If it does not by the deadline.
pub fn fail_over(lab: &Lab, region: &Region, heir: &Node) -> Result<()> {
    until(&format!("{} takes over", heir.name), || {
        let members = members(region)?;
        let member = members.iter().find(|member| member.addr == heir.addr).context("it is no member")?;
        operate(lab, &region.nodes[0].name, &["failover", &member.id, "--yes"])?;
        Ok(Some(()))
    })
}

/// Runs `meridian region` with these words, over a node of each of these regions, and returns what it says.
///
/// # Errors
/// As [`operate`].
pub fn operate_regions(regions: &[Region], words: &[&str]) -> Result<String> {
    let nodes: Vec<_> = regions.iter().map(|region| region.addr.as_str()).collect();
    let mut command = Command::new(meridian()?);
    run(command.arg("region").args(words).args(["--nodes", &nodes.join(",")]))
}

fn run(command: &mut Command) -> Result<String> {
    command.stdin(Stdio::null());
    // It bounds its own patience, and says what it was waiting for.
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let [said, complained] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    ensure!(output.status.success(), "{command:?} ended with {}: {said}{complained}", output.status);
    Ok(said)
}
