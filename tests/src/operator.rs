//! The operator of a cluster: `meridian cluster`, as a person would type it.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{Lab, meridian};

/// Runs `meridian cluster` with these words, with the certificates of a node's file, and returns what it says.
///
/// # Errors
/// If it fails; with what it says of that.
pub fn operate(lab: &Lab, name: &str, words: &[&str]) -> Result<String> {
    run(&lab.dir.path().join(format!("{name}.toml")), words)
}

fn run(config: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new(meridian()?);
    command.arg("cluster").args(words).arg("--config").arg(config).stdin(Stdio::null());
    // It bounds its own patience, and says what it was waiting for.
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let [said, complained] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    ensure!(output.status.success(), "meridian cluster {words:?} ended with {}: {said}{complained}", output.status);
    Ok(said)
}
