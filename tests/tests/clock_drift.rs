//! A node whose clock is wrong takes no writes, says why, and goes on by itself when the clocks agree.
//!
//! A primary hands over, is started again with a clock that is off, and is made the primary again: it refuses writes while it
//! still answers reads. Then its clock is put right.

use anyhow::{Context, Result, ensure};
use meridian_tests::{Lab, Node, Region, fail_over, key_of, members, read_json, until, until_follows, with_lab};
use serde_json::Value;

const CLUSTER: &[&str] = &["--regions=us-east", "--primaries=2", "--replicas=1"];

#[test]
fn node_whose_clock_is_off_takes_no_writes_until_it_agrees() {
    with_lab(CLUSTER, |lab| {
        let members = members(&lab.regions[0])?;
        let replica = members.iter().find(|member| !member.is_primary).context("there is a replica")?;
        let primary = members.iter().find(|member| replica.follows.as_ref() == Some(&member.id));
        let primary = primary.context("it follows somebody")?.clone();
        let place = lab.regions[0].place(&replica.addr);
        for (offset, is_off) in [("-2s", true), ("0s", false)] {
            let region = &mut lab.regions[0];
            region.nodes[place].set_clock_offset(offset)?;
            region.nodes[place].kill()?;
            region.nodes[place].restart()?;
            until_follows(&region.nodes[place])?;
            let node = &region.nodes[place];
            until(&format!("{} has compared clocks", node.name), || {
                let status = cluster_status(node)?;
                let known = status["clock_offsets"].as_array().map_or(0, Vec::len);
                Ok((known == 3 && status["clock_outvoted"] == is_off).then_some(()))
            })?;
            check_as_primary(lab, place, &primary.addr, is_off)?;
        }
        Ok(())
    });
}

/// Makes the node the primary, sees whether it writes, and gives its place back.
fn check_as_primary(lab: &Lab, place: usize, former: &str, is_off: bool) -> Result<()> {
    let region = &lab.regions[0];
    let (node, former) = (&region.nodes[place], &region.nodes[region.place(former)]);
    fail_over(lab, region, node)?;
    let key = key_of(region, &members(region)?[index_of(region, node)?], "clock")?;
    let answer = until("the new primary has a lease", || {
        let answer = node.run::<()>(&["SET", &key, "v"]);
        let text = answer.as_ref().err().map(|error| format!("{error:#}"));
        let is_early = |text: &String| text.contains("The cluster is down") || text.contains("being handed over");
        ensure!(!text.as_ref().is_some_and(is_early), "it says {text:?}");
        Ok(Some(text))
    })?;
    node.run::<Option<String>>(&["GET", &key])?;
    let gauge = node.metric("meridian_cluster_clock_outvoted")?;
    match answer {
        Some(why) if is_off => ensure!(why.contains("disagrees with most of its region"), "it says {why}"),
        answer => ensure!(answer.is_none() && !is_off, "it answered {answer:?}"),
    }
    ensure!((gauge - f64::from(u8::from(is_off))).abs() < f64::EPSILON, "the gauge is {gauge}");
    until_follows(former)?;
    fail_over(lab, region, former)?;
    until_follows(node)
}

fn index_of(region: &Region, node: &Node) -> Result<usize> {
    members(region)?.iter().position(|member| member.addr == node.addr).context("it is no member")
}

fn cluster_status(node: &Node) -> Result<Value> {
    let status: Value = read_json(&format!("http://{}/status", node.admin))?;
    Ok(status["cluster"].clone())
}
