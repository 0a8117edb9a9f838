//! The processor time that a command costs here, and in redis-server beside it.
//!
//! Throughput says little on a machine that also runs the client. So all servers get the same requests from a client on another core, and what is compared is the
//! processor time that each server's process took for them, by its own account in /proc. One worker, pinned to a core; values of 100 bytes; a single key, as
//! redis-benchmark has it unless told otherwise, and keys drawn from 100,000, where most of it is waiting for memory; MSET and MGET of ten keys each. The rounds of the servers alternate, and the median of each counts.
//!
//! There are two clients. [`flood`] sends more than any of these servers can take, so that what is measured is what a command costs. redis-benchmark, which everybody knows, is in
//! pipelines slower than the servers: what is measured there is also how often they sleep.
//!
//! ```text
//! cargo bench -p meridian-tests --bench against_redis [-- REQUESTS [ROUNDS]]
//! ```
//! `VALKEY_SERVER=PATH` has a valkey-server run beside both. Needs redis-server, redis-benchmark and taskset, and says
//! so where they are missing. Asserts nothing.

mod flood;

use std::{
    env,
    ffi::OsStr,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{self, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use flood::{Flood, Request};
use meridian_tests::{CpuTime, Leashed, meridian, pin};

/// The core of the servers, and that of the client.
const CORES: [usize; 2] = [0, 1];
/// Keys that the client draws from.
const KEYS: [u64; 2] = [1, 100_000];
/// Commands that are sent at once.
const PIPELINES: [u64; 2] = [16, 1];
/// Requests in one run, unless said otherwise.
const REQUESTS: u64 = 200_000;
/// Times as many in pipelines, so that a run lasts long enough for the steps of the times in /proc.
const MORE_IN_PIPELINES: u64 = 5;
/// Runs of each kind, unless said otherwise.
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    for needed in ["redis-server", "redis-benchmark", "taskset"] {
        if Command::new(needed).arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: needs {needed}");
            return Ok(());
        }
    }
    let mut numbers = env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let requests = numbers.next().unwrap_or(REQUESTS);
    let rounds = numbers.next().map_or(ROUNDS, |rounds| rounds as usize);
    let logs = tempfile::tempdir()?;
    let servers = servers(logs.path())?;
    // This process is the client, or starts it.
    pin(process::id(), CORES[1])?;
    println!(
        "microseconds of processor time per command (user + kernel), median of {rounds} runs of {requests}, and ratio"
    );
    for client in [Client::Flood, Client::RedisBenchmark] {
        println!("{client:?}");
        print!("{:<6}{:>9}{:>10}", "", "keys", "pipeline");
        println!("{}", servers.iter().map(|server| format!("{:>28}", server.name)).collect::<String>());
        for (commands, keys) in PIPELINES.into_iter().flat_map(|commands| KEYS.map(|keys| (commands, keys))) {
            let requests = requests * if commands > 1 { MORE_IN_PIPELINES } else { 1 };
            for request in client.requests() {
                let load = Load { client, request: *request, keys, commands, requests };
                println!("{request:<6?}{keys:>9}{commands:>10}{}", compare(&servers, load, rounds)?);
            }
        }
    }
    Ok(())
}

/// What sends the requests.
#[derive(Clone, Copy, Debug)]
enum Client {
    Flood,
    RedisBenchmark,
}

impl Client {
    const fn requests(self) -> &'static [Request] {
        match self {
            Self::Flood => &[Request::Set, Request::Get, Request::Mset, Request::Mget],
            Self::RedisBenchmark => &[Request::Set, Request::Get],
        }
    }
}

/// What is sent in one run.
#[derive(Clone, Copy)]
struct Load {
    client: Client,
    request: Request,
    keys: u64,
    /// In a pipeline.
    commands: u64,
    requests: u64,
}

impl Load {
    /// Sends it all to a port, and waits for the replies.
    fn send(self, port: u16) -> Result<()> {
        match self.client {
            Client::Flood => Flood::new(self.request, self.keys, self.commands).pour(port, self.requests),
            Client::RedisBenchmark => self.benchmark(port),
        }
    }

    fn benchmark(self, port: u16) -> Result<()> {
        let mut client = Command::new("redis-benchmark");
        client.args(["-q", "-c", "50", "-d", "100", "-p", &port.to_string(), "-t", self.request.name()]);
        client.args(["-n", &self.requests.to_string(), "-P", &self.commands.to_string()]);
        if self.keys > 1 {
            client.args(["-r", &self.keys.to_string()]);
        }
        ensure!(client.stdout(Stdio::null()).status()?.success(), "redis-benchmark failed");
        Ok(())
    }
}

/// The costs at each server, as a row of the table.
fn compare(servers: &[Server], load: Load, rounds: usize) -> Result<String> {
    let mut runs = vec![Vec::new(); servers.len()];
    for _ in 0..rounds {
        for (server, runs) in servers.iter().zip(&mut runs) {
            runs.push(server.measure(load)?);
        }
    }
    let medians: Vec<CpuTime> = runs.into_iter().map(median).collect();
    let each = |time: Duration| time.as_secs_f64() * 1e6 / load.requests as f64;
    let cell = |time: &CpuTime| {
        let ratio = time.sum().as_secs_f64() / medians[0].sum().as_secs_f64();
        let cost = format!("{:.2} ({:.2}+{:.2}) {ratio:.2}", each(time.sum()), each(time.user), each(time.kernel));
        format!("{cost:>28}")
    };
    Ok(medians.iter().map(cell).collect())
}

/// The run with the median of the sums.
fn median(mut runs: Vec<CpuTime>) -> CpuTime {
    runs.sort_by_key(|run| run.sum());
    runs[runs.len() / 2]
}

/// A server under measurement, which holds every key.
struct Server {
    name: &'static str,
    process: Leashed,
    port: u16,
}

/// All that are compared, redis-server first.
fn servers(logs: &Path) -> Result<Vec<Server>> {
    let start = |name, program: &OsStr, arguments: &dyn Fn(&mut Command, u16)| {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("taskset");
        command.args(["-c", &CORES[0].to_string()]).arg(program).stdout(Stdio::null());
        arguments(&mut command, port);
        let process = Leashed::start(&mut command, &logs.join(name))?;
        Server { name, process, port }.until_up()
    };
    let redis = |command: &mut Command, port: u16| {
        command.args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
    };
    let node = |command: &mut Command, port: u16| {
        command.args(["node", "--workers", "1", "--admin", "off", "--listen", &format!("127.0.0.1:{port}")]);
    };
    let mut servers =
        vec![start("redis", "redis-server".as_ref(), &redis)?, start("meridian", meridian()?.as_ref(), &node)?];
    if let Some(path) = env::var_os("VALKEY_SERVER") {
        servers.push(start("valkey", &path, &redis)?);
    }
    Ok(servers)
}

impl Server {
    /// Waits until it takes clients, and gives it all keys.
    fn until_up(self) -> Result<Self> {
        for _ in 0..100 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                let each = Flood::of_each(KEYS.into_iter().max().unwrap_or_default());
                each.pour(self.port, each.len())?;
                return Ok(self);
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("{} did not come up", self.name)
    }

    /// What it takes for a load.
    fn measure(&self, load: Load) -> Result<CpuTime> {
        let before = CpuTime::of(self.process.pid())?;
        load.send(self.port)?;
        Ok(CpuTime::of(self.process.pid())?.since(before))
    }
}
