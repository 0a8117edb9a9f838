//! What becomes of a region that loses everything, and of deletes that had to be forgotten.

use anyhow::ensure;
use meridian_tests::{Lab, delete, of_one_node, set, until, until_same_entries, with_lab};

const KEYS: usize = 500;

#[test]
fn region_that_restarts_empty_serves_at_once_and_is_refilled() {
    with_lab(&of_one_node(&[]), |lab| {
        let keys: Vec<_> = (0..KEYS).map(|index| format!("key:{index}")).collect();
        // A third from each region: what the lost one wrote itself has to come home as well.
        for (region, keys) in lab.regions.iter().zip(keys.chunks(KEYS.div_ceil(3))) {
            set(region, keys.iter().map(|key| (key, "before")))?;
        }
        lab.until_settled("before")?;
        lab.regions[2].kill()?;
        // It misses deletes and writes while it is gone.
        let us = lab.region("us-east");
        delete(us, &keys[..50])?;
        set(us, keys[50..100].iter().map(|key| (key, "meanwhile")))?;
        // It comes back cut off, so that it cannot be refilled before anybody looks.
        lab.wan.partition(&["ap-south"])?;
        lab.regions[2].restart()?;
        let ap = lab.region("ap-south");
        ensure!(!ap.status()?.complete, "a region that began empty, and has heard from nobody, calls itself complete");
        ensure!(ap.run::<i64>(&["EXISTS", &keys[200]])? == 0, "an empty region has a key");
        ap.run::<()>(&["SET", "new", "life"])?;
        ensure!(ap.run::<String>(&["GET", "new"])? == "life", "an empty region does not serve");

        lab.wan.heal()?;
        until("it is complete", || Ok(ap.status()?.complete.then_some(())))?;
        lab.until_settled("after")?;
        let entries = until_same_entries(&lab.regions, &keys)?;
        for (index, (key, entry)) in keys.iter().zip(&entries).enumerate() {
            let expected = match index {
                0..50 => None,
                50..100 => Some("meanwhile"),
                _ => Some("before"),
            };
            ensure!(entry.value.as_deref() == expected, "{key} is {:?}, not {expected:?}", entry.value);
        }
        for region in &lab.regions {
            region.until_result(&["GET", "new"], &Some("life".to_owned()))?;
        }
        Ok(())
    });
}

#[test]
fn deleted_key_stays_deleted_when_its_tombstone_had_to_be_forgotten() {
    with_lab(&of_one_node(&["--wan=none", "--node-set=memory.tombstone_budget=4KiB"]), |lab| {
        let lab: &Lab = lab;
        let [us, ap] = ["us-east", "ap-south"].map(|name| lab.region(name));
        let keys: Vec<_> = (0..4 * KEYS).map(|index| format!("key:{index}")).collect();
        set(us, keys.iter().map(|key| (key, "to be deleted")))?;
        lab.until_settled("before")?;
        lab.wan.partition(&["ap-south"])?;
        delete(us, &keys)?;
        until("stamps are forgotten early", || Ok((us.metric("meridian_forgotten_early_total")? > 0.0).then_some(())))?;
        ensure!(ap.run::<i64>(&["EXISTS", &keys[0]])? == 1, "the cut region has heard of a delete");

        lab.wan.heal()?;
        lab.until_settled("after")?;
        let entries = until_same_entries(&lab.regions, &keys)?;
        let back = entries.iter().filter(|entry| entry.value.is_some()).count();
        ensure!(back == 0, "{back} deleted keys came back");
        // Such a key can be written again.
        ap.run::<()>(&["SET", &keys[0], "again"])?;
        us.until_result(&["GET", &keys[0]], &Some("again".to_owned()))
    });
}

#[test]
fn region_whose_disk_was_lost_stops_once_and_comes_back_as_a_new_life() {
    with_lab(&of_one_node(&["--wan=none"]), |lab| {
        let keys: Vec<_> = (0..KEYS).map(|index| format!("key:{index}")).collect();
        set(lab.region("ap-south"), keys.iter().map(|key| (key, "from a former life")))?;
        lab.until_settled("before")?;
        lab.regions[2].kill()?;
        lab.regions[2].forget_state()?;
        // It believes that this is its first life, and the others know better. Went it on, they would take what it has
        // lost for something that it has seen.
        lab.regions[2].launch()?;
        let ended = lab.regions[2].until_ended()?;
        ensure!(ended.code() == Some(1), "it ended with {ended}");
        lab.regions[2].restart()?;
        let ap = lab.region("ap-south");
        until("it is complete", || Ok(ap.status()?.complete.then_some(())))?;
        let entries = until_same_entries(&lab.regions, &keys)?;
        let lost = entries.iter().filter(|entry| entry.value.is_none()).count();
        ensure!(lost == 0, "{lost} keys of its former life did not come home");
        ap.run::<()>(&["SET", &keys[0], "from a new life"])?;
        lab.region("us-east").until_result(&["GET", &keys[0]], &Some("from a new life".to_owned()))
    });
}
