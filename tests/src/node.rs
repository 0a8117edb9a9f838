//! One node of a lab, as its clients and its operators see it.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use redis::{Connection, FromRedisValue};
use serde::Deserialize;

use crate::{http, process, process::Leashed, until};

/// How long a command may take before the connection counts as dead.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node.
#[derive(Debug)]
pub struct Node {
    /// What the lab calls it: its region, and its number in that.
    pub id: String,
    /// What its files are called: its id, or its region if it is alone in that.
    pub name: String,
    /// `primary` or `replica`, as it was when the lab was ready.
    pub role: String,
    /// Where clients connect.
    pub addr: String,
    /// Where its metrics and its status are.
    pub admin: String,
    /// Its process.
    pub pid: u32,
    /// The folder of the lab.
    pub(crate) dir: PathBuf,
    /// The process, if it is not the one that the lab started.
    pub(crate) restarted: Option<Leashed>,
}

/// What a node says of itself; as much of it as tests look at.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// Who it is.
    pub region: Identity,
    /// Whether it holds again what its region lost when it began empty.
    pub complete: bool,
    /// How many keys it has.
    pub keys: u64,
    /// How many tombstones and markers it has.
    pub tombstones: u64,
    /// How many stamps it has forgotten before every region was past them.
    pub forgotten_early: u64,
    /// Its ends of links.
    pub links: Links,
}

/// Who a node is.
#[derive(Clone, Debug, Deserialize)]
pub struct Identity {
    /// Region and incarnation, as they stand in its stamps.
    pub origin: String,
}

/// The ends of links at one node.
#[derive(Clone, Debug, Deserialize)]
pub struct Links {
    /// Those that it dials.
    pub out: Vec<LinkOut>,
    /// Those that it receives.
    #[serde(rename = "in")]
    pub incoming: Vec<LinkIn>,
}

/// The sending end of a link.
#[derive(Clone, Debug, Deserialize)]
pub struct LinkOut {
    /// Where it leads.
    pub to: String,
    /// Whether it is connected.
    pub up: bool,
    /// What it does.
    pub state: String,
}

/// The receiving end of a link.
#[derive(Clone, Debug, Deserialize)]
pub struct LinkIn {
    /// Where it begins.
    pub from: String,
    /// Whether it is connected.
    pub up: bool,
    /// What it does.
    pub state: String,
    /// How far behind this region is.
    pub lag_seconds: Option<f64>,
    /// Records that won here.
    pub applied: u64,
}

impl Node {
    /// Connects as a client.
    ///
    /// # Errors
    /// If it does not take the connection.
    pub fn connect(&self) -> Result<Connection> {
        let client = redis::Client::open(format!("redis://{}/", self.addr))?;
        let connection = client.get_connection_with_timeout(PATIENCE);
        let connection = connection.with_context(|| format!("cannot connect to {}", self.name))?;
        connection.set_read_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    /// Runs one command, given as words, on a connection of its own.
    ///
    /// # Errors
    /// If it fails.
    pub fn run<T: FromRedisValue>(&self, words: &[&str]) -> Result<T> {
        run(&mut self.connect()?, words).with_context(|| format!("at {}", self.name))
    }

    /// Waits until a command gives this result here.
    ///
    /// # Errors
    /// If it does not by the deadline.
    pub fn until_result<T>(&self, words: &[&str], expected: &T) -> Result<()>
    where
        T: FromRedisValue + PartialEq + std::fmt::Debug,
    {
        let mut connection = self.connect()?;
        let what = format!("{words:?} gives {expected:?} at {}", self.name);
        until(&what, || {
            let got: T = run(&mut connection, words)?;
            anyhow::ensure!(got == *expected, "it gives {got:?}");
            Ok(Some(()))
        })
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn status(&self) -> Result<Status> {
        http::read_json(&format!("http://{}/status", self.admin))
    }

    /// The sum of all samples of a metric; zero if it has none.
    ///
    /// # Errors
    /// If it does not answer, or not with metrics.
    pub fn metric(&self, name: &str) -> Result<f64> {
        http::metric(&self.admin, name)
    }

    /// Waits until both ends of all its links are up.
    ///
    /// # Errors
    /// If they are not by the deadline.
    pub fn until_linked(&self) -> Result<()> {
        until(&format!("all links of {} are up", self.name), || {
            let Links { out, incoming } = self.status()?.links;
            Ok((out.iter().all(|link| link.up) && incoming.iter().all(|link| link.up)).then_some(()))
        })
    }

    /// Kills it, as a power cut would.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(restarted) = &mut self.restarted {
            restarted.child().kill()?;
            restarted.until_ended()?;
            return Ok(());
        }
        process::kill(self.pid)
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// If it cannot be asked, or does not end.
    pub fn terminate(&mut self) -> Result<()> {
        process::terminate(self.pid)?;
        match &mut self.restarted {
            Some(restarted) => restarted.until_ended().map(drop),
            None => process::until_gone(self.pid),
        }
    }

    /// Starts it again, by the command that the lab wrote down, and waits until it serves clients and says how
    /// it is.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.launch()?;
        until(&format!("{} serves again", self.name), || {
            self.run::<()>(&["PING"])?;
            self.status().map(|_| Some(()))
        })
    }

    /// Starts it again, whatever becomes of it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn launch(&mut self) -> Result<()> {
        let file = self.dir.join(format!("{}.cmd", self.name));
        let written = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("exec {} --until-stdin-closes", written.trim())).stdout(Stdio::null());
        let restarted = Leashed::start(&mut command, &self.dir.join(format!("{}.restarted.log", self.name)))?;
        self.pid = restarted.pid();
        self.restarted = Some(restarted);
        Ok(())
    }

    /// Sets its clock by its file: it goes by it from its next start on.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn set_clock_offset(&self, offset: &str) -> Result<()> {
        let file = self.dir.join(format!("{}.toml", self.name));
        let mut config: toml::Table = fs::read_to_string(&file)?.parse()?;
        let clock = config.entry("clock").or_insert_with(|| toml::Table::new().into());
        clock.as_table_mut().context("`clock` is no section")?.insert("offset".to_owned(), offset.into());
        Ok(fs::write(&file, toml::to_string(&config)?)?)
    }

    /// Waits until a node that was started again ends by itself.
    ///
    /// # Errors
    /// If it was not, or has not ended by the deadline.
    pub fn until_ended(&mut self) -> Result<ExitStatus> {
        self.restarted.as_mut().context("it is a child of the lab")?.until_ended()
    }

    /// Takes from it what it must remember when it starts again, as a lost disk would. Only while it is not running.
    ///
    /// # Errors
    /// If there is nothing to take.
    pub fn forget_state(&self) -> Result<()> {
        let state = self.dir.join(format!("{}.state", self.name));
        fs::remove_dir_all(&state).with_context(|| format!("cannot remove {}", state.display()))
    }
}

/// Runs one command, given as words.
pub(crate) fn run<T: FromRedisValue>(connection: &mut Connection, words: &[&str]) -> Result<T> {
    redis::Cmd::new().arg(words).query(connection).with_context(|| format!("{words:?}"))
}
