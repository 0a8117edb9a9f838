//! A steady load on a cluster: writers that count up, and a reader that sees whether anything goes back.
//!
//! Each key has one writer, which writes 1, 2, 3 and so on. So three numbers say all about it: the greatest that was
//! attempted, the greatest that was acknowledged, and the greatest of which a replica is known to have it (`WAIT`). Whatever
//! is read must not be less than what was promised before the reading began, nor less than what the same node has
//! answered before, nor more than what was attempted.
//!
//! Each thread makes some 1,500 requests a second at most.
//!
//! What a promise covers depends on what a test does to the nodes: see [`Promise`].

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, bail, ensure};

use crate::{Client, Failure};

/// How long a writer waits for a replica. If there is none it goes on, and nothing is promised.
const REPLICATED_MAX: Duration = Duration::from_millis(200);

/// Between two requests of one thread: a load is there to be consistent with, and two regions beside it want the two cores of a
/// small machine as well.
const PAUSE: Duration = Duration::from_micros(500);

/// Complaints that are kept. One more is of no more use.
const COMPLAINTS_MAX: usize = 5;

/// What is there for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Whatever was acknowledged: as long as no primary dies.
    Acknowledged,
    /// What a replica had as well, and `WAIT` said so.
    Replicated,
}

#[derive(Debug)]
struct Counter {
    key: String,
    attempted: AtomicU64,
    promised: AtomicU64,
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    counters: Arc<Vec<Counter>>,
    nodes: Vec<String>,
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Heard>>,
}

/// What a thread has heard.
#[derive(Debug, Default)]
struct Heard {
    errors: BTreeMap<String, u64>,
    lost: u64,
    refused: u64,
    complaints: Vec<String>,
}

/// What a load has come to.
#[derive(Debug)]
pub struct Written {
    counters: Arc<Vec<Counter>>,
    nodes: Vec<String>,
    /// Errors that were answered, by code: redirections among them.
    pub errors: BTreeMap<String, u64>,
    /// Commands of which nobody knows whether they were carried out.
    pub lost: u64,
    /// Commands that were refused until patience was over.
    pub refused: u64,
}

impl Load {
    /// Starts writers, each with so many keys of its own, and one reader of all keys.
    pub fn start(nodes: &[String], name: &str, writers: usize, keys_each: usize, promise: Promise) -> Self {
        let counter = |index| Counter {
            key: format!("{name}:{index}"),
            attempted: AtomicU64::new(0),
            promised: AtomicU64::new(0),
        };
        let counters: Arc<Vec<_>> = Arc::new((0..writers * keys_each).map(counter).collect());
        let ending = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for writer in 0..writers {
            let (counters, ending, client) = (counters.clone(), ending.clone(), Client::new(nodes.to_vec()));
            let own = writer * keys_each..(writer + 1) * keys_each;
            threads.push(thread::spawn(move || write(&counters[own], client, promise, &ending)));
        }
        let (read_counters, read_ending, client) = (counters.clone(), ending.clone(), Client::new(nodes.to_vec()));
        threads.push(thread::spawn(move || read(&read_counters, client, &read_ending)));
        Self { counters, nodes: nodes.to_vec(), ending, threads }
    }

    /// How much was promised so far, over all keys.
    pub fn promised(&self) -> u64 {
        self.counters.iter().map(|counter| counter.promised.load(SeqCst)).sum()
    }

    /// Waits until so much more is promised.
    ///
    /// # Errors
    /// If it is not by the deadline.
    pub fn until_promised(&self, more: u64) -> Result<()> {
        let goal = self.promised() + more;
        crate::until(&format!("{goal} writes are promised"), || Ok((self.promised() >= goal).then_some(())))
    }

    /// Ends it.
    ///
    /// # Errors
    /// If the reader has seen something that must not be.
    pub fn finish(mut self) -> Result<Written> {
        self.ending.store(true, SeqCst);
        let mut sum = Heard::default();
        for thread in self.threads.drain(..) {
            let heard = thread.join().expect("a load does not panic");
            heard.errors.into_iter().for_each(|(code, count)| *sum.errors.entry(code).or_default() += count);
            sum.lost += heard.lost;
            sum.refused += heard.refused;
            sum.complaints.extend(heard.complaints);
        }
        let Heard { errors, lost, refused, complaints } = sum;
        if !complaints.is_empty() {
            bail!("{}", complaints.join("\n"));
        }
        Ok(Written { counters: self.counters.clone(), nodes: std::mem::take(&mut self.nodes), errors, lost, refused })
    }
}

impl Drop for Load {
    /// A test that has failed does not wait for threads; but they end.
    fn drop(&mut self) {
        self.ending.store(true, SeqCst);
    }
}

impl Written {
    /// How many values were promised, over all keys.
    pub fn promised(&self) -> u64 {
        self.counters.iter().map(|counter| counter.promised.load(SeqCst)).sum()
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.counters.iter().map(|counter| counter.key.as_str())
    }

    /// Reads all keys: each has what was promised, or something later.
    ///
    /// # Errors
    /// If one has not; those keys are named.
    pub fn check(&self) -> Result<()> {
        self.check_at(&self.nodes)
    }

    /// The same in another region, which has nodes at these addresses.
    ///
    /// # Errors
    /// If a key has not what was promised, or not yet.
    pub fn check_at(&self, nodes: &[String]) -> Result<()> {
        let mut client = Client::new(nodes.to_vec());
        let mut wrong = Vec::new();
        for Counter { key, attempted, promised } in self.counters.iter() {
            let (promised, attempted) = (promised.load(SeqCst), attempted.load(SeqCst));
            let value = until_read(&mut client, key)?;
            if !(promised..=attempted).contains(&value) {
                wrong.push(format!("{key} is {value}, where {promised} to {attempted} were written"));
            }
        }
        let (count, first) = (wrong.len(), wrong.iter().take(COMPLAINTS_MAX).cloned().collect::<Vec<_>>());
        ensure!(wrong.is_empty(), "{count} of {} keys are wrong: {}", self.counters.len(), first.join("; "));
        Ok(())
    }
}

fn until_read(client: &mut Client, key: &str) -> Result<u64> {
    crate::until(&format!("{key} is read"), || Ok(Some(client.number(key)?)))
}

fn write(counters: &[Counter], mut client: Client, promise: Promise, ending: &AtomicBool) -> Heard {
    let mut heard = Heard::default();
    for counter in counters.iter().cycle() {
        if ending.load(SeqCst) {
            break;
        }
        thread::sleep(PAUSE);
        let value = counter.attempted.fetch_add(1, SeqCst) + 1;
        match client.run::<()>(&counter.key, redis::cmd("SET").arg(&counter.key).arg(value)) {
            Ok(()) => {}
            Err(failure) => {
                heard.note(failure);
                continue;
            }
        }
        let is_promised = promise == Promise::Acknowledged || client.is_replicated(REPLICATED_MAX).unwrap_or(false);
        if is_promised {
            counter.promised.store(value, SeqCst);
        }
    }
    heard.errors = client.errors().clone();
    heard
}

fn read(counters: &[Counter], mut client: Client, ending: &AtomicBool) -> Heard {
    let mut heard = Heard::default();
    let mut latest: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for Counter { key, attempted, promised } in counters.iter().cycle() {
        if ending.load(SeqCst) {
            break;
        }
        thread::sleep(PAUSE);
        let least = promised.load(SeqCst);
        let value = match client.number(key) {
            Ok(value) => value,
            Err(failure) => {
                heard.note(failure);
                continue;
            }
        };
        let (most, node) = (attempted.load(SeqCst), client.last_node().to_owned());
        if !(least..=most).contains(&value) {
            heard.complain(format!("{key} was read as {value} at {node}, where {least} to {most} were written"));
        }
        let before = latest.insert((node.clone(), key), value).unwrap_or_default();
        if value < before {
            heard.complain(format!("{key} went back from {before} to {value} at {node}"));
        }
    }
    heard.errors = client.errors().clone();
    heard
}

impl Heard {
    fn note(&mut self, failure: Failure) {
        match failure {
            Failure::Lost(_) => self.lost += 1,
            Failure::Refused(_) => self.refused += 1,
        }
    }

    fn complain(&mut self, complaint: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(complaint);
        }
    }
}
