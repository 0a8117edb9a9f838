//! The soak: which simulations there are, and how they are given seeds.

use std::{
    fs::OpenOptions,
    hash::{BuildHasher, RandomState},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

/// How long to go on.
#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    /// For how many minutes
    #[arg(long, value_name = "N")]
    minutes: u64,

    /// How many at a time; one for each core, unless it is said
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

/// A test that makes worlds of seeds.
struct Simulation {
    /// The file of its seeds.
    seeds: &'static str,
    package: &'static str,
    /// The file of the test.
    test: &'static str,
    /// The test itself.
    name: &'static str,
}

const SIMULATIONS: [Simulation; 7] = [
    Simulation {
        seeds: "forgetting",
        package: "meridian-node-core",
        test: "store_forgetting",
        name: "no_value_ever_comes_back_and_regions_agree_at_rest",
    },
    Simulation {
        seeds: "drifting",
        package: "meridian-node-core",
        test: "store_forgetting",
        name: "a_region_comes_back_from_the_future_and_takes_nothing_with_it",
    },
    Simulation {
        seeds: "clusters",
        package: "meridian-node-core",
        test: "store_clusters",
        name: "linked_clusters_never_go_back_and_agree_at_rest",
    },
    Simulation {
        seeds: "register",
        package: "meridian-tests",
        test: "simulated",
        name: "key_is_a_register_whoever_takes_over_and_wherever_its_slot_goes",
    },
    Simulation {
        seeds: "register",
        package: "meridian-tests",
        test: "simulated",
        name: "what_was_replicated_is_never_lost_nor_goes_back_whoever_fails",
    },
    Simulation {
        seeds: "worlds",
        package: "meridian-simulation",
        test: "worlds",
        name: "regions_keep_what_is_promised_in_calm_weather",
    },
    Simulation {
        seeds: "worlds",
        package: "meridian-simulation",
        test: "worlds",
        name: "regions_keep_what_is_promised_whatever_goes_wrong",
    },
];

/// Worlds in one process of a simulation: some seconds of them.
const CHUNK: u64 = 20;

/// The first seed lies below this, so that seeds stay short enough to be typed.
const FIRST_MAX: u64 = 1_000_000_000;

/// Of what is said to be wrong so much is kept with a seed.
const WRONG_CHARS_MAX: usize = 300;
/// How a test says which seed failed.
const REPLAY: &str = "MERIDIAN_TEST_SEED=";

/// What all workers share.
struct Soak {
    programs: Vec<PathBuf>,
    deadline: Instant,
    next_chunk: AtomicUsize,
    first: u64,
    worlds: [AtomicU64; SIMULATIONS.len()],
    /// What failed, as it is told at the end.
    failures: Mutex<Vec<String>>,
}

pub(crate) fn run(args: &SoakArgs) -> Result<ExitCode> {
    let programs = SIMULATIONS.iter().map(build).collect::<Result<Vec<_>>>()?;
    let (began, length) = (Instant::now(), Duration::from_secs(60 * args.minutes));
    let first = RandomState::new().hash_one(0) % FIRST_MAX;
    println!("new seeds from {first} on");
    let soak = Soak {
        programs,
        deadline: began + length,
        next_chunk: AtomicUsize::new(0),
        first,
        worlds: Default::default(),
        failures: Mutex::default(),
    };
    let jobs = args.jobs.or_else(|| thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let bar = ProgressBar::new(length.as_secs());
    bar.set_style(ProgressStyle::with_template("{wide_bar} {elapsed} of {duration}  {msg}")?);
    thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(|| soak.work())).collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            bar.set_position(began.elapsed().min(length).as_secs());
            bar.set_message(soak.summary());
            thread::sleep(Duration::from_millis(500));
        }
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    bar.finish_and_clear();
    println!("{}", soak.summary());
    let failures = soak.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.iter().for_each(|failure| println!("{failure}"));
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the program of a simulation, and says where it is.
fn build(simulation: &Simulation) -> Result<PathBuf> {
    let Simulation { package, test, .. } = simulation;
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--profile=soak", "--no-run", "--message-format=json", "-p", package, "--test", test]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cannot build {test}");
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let program = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == *test;
        is_it.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    });
    program.with_context(|| format!("cargo does not say where {test} is"))
}

impl Soak {
    fn work(&self) -> Result<()> {
        while Instant::now() < self.deadline {
            let chunk = self.next_chunk.fetch_add(1, Relaxed);
            let (kind, round) = (chunk % SIMULATIONS.len(), (chunk / SIMULATIONS.len()) as u64);
            let (mut next, end) = (self.first + round * CHUNK, self.first + (round + 1) * CHUNK);
            while let Some(failed) = self.try_seeds(kind, next, end - next)? {
                next = failed + 1;
                if next >= end {
                    break;
                }
            }
            self.worlds[kind].fetch_add(CHUNK, Relaxed);
        }
        Ok(())
    }

    /// Runs a simulation over some seeds. Returns the first that fails.
    fn try_seeds(&self, kind: usize, first: u64, count: u64) -> Result<Option<u64>> {
        let simulation = &SIMULATIONS[kind];
        let mut command = Command::new(&self.programs[kind]);
        command.args([simulation.name, "--exact", "--nocapture"]);
        command.env("MERIDIAN_TEST_SEED", first.to_string()).env("MERIDIAN_TEST_SEEDS", count.to_string());
        let output = command.output().with_context(|| format!("cannot start {}", simulation.test))?;
        if output.status.success() {
            return Ok(None);
        }
        let said = [&output.stdout[..], &output.stderr[..]].concat();
        let said = String::from_utf8_lossy(&said);
        let replay = said.lines().find(|line| line.contains(REPLAY)).unwrap_or_default();
        let digits = replay.split(REPLAY).nth(1).unwrap_or_default();
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        let seed =
            digits.parse().with_context(|| format!("{} does not say which seed failed: {said}", simulation.test))?;
        let wrong = said.lines().find(|line| line.starts_with("seed ")).unwrap_or("it failed");
        // It may show all that a region holds.
        self.keep(simulation, seed, &wrong.chars().take(WRONG_CHARS_MAX).collect::<String>())?;
        Ok(Some(seed))
    }

    /// Writes a seed into its file, and remembers what to say of it.
    fn keep(&self, simulation: &Simulation, seed: u64, wrong: &str) -> Result<()> {
        // Under the lock: two workers may write to one file.
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("seeds/{}.txt", simulation.seeds));
        let mut file = OpenOptions::new().append(true).open(&path);
        let file = file.as_mut().map_err(|error| anyhow::anyhow!("cannot open {}: {error}", path.display()))?;
        writeln!(file, "{seed} # {wrong}")?;
        failures.push(format!("{}: {wrong}\n    kept in {}", simulation.name, path.display()));
        Ok(())
    }

    fn summary(&self) -> String {
        let worlds: Vec<_> = SIMULATIONS
            .iter()
            .zip(&self.worlds)
            .map(|(simulation, worlds)| format!("{} {}", simulation.seeds, worlds.load(Relaxed)))
            .collect();
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner).len();
        format!("{} worlds, {failures} failed", worlds.join(", "))
    }
}
