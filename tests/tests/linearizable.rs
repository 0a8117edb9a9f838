//! A key of a region is a register, also while its shard changes hands.
//!
//! Several clients set, read and delete a few keys, while one replica after another is made the primary by hand. Nobody dies, so
//! nothing that was acknowledged may be lost, and each key's history must be that of a register
//! ([`scenario::linearizable`]). A command whose reply was lost may have been carried out or not.
//!
//! `MERIDIAN_TEST_RUNS` says how many histories are made.

use std::{
    env,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use meridian_tests::{
    Client, Failure, Lab, Region, Seed, members, note, operate, until, until_feeds, until_follows, with_lab,
};
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use scenario::linearizable::{Action, Operation, is_linearizable};

const CLUSTER: &[&str] = &["--regions=us-east", "--primaries=2", "--replicas=1"];
const CLIENTS: u64 = 4;
const KEYS: usize = 6;
/// Changes of hands in one history.
const FAILOVERS: usize = 4;
/// Operations before, between and after them.
const OPERATIONS: u64 = 400;

#[test]
fn key_is_a_register_across_failovers_by_hand() {
    with_lab(CLUSTER, |lab| {
        let lab: &Lab = lab;
        let seed = Seed::choose()?;
        seed.announce("linearizable");
        let runs: u64 =
            env::var("MERIDIAN_TEST_RUNS").map_or(Ok(2), |runs| runs.parse()).context("no number of runs")?;
        for run in 0..runs {
            let (history, unknown) = make_history(lab, seed.0 + run, run)?;
            let operations: usize = history.iter().map(Vec::len).sum();
            note(&format!("run {run}: {operations} operations, of which {unknown} had no answer"));
            for (key, operations) in history.iter().enumerate() {
                ensure!(is_linearizable(operations), "run {run}: key {key} was no register: {}", show(operations));
            }
        }
        Ok(())
    });
}

/// What all clients of a run share.
struct Run<'a> {
    region: &'a Region,
    number: u64,
    start: Instant,
    /// No two values are equal.
    values: AtomicU64,
    done: AtomicU64,
    ending: AtomicBool,
    history: Mutex<Vec<Vec<Operation>>>,
}

fn make_history(lab: &Lab, seed: u64, number: u64) -> Result<(Vec<Vec<Operation>>, usize)> {
    let run = Run {
        region: &lab.regions[0],
        number,
        start: Instant::now(),
        values: AtomicU64::new(0),
        done: AtomicU64::new(0),
        ending: AtomicBool::new(false),
        history: Mutex::new(vec![Vec::new(); KEYS]),
    };
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (run, random) = (&run, Pcg64Mcg::seed_from_u64(seed * CLIENTS + client));
            scope.spawn(move || run.operate(random));
        }
        let outcome = run.change_hands(lab, Pcg64Mcg::seed_from_u64(seed));
        run.ending.store(true, SeqCst);
        outcome
    })?;
    let history = run.history.into_inner().expect("a client does not panic");
    let unknown = history.iter().flatten().filter(|operation| operation.returned.is_none()).count();
    Ok((history, unknown))
}

impl Run<'_> {
    fn change_hands(&self, lab: &Lab, mut random: impl Rng) -> Result<()> {
        for _ in 0..FAILOVERS {
            self.until_done(OPERATIONS)?;
            let members = members(self.region)?;
            let replicas: Vec<_> = members.iter().filter(|member| !member.is_primary).collect();
            let heir = replicas[random.random_range(0..replicas.len())];
            let former = members.iter().find(|member| heir.follows.as_ref() == Some(&member.id));
            operate(lab, &self.region.nodes[0].name, &["failover", &heir.id, "--yes"])?;
            let former = former.context("it follows nobody")?;
            let [former, heir] = [former, heir].map(|member| &self.region.nodes[self.region.place(&member.addr)]);
            until_follows(former)?;
            until_feeds(heir, former)?;
        }
        self.until_done(OPERATIONS)
    }

    fn until_done(&self, more: u64) -> Result<()> {
        let goal = self.done.load(SeqCst) + more;
        until("operations are done", || Ok((self.done.load(SeqCst) >= goal).then_some(())))
    }

    fn operate(&self, mut random: impl Rng) {
        let mut client = Client::new(self.region.addresses());
        while !self.ending.load(SeqCst) {
            let index = random.random_range(0..KEYS);
            let key = format!("run{}:{index}", self.number);
            let called = self.now();
            let action = match random.random_range(0..10) {
                0..4 => {
                    let value = self.values.fetch_add(1, SeqCst);
                    let outcome = client.run::<()>(&key, redis::cmd("SET").arg(&key).arg(value));
                    (Action::Set(value), outcome)
                }
                4..5 => match client.run::<bool>(&key, redis::cmd("DEL").arg(&key)) {
                    Ok(was_there) => (Action::Delete(Some(was_there)), Ok(())),
                    Err(failure) => (Action::Delete(None), Err(failure)),
                },
                _ => match client.run::<Option<u64>>(&key, redis::cmd("GET").arg(&key)) {
                    Ok(value) => (Action::Read(value), Ok(())),
                    // Nobody has seen anything.
                    Err(_) => continue,
                },
            };
            let returned = match action.1 {
                Ok(()) => Some(self.now()),
                Err(Failure::Lost(_)) => None,
                Err(Failure::Refused(_)) => continue,
            };
            let operation = Operation { called, returned, action: action.0 };
            self.history.lock().expect("a client does not panic")[index].push(operation);
            self.done.fetch_add(1, SeqCst);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("a test takes less than centuries")
    }
}

/// The history of a key, one operation to a line.
fn show(operations: &[Operation]) -> String {
    let mut operations = operations.to_vec();
    operations.sort_by_key(|operation| operation.called);
    operations.iter().map(|operation| format!("\n  {operation:?}")).collect()
}
