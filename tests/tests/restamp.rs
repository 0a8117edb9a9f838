//! A region whose clock was an hour ahead comes back: what it wrote wins as before, what it deleted stays deleted, nothing in it goes
//! back, and other regions take it all, without waiting for an hour.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use meridian_tests::{
    Client, Lab, delete, fail_over, members, of_one_node, operate_regions, set, until, until_follows,
    until_same_entries, verify, with_lab,
};

/// Keys, those that are overwritten in the future, and those that are deleted there.
const KEYS: usize = 300;
const OVERWRITTEN: Range<usize> = 0..100;
const DELETED: Range<usize> = 100..200;

/// What is written in the present and in the future.
const BEFORE: &str = "before";
const AHEAD: &str = "ahead";

/// The region whose clock is right, and the one whose clock is not.
const US: usize = 0;
const EU: usize = 1;

#[test]
fn cluster_comes_back_from_the_future_with_all_that_it_wrote_there() {
    with_lab(&["--regions=us-east,eu-west", "--primaries=2", "--replicas=1", "--clock-offset=eu-west=1h"], |lab| {
        let keys: Vec<_> = (0..KEYS).map(|index| format!("key:{index}")).collect();
        let mut us = lab.regions[US].client();
        let mut eu = lab.regions[EU].client();
        keys.iter().try_for_each(|key| run(&mut us, key, &["SET", key, BEFORE]))?;
        for key in &keys {
            until(&format!("{key} has arrived"), || {
                Ok((shown(&mut eu, key)?.as_deref() == Some(BEFORE)).then_some(()))
            })?;
        }
        keys[OVERWRITTEN].iter().try_for_each(|key| run(&mut eu, key, &["SET", key, AHEAD]))?;
        keys[DELETED].iter().try_for_each(|key| run(&mut eu, key, &["DEL", key]))?;
        until_held(lab)?;
        set_clocks_right(lab)?;
        // The records are still of the future, and links are held for them.
        let mut eu = lab.regions[EU].client();
        check_shown(&mut eu, &keys)?;
        until_held(lab)?;
        restamp(lab)?;
        check_shown(&mut eu, &keys)?;
        until_agreed(lab)?;
        check_shown(&mut us, &keys)?;
        check_shown(&mut eu, &keys)?;
        // Both write on, and each is heard by the other.
        for (from, to) in [(US, EU), (EU, US)] {
            let key = format!("after:{from}");
            run(&mut lab.regions[from].client(), &key, &["SET", &key, "present"])?;
            let mut to = lab.regions[to].client();
            until(&format!("{key} has arrived"), || Ok(shown(&mut to, &key)?.map(drop)))?;
        }
        // The replicas hold what their primaries do.
        let replicas: Vec<_> = members(&lab.regions[EU])?.into_iter().filter(|member| !member.is_primary).collect();
        for replica in replicas {
            let region = &lab.regions[EU];
            let node = &region.nodes[region.place(&replica.addr)];
            until_follows(node)?;
            fail_over(lab, region, node)?;
        }
        check_shown(&mut lab.regions[EU].client(), &keys)?;
        until_agreed(lab)
    });
}

#[test]
fn node_that_lost_all_but_the_mark_of_its_clock_does_not_wait_for_that() {
    with_lab(&of_one_node(&["--regions=us-east,eu-west", "--clock-offset=eu-west=1h"]), |lab| {
        let keys: Vec<_> = (0..KEYS).map(|index| format!("key:{index}")).collect();
        set(&lab.regions[US], keys.iter().map(|key| (key, BEFORE)))?;
        lab.regions[EU].until_result(&["GET", &keys[KEYS - 1]], &Some(BEFORE.to_owned()))?;
        set(&lab.regions[EU], [("lost", AHEAD)])?;
        until_held(lab)?;
        let eu = &mut lab.regions[EU];
        eu.set_clock_offset("0s")?;
        eu.terminate()?;
        eu.restart()?;
        until("it is complete", || Ok(eu.status()?.complete.then_some(())))?;
        // What it stamps from here on is as far ahead as its mark was.
        set(eu, keys[OVERWRITTEN].iter().map(|key| (key, AHEAD)))?;
        delete(eu, &keys[DELETED])?;
        let origin = eu.status()?.region.origin;
        until_held(lab)?;
        ensure!(ahead_ms(&lab.regions[EU].addr)? > 3_000_000, "nothing lies in the future");
        restamp(lab)?;
        check_shown(&mut lab.regions[EU].client(), &keys)?;
        ensure!(lab.regions[EU].status()?.region.origin != origin, "it goes on in the same life");
        until_agreed(lab)?;
        check_shown(&mut lab.regions[US].client(), &keys)?;
        // The mark has come back as well, so that the next start is in the present.
        let eu = &mut lab.regions[EU];
        eu.terminate()?;
        eu.restart()?;
        until("it is complete", || Ok(eu.status()?.complete.then_some(())))?;
        ensure!(ahead_ms(&eu.addr)? == 0, "it begins in the future again");
        until_same_entries(&lab.regions, &keys)?;
        check_shown(&mut lab.regions[EU].client(), &keys)
    });
}

#[test]
fn node_whose_clock_is_still_wrong_is_not_restamped() {
    with_lab(&of_one_node(&["--regions=us-east,eu-west", "--clock-offset=eu-west=1h"]), |lab| {
        let eu = &lab.regions[EU];
        let is_told = |text: &str| text.contains("the clock of this node") && text.contains("us-east");
        until("it says that its clock is wrong", || {
            let refused = eu.run::<()>(&["REGION", "RESTAMP"]).err().map(|error| format!("{error:#}"));
            Ok(refused.filter(|text| is_told(text)).map(drop))
        })
    });
}

/// Sets the clocks of the second region right, by restarts that lose nothing: replicas first, then they take over, then who was primary.
fn set_clocks_right(lab: &mut Lab) -> Result<()> {
    let members = members(&lab.regions[EU])?;
    let pairs = members.iter().filter_map(|replica| Some((replica, replica.follows.clone()?)));
    for (replica, primary) in pairs.collect::<Vec<_>>() {
        let primary = members.iter().find(|member| member.id == primary).context("it follows somebody")?;
        let [replica, primary] = [replica, primary].map(|member| lab.regions[EU].place(&member.addr));
        set_clock_right(lab, replica)?;
        fail_over(lab, &lab.regions[EU], &lab.regions[EU].nodes[replica])?;
        until_follows(&lab.regions[EU].nodes[primary])?;
        set_clock_right(lab, primary)?;
    }
    Ok(())
}

fn set_clock_right(lab: &mut Lab, place: usize) -> Result<()> {
    let node = &mut lab.regions[EU].nodes[place];
    node.set_clock_offset("0s")?;
    node.terminate()?;
    node.restart()?;
    until_follows(node)
}

/// Has the second region restamped, as soon as nobody contradicts its clock any more and its replicas follow.
fn restamp(lab: &Lab) -> Result<()> {
    until("it is restamped", || operate_regions(&lab.regions[EU..], &["restamp", "--yes"]).map(Some))?;
    let again = operate_regions(&lab.regions[EU..], &["restamp", "--yes"])?;
    ensure!(again.contains("Nothing lies in the future"), "it says {again}");
    Ok(())
}

/// By how many milliseconds a node's furthest stamp lies in the future.
fn ahead_ms(addr: &str) -> Result<i64> {
    let mut connection = redis::Client::open(format!("redis://{addr}/"))?.get_connection()?;
    let reply: Vec<(String, i64)> = redis::cmd("REGION").arg("RESTAMP").arg("DRYRUN").query(&mut connection)?;
    let ahead = reply.into_iter().find(|(name, _)| name == "ahead-ms");
    Ok(ahead.context("it does not say how far")?.1)
}

fn run(client: &mut Client, key: &str, words: &[&str]) -> Result<()> {
    // What is on its way to nobody is written again: it writes the same.
    until(&format!("{words:?} is done"), || {
        Ok(client.run::<redis::Value>(key, redis::Cmd::new().arg(words)).ok().map(drop))
    })
}

fn shown(client: &mut Client, key: &str) -> Result<Option<String>> {
    until(&format!("{key} is read"), || Ok(client.run::<Option<String>>(key, redis::cmd("GET").arg(key)).ok()))
}

/// Every key is what was written last in the region whose clock was ahead.
fn check_shown(client: &mut Client, keys: &[String]) -> Result<()> {
    for (index, key) in keys.iter().enumerate() {
        let expected = match index {
            _ if OVERWRITTEN.contains(&index) => Some(AHEAD),
            _ if DELETED.contains(&index) => None,
            _ => Some(BEFORE),
        };
        let shown = shown(client, key)?;
        ensure!(shown.as_deref() == expected, "{key} is {shown:?}, not {expected:?}");
    }
    Ok(())
}

/// Waits until the region whose clock is right holds a link of the other.
fn until_held(lab: &Lab) -> Result<()> {
    until("the link is held", || {
        let links: Result<Vec<_>> =
            lab.regions[US].nodes.iter().map(|node| Ok(node.status()?.links.incoming)).collect();
        Ok(links?.iter().flatten().any(|link| link.state == "held").then_some(()))
    })
}

/// Waits until the regions hold the same.
fn until_agreed(lab: &Lab) -> Result<()> {
    until("the regions agree", || {
        let found = verify(&lab.regions, &[])?.verified()?;
        ensure!(found.agree, "{:?}", found.found());
        Ok(Some(()))
    })
}
