//! The operator: `meridian cluster` and `meridian region verify`, as a person would type them.

use std::{env, path::Path, process::Stdio};

use anyhow::{Context, ensure};
use tokio::process::Command;

/// What a command has said.
#[derive(Debug)]
pub(super) struct Said {
    /// Whether it ended with code 0.
    pub(super) is_success: bool,
    /// All of it.
    pub(super) text: String,
}

/// Runs `meridian region verify` over these nodes, of different regions.
///
/// # Errors
/// If it cannot be started.
pub(super) async fn verify(nodes: &[String]) -> anyhow::Result<Said> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["region", "verify", "--nodes", &nodes.join(",")]);
    said(command).await
}

/// Runs `meridian cluster` with these words, with the certificates of a node's file.
///
/// # Errors
/// If it fails; with what it says of that.
pub(super) async fn operate(config: &Path, words: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("cluster").args(words).arg("--yes").arg("--config").arg(config);
    let Said { is_success, text } = said(command).await?;
    // Before that stands how far it came.
    let last = text.lines().last().unwrap_or("it does not say why");
    ensure!(is_success, "meridian cluster {} failed: {last}", words.join(" "));
    Ok(())
}

async fn said(mut command: Command) -> anyhow::Result<Said> {
    // It bounds its own patience.
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.context("cannot start meridian")?;
    let text = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat();
    Ok(Said { is_success: output.status.success(), text: text.trim().to_owned() })
}
