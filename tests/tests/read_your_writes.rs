//! REGION WAIT, TOKEN and AWAIT: a client that is told where its writes are, and that reads them after it has moved.

use anyhow::{Result, ensure};
use meridian_tests::{of_one_node, with_lab};
use serde_json::json;

#[test]
fn a_client_that_moves_to_another_region_reads_its_own_writes() {
    with_lab(&of_one_node(&[]), |lab| {
        for (round, (from, to)) in lab.pairs().enumerate() {
            let value = format!("of round {round}");
            from.run::<()>(&["SET", "mine", &value])?;
            let token: String = from.run(&["REGION", "TOKEN"])?;
            ensure!(to.run::<u64>(&["REGION", "AWAIT", &token, "20000"])? == 1, "{token} is not reached");
            ensure!(to.run::<String>(&["GET", "mine"])? == value);
        }
        Ok(())
    });
}

#[test]
fn a_write_is_where_a_client_was_told_that_it_is_and_a_cut_is_no_excuse() {
    with_lab(&of_one_node(&[]), |lab| {
        let [us, eu, ap] = ["us-east", "eu-west", "ap-south"].map(|name| lab.region(name));
        us.run::<()>(&["SET", "far", "and wide"])?;
        ensure!(us.run::<u64>(&["REGION", "WAIT", "2", "20000"])? == 2);
        for region in [eu, ap] {
            ensure!(region.run::<String>(&["GET", "far"])? == "and wide");
        }
        for to in ["ap-south", "eu-west"] {
            lab.wan.change("us-east", to, &json!({"state": "blackhole"}))?;
        }
        us.run::<()>(&["SET", "far", "away"])?;
        let token: String = us.run(&["REGION", "TOKEN"])?;
        ensure!(us.run::<u64>(&["REGION", "WAIT", "1", "200"])? == 0);
        ensure!(eu.run::<u64>(&["REGION", "AWAIT", &token, "200"])? == 0);
        lab.wan.heal()?;
        ensure!(eu.run::<u64>(&["REGION", "AWAIT", &token, "20000"])? == 1);
        ensure!(eu.run::<String>(&["GET", "far"])? == "away");
        Ok(())
    });
}

#[test]
fn what_makes_no_sense_is_refused() {
    with_lab(&of_one_node(&["--regions=us-east,eu-west", "--wan=none"]), |lab| -> Result<()> {
        let us = lab.region("us-east");
        for (args, word) in [
            (["REGION", "WAIT", "x", "1"], "not an integer"),
            (["REGION", "WAIT", "1", "-1"], "negative"),
            (["REGION", "AWAIT", "mine", "1"], "invalid token"),
        ] {
            let error = us.run::<u64>(&args).unwrap_err();
            let error = format!("{error:#}");
            ensure!(error.contains(word), "{error}");
        }
        Ok(())
    });
}
