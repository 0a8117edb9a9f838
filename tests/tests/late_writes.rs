//! The cases that others get wrong: writes that cross on their way, and a write that arrives after what was to end it.
//!
//! A late write is made by a cut: what one region wrote waits, the other goes on, deletes, lets expire, evicts or restarts, and then
//! the older write arrives.

use anyhow::{Result, ensure};
use meridian_tests::{Lab, of_one_node, until, until_same_entries, with_lab};
const KEYS: usize = 50;

/// Where values swap, each side applies the other's, and both stay as wrong as they are.
#[test]
fn writes_that_cross_leave_the_same_value_on_both_sides() {
    with_lab(&["--regions=us-east,eu-west", "--replicas=0"], |lab| {
        let [us, eu] = &lab.regions[..] else { panic!("two regions") };
        let keys: Vec<_> = (0..KEYS).map(|index| format!("crossing:{index}")).collect();
        let (mut at_us, mut at_eu) = (us.client(), eu.client());
        for round in 0..3 {
            for key in &keys {
                at_us.run::<()>(key, redis::cmd("SET").arg(key).arg(format!("us {round}")))?;
                at_eu.run::<()>(key, redis::cmd("SET").arg(key).arg(format!("eu {round}")))?;
            }
        }
        let held = until_same_entries(&lab.regions, &keys)?;
        let last = ["us 2", "eu 2"];
        ensure!(held.iter().all(|entry| entry.value.as_deref().is_some_and(|value| last.contains(&value))), "{held:?}");
        Ok(())
    });
}

#[test]
fn a_delete_is_final_for_an_older_write_that_arrives_after_it() {
    with_lab(&of_one_node(&TWO), |lab| {
        let keys = written_and_on_their_way(lab)?;
        lab.regions[1].run::<()>(&["SET", &keys[0], "b"])?;
        each(lab, &keys, |key| vec!["DEL", key])?;
        arrive_and_be_absent(lab, &keys)
    });
}

#[test]
fn an_expiry_is_final_for_an_older_write_that_arrives_after_it() {
    with_lab(&of_one_node(&TWO), |lab| {
        let keys = written_and_on_their_way(lab)?;
        each(lab, &keys, |key| vec!["SET", key, "b", "PX", "50"])?;
        let b = &lab.regions[1];
        until("all have expired, and are swept", || Ok((b.run::<u64>(&["DBSIZE"])? == 0).then_some(())))?;
        arrive_and_be_absent(lab, &keys)
    });
}

#[test]
fn an_older_write_that_arrives_after_a_newer_was_evicted_is_a_miss() {
    let small = ["--node-set=b:memory.maxmemory=1mb", "--node-set=b:memory.maxmemory_policy=allkeys-lru"];
    with_lab(&of_one_node(&[&TWO[..], &small].concat()), |lab| {
        let keys = written_and_on_their_way(lab)?;
        each(lab, &keys, |key| vec!["SET", key, "newer"])?;
        let (b, large) = (&lab.regions[1], "x".repeat(10_000));
        let exists = |key: &String| b.run::<bool>(&["EXISTS", key]);
        for index in 0.. {
            b.run::<()>(&["SET", &format!("filler:{index}"), &large])?;
            if keys.iter().map(exists).collect::<Result<Vec<_>>>()?.contains(&false) && index > 200 {
                break;
            }
            ensure!(index < 10_000, "nothing is evicted");
        }
        lab.wan.heal()?;
        lab.regions[0].run::<()>(&["SET", "marker", "arrived"])?;
        b.until_result(&["GET", "marker"], &Some("arrived".to_owned()))?;
        // It may be a miss, here and, if it was evicted before it was sent, there. It is not the older value.
        b.run::<()>(&["SET", "marker", "returned"])?;
        lab.regions[0].until_result(&["GET", "marker"], &Some("returned".to_owned()))?;
        for (region, key) in lab.regions.iter().flat_map(|region| keys.iter().map(move |key| (region, key))) {
            until(&format!("{key} is not the older value in {}", region.name), || {
                let value: Option<String> = region.run(&["GET", key])?;
                ensure!(value.as_deref() != Some("older"), "it is");
                Ok(Some(()))
            })?;
        }
        Ok(())
    });
}

#[test]
fn a_delete_is_final_for_an_older_write_that_arrives_after_a_restart() {
    with_lab(&of_one_node(&["--regions=a,b,c", "--wan=none"]), |lab| {
        let keys = written_and_on_their_way(lab)?;
        each(lab, &keys, |key| vec!["SET", key, "b"])?;
        each(lab, &keys, |key| vec!["DEL", key])?;
        lab.regions[1].run::<()>(&["SET", "marker", "deleted"])?;
        lab.regions[2].until_result(&["GET", "marker"], &Some("deleted".to_owned()))?;
        // It loses its memory, and with it the tombstones; the third region has them.
        lab.regions[1].kill()?;
        lab.regions[1].restart()?;
        arrive_and_be_absent(lab, &keys)
    });
}

const TWO: [&str; 2] = ["--regions=a,b", "--wan=none"];

/// Keys that are written in the first region while nothing of it arrives in the second.
fn written_and_on_their_way(lab: &Lab) -> Result<Vec<String>> {
    lab.until_settled("before")?;
    for region in &lab.regions {
        let key = format!("settled:before:{}", region.name);
        lab.regions[0].run::<()>(&["DEL", &key])?;
        lab.regions[1].until_result(&["EXISTS", &key], &0)?;
    }
    lab.wan.partition(&["a"])?;
    let keys: Vec<_> = (0..KEYS).map(|index| format!("late:{index}")).collect();
    keys.iter().try_for_each(|key| lab.regions[0].run::<()>(&["SET", key, "older"]))?;
    let arrived: u64 = lab.regions[1].run(&["DBSIZE"])?;
    ensure!(arrived == 0, "{arrived} keys have crossed the cut");
    Ok(keys)
}

/// Does something to each key in the second region.
fn each<'k>(lab: &Lab, keys: &'k [String], command: impl Fn(&'k str) -> Vec<&'k str>) -> Result<()> {
    keys.iter().try_for_each(|key| lab.regions[1].run::<redis::Value>(&command(key)).map(drop))
}

/// Lets arrive what was on its way; afterwards no key may be there, in either region.
fn arrive_and_be_absent(lab: &Lab, keys: &[String]) -> Result<()> {
    lab.wan.heal()?;
    lab.until_settled("after")?;
    let held = until_same_entries(&lab.regions, keys)?;
    let back = held.iter().filter(|entry| entry.value.is_some()).count();
    ensure!(back == 0, "{back} of {} keys are back", keys.len());
    lab.until_settled("long after")?;
    let held = until_same_entries(&lab.regions, keys)?;
    ensure!(held.iter().all(|entry| entry.value.is_none()), "a key came back late");
    Ok(())
}
