//! A client of a cluster that hides nothing.
//!
//! The clients that people use follow redirections, wait and send again as they think best. A test of what a cluster
//! promises has to know more: which node answered, what it said on the way, and above all whether a command that failed may
//! have been carried out all the same. So this one sends again only what was refused for certain, counts each error by
//! its code, and says apart what is lost and what is refused ([`Failure`]).

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use redis::{Cmd, Connection, ErrorKind, FromRedisValue, RedisError};

/// How long one node may take to answer. A node that hangs is a thing of some tests, and no other node waits for it longer.
const ANSWER_MAX: Duration = Duration::from_millis(1_000);

/// For how long a command that is refused is sent again. Policy: it has failed.
const REFUSED_MAX: Duration = Duration::from_secs(20);

/// Between two attempts, unless the cluster has just said where to go.
const PAUSE: Duration = Duration::from_millis(2);

/// Redirections that are followed at once. More mean that two nodes send to one another: then with a pause between.
const REDIRECTIONS_AT_ONCE: usize = 4;

/// Why a command has no result.
#[derive(Debug)]
pub enum Failure {
    /// It was sent, and nobody knows whether it was carried out.
    Lost(RedisError),
    /// It was not carried out.
    Refused(RedisError),
}

/// See the head of this file.
pub struct Client {
    nodes: Vec<String>,
    connections: BTreeMap<String, Connection>,
    /// Where a key was answered for last.
    places: BTreeMap<String, String>,
    /// Where to begin with a key that was never asked for.
    first: usize,
    last: String,
    errors: BTreeMap<String, u64>,
}

impl Client {
    /// A client that finds its way from these nodes on. It connects when it must.
    pub fn new(nodes: impl IntoIterator<Item = String>) -> Self {
        Self {
            nodes: nodes.into_iter().collect(),
            connections: BTreeMap::new(),
            places: BTreeMap::new(),
            first: 0,
            last: String::new(),
            errors: BTreeMap::new(),
        }
    }

    /// The node that answered last.
    pub fn last_node(&self) -> &str {
        &self.last
    }

    /// How many errors were answered, by their codes: redirections among them.
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    /// Runs a command about a key.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn run<T: FromRedisValue>(&mut self, key: &str, command: &Cmd) -> Result<T, Failure> {
        let start = Instant::now();
        let mut is_asking = false;
        for attempt in 0.. {
            let node = self.places.get(key).unwrap_or(&self.nodes[self.first]).clone();
            let error = match self.run_at(&node, command, is_asking) {
                Ok(result) => {
                    self.last = node;
                    return Ok(result);
                }
                Err(Failure::Lost(error)) => {
                    self.forget(key, &node);
                    return Err(Failure::Lost(error));
                }
                Err(Failure::Refused(error)) => error,
            };
            if start.elapsed() > REFUSED_MAX {
                return Err(Failure::Refused(error));
            }
            *self.errors.entry(error.code().unwrap_or("CONNECT").to_owned()).or_default() += 1;
            is_asking = error.code() == Some("ASK");
            match error.redirect_node() {
                Some((node, _)) => {
                    self.places.insert(key.to_owned(), node.to_owned());
                    if attempt < REDIRECTIONS_AT_ONCE {
                        continue;
                    }
                }
                None if error.code().is_none() => self.forget(key, &node),
                None => {}
            }
            thread::sleep(PAUSE);
        }
        unreachable!("attempts do not run out")
    }

    /// Waits until a replica has what was written last here, and says whether it has.
    ///
    /// # Errors
    /// If the node that took the write does not answer.
    pub fn is_replicated(&mut self, within: Duration) -> Result<bool> {
        let connection = self.connections.get_mut(&self.last);
        let Some(connection) = connection else { return Ok(false) };
        let waited = redis::cmd("WAIT").arg(1).arg(within.as_millis() as u64).query::<i64>(connection);
        if waited.is_err() {
            self.connections.remove(&self.last);
        }
        Ok(waited? >= 1)
    }

    /// Reads a number that [`Load`](crate::Load) or a test has written; zero if there is none.
    ///
    /// # Errors
    /// If nobody answers for it.
    pub fn number(&mut self, key: &str) -> Result<u64, Failure> {
        self.run::<Option<u64>>(key, redis::cmd("GET").arg(key)).map(Option::unwrap_or_default)
    }

    fn run_at<T: FromRedisValue>(&mut self, node: &str, command: &Cmd, is_asking: bool) -> Result<T, Failure> {
        if !self.connections.contains_key(node) {
            self.connections.insert(node.to_owned(), connect(node).map_err(Failure::Refused)?);
        }
        let connection = self.connections.get_mut(node).expect("it was just connected to");
        let asked = if is_asking { redis::cmd("ASKING").exec(connection) } else { Ok(()) };
        match asked.and_then(|()| command.query(connection)) {
            Ok(result) => Ok(result),
            // What a node answers with an error, it has not done.
            Err(error) if is_answer(&error) => Err(Failure::Refused(error)),
            Err(error) => {
                self.connections.remove(node);
                Err(Failure::Lost(error))
            }
        }
    }

    /// Begins anew with this key, elsewhere.
    fn forget(&mut self, key: &str, node: &str) {
        self.connections.remove(node);
        self.places.remove(key);
        self.first = (self.first + 1) % self.nodes.len();
    }
}

fn is_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

fn connect(node: &str) -> Result<Connection, RedisError> {
    let client = redis::Client::open(format!("redis://{node}/"))?;
    let connection = client.get_connection_with_timeout(ANSWER_MAX)?;
    connection.set_read_timeout(Some(ANSWER_MAX))?;
    connection.set_write_timeout(Some(ANSWER_MAX))?;
    Ok(connection)
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("last", &self.last).field("errors", &self.errors).finish_non_exhaustive()
    }
}

impl From<Failure> for anyhow::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost(error) => anyhow::Error::new(error).context("no answer"),
            Failure::Refused(error) => anyhow::Error::new(error).context("refused until the end"),
        }
    }
}

/// Checks that nothing but redirections was answered: what a client of a cluster follows without its user noticing.
///
/// # Errors
/// If there was another.
pub fn check_redirections_alone(errors: &BTreeMap<String, u64>) -> Result<()> {
    let others: Vec<_> =
        errors.iter().filter(|(code, _)| !["MOVED", "ASK", "TRYAGAIN"].contains(&code.as_str())).collect();
    ensure!(others.is_empty(), "clients were answered with {others:?}");
    Ok(())
}
