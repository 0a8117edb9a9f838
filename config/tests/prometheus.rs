//! The alert rules, checked by Prometheus's own tool.
//!
//! What fires when is written in `meridian.rules.test.yml`, where people who know Prometheus look for it; this only runs
//! `promtool`. On a machine without it the tests say so and pass, unless `CI` is set: there a skipped test is a failed
//! one.

use std::{
    env,
    io::{self, Write},
    process::Command,
};

/// Runs promtool in the folder of the rules and demands success.
#[track_caller]
fn promtool(arguments: &[&str]) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/prometheus");
    match Command::new("promtool").args(arguments).current_dir(folder).output() {
        Ok(output) => {
            let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "promtool {}:\n{stdout}{stderr}", arguments.join(" "));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && env::var_os("CI").is_none() => {
            // Straight to the terminal: the test harness swallows what a passing test prints.
            let note =
                "SKIPPED: promtool is not installed, the alert rules are not tested (Debian: package prometheus)";
            writeln!(io::stderr(), "{note}").expect("standard error is open");
        }
        Err(error) => panic!("cannot run promtool: {error}"),
    }
}

#[test]
fn rules_are_valid() {
    promtool(&["check", "rules", "meridian.rules.yml"]);
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    promtool(&["test", "rules", "meridian.rules.test.yml"]);
}

#[test]
fn example_of_a_prometheus_is_valid() {
    promtool(&["check", "config", "prometheus.example.yml"]);
}
