//! The processor time that a command costs here, and in redis-server beside it.
//!
//! Throughput says little on a machine that also runs the client. So all servers get the same requests from
//! redis-benchmark, which runs on another core, and what is compared is the processor time that each server's process
//! took for them, by its own account in /proc. One worker, pinned to a core; values of 100 bytes; a single key, as
//! redis-benchmark has it unless told otherwise, and keys drawn from 100,000, where most of it is waiting for memory.
//! The rounds of the servers alternate, and the median of each counts.
//!
//! ```text
//! cargo bench -p meridian --bench against_redis [-- REQUESTS [ROUNDS]]
//! ```
//! `VALKEY_SERVER=PATH` has a valkey-server run beside both. Needs redis-server, redis-benchmark and taskset, and says
//! so where they are missing. Asserts nothing.

use std::{
    env, fs, io,
    net::{TcpListener, TcpStream},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

/// The core of the servers, and that of the client.
const CORES: [&str; 2] = ["0", "1"];
/// Connections of the client.
const CLIENTS: &str = "50";
/// Keys that the client draws from; of one, it draws none.
const KEYS: [u64; 2] = [1, 100_000];
/// Bytes of a value.
const VALUE_BYTES: &str = "100";
/// Requests in one run, unless said otherwise, and at the least commands per pipeline of sixteen.
const REQUESTS: u64 = 400_000;
/// Runs of each kind, unless said otherwise.
const ROUNDS: usize = 5;
/// Clock ticks per second of the times in /proc, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A server under measurement; killed when dropped.
struct Server {
    name: &'static str,
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(name: &'static str, command: impl FnOnce(&mut Command, u16)) -> io::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut taskset = Command::new("taskset");
        taskset.args(["-c", CORES[0]]);
        command(&mut taskset, port);
        let child = taskset.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Self { name, child, port };
        for _ in 0..100 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(io::Error::other(format!("{name} did not come up")))
    }

    /// Seconds of processor time that the process took so far, in user mode and in the kernel.
    fn cpu_seconds(&self) -> io::Result<(f64, f64)> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field, in parentheses, may hold blanks; utime and stime are the 14th and 15th of all.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
        let mut ticks = || fields.next().and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or_default();
        Ok((ticks() / TICKS_PER_SECOND, ticks() / TICKS_PER_SECOND))
    }

    /// Microseconds of processor time per command, user and kernel.
    fn measure(&self, test: &str, keys: u64, pipeline: u64, requests: u64) -> io::Result<(f64, f64)> {
        let before = self.cpu_seconds()?;
        let mut client = Command::new("taskset");
        client
            .args(["-c", CORES[1], "redis-benchmark", "-q", "-p", &self.port.to_string(), "-t", test])
            .args(["-n", &requests.to_string(), "-P", &pipeline.to_string()])
            .args(["-c", CLIENTS, "-d", VALUE_BYTES]);
        if keys > 1 {
            client.args(["-r", &keys.to_string()]);
        }
        if !client.stdout(Stdio::null()).status()?.success() {
            return Err(io::Error::other("redis-benchmark failed"));
        }
        let after = self.cpu_seconds()?;
        let each = |after: f64, before: f64| (after - before) * 1e6 / requests as f64;
        Ok((each(after.0, before.0), each(after.1, before.1)))
    }
}

fn main() -> ExitCode {
    match compare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("skipped: {error} (needs redis-server, redis-benchmark and taskset)");
            ExitCode::SUCCESS
        }
    }
}

fn compare() -> io::Result<()> {
    let mut numbers = env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let requests = numbers.next().unwrap_or(REQUESTS);
    let rounds = numbers.next().map_or(ROUNDS, |rounds| rounds as usize);
    let redis = Server::start("redis", |command, port| {
        command.args(["redis-server", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
    })?;
    let meridian = Server::start("meridian", |command, port| {
        let listen = format!("127.0.0.1:{port}");
        command.arg(env!("CARGO_BIN_EXE_meridian")).args(["node", "--workers", "1", "--admin", "off"]);
        command.args(["--listen", &listen]);
    })?;
    let mut servers = vec![redis, meridian];
    if let Ok(path) = env::var("VALKEY_SERVER") {
        servers.push(Server::start("valkey", |command, port| {
            command.args([&path, "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        })?);
    }
    println!(
        "microseconds of processor time per command (user + kernel), median of {rounds} runs of {requests}, and ratio"
    );
    print!("{:<6}{:>9}{:>10}", "", "keys", "pipeline");
    println!("{}", servers.iter().map(|server| format!("{:>28}", server.name)).collect::<String>());
    for (pipeline, keys) in [1, 16].into_iter().flat_map(|pipeline| KEYS.map(|keys| (pipeline, keys))) {
        // A longer run where a command costs less, so that all last long enough for the ticks of /proc.
        let requests = requests * if pipeline == 1 { 1 } else { 5 };
        for test in ["set", "get"] {
            let mut runs = vec![Vec::new(); servers.len()];
            for _ in 0..rounds {
                for (server, runs) in servers.iter().zip(&mut runs) {
                    runs.push(server.measure(test, keys, pipeline, requests)?);
                }
            }
            let medians: Vec<_> = runs.into_iter().map(median).collect();
            print!("{test:<6}{keys:>9}{pipeline:>10}");
            for (user, kernel) in &medians {
                let ratio = (user + kernel) / (medians[0].0 + medians[0].1);
                print!("{:>28}", format!("{:.2} ({user:.2}+{kernel:.2}) {ratio:.2}", user + kernel));
            }
            println!();
        }
    }
    Ok(())
}

/// The run with the median of the sums.
fn median(mut runs: Vec<(f64, f64)>) -> (f64, f64) {
    runs.sort_by(|a, b| (a.0 + a.1).total_cmp(&(b.0 + b.1)));
    runs[runs.len() / 2]
}
