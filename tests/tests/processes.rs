//! A lab leaves nothing behind, and takes what it cannot prevent in its stride.

use std::{fs, net::TcpStream};

use anyhow::{Result, ensure};
use meridian_tests::{Lab, is_running, kill, of_one_node, terminate, until, until_gone};

#[test]
fn lab_that_is_terminated_leaves_no_process_and_no_listener() -> Result<()> {
    let mut lab = Lab::start(&["--regions=a,b", "--wan=none"])?;
    let pids = all(&lab);
    ensure!(pids.iter().all(|&pid| is_running(pid)), "a process of the lab does not run");
    terminate(lab.process.pid())?;
    let status = lab.process.until_ended()?;
    ensure!(status.success(), "the lab ended with {status}");
    // It waited for its children before it ended.
    ensure!(!pids.iter().any(|&pid| is_running(pid)), "a process outlived the lab");
    for node in lab.regions.iter().flat_map(|region| &region.nodes) {
        ensure!(TcpStream::connect(&node.addr).is_err(), "somebody still listens at {}", node.addr);
    }
    Ok(())
}

#[test]
fn lab_that_is_killed_leaves_no_process() -> Result<()> {
    let mut lab = Lab::start(&["--regions=a,b", "--wan=none"])?;
    let pids = all(&lab);
    lab.process.child().kill()?;
    lab.process.until_ended()?;
    pids.into_iter().try_for_each(until_gone)
}

#[test]
fn node_that_dies_is_reported_and_the_others_go_on() -> Result<()> {
    let mut lab = Lab::start(&of_one_node(&["--regions=a,b,c", "--wan=none"]))?;
    kill(lab.regions[1].pid)?;
    let log = lab.dir.path().join("lab.log");
    until("the lab reports it", || Ok(fs::read_to_string(&log)?.contains("b (pid").then_some(())))?;
    lab.region("a").run::<()>(&["SET", "key", "value"])?;
    lab.region("c").until_result(&["GET", "key"], &Some("value".to_owned()))?;
    // It comes back by the command that was written down, and catches up.
    lab.regions[1].restart()?;
    lab.region("b").until_result(&["GET", "key"], &Some("value".to_owned()))?;
    terminate(lab.process.pid())?;
    ensure!(lab.process.until_ended()?.success(), "a lab that was told to end has not failed");
    Ok(())
}

#[test]
fn labs_beside_one_another_take_ports_of_their_own() -> Result<()> {
    let labs = [
        Lab::start(&of_one_node(&["--regions=a,b", "--wan=none"]))?,
        Lab::start(&of_one_node(&["--regions=a,b", "--wan=none"]))?,
    ];
    let [first, second] = labs.each_ref().map(|lab| lab.region("a"));
    ensure!(first.addr != second.addr, "two labs at {}", first.addr);
    first.run::<()>(&["SET", "key", "first"])?;
    labs[0].region("b").until_result(&["GET", "key"], &Some("first".to_owned()))?;
    ensure!(labs[1].region("b").run::<i64>(&["EXISTS", "key"])? == 0, "two labs are joined");
    Ok(())
}

fn all(lab: &Lab) -> Vec<u32> {
    let nodes = lab.regions.iter().flat_map(|region| &region.nodes).map(|node| node.pid);
    let gateways = lab.regions.iter().flat_map(|region| &region.gateways).map(|gateway| gateway.pid);
    nodes.chain(gateways).chain(lab.wan_pid).collect()
}
