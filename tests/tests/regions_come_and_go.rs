//! Regions come and go while the others run: one that is removed holds nobody back, and one that returns is new.
//!
//! What must not happen is that it brings back what was deleted while it was gone. Its tombstones may be forgotten by then, since
//! they wait only for those who are there.

use anyhow::{Result, ensure};
use meridian_tests::{
    Lab, Region, delete, entries, note, of_one_node, operate_regions, set, until, until_gone, until_same_entries,
    verify, with_lab,
};

const KEYS: usize = 200;

#[test]
fn region_of_one_node_is_removed_and_returns_in_another_life() {
    with_lab(&of_one_node(&["--regions=us-east,eu-west,ap-south"]), |lab| {
        leaves_and_returns(lab, |region| {
            // It hears that its life is over, and ends; whoever runs processes starts it again.
            until_gone(region.pid)?;
            region.restart()
        })
    });
}

#[test]
fn region_that_is_a_cluster_is_removed_and_returns_in_another_life_of_each_shard() {
    let regions = ["--regions=us-east,eu-west,ap-south", "--primaries=2", "--replicas=0", "--gateways=1"];
    with_lab(&regions, |lab| leaves_and_returns(lab, |_| Ok(())));
}

fn leaves_and_returns(lab: &mut Lab, renew: impl Fn(&mut Region) -> Result<()>) -> Result<()> {
    let name = |word: &str| (0..KEYS).map(|number| format!("{word}-{number}")).collect::<Vec<_>>();
    let (kept, deleted, away, meanwhile) = (name("kept"), name("deleted"), name("away"), name("meanwhile"));
    write(&lab.regions[0], kept.iter().chain(&deleted))?;
    until_same_entries(&lab.regions, &[&kept[..], &deleted[..]].concat())?;
    let origins = origins(&lab.regions[2])?;
    note(&operate_regions(&lab.regions[..2], &["remove", "ap-south", "--yes"])?);
    for region in &lab.regions {
        let left = if region.name == "ap-south" { 2 } else { 1 };
        until(&format!("{} has no link with who was removed", region.name), || {
            let links = links(region)?;
            ensure!(links.iter().all(|links| links.len() == left), "{links:?}");
            ensure!(left == 1 || links.iter().flatten().all(|(_, up)| !up), "{links:?}");
            Ok(Some(()))
        })?;
    }
    // It serves, and hears nothing of this.
    write(&lab.regions[2], &away)?;
    remove(&lab.regions[0], &deleted)?;
    write(&lab.regions[1], &meanwhile)?;
    until_same_entries(&lab.regions[..2], &[&kept[..], &deleted[..], &meanwhile[..]].concat())?;
    for node in lab.regions[..2].iter().flat_map(|region| &region.nodes) {
        until(&format!("{} keeps no tombstone for who is gone", node.name), || {
            let status = node.status()?;
            ensure!(status.tombstones == 0 && status.forgotten_early == 0, "{status:?}");
            Ok(Some(()))
        })?;
    }
    let id = lab.regions[2].id.to_string();
    note(&operate_regions(&lab.regions[..2], &["add", "ap-south", "--id", &id, "--yes"])?);
    renew(&mut lab.regions[2])?;
    let all = [&kept[..], &deleted[..], &away[..], &meanwhile[..]].concat();
    for region in &lab.regions {
        region.nodes.iter().try_for_each(|node| node.until_linked())?;
    }
    until_same_entries(&lab.regions, &all)?;
    note(&operate_regions(&lab.regions, &["status"])?);
    let said = verify(&lab.regions, &[])?;
    ensure!(said.verified()?.agree, "{said:?}");
    let values = entries(&lab.regions[0], &deleted)?;
    ensure!(values.iter().all(|entry| entry.value.is_none()), "what was deleted is back: {values:?}");
    let values = entries(&lab.regions[2], &meanwhile)?;
    ensure!(values.iter().all(|entry| entry.value.is_some()), "what was written meanwhile is not there: {values:?}");
    let now = self::origins(&lab.regions[2])?;
    ensure!(now.iter().all(|origin| !origins.contains(origin)), "{now:?} were there before, as {origins:?}");
    Ok(())
}

fn write<'a>(region: &Region, keys: impl IntoIterator<Item = &'a String>) -> Result<()> {
    if region.nodes.len() == 1 {
        return set(region, keys.into_iter().map(|key| (key, &region.name)));
    }
    let mut client = region.client();
    keys.into_iter().try_for_each(|key| Ok(client.run(key, redis::cmd("SET").arg(key).arg(&region.name))?))
}

fn remove(region: &Region, keys: &[String]) -> Result<()> {
    if region.nodes.len() == 1 {
        return delete(region, keys);
    }
    let mut client = region.client();
    keys.iter().try_for_each(|key| Ok(client.run(key, redis::cmd("DEL").arg(key))?))
}

/// Who stamps at each of its nodes.
fn origins(region: &Region) -> Result<Vec<String>> {
    region.nodes.iter().map(|node| Ok(node.status()?.region.origin)).collect()
}

/// The links that each node has an end of, and whether they are up.
fn links(region: &Region) -> Result<Vec<Vec<(String, bool)>>> {
    let links = |node: &meridian_tests::Node| {
        let incoming = node.status()?.links.incoming;
        Ok(incoming.into_iter().map(|link| (link.from, link.up)).collect())
    };
    region.nodes.iter().map(links).collect()
}
