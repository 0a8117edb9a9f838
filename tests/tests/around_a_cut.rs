//! A region that cannot be heard is relayed by one that hears it, until it can be heard again.

use anyhow::Result;
use meridian_tests::{Region, of_one_node, until_same_entries, with_lab};
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

/// Writes to a region, whatever its shape: the first argument is the key.
fn write(region: &Region, command: &str, args: &[&str]) -> Result<()> {
    let mut client = region.client();
    let _: redis::Value = client.run(args[0], redis::cmd(command).arg(args))?;
    Ok(())
}
