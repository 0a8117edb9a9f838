//! Scenarios, by the command that an operator has: its verdict, its exit code, and what a failure leaves.
//!
//! Three short ones of `tests/scenarios` run here; the others are for whoever wants to see them, and take longer. One of the three
//! must fail, since a verdict that cannot fail is none.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use meridian_tests::meridian;
use scenario::Scenario;

/// What a run of a scenario has come to.
struct Outcome {
    code: Option<i32>,
    said: String,
}

#[test]
fn a_primary_that_is_killed_costs_nothing_that_it_had_shared() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let outcome = run("primary-killed", &["--speed", "2", "--dir", &dir.path().display().to_string()])?;
    ensure!(outcome.code == Some(0), "{}", outcome.said);
    for claim in ["ok     converged within 10s", "ok     no stale read", "ok     ledger:", "PASSED"] {
        ensure!(outcome.said.contains(claim), "`{claim}` is missing:\n{}", outcome.said);
    }
    let trace = fs::read_to_string(dir.path().join("trace.jsonl"))?;
    ensure!(trace.contains("kill us-east/primary/1"), "the kill is not in the trace");
    Ok(())
}

#[test]
fn a_link_that_flaps_loses_nothing() -> Result<()> {
    let outcome = run("flapping-link", &[])?;
    ensure!(outcome.code == Some(0), "{}", outcome.said);
    Ok(())
}

#[test]
fn a_scenario_that_fails_says_so_and_leaves_its_trace() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let outcome = run("impossible", &["--seed", "7", "--dir", &dir.path().display().to_string()])?;
    ensure!(outcome.code == Some(1), "{}", outcome.said);
    let replay = format!("replay: meridian lab --scenario {} --seed 7", file("impossible").display());
    for words in ["FAILED lag always below 1ms", "ok     converged within 5s", &replay] {
        ensure!(outcome.said.contains(words), "`{words}` is missing:\n{}", outcome.said);
    }
    for left in ["trace.jsonl", "verdict.txt", "scenario.toml", "us-east.log", "wan.log"] {
        let length = fs::metadata(dir.path().join(left)).with_context(|| format!("no {left} is left"))?.len();
        ensure!(length > 0 || left.ends_with(".log"), "{left} is empty");
    }
    Ok(())
}

#[test]
fn a_file_that_makes_no_sense_is_refused_before_anything_starts() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let wrong = dir.path().join("wrong.toml");
    let text = fs::read_to_string(file("primary-killed"))?;
    fs::write(&wrong, text.replace("kill us-east/primary/1", "kill us-east/queen/1"))?;
    let outcome = run_file(&wrong, &[])?;
    ensure!(outcome.code == Some(2) && outcome.said.contains("not a target"), "{}", outcome.said);
    ensure!(outcome.said.contains("wrong.toml:"), "the line is missing: {}", outcome.said);
    Ok(())
}

#[test]
fn every_scenario_can_be_read_and_says_what_it_shows() -> Result<()> {
    let mut read = 0;
    let museum = fs::read_dir(folder().join("museum"))?;
    for entry in fs::read_dir(folder())?.chain(museum) {
        let path = entry?.path();
        if path.is_dir() {
            continue;
        }
        let scenario = Scenario::load(&path)?;
        ensure!(fs::read_to_string(&path)?.starts_with("# "), "{} says nothing", path.display());
        ensure!(!scenario.about.is_empty() && !scenario.expect.is_empty(), "{} expects nothing", path.display());
        read += 1;
    }
    ensure!(read >= 20, "there are {read} scenarios");
    Ok(())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn file(name: &str) -> PathBuf {
    folder().join(format!("{name}.toml"))
}

fn run(name: &str, flags: &[&str]) -> Result<Outcome> {
    run_file(&file(name), flags)
}

fn run_file(file: &Path, flags: &[&str]) -> Result<Outcome> {
    let mut command = Command::new(meridian()?);
    command.args(["lab", "--scenario"]).arg(file).args(flags).stdin(Stdio::null());
    // A run has bounds of its own everywhere, and ends.
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    Ok(Outcome { code: output.status.code(), said })
}
