//! A region that cannot be heard is relayed by one that hears it, until it can be heard again.

use anyhow::{Result, ensure};
use meridian_tests::{Lab, Region, of_one_node, until, until_same_entries, with_lab};
use serde_json::json;

#[test]
fn what_a_region_writes_goes_around_a_cut_and_straight_again_afterwards() {
    for shape in [of_one_node(&["--wan=none"]), vec!["--wan=none", "--replicas=0"]] {
        with_lab(&shape, |lab| {
            let keys = ["before", "around", "own"].map(str::to_owned);
            let [us, eu] = ["us-east", "eu-west"].map(|name| lab.region(name));
            write(us, "SET", &["before", "the cut"])?;
            until_same_entries(&lab.regions, &keys)?;
            lab.wan.change("us-east", "ap-south", &json!({"state": "reset"}))?;
            write(us, "SET", &["around", "by eu-west"])?;
            write(us, "DEL", &["before"])?;
            write(eu, "SET", &["own", "of eu-west"])?;
            until_same_entries(&lab.regions, &keys)?;
            lab.wan.heal()?;
            write(us, "SET", &["around", "straight"])?;
            until_same_entries(&lab.regions, &keys).map(drop)
        });
    }
}

#[test]
fn what_one_survivor_has_of_a_lost_region_reaches_all() {
    with_lab(&of_one_node(&["--wan=none"]), |lab| {
        lab.wan.change("us-east", "ap-south", &json!({"state": "reset"}))?;
        let place = lab.regions.iter().position(|region| region.name == "us-east").expect("it is one of them");
        write(&lab.regions[place], "SET", &["last", "words"])?;
        lab.region("eu-west").until_result(&["GET", "last"], &Some("words".to_owned()))?;
        lab.regions[place].nodes[0].kill()?;
        lab.wan.heal()?;
        lab.region("ap-south").until_result(&["GET", "last"], &Some("words".to_owned()))
    });
}

#[test]
fn each_record_crosses_a_link_once_and_around_a_cut_once_more() {
    const KEYS: u64 = 500;
    with_lab(&["--wan=none", "--replicas=0"], |lab| {
        let lab: &Lab = lab;
        let [us, eu, ap] = ["us-east", "eu-west", "ap-south"].map(|name| lab.region(name));
        // What arrives at a region of keys that are new in another.
        let arriving = |batch: &str| {
            let [before_eu, before_ap] = [records(eu)?, records(ap)?];
            for index in 0..KEYS {
                write(us, "SET", &[&format!("{batch}:{index}"), "value"])?;
            }
            let keys: Vec<_> = (0..KEYS).map(|index| format!("{batch}:{index}")).collect();
            until_same_entries(&lab.regions, &keys)?;
            anyhow::Ok((records(eu)? - before_eu, records(ap)? - before_ap))
        };
        arriving("warm")?;
        let straight = arriving("straight")?;
        ensure!(straight == (KEYS, KEYS), "{straight:?} records of {KEYS} writes crossed two links");
        lab.wan.change("us-east", "ap-south", &json!({ "state": "reset" }))?;
        arriving("cut")?;
        // By now ap-south is relayed to, by one region; it sends nothing back to where that came from.
        let around = arriving("around")?;
        ensure!(around == (KEYS, KEYS), "{around:?} records of {KEYS} writes around a cut");
        lab.wan.heal()?;
        // The straight way begins before the other ends; then each record comes once again.
        let mut batch = 0;
        until("each record comes once", || {
            batch += 1;
            let healed = arriving(&format!("healed {batch}"))?;
            let most = (healed.0.max(healed.1)) / KEYS;
            ensure!(most <= 2, "{healed:?} records of {KEYS} writes");
            Ok((healed == (KEYS, KEYS)).then_some(()))
        })
    });
}

/// Records that have arrived at a region, whatever became of them.
fn records(region: &Region) -> Result<u64> {
    let sum: f64 = region.nodes.iter().map(|node| node.metric("meridian_link_records_total")).sum::<Result<f64>>()?;
    Ok(sum as u64)
}

/// Writes to a region, whatever its shape: the first argument is the key.
fn write(region: &Region, command: &str, args: &[&str]) -> Result<()> {
    let mut client = region.client();
    let _: redis::Value = client.run(args[0], redis::cmd(command).arg(args))?;
    Ok(())
}
