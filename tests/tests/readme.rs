//! What the README says one can type does what the README says.
//!
//! Its blocks marked `console` are run from the top to the bottom: a line that begins with `$ ` is a command, the lines
//! after it are what it prints. Reads of another region take a while over an ocean, so a command that only looks is
//! repeated until it prints that. The lab of the README stands at fixed ports; the one here stands where there is room,
//! and the ports are put in place. `cargo run --release --` becomes the program under test. Blocks marked `sh` are about a
//! region of several nodes, and run in a lab of one; `DIR` is its folder.

use std::{fs, net::TcpListener, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};
use meridian_tests::{Lab, Leashed, meridian, note, until, with_lab};

/// A command of the README and what it prints there.
#[derive(Debug)]
struct Step {
    command: String,
    prints: Vec<String>,
}

#[test]
fn every_command_of_the_readme_does_what_it_says() {
    if !["redis-cli", "curl"].iter().all(|tool| Command::new(tool).arg("--version").output().is_ok()) {
        note("SKIPPED: the commands of the README, for want of redis-cli or curl");
        return;
    }
    with_lab(&[], |lab| {
        let steps = steps(&fs::read_to_string(root().join("README.md"))?);
        ensure!(steps.len() > 10, "only {} commands in the README", steps.len());
        steps.iter().try_for_each(|step| run(lab, step).with_context(|| format!("$ {}", step.command)))
    });
}

#[test]
fn the_region_of_several_nodes_does_what_the_readme_says() {
    if Command::new("redis-cli").arg("--version").output().is_err() {
        note("SKIPPED: the commands of the README for a cluster, for want of redis-cli");
        return;
    }
    let readme = fs::read_to_string(root().join("README.md")).expect("the README is there");
    let commands = shell_commands(&readme);
    let lab = commands.iter().find_map(|command| command.strip_prefix("cargo run --release -- lab "));
    let arguments: Vec<_> = lab.expect("a lab is started").split_whitespace().collect();
    with_lab(&arguments, |lab| {
        let others: Vec<_> = commands.iter().filter(|command| !command.starts_with("cargo ")).collect();
        ensure!(others.len() >= 5, "only {} commands for a cluster in the README", others.len());
        others.into_iter().try_for_each(|command| {
            let line = in_place_of_cluster(lab, command)?;
            let output = Command::new("sh").args(["-c", &line]).output()?;
            let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            ensure!(output.status.success(), "$ {command}: {printed} {errors}");
            let is_read = command.contains(" get ");
            ensure!(!is_read || printed.contains("hello from a cluster"), "$ {command}: {printed} {errors}");
            Ok(())
        })
    });
}

/// The command with the nodes and the folder of this lab, and the program under test.
fn in_place_of_cluster(lab: &Lab, command: &str) -> Result<String> {
    let meridian = meridian()?.to_str().context("the program's path is no text")?;
    let dir = lab.dir.path().to_str().context("the folder's path is no text")?;
    let mut line =
        command.replace("meridian cluster", &format!("{meridian} cluster")).replace("DIR/", &format!("{dir}/"));
    let nodes = lab.regions.iter().flat_map(|region| &region.nodes);
    for (index, node) in nodes.enumerate() {
        let port = node.addr.rsplit(':').next().unwrap_or_default();
        line = line.replace(&format!("-p {}", 7001 + index), &format!("-p {port}"));
        line = line.replace(&format!("127.0.0.1:{}", 7001 + index), &node.addr);
    }
    Ok(line)
}

/// The commands in the blocks marked `sh`.
fn shell_commands(readme: &str) -> Vec<String> {
    let mut inside = false;
    let commands = readme.lines().filter(|line| {
        match *line {
            "```sh" => inside = true,
            "```" => inside = false,
            _ => return inside,
        }
        false
    });
    commands.map(str::to_owned).collect()
}

fn run(lab: &Lab, step: &Step) -> Result<()> {
    match step.command.as_str() {
        // This is that lab, and that test.
        "cargo run --release -- lab" | "cargo test --workspace" => Ok(()),
        command if command.contains("-- node ") => run_node(command),
        command => run_in_shell(lab, command, &step.prints),
    }
}

fn run_in_shell(lab: &Lab, command: &str, prints: &[String]) -> Result<()> {
    let line = in_place(lab, command)?;
    let only_looks = [" get ", " exists "].iter().any(|word| command.contains(word));
    until(command, || {
        let output = Command::new("sh").args(["-c", &line]).current_dir(root()).output()?;
        let printed = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {printed:?} {errors}", output.status);
        ensure!(!printed.iter().any(|line| line.contains("\"error\"")), "{printed:?}");
        match prints.is_empty() || printed == prints {
            true => Ok(Some(())),
            false if only_looks => Ok(None),
            false => bail!("it prints {printed:?} instead of {prints:?}"),
        }
    })
}

/// The command with the ports of this lab and the program under test, on one line.
fn in_place(lab: &Lab, command: &str) -> Result<String> {
    let port = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
    let meridian = meridian()?.to_str().context("the program's path is no text")?;
    // Without a terminal redis-cli prints less, unless it is told to.
    let mut line = command
        .replace("cargo run --release --", meridian)
        .replace("redis-cli ", "redis-cli --no-raw ")
        .replace("curl ", "curl --silent --show-error --fail ")
        .replace("7300", &port(lab.wan.control()));
    for (index, node) in lab.regions.iter().flat_map(|region| &region.nodes).enumerate() {
        line = line.replace(&format!("-p {}", 7001 + index), &format!("-p {}", port(&node.addr)));
        line = line.replace(&format!("localhost:{}", 7001 + index), &format!("localhost:{}", port(&node.addr)));
        line = line.replace(&format!("localhost:{}", 7101 + index), &format!("localhost:{}", port(&node.admin)));
    }
    Ok(line)
}

/// Starts the node that stands by itself, on ports that are free, and sees that it answers.
fn run_node(command: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let [redis, admin] = [free_port()?, free_port()?];
    let arguments = command.split_once("-- node ").context("a node is started")?.1;
    let arguments = arguments.replace("6380", &redis.to_string()).replace("9380", &admin.to_string());
    let mut node = Command::new(meridian()?);
    node.args(["--until-stdin-closes", "node"]).args(arguments.split_whitespace());
    let mut node = Leashed::start(&mut node, &folder.path().join("log"))?;
    until("the node answers", || {
        ensure!(node.child().try_wait()?.is_none(), "the node has ended");
        let client = redis::Client::open(format!("redis://127.0.0.1:{redis}"))?;
        Ok(client.get_connection().ok().and_then(|mut connection| redis::cmd("PING").exec(&mut connection).ok()))
    })
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The commands in the blocks marked `console`.
fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step { command: command.to_owned(), prints: Vec::new() }),
                (None, Some(step)) => step.prints.push(line.to_owned()),
                (None, None) => {}
            },
        }
    }
    steps
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
