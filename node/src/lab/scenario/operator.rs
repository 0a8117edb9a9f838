//! The operator of a region: `meridian cluster`, as a person would type it.

use std::{env, path::Path, process::Stdio};

use anyhow::{Context, ensure};
use tokio::process::Command;

/// Runs `meridian cluster` with these words, with the certificates of a node's file.
///
/// # Errors
/// If it fails; with what it says of that.
pub(super) async fn operate(config: &Path, words: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("cluster").args(words).arg("--yes").arg("--config").arg(config);
    // It bounds its own patience.
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.context("cannot start meridian cluster")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Before that stands how far it came.
    let last = said.trim().lines().last().unwrap_or("it does not say why");
    ensure!(output.status.success(), "meridian cluster {} failed: {last}", words.join(" "));
    Ok(())
}
