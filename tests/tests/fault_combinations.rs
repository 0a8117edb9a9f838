//! Whatever fails and wherever, the regions end equal, and what they hold is right.
//!
//! Two regions of two shards with a replica each and two gateways, under a mixed load in both: sets, deletes, expiries and counters,
//! on keys that all share and on keys of their own. Into that load falls each of the faults, at each of the places, and a few pairs of
//! them at once; four seconds later it is over. Then `meridian region verify` must find the regions equal, and all oracles of
//! `tests/scenario` must find that what is read and what is left can have been: among them that the greatest stamp has won.
//!
//! Each combination is a scenario, written from the table below and lived through by `meridian lab --scenario`. A few run, chosen by the
//! seed; `MERIDIAN_TEST_COMBINATIONS=all` runs all of them, and a part of a name those that have it in theirs.

use std::{
    env, fmt, fs,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use meridian_tests::{Seed, has_namespaces, meridian, note};
use rand::{SeedableRng, seq::IndexedRandom};
use rand_pcg::Pcg64Mcg;
use scenario::Scenario;

/// Which combinations run: `all`, or those with this in their names.
const WHICH: &str = "MERIDIAN_TEST_COMBINATIONS";
/// How many run by default.
const A_FEW: usize = 2;
const WHERE: &str = "us-east";
const ELSEWHERE: &str = "eu-west";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Stop,
    CutIn,
    CutOut,
    CutBoth,
    Slow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Primary,
    Replica,
    Gateway,
    Region,
}

/// A fault, where it is, and in which region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blow(Fault, Place, &'static str);

use Fault::{CutBoth, CutIn, CutOut, Kill, Slow, Stop};
use Place::{Gateway, Primary, Region, Replica};

const FAULTS: [Fault; 6] = [Kill, Stop, CutIn, CutOut, CutBoth, Slow];
const PLACES: [Place; 4] = [Primary, Replica, Gateway, Region];

/// Two at once.
const PAIRS: [[Blow; 2]; 5] = [
    [Blow(Kill, Primary, WHERE), Blow(CutBoth, Region, ELSEWHERE)],
    [Blow(Stop, Gateway, WHERE), Blow(Kill, Primary, ELSEWHERE)],
    [Blow(CutOut, Primary, WHERE), Blow(Slow, Gateway, ELSEWHERE)],
    [Blow(CutBoth, Primary, WHERE), Blow(CutBoth, Primary, ELSEWHERE)],
    [Blow(Slow, Region, WHERE), Blow(CutIn, Replica, ELSEWHERE)],
];

#[test]
fn regions_end_equal_and_right_after_any_fault_anywhere() -> Result<()> {
    let seed = Seed::choose()?;
    seed.announce("fault_combinations");
    let chosen = choose(seed, env::var(WHICH).ok().as_deref())?;
    let mut failed = Vec::new();
    for combination in &chosen {
        let started = Instant::now();
        let outcome = live_through(combination, seed);
        let how = if outcome.is_ok() { "well" } else { "NOT WELL" };
        note(&format!("{how} after {:>4.1} s: {}", started.elapsed().as_secs_f64(), name(combination)));
        if let Err(error) = outcome {
            failed.push(format!("{}: {error:#}", name(combination)));
        }
    }
    ensure!(failed.is_empty(), "{} of {} failed\n{}", failed.len(), chosen.len(), failed.join("\n"));
    Ok(())
}

#[test]
fn every_combination_is_a_scenario_that_can_be_read() -> Result<()> {
    let all = combinations();
    ensure!(all.len() >= 24, "there are {}", all.len());
    for combination in &all {
        let scenario = Scenario::parse(&name(combination), &text(combination));
        let scenario = scenario.map_err(|report| anyhow::anyhow!("{}: {report:?}", name(combination)))?;
        ensure!(scenario.timeline.len() >= 2 * combination.len(), "{} does not end", name(combination));
        ensure!(scenario.needs_machines() == needs_machines(combination), "{}", name(combination));
    }
    Ok(())
}

/// Every fault at every place, and then the pairs.
fn combinations() -> Vec<Vec<Blow>> {
    let single = FAULTS.iter().flat_map(|fault| PLACES.iter().map(|place| vec![Blow(*fault, *place, WHERE)]));
    single.chain(PAIRS.iter().map(|pair| pair.to_vec())).collect()
}

/// Those that were asked for, as far as this machine can have them.
fn choose(seed: Seed, which: Option<&str>) -> Result<Vec<Vec<Blow>>> {
    let mut all = combinations();
    if !has_namespaces("some combinations of faults")? {
        all.retain(|combination| !needs_machines(combination));
    }
    match which {
        None => Ok(all.sample(&mut Pcg64Mcg::seed_from_u64(seed.0), A_FEW).cloned().collect()),
        Some("all") => Ok(all),
        Some(part) => {
            all.retain(|combination| name(combination).contains(part));
            ensure!(!all.is_empty(), "{WHICH}={part}: no combination is called so");
            Ok(all)
        }
    }
}

/// Whether it takes cables of single processes to cut.
fn needs_machines(combination: &[Blow]) -> bool {
    combination.iter().any(|Blow(fault, place, _)| matches!(fault, CutIn | CutOut | CutBoth) && *place != Region)
}

fn name(combination: &[Blow]) -> String {
    combination.iter().map(Blow::to_string).collect::<Vec<_>>().join(" and ")
}

fn live_through(combination: &[Blow], seed: Seed) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("combination.toml");
    fs::write(&file, text(combination))?;
    let mut command = Command::new(meridian()?);
    command.args(["lab", "--seed", &seed.to_string(), "--scenario"]).arg(&file).stdin(Stdio::null());
    // A run has bounds of its own everywhere, and ends. If it fails it leaves its folder, with a copy of the scenario.
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    ensure!(output.status.success(), "{}\n{said}", output.status);
    Ok(())
}

/// The scenario of a combination.
fn text(combination: &[Blow]) -> String {
    let (begun, over): (Vec<_>, Vec<_>) = combination.iter().map(Blow::deeds).unzip();
    let begun = begun.iter().flatten().map(|deed| format!("2s {deed}"));
    let over = over.iter().map(|deed| format!("6s {deed}"));
    let timeline: Vec<_> = begun.chain(over).collect();
    format!(
        r#"about = "{}"
duration = "8s"
timeline = {timeline:?}
expect = ["converged within 45s", "verified", "no stale read", "no lost write", "serves 25%"]
[lab]
primaries = 2
replicas = 1
gateways = 2
[[region]]
name = "{WHERE}"
[[region]]
name = "{ELSEWHERE}"
[load]
rate = 100
"#,
        name(combination)
    )
}

impl Blow {
    /// How it begins, and how it ends.
    fn deeds(&self) -> (Vec<String>, String) {
        let Self(fault, place, region) = *self;
        let other = if region == WHERE { ELSEWHERE } else { WHERE };
        let target = match place {
            Region => region.to_owned(),
            place => format!("{region}/{place}/1"),
        };
        let one = |deed: String, end: String| (vec![deed], end);
        match (fault, place) {
            (Kill, _) => one(format!("kill {target}"), format!("restart {target}")),
            (Stop, _) => one(format!("stop {target}"), format!("continue {target}")),
            (CutIn, Region) => one(format!("cut {other} -> {region}"), format!("mend {other} -> {region}")),
            (CutOut, Region) => one(format!("cut {region} -> {other}"), format!("mend {region} -> {other}")),
            (CutBoth, Region) => one(format!("isolate {region}"), "heal".to_owned()),
            (Slow, Region) => {
                let link = format!("{region} <-> {other}");
                (vec![format!("slow {link} 400ms"), format!("rate {link} 2mbit")], format!("mend {link}"))
            }
            (CutIn, _) => one(format!("cut {target} in"), format!("mend {target}")),
            (CutOut, _) => one(format!("cut {target} out"), format!("mend {target}")),
            (CutBoth, _) => one(format!("cut {target}"), format!("mend {target}")),
            (Slow, _) => one(format!("slow {target} 10%"), format!("mend {target}")),
        }
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(fault, place, region) = self;
        let fault = match fault {
            Kill => "kill",
            Stop => "stop",
            CutIn => "cut what reaches",
            CutOut => "cut what leaves",
            CutBoth => "cut off",
            Slow => "slow",
        };
        write!(f, "{fault} {place} in {region}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Primary => "primary",
            Replica => "replica",
            Gateway => "gateway",
            Region => "region",
        })
    }
}
