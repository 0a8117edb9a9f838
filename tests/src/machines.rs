//! A region whose nodes are machines of their own: each in a network namespace, joined by a bridge.
//!
//! On loopback a process can be ended or stopped, but it cannot be cut off. Here each node has an address and a cable, and a
//! cable can be cut *one way*: what a machine sends to another is lost without a word, and what comes from there still arrives. The
//! test itself is one more machine, which all of them reach whatever is cut.
//!
//! # How
//! Who has no privileges may have some in a user namespace of their own, so [`with_machines`] runs the test a second time, in new
//! namespaces (`unshare`), and there as root. A machine is a process in one more network namespace, with one end of a veth pair; the
//! other end is in the bridge. A cut is a neighbour with a hardware address that nobody has.
//!
//! Where namespaces cannot be made (not Linux, or not allowed) the test says so and does nothing, unless
//! `MERIDIAN_TEST_MACHINES=required`.

use std::{
    env, fs,
    io::Write,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{Node, Region, lab::last_words, meridian, note, process::Leashed, until};

/// What a test knows itself by that runs in its namespaces.
const INSIDE: &str = "MERIDIAN_TEST_INSIDE";
const REQUIRED: &str = "MERIDIAN_TEST_MACHINES";
const BRIDGE: &str = "bridge";
/// Where the test itself is.
const SELF: u8 = 254;
/// Of a hardware address that nobody has.
const NOWHERE: &str = "02:00:00:00:00:fe";

const REDIS: u16 = 7000;
const ADMIN: u16 = 7100;
const BUS: u16 = 17000;

/// A region of one node a machine.
#[derive(Debug)]
pub struct Machines {
    /// The region. The processes of its nodes end before the folder with everybody's files.
    pub region: Region,
    /// The folder of all files.
    pub dir: TempDir,
}

/// A cable that is cut one way, until this is dropped.
#[derive(Debug)]
pub struct OneWayCut {
    from: u32,
    to: Ipv4Addr,
}

/// Runs a test, by its name in its file, on a region of this many shards with one replica each.
///
/// # Panics
/// If the region does not start, or the test fails.
pub fn with_machines(name: &str, shards: u8, test: impl FnOnce(&mut Machines) -> Result<()>) {
    if env::var_os(INSIDE).is_none() {
        return run_inside(name).unwrap_or_else(|error| panic!("{error:#}"));
    }
    let mut machines = Machines::start(shards).unwrap_or_else(|error| panic!("no machines: {error:#}"));
    if let Err(error) = test(&mut machines) {
        panic!("{error:#}\n{}", last_words(machines.dir.path()));
    }
}

/// Whether namespaces can be made here. If not, it is said what will not run.
///
/// # Errors
/// If they are required and cannot be made.
pub fn has_namespaces(what: &str) -> Result<bool> {
    let Err(error) = unshared("ip").arg("link").stdout(Stdio::null()).run() else { return Ok(true) };
    ensure!(env::var_os(REQUIRED).is_none_or(|what| what != "required"), "no namespaces: {error:#}");
    note(&format!("{what}: NOT RUN, since this machine makes no network namespaces: {error:#}"));
    Ok(false)
}

fn run_inside(name: &str) -> Result<()> {
    if !has_namespaces(name)? {
        return Ok(());
    }
    let program = env::current_exe()?;
    let mut command = unshared(program.to_str().context("the path of the test is no text")?);
    command.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").env("MERIDIAN_TEST_BINARY", meridian()?);
    command.run()
}

/// A program as root of new namespaces.
fn unshared(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--kill-child", program]);
    command
}

impl Machines {
    fn start(shards: u8) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        ip(&["link", "set", "lo", "up"])?;
        ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        ip(&["address", "add", &format!("{}/24", address(SELF)), "dev", BRIDGE])?;
        ip(&["link", "set", BRIDGE, "up"])?;
        let nodes = (1..=2 * shards).map(|number| start(number, dir.path())).collect::<Result<Vec<_>>>()?;
        for node in &nodes {
            until(&format!("{} says how it is", node.name), || node.status().map(Some))?;
        }
        let buses = (1..=2 * shards).map(|number| format!("{}:{BUS}", address(number)));
        let mut create = Command::new(meridian()?);
        create.args(["cluster", "create", "--replicas", "1", "--yes"]).args(buses).stdout(Stdio::null());
        create.run()?;
        let region = Region { name: "us-east".to_owned(), id: 1, nodes, gateways: Vec::new() };
        for node in &region.nodes {
            let is_whole = || {
                let text: String = node.run(&["CLUSTER", "INFO"])?;
                ensure!(text.contains("cluster_state:ok"), "it says {text:?}");
                Ok(Some(()))
            };
            until(&format!("{} sees a whole cluster", node.name), is_whole)?;
        }
        Ok(Self { region, dir })
    }

    /// Loses what these machines send to those, by their places in the region.
    ///
    /// # Errors
    /// If a cable cannot be cut.
    pub fn cut(&self, from: &[usize], to: &[usize]) -> Result<Vec<OneWayCut>> {
        let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
        let cut = |(from, to): (usize, usize)| OneWayCut::make(self.region.nodes[from].pid, address(to as u8 + 1));
        pairs.map(cut).collect()
    }
}

impl OneWayCut {
    fn make(from: u32, to: Ipv4Addr) -> Result<Self> {
        let cut = Self { from, to };
        cut.neighbour(&["replace", "lladdr", NOWHERE, "nud", "permanent"])?;
        Ok(cut)
    }

    fn neighbour(&self, words: &[&str]) -> Result<()> {
        let (what, of) = words.split_first().context("nothing to do")?;
        let to = self.to.to_string();
        at(self.from, &[&["ip", "neighbour", what, &to, "dev", "eth0"], of].concat())
    }
}

impl Drop for OneWayCut {
    fn drop(&mut self) {
        if let Err(error) = self.neighbour(&["delete"]) {
            note(&format!("a cable cannot be mended: {error:#}"));
        }
    }
}

fn start(number: u8, dir: &Path) -> Result<Node> {
    let (name, address) = (format!("node-{number}"), address(number));
    let config = format!(
        "[region]\nname = \"us-east\"\nid = 1\n[node]\nlisten = \"{address}:{REDIS}\"\nadmin = \"{address}:{ADMIN}\"\n\
         dir = \"{name}.state\"\nworkers = 1\n[cluster]\nlisten = \"{address}:{BUS}\"\n"
    );
    let file = dir.join(format!("{name}.toml"));
    fs::write(&file, config)?;
    // It waits for its cable.
    let script =
        format!("read -r _; exec {} node --until-stdin-closes --config {}", meridian()?.display(), file.display());
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", &script]).stdout(Stdio::null());
    let mut process = Leashed::start(&mut command, &dir.join(format!("{name}.log")))?;
    plug(number, process.pid())?;
    process.child().stdin.as_mut().context("it has no standard input")?.write_all(b"\n")?;
    Ok(Node {
        id: name.clone(),
        name,
        role: "none".to_owned(),
        addr: format!("{address}:{REDIS}"),
        admin: format!("{address}:{ADMIN}"),
        pid: process.pid(),
        dir: dir.to_owned(),
        restarted: Some(process),
    })
}

/// Lays a cable from the bridge to the machine of a process, once that has one.
fn plug(number: u8, pid: u32) -> Result<()> {
    let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net"));
    let (own, pid) = (network("self")?, pid.to_string());
    until("it has a network of its own", || Ok((network(&pid)? != own).then_some(())))?;
    let (cable, address) = (format!("cable{number}"), format!("{}/24", address(number)));
    ip(&["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &pid])?;
    ip(&["link", "set", &cable, "master", BRIDGE, "up"])?;
    let pid = pid.parse()?;
    at(pid, &["ip", "link", "set", "lo", "up"])?;
    at(pid, &["ip", "address", "add", &address, "dev", "eth0"])?;
    at(pid, &["ip", "link", "set", "eth0", "up"])
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number)
}

fn ip(words: &[&str]) -> Result<()> {
    Command::new("ip").args(words).run()
}

/// Runs a command on the machine of a process.
fn at(pid: u32, words: &[&str]) -> Result<()> {
    Command::new("nsenter").args(["--net", "--target", &pid.to_string()]).args(words).run()
}

/// A command that must succeed.
trait Run {
    fn run(&mut self) -> Result<()>;
}

impl Run for Command {
    fn run(&mut self) -> Result<()> {
        let status = self.status().with_context(|| format!("cannot start {self:?}"))?;
        ensure!(status.success(), "{self:?} ended with {status}");
        Ok(())
    }
}
