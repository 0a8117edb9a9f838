//! A lab of one test: started by the program under test, described by its one line of JSON, ended with the test.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;

use crate::{Gateway, Node, Region, Wan, meridian, process::Leashed};

/// How many lines of each log a failed test shows.
const LOG_LINES: usize = 25;

/// Regions that run.
#[derive(Debug)]
pub struct Lab {
    /// The regions, in the order in which they were asked for.
    pub regions: Vec<Region>,
    /// The WAN between them.
    pub wan: Wan,
    /// The process of the WAN; none if there is but one region.
    pub wan_pid: Option<u32>,
    /// Where its Prometheus is; none if it was started without.
    pub prometheus: Option<String>,
    /// The lab's own process. Dropped before the folder with everybody's files.
    pub process: Leashed,
    /// The folder of all files.
    pub dir: TempDir,
}

/// Starts a lab with these arguments and runs a test in it. The lab ends with the test.
///
/// # Panics
/// If the lab does not start or the test fails: with the error and the last messages of every process.
pub fn with_lab(arguments: &[&str], test: impl FnOnce(&mut Lab) -> Result<()>) {
    let mut lab = Lab::start(arguments).unwrap_or_else(|error| panic!("no lab: {error:#}"));
    if let Err(error) = test(&mut lab) {
        panic!("{error:#}\n{}", lab.last_words());
    }
}

/// The arguments of a lab whose regions are of one node each, with its gateway inside, and these besides.
pub fn of_one_node<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["--primaries=1", "--replicas=0", "--gateways=embedded"], arguments].concat()
}

/// The line of `meridian lab --json`.
#[derive(Deserialize)]
struct Description {
    regions: Vec<DescribedRegion>,
    wan: Option<DescribedWan>,
    prometheus: Option<String>,
}

#[derive(Deserialize)]
struct DescribedRegion {
    name: String,
    id: u8,
    nodes: Vec<DescribedNode>,
    gateways: Vec<Gateway>,
}

#[derive(Deserialize)]
struct DescribedNode {
    id: String,
    role: String,
    addr: String,
    admin: String,
    pid: u32,
}

#[derive(Deserialize)]
struct DescribedWan {
    control: String,
    pid: u32,
}

impl DescribedRegion {
    fn started(self, dir: &Path) -> Result<Region> {
        let Self { name, id, nodes, gateways } = self;
        ensure!(!nodes.is_empty(), "region {name} has no node");
        // Its files are called as the region, if the gateway is inside it.
        let is_alone = gateways.first().is_some_and(|gateway| gateway.id == nodes[0].id);
        let node = |DescribedNode { id, role, addr, admin, pid }: DescribedNode| {
            let name = if is_alone { name.clone() } else { id.clone() };
            Node { id, name, role, addr, admin, pid, dir: dir.to_owned(), restarted: None }
        };
        Ok(Region { id, nodes: nodes.into_iter().map(node).collect(), name, gateways })
    }
}

impl Lab {
    /// Starts a lab with these arguments, and returns when all its links are up.
    ///
    /// # Errors
    /// If it does not come up; with what it said.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(meridian()?);
        command.args(["lab", "--json", "--until-stdin-closes", "--dir"]).arg(dir.path()).args(arguments);
        let log = dir.path().join("lab.log");
        let mut process = Leashed::start(command.stdout(Stdio::piped()), &log)?;
        let stdout = process.child().stdout.take().context("the lab has no standard output")?;
        let mut line = String::new();
        // The lab itself bounds how long this takes, and says what is missing.
        BufReader::new(stdout).read_line(&mut line)?;
        if line.is_empty() {
            process.until_ended()?;
            bail!("{}", fs::read_to_string(&log).unwrap_or_default());
        }
        let Description { regions, wan, prometheus } =
            serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))?;
        let regions = regions.into_iter().map(|region| region.started(dir.path())).collect::<Result<_>>()?;
        let (control, wan_pid) = wan.map(|wan| (wan.control, wan.pid)).unzip();
        Ok(Self { regions, wan: Wan::at(control.as_deref()), wan_pid, prometheus, process, dir })
    }

    /// A region by its name.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn region(&self, name: &str) -> &Region {
        let region = self.regions.iter().find(|region| region.name == name);
        region.unwrap_or_else(|| panic!("the lab has no region {name}"))
    }

    /// All ordered pairs of regions.
    pub fn pairs(&self) -> impl Iterator<Item = (&Region, &Region)> {
        let pairs = self.regions.iter().flat_map(|from| self.regions.iter().map(move |to| (from, to)));
        pairs.filter(|(from, to)| from.id != to.id)
    }

    /// Writes something new in every region and waits until it is read in all others. What was written before has then
    /// arrived as a rule; but where a link scans, slots arrive in any order, so what must be there is still to be waited
    /// for.
    ///
    /// # Errors
    /// If something does not arrive by the deadline.
    pub fn until_settled(&self, marker: &str) -> Result<()> {
        let key = |region: &Region| format!("settled:{marker}:{}", region.name);
        for region in &self.regions {
            region.run::<()>(&["SET", &key(region), marker])?;
        }
        for (from, to) in self.pairs() {
            to.until_result(&["GET", &key(from)], &Some(marker.to_owned()))?;
        }
        Ok(())
    }

    /// The last messages of every process.
    pub fn last_words(&self) -> String {
        last_words(self.dir.path())
    }
}

/// The last messages of every process whose log is in a folder.
pub(crate) fn last_words(dir: &Path) -> String {
    let mut words = String::new();
    let mut logs: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
    logs.sort_by_key(|entry| entry.file_name());
    for log in logs.iter().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "log")) {
        let text = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        words.push_str(&format!("\n== {} ==\n", log.display()));
        words.extend(lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|line| format!("{line}\n")));
    }
    words
}
