//! `meridian lab`: whole regions on one machine, as real processes, joined through a simulated WAN.
//!
//! Somebody who wants to know what Meridian does should see it within a minute: three regions, the distance between
//! them, writes that arrive, and what becomes of it all when a cable is cut. And a test needs exactly the same, for the
//! only proof that regions find together again is regions that were really apart. Both get the same lab: processes that
//! know nothing of being in one, talking through the proxy of `sim-wan` with certificates and all.
//!
//! # What it keeps
//! - It is ready when every cluster serves all its slots and its replicas follow, every gateway is known to all nodes of its
//!   region, and every link is up at both ends, from each primary of one region to each of the other, and has brought what
//!   was there. It says so only then.
//! - It takes other ports rather than fail, unless it was told which.
//! - It leaves nothing behind. Children stop when it is interrupted, and also when it is killed: see [`leash`]. Without
//!   `--dir` the files go as well (but not when it is killed, since then nobody is left to remove them).
//! - It never meddles. A child that dies is reported and not started again, since killing nodes is one of the things a
//!   lab is for; `DIR/NAME.cmd` is the command that starts it by hand, at the same ports, with the same state.
//!   The lab goes on, and ends with code 0 when it is told to end. With code 1 it ends if it did not become ready, or if
//!   no child is left.
//!
//! # Where what is
//! `args` what can be asked for; `plan` what that comes to, and `files` what stands in the files; `ports` and `certificates` what
//! it needs; `processes` and `leash` the children, and `machines` their networks where cables are to be cut; `look` what they say of themselves; `cluster` the nodes of a region as one,
//! `link` the ends of a link as one; `introduction`, `view` and `regions` what a person sees (on a
//! [`terminal`](crate::terminal)), and `description` what a program does; `prometheus` what an operator would be told; `scenario` what is lived through and judged.

mod args;
pub(crate) mod certificates;
mod cluster;
mod description;
mod files;
mod introduction;
pub(crate) mod leash;
mod limits;
mod link;
mod look;
mod machines;
mod plan;
mod ports;
mod processes;
mod prometheus;
mod regions;
mod scenario;
mod view;

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
pub(crate) use args::LabArgs;
use certificates::Authority;
use cluster::Cluster;
use description::{Description, Pids};
use futures_util::future::join_all;
use look::Snapshot;
use plan::Plan;
use processes::{Ended, Files, Processes};
use prometheus::Prometheus;
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::{self, Instant},
};

use crate::terminal::{Line, Screen, Style};

/// The exit code for what was asked wrongly.
const USAGE: u8 = 2;

/// Runs a lab until it is told to end.
///
/// # Errors
/// If it does not become ready, or cannot show itself any more. Its children have ended by then.
pub(crate) fn run(args: LabArgs) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.scenario {
        return scenario::run(&args, file);
    }
    if args.prometheus.is_some() {
        prometheus::check_installed()?;
    }
    let folder = Folder::open(args.dir.as_deref())?;
    let plan = match Plan::new(&args, folder.path()) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupted = Interrupted::new()?;
        let mut processes = Processes::new()?;
        let mut lab = Lab { plan, json: args.json, screen: Screen::new(), started: Instant::now(), prometheus: None };
        let ended = tokio::select! {
            ended = lab.live(&mut processes) => ended,
            () = interrupted.wait() => Ok(ExitCode::SUCCESS),
        };
        lab.say(Line::default().with(Style::Dim, "  ending all"));
        processes.stop().await;
        if let Some(prometheus) = lab.prometheus.take() {
            prometheus.stop().await;
        }
        ended
    })
}

/// A lab that is running.
struct Lab {
    plan: Plan,
    json: bool,
    screen: Screen,
    started: Instant,
    prometheus: Option<Prometheus>,
}

impl Lab {
    /// Starts everything, waits until it is ready, and shows it for as long as anything is left of it.
    async fn live(&mut self, processes: &mut Processes) -> anyhow::Result<ExitCode> {
        let (nodes, gateways) = (self.plan.nodes().count(), self.plan.gateways().count());
        let gateways = if gateways == 0 { String::new() } else { format!(" and {gateways} gateways") };
        self.say(Line::default().with(Style::Dim, format!("  starting {nodes} nodes{gateways}")));
        let pids = start(&self.plan, processes)?;
        let mut clusters = Cluster::all(&self.plan)?;
        until_ready(&self.plan, processes, &mut clusters).await?;
        // When all is up, so that nothing fires because of how it began.
        self.prometheus = Prometheus::start(&self.plan)?;
        let first = self.look(&clusters).await;
        if self.json {
            let line = serde_json::to_string(&Description::new(&self.plan, &pids, &first))?;
            writeln!(io::stdout(), "{line}")?;
        } else {
            self.screen.say(&introduction::lines(&self.plan, &pids))?;
        }
        let in_place = !self.json && self.live_view(&first).is_some();
        let mut tick = time::interval(if in_place { limits::REFRESH } else { limits::LINE_EVERY });
        while processes.running() > 0 {
            tokio::select! {
                ended = processes.next_ended() => self.report(&ended),
                _ = tick.tick(), if !self.json => self.show(in_place, &clusters).await?,
            }
        }
        bail!("no process of the lab is left");
    }

    /// Looks at everything, and at what fires.
    async fn look(&self, clusters: &[Option<Cluster>]) -> Snapshot {
        let alerts = async { self.prometheus.as_ref()?.firing().await };
        let (snapshot, alerts) = tokio::join!(Snapshot::take(&self.plan, clusters), alerts);
        Snapshot { alerts, ..snapshot }
    }

    /// Shows the state of things, in place or as a line.
    async fn show(&mut self, in_place: bool, clusters: &[Option<Cluster>]) -> io::Result<()> {
        let snapshot = self.look(clusters).await;
        // Where there was room once, there may be none after the terminal has been made smaller.
        if let Some(lines) = self.live_view(&snapshot).filter(|_| in_place) {
            return self.screen.draw(&lines);
        }
        let uptime: Duration = self.started.elapsed();
        self.screen.say(&[Line::default().with(Style::Plain, view::summary(&self.plan, &snapshot, uptime))])
    }

    /// As much as can be drawn in place; none if nothing can.
    fn live_view(&self, snapshot: &Snapshot) -> Option<Vec<Line>> {
        view::live(&self.plan, snapshot, |lines| self.screen.has_room_for(lines))
    }

    /// Says loudly that a child has died; also where nothing else is said.
    fn report(&mut self, ended: &Ended) {
        let lines: Vec<_> = obituary(ended).lines().map(|line| Line::default().with(Style::Bad, line)).collect();
        if self.json || self.screen.say(&lines).is_err() {
            lines.iter().for_each(|line| eprintln!("{}", line.print(usize::MAX, false)));
        }
    }

    /// A word in passing, which nobody waits for.
    fn say(&mut self, line: Line) {
        if !self.json {
            // A terminal that is gone is noticed where the view is drawn.
            let _ = self.screen.say(&[line]);
        }
    }
}

fn obituary(Ended { name, pid, status, log }: &Ended) -> String {
    let how = status.map_or_else(|| "nobody knows how".to_owned(), |status| status.to_string());
    format!("{name} (pid {pid}) ended: {how}; it said last ({}):\n{}", log.display(), processes::tail(log))
}

/// Founds the clusters, and waits until they serve and every link is up at both ends.
async fn until_ready(plan: &Plan, processes: &mut Processes, clusters: &mut [Option<Cluster>]) -> anyhow::Result<()> {
    let mut poll = time::interval(limits::READY_POLL);
    let mut missing = Vec::new();
    let ready = async {
        loop {
            poll.tick().await;
            missing = Snapshot::take(plan, clusters).await.missing(plan);
            missing.extend(prepare(plan, clusters).await);
            if missing.is_empty() {
                return;
            }
        }
    };
    let in_time = tokio::select! {
        ready = time::timeout(limits::READY, ready) => ready.is_ok(),
        ended = processes.next_ended() => bail!("{}", obituary(&ended)),
    };
    if in_time {
        return Ok(());
    }
    let logs = plan.names().map(|name| (name, plan.file(name, "log")));
    let logs = logs.map(|(name, log)| format!("\n  {name} said last:\n{}", processes::tail(&log)));
    let missing = missing.join("\n  ");
    bail!("not ready after {} s:\n  {missing}{}", limits::READY.as_secs(), logs.collect::<String>());
}

/// Takes each cluster as far as it can go at this moment, and says what is not there yet.
async fn prepare(plan: &Plan, clusters: &mut [Option<Cluster>]) -> Vec<String> {
    let prepared = plan.regions.iter().zip(clusters).map(async |(region, cluster)| {
        let Some(cluster) = cluster else { return Vec::new() };
        match cluster.found().await {
            Ok(()) => cluster.missing(&region.nodes).await,
            Err(error) => vec![format!("{} is no cluster yet: {error}", region.name)],
        }
    });
    join_all(prepared).await.concat()
}

/// Writes all files and starts all children: the WAN first, so that nobody's first attempt to connect fails.
fn start(plan: &Plan, processes: &mut Processes) -> anyhow::Result<Pids> {
    let certs = plan.dir.join("certs");
    fs::create_dir_all(&certs).with_context(|| format!("cannot make {}", certs.display()))?;
    let authority = Authority::create(&certs.join("ca.pem"))?;
    for region in &plan.regions {
        let [cert, key] = ["pem", "key"].map(|extension| certs.join(format!("{}.{extension}", region.name)));
        authority.certify(&region.name, &cert, &key)?;
    }
    let mut child = |name: &str, subcommand, config: &str| {
        let files = files_of(plan, name);
        fs::write(&files.config, config).with_context(|| format!("cannot write {}", files.config.display()))?;
        processes.start(name, subcommand, &files)
    };
    let wan = match &plan.topology {
        Some(topology) => Some(child(plan.wan_name(), "wan", &toml::to_string(topology)?)?),
        None => None,
    };
    let nodes = plan.nodes().map(|node| {
        let state = plan.file(&node.name, "state");
        fs::create_dir_all(&state).with_context(|| format!("cannot make {}", state.display()))?;
        child(&node.name, "node", &node.config)
    });
    let nodes = nodes.collect::<Result<_, _>>()?;
    let gateways = plan.gateways().map(|gateway| child(&gateway.name, "gateway", &gateway.config));
    Ok(Pids { nodes, gateways: gateways.collect::<Result<_, _>>()?, wan })
}

/// The files of a process.
fn files_of(plan: &Plan, name: &str) -> Files {
    let [config, log, command] = ["toml", "log", "cmd"].map(|extension| plan.file(name, extension));
    Files { config, log, command }
}

/// Where the files of a lab are.
enum Folder {
    /// Kept, and locked as long as the lab runs.
    Kept { path: PathBuf, _lock: File },
    /// Removed when this is dropped.
    Temporary(tempfile::TempDir),
}

impl Folder {
    fn open(dir: Option<&Path>) -> anyhow::Result<Self> {
        let Some(dir) = dir else {
            let folder = tempfile::Builder::new().prefix("meridian-lab-").tempdir();
            return Ok(Self::Temporary(folder.context("cannot make a folder for temporary files")?));
        };
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        // Children have another working folder in mind when they read relative paths.
        let path = dir.canonicalize()?;
        let lock = File::create(path.join("lock"))?;
        if let Err(error) = lock.try_lock() {
            bail!("{} is used by another lab ({error})", path.display());
        }
        Ok(Self::Kept { path, _lock: lock })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept { path, .. } => path,
            Self::Temporary(folder) => folder.path(),
        }
    }

    /// Leaves the files where they are, whatever was asked for.
    fn keep(&mut self) {
        if let Self::Temporary(folder) = self {
            folder.disable_cleanup(true);
        }
    }
}

/// Whatever asks a lab to end: SIGINT, SIGTERM, and SIGHUP, which is a terminal that is closed.
struct Interrupted {
    signals: [Signal; 3],
}

impl Interrupted {
    fn new() -> io::Result<Self> {
        let [int, term, hup] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        Ok(Self { signals: [int?, term?, hup?] })
    }

    async fn wait(&mut self) {
        let [int, term, hup] = &mut self.signals;
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Folder;

    #[test]
    fn folder_belongs_to_one_lab_at_a_time() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("kept");
        let first = Folder::open(Some(&dir)).unwrap();
        assert!(Folder::open(Some(&dir)).is_err());
        drop(first);
        assert!(Folder::open(Some(&dir)).is_ok());
    }

    #[test]
    fn temporary_folder_goes_with_its_lab() {
        let folder = Folder::open(None).unwrap();
        let path = folder.path().to_owned();
        assert!(path.is_dir());
        drop(folder);
        assert!(!path.exists());
    }
}
