//! A region that is cut off goes on, and finds together with the others when the cut is healed.

use anyhow::{Result, ensure};
use meridian_tests::{Lab, Region, delete, of_one_node, set, until, until_same_entries, with_lab};

/// Keys that are there before the cut.
const BEFORE: usize = 200;
/// Keys that are written on both sides during the cut.
const CONTESTED: usize = 200;

#[test]
fn both_sides_of_a_cut_go_on_and_find_together() {
    with_lab(&of_one_node(&[]), |lab| {
        let lab: &Lab = lab;
        let [us, eu, ap] = ["us-east", "eu-west", "ap-south"].map(|name| lab.region(name));
        let before: Vec<_> = (0..BEFORE).map(|index| format!("before:{index}")).collect();
        set(us, before.iter().map(|key| (key, "before")))?;
        lab.until_settled("before")?;

        lab.wan.partition(&["ap-south"])?;
        // Each side deletes a half of what was there, and writes something of its own.
        let (deleted_here, deleted_there) = before.split_at(BEFORE / 2);
        delete(us, deleted_here)?;
        delete(ap, deleted_there)?;
        us.run::<()>(&["SET", "here", "us"])?;
        ap.run::<()>(&["SET", "there", "ap"])?;
        let (later_here, later_there) = write_contested(us, ap)?;
        // The half that is not cut off still hears from one another; the cut is a cut.
        eu.until_result(&["GET", "here"], &Some("us".to_owned()))?;
        ensure!(ap.run::<i64>(&["EXISTS", "here"])? == 0, "a cut region has heard of a write");
        ensure!(eu.run::<i64>(&["EXISTS", "there"])? == 0, "a write of a cut region has been heard of");
        ensure!(ap.run::<i64>(&["EXISTS", &deleted_here[0]])? == 1, "a cut region has heard of a delete");

        lab.wan.heal()?;
        lab.until_settled("after")?;
        for region in [us, eu, ap] {
            region.until_result(&["GET", "here"], &Some("us".to_owned()))?;
            region.until_result(&["GET", "there"], &Some("ap".to_owned()))?;
        }
        let deleted = until_same_entries(&lab.regions, &before)?;
        ensure!(deleted.iter().all(|entry| entry.value.is_none()), "a key that was deleted during the cut is back");
        for (keys, winner) in [(&later_here, "us"), (&later_there, "ap")] {
            let settled = until_same_entries(&lab.regions, keys)?;
            let lost = settled.iter().filter(|entry| entry.value.as_deref() != Some(winner)).count();
            ensure!(lost == 0, "of {} keys last written by {winner}, {lost} have another value", keys.len());
        }
        // Whatever was still on its way then has had another chance to do harm.
        lab.until_settled("long after")?;
        for region in &lab.regions {
            let mut exists = vec!["EXISTS"];
            exists.extend(before.iter().map(String::as_str));
            ensure!(region.run::<i64>(&exists)? == 0, "a deleted key came back to {}", region.name);
        }
        Ok(())
    });
}

#[test]
fn cut_of_one_way_stops_that_way_alone() {
    with_lab(&of_one_node(&["--regions=a,b", "--wan=none"]), |lab| {
        let [a, b] = ["a", "b"].map(|name| lab.region(name));
        lab.wan.change("a", "b", &serde_json::json!({ "state": "reset" }))?;
        until("the link is seen to be down", || {
            Ok(b.status()?.links.incoming.iter().any(|link| !link.up).then_some(()))
        })?;
        a.run::<()>(&["SET", "from a", "1"])?;
        b.run::<()>(&["SET", "from b", "2"])?;
        ensure!(b.run::<i64>(&["EXISTS", "from a"])? == 0, "a reset link carried a write");
        lab.wan.heal()?;
        b.until_result(&["GET", "from a"], &Some("1".to_owned()))?;
        a.until_result(&["GET", "from b"], &Some("2".to_owned()))
    });
}

#[test]
fn clock_that_is_ahead_holds_its_own_links_and_no_other() {
    with_lab(&of_one_node(&["--wan=none", "--node-set=us-east:clock.offset=0s"]), |lab| {
        // All clocks agree at first, or the lab would not come up; then one region comes back with a wrong one.
        let config = lab.dir.path().join("us-east.toml");
        let text = std::fs::read_to_string(&config)?;
        std::fs::write(&config, text.replace("offset = \"0s\"", "offset = \"5s\""))?;
        lab.regions[0].kill()?;
        lab.regions[0].restart()?;
        let lab: &Lab = lab;
        let [us, eu, ap] = ["us-east", "eu-west", "ap-south"].map(|name| lab.region(name));
        us.run::<()>(&["SET", "key", "from the future"])?;
        until("eu-west holds the link", || {
            let status = eu.status()?;
            Ok(status.links.incoming.iter().any(|link| link.from == "us-east" && link.state == "held").then_some(()))
        })?;
        eu.run::<()>(&["SET", "key", "now"])?;
        ap.until_result(&["GET", "key"], &Some("now".to_owned()))?;
        ensure!(eu.run::<Option<String>>(&["GET", "key"])?.as_deref() == Some("now"), "a held record was applied");
        Ok(())
    });
}

/// Writes the same keys on both sides, one half last here and one half last there, and returns the two halves. Between
/// the first writes and the last the clocks of both regions have moved on, so that there is no doubt which are the last.
fn write_contested(here: &Region, there: &Region) -> Result<(Vec<String>, Vec<String>)> {
    let keys: Vec<_> = (0..CONTESTED).map(|index| format!("contested:{index}")).collect();
    let (later_here, later_there) = keys.split_at(CONTESTED / 2);
    set(here, later_there.iter().map(|key| (key, "us")))?;
    set(there, later_here.iter().map(|key| (key, "ap")))?;
    let reached = clock_ms(here)?.max(clock_ms(there)?);
    for region in [here, there] {
        until("the clock moves on", || Ok((clock_ms(region)? > reached + 20).then_some(())))?;
    }
    set(here, later_here.iter().map(|key| (key, "us")))?;
    set(there, later_there.iter().map(|key| (key, "ap")))?;
    Ok((later_here.to_vec(), later_there.to_vec()))
}

fn clock_ms(region: &Region) -> Result<u64> {
    let (seconds, micros): (u64, u64) = region.run(&["TIME"])?;
    Ok(seconds * 1_000 + micros / 1_000)
}
