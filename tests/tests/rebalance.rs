//! A cluster grows and shrinks under load, and its clients notice no more than redirections.
//!
//! A third primary is added, gets its share of the slots, gives it back and leaves, while writers count up and a reader
//! looks for anything that goes back. Nobody dies, so all that is acknowledged is promised. In between and at the end Redis's own
//! tool finds nothing wrong. And slots that leave a shard and come back bring to its replicas all that they bring to its primary.

use std::{env, io, process::Command};

use anyhow::{Context, Result, bail, ensure};
use meridian_tests::{
    Lab, Load, Member, Node, Promise, Region, check_redirections_alone, note, operate, until_members, with_lab,
};

const CLUSTER: &[&str] = &["--regions=us-east", "--primaries=2", "--replicas=1"];
const WRITERS: usize = 2;
const KEYS_EACH: usize = 200;
/// Writes that are promised before and after each step.
const PROMISED: u64 = 1_000;
/// All slots.
const SLOTS: usize = 16_384;

#[test]
fn primary_comes_and_goes_under_load_and_no_write_is_lost() {
    with_lab(CLUSTER, |lab| {
        let lab: &Lab = lab;
        let (region, load) = loaded(lab)?;
        let name = &region.nodes[0].name;

        let (newcomer, bus) = lab.start_newcomer(0, "us-east-5")?;
        operate(lab, name, &["add-node", &bus.to_string(), "--yes"])?;
        note(&operate(lab, name, &["rebalance", "--yes"])?);
        load.until_promised(PROMISED)?;
        let with_three = until_members(region, "each of three primaries has a third", |members| {
            let shares: Vec<_> = members.iter().filter(|member| member.is_primary).map(slots).collect();
            shares.len() == 3 && shares.iter().all(|share| share.abs_diff(SLOTS / 3) <= SLOTS / 50)
        })?;
        until_all_agree(region.nodes.iter().chain([&newcomer]), &with_three)?;
        redis_cli_is_content(region)?;

        let added =
            with_three.iter().find(|member| member.addr == newcomer.addr).context("the new node is no member")?;
        note(&operate(lab, name, &["remove-node", &added.id, "--yes"])?);
        load.until_promised(PROMISED)?;
        let with_two = until_members(region, "two primaries have all slots", |members| {
            members.len() == 4 && members.iter().map(slots).sum::<usize>() == SLOTS
        })?;
        until_all_agree(region.nodes.iter(), &with_two)?;
        redis_cli_is_content(region)?;

        let written = load.finish()?;
        note(&format!("{} promised; {:?}", written.promised(), written.errors));
        written.check()?;
        ensure!(written.lost == 0 && written.refused == 0, "{} lost, {} refused", written.lost, written.refused);
        check_redirections_alone(&written.errors)?;
        let held = held_by_primaries(region, &with_two)?;
        ensure!(held == WRITERS * KEYS_EACH, "the primaries have {held} keys of {}", WRITERS * KEYS_EACH);
        Ok(())
    });
}

#[test]
fn slots_that_come_back_come_to_the_replica_as_well() {
    with_lab(CLUSTER, |lab| {
        let lab: &Lab = lab;
        let (region, load) = loaded(lab)?;
        let name = &region.nodes[0].name;
        // Nothing is written from here on: what a replica lacks, nothing mends.
        let written = load.finish()?;

        let founded = until_members(region, "there are two primaries", |members| members.len() == 4)?;
        // Weights stay: nearly all slots to one shard, then half to each, then nearly all to the other.
        for (weights, most) in [("0=1", SLOTS * 99 / 100), ("1=1", SLOTS / 2), ("0=100", SLOTS * 99 / 100)] {
            note(&operate(lab, name, &["rebalance", "--weight", weights, "--yes"])?);
            until_members(region, "all slots are where they are to be", |members| {
                let shares = || members.iter().filter(|member| member.is_primary).map(slots);
                shares().sum::<usize>() == SLOTS
                    && shares().max().is_some_and(|share| share.abs_diff(most) <= SLOTS / 50)
            })?;
        }
        written.check()?;
        for replica in founded.iter().filter(|member| !member.is_primary) {
            operate(lab, name, &["failover", &replica.id, "--yes"])?;
            until_members(region, "the replica is the primary", |members| {
                members.iter().any(|member| member.id == replica.id && member.is_primary)
            })?;
        }
        written.check()
    });
}

/// A region, under a load that has begun.
fn loaded(lab: &Lab) -> Result<(&Region, Load)> {
    let region = &lab.regions[0];
    let load = Load::start(&region.addresses(), "key", WRITERS, KEYS_EACH, Promise::Acknowledged);
    load.until_promised(PROMISED)?;
    Ok((region, load))
}

fn slots(member: &Member) -> usize {
    member.slots.iter().map(|range| range.clone().count()).sum()
}

fn until_all_agree<'a>(nodes: impl Iterator<Item = &'a Node>, expected: &[Member]) -> Result<()> {
    for node in nodes {
        until_members(node, &format!("{} knows the same", node.name), |members| members == expected)?;
    }
    Ok(())
}

/// The sum of `DBSIZE`.
fn held_by_primaries(region: &Region, known: &[Member]) -> Result<usize> {
    let primaries = known.iter().filter(|member| member.is_primary);
    primaries.map(|member| region.nodes[region.place(&member.addr)].run::<usize>(&["DBSIZE"])).sum()
}

/// What `redis-cli --cluster` says of the cluster. Without it this says so, unless `CI` is set: there a skipped check is a failed
/// one.
fn redis_cli_is_content(region: &Region) -> Result<()> {
    for (command, words) in [("check", "[OK] All 16384 slots covered."), ("info", "keys in")] {
        let output = match Command::new("redis-cli").args(["--cluster", command, &region.addr]).output() {
            Ok(output) => output,
            Err(error) if error.kind() == io::ErrorKind::NotFound && env::var_os("CI").is_none() => {
                note("SKIPPED: redis-cli is not installed, so it is not asked (Debian: package redis-tools)");
                return Ok(());
            }
            Err(error) => bail!("cannot run redis-cli: {error}"),
        };
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && text.contains(words), "redis-cli --cluster {command}: {text}");
        ensure!(!text.contains("[ERR]") && !text.contains("[WARNING]"), "redis-cli --cluster {command}: {text}");
    }
    Ok(())
}
