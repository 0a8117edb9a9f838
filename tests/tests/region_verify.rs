//! Whether regions hold the same is told rightly: by digests where they do, by key where they do not, and mended; and in the
//! background.
//!
//! What differs has to be brought about first, and links leave nothing that differs. So here a record is put where its link has
//! passed already: in the name of a region that still lives, with a time that the others have seen that region beyond. That is what is left
//! when a record was lost on its way and nobody noticed: no link sends it any more.

use anyhow::{Context, Result, ensure};
use meridian_tests::{
    Lab, Load, Promise, Region, delete, of_one_node, operate, set, until, until_same_entries, verify, with_lab,
};

const KEYS: usize = 3_000;

#[test]
fn regions_of_different_shapes_that_hold_the_same_agree() {
    with_lab(&["--regions=us-east,eu-west", "--wan=none", "--replicas=0"], |lab| {
        let lab: &Lab = lab;
        operate(lab, &lab.regions[0].nodes[0].name, &["rebalance", "--weight", "0=30", "--yes"])?;
        let keys: Vec<_> = (0..300).map(|index| format!("key:{index}")).collect();
        for (region, keys) in lab.regions.iter().zip(keys.chunks(150)) {
            let mut client = region.client();
            for key in keys {
                client.run::<()>(key, redis::cmd("SET").arg(key).arg("value").arg("EX").arg(3_600))?;
                client.run::<()>(key, redis::cmd("DEL").arg(format!("{{{key}}}")))?;
            }
        }
        until_same_entries(&lab.regions, &keys)?;
        let said = verify(&lab.regions, &[])?;
        let found = said.verified()?;
        ensure!(found.agree && said.code == Some(0), "{found:?}");
        ensure!(found.keys.values().all(|keys| *keys == 300) && found.keys.len() == 2, "{found:?}");
        Ok(())
    });
}

#[test]
fn what_was_lost_on_its_way_is_found_by_name_and_mended() {
    with_lab(&of_one_node(&["--regions=a,b,c", "--wan=none"]), |lab| {
        let [a, b, c] = &lab.regions[..] else { panic!("three regions") };
        set(c, (0..KEYS).map(|index| (format!("key:{index}"), "value")))?;
        set(c, [("stale", "before")])?;
        let passed = passed(lab, c)?;
        merge(a, "lost", &passed, &["VALUE", "found again"])?;
        merge(a, "stale", &passed, &["VALUE", "after"])?;
        let said = verify(&lab.regions, &[])?;
        let found = said.verified()?;
        let expected =
            [("lost", "missing", "b"), ("lost", "missing", "c"), ("stale", "older", "b"), ("stale", "older", "c")];
        ensure!(found.found() == expected && said.code == Some(1), "{said:?}");
        ensure!(found.slots_differing == 2 && found.keys_differing == 4, "{found:?}");
        let asked = verify(&lab.regions, &["--repair"])?;
        ensure!(asked.code == Some(2), "nobody agreed to the repair: {asked:?}");
        let planned = verify(&lab.regions, &["--repair", "--dry-run"])?;
        ensure!(planned.code == Some(1) && planned.lines.iter().any(|line| line.get("plan").is_some()), "{planned:?}");
        b.until_result(&["EXISTS", "lost"], &0)?;
        let mended = verify(&lab.regions, &["--repair", "--yes"])?;
        ensure!(mended.code == Some(0) && mended.verified()?.agree, "{mended:?}");
        for region in [a, b, c] {
            region.until_result(&["GET", "lost"], &Some("found again".to_owned()))?;
            region.until_result(&["GET", "stale"], &Some("after".to_owned()))?;
        }
        Ok(())
    });
}

#[test]
fn what_differs_shows_in_the_background_until_it_is_mended() {
    with_lab(&of_one_node(&["--regions=a,b,c", "--wan=none", "--node-set=gateway.audit_interval=500ms"]), |lab| {
        let [a, b, c] = &lab.regions[..] else { panic!("three regions") };
        set(c, (0..KEYS).map(|index| (format!("key:{index}"), "value")))?;
        let passed = passed(lab, c)?;
        until("regions are compared, and agree", || {
            let compared = b.nodes[0].metric("meridian_slots_compared_total")?;
            ensure!(b.nodes[0].metric("meridian_slots_differing")? == 0.0, "they differ");
            Ok((compared > 100_000.0).then_some(()))
        })?;
        merge(a, "lost", &passed, &["VALUE", "found again"])?;
        // Each of the others differs from it, and it from both.
        for (region, slots) in [(a, 2.0), (b, 1.0), (c, 1.0)] {
            until(&format!("{} knows", region.name), || {
                let differing = region.nodes[0].metric("meridian_slots_differing")?;
                ensure!(differing == slots, "{differing} slots differ");
                Ok(Some(()))
            })?;
        }
        let mended = verify(&lab.regions, &["--repair", "--yes"])?;
        ensure!(mended.code == Some(0) && mended.verified()?.agree, "{mended:?}");
        until("nothing differs any more", || {
            let differing = lab.regions.iter().map(|region| region.nodes[0].metric("meridian_slots_differing"));
            ensure!(differing.sum::<Result<f64>>()? == 0.0, "something does");
            Ok(Some(()))
        })
    });
}

#[test]
fn clusters_are_compared_by_who_owns_the_slots() {
    let shapes = ["--regions=us-east,eu-west", "--wan=none", "--replicas=0", "--node-set=gateway.audit_interval=1s"];
    with_lab(&shapes, |lab| {
        let lab: &Lab = lab;
        operate(lab, &lab.regions[0].nodes[0].name, &["rebalance", "--weight", "0=30", "--yes"])?;
        let mut client = lab.regions[0].client();
        for key in (0..100).map(|index| format!("key:{index}")) {
            client.run::<()>(&key, redis::cmd("SET").arg(&key).arg("value"))?;
        }
        for node in lab.regions.iter().flat_map(|region| &region.nodes) {
            until(&format!("{} is compared, and agrees", node.name), || {
                let compared = node.metric("meridian_slots_compared_total")?;
                ensure!(node.metric("meridian_slots_differing")? == 0.0, "it differs");
                Ok((compared > 30_000.0).then_some(()))
            })?;
        }
        Ok(())
    });
}

#[test]
fn a_difference_in_a_large_slot_is_found_without_listing_it() {
    with_lab(&of_one_node(&["--regions=a,b,c", "--wan=none"]), |lab| {
        let [a, b, c] = &lab.regions[..] else { panic!("three regions") };
        let keys: Vec<_> = (0..40_000).map(|index| format!("{{tag}}{index}")).collect();
        set(c, keys.iter().map(|key| (key, "a value of some length, such as people have")))?;
        let passed = passed(lab, c)?;
        merge(b, "{tag}lost", &passed, &["VALUE", "v"])?;
        let found = verify([a, b], &[])?.verified()?;
        ensure!(found.found() == [("{tag}lost", "missing", "a")], "{found:?}");
        let bytes = found.bytes_sent + found.bytes_received;
        ensure!(bytes < 500_000, "{bytes} bytes for one key of 40,000");
        Ok(())
    });
}

#[test]
fn what_was_deleted_and_forgotten_is_left_and_does_not_come_back() {
    with_lab(&of_one_node(&["--regions=a,b,c", "--wan=none"]), |lab| {
        let [a, b, c] = &lab.regions[..] else { panic!("three regions") };
        let first = passed(lab, c)?;
        merge(a, "key", &first, &["VALUE", "deleted"])?;
        let second = passed(lab, c)?;
        merge(b, "key", &second, &["TOMBSTONE"])?;
        until("b has forgotten the delete", || Ok((b.status()?.tombstones == 0).then_some(())))?;
        let said = verify([a, b], &["--repair", "--yes"])?;
        let found = said.verified()?;
        ensure!(said.code == Some(1) && found.found() == [("key", "missing", "b")], "{said:?}");
        ensure!(found.differences[0].note.contains("perhaps deleted"), "{found:?}");
        // Also who carries it there by hand has no luck.
        let answer: String = b.run(&["REGION", "MERGE", "key", &first, "VALUE", "deleted"])?;
        ensure!(answer == "REFUSED", "{answer}");
        b.until_result(&["EXISTS", "key"], &0)
    });
}

#[test]
fn what_both_sides_of_a_cut_have_written_is_a_conflict_until_it_heals() {
    with_lab(&of_one_node(&["--regions=a,b", "--wan=none"]), |lab| {
        let lab: &Lab = lab;
        let [a, b] = &lab.regions[..] else { panic!("two regions") };
        lab.until_settled("before")?;
        lab.wan.partition(&["a"])?;
        set(a, [("both", "by a"), ("one", "by a")])?;
        set(b, [("both", "by b")])?;
        let said = verify(&lab.regions, &["--patience=100ms"])?;
        let found = said.verified()?;
        ensure!(found.found() == [("both", "conflict", "a"), ("one", "missing", "b")], "{said:?}");
        ensure!(found.differences.iter().all(|found| found.note == "perhaps on its way"), "{found:?}");
        lab.wan.heal()?;
        until("the regions agree again", || Ok(verify(&lab.regions, &[])?.verified()?.agree.then_some(())))
    });
}

#[test]
fn what_a_small_region_has_evicted_is_missing_there() {
    let small = ["--node-set=b:memory.maxmemory=2mb", "--node-set=b:memory.maxmemory_policy=allkeys-lru"];
    with_lab(&of_one_node(&[&["--regions=a,b", "--wan=none"], &small[..]].concat()), |lab| {
        let lab: &Lab = lab;
        let [a, b] = &lab.regions[..] else { panic!("two regions") };
        let value = "v".repeat(1_000);
        set(a, (0..KEYS).map(|index| (format!("key:{index}"), &value)))?;
        until("all has arrived, and some was evicted", || {
            let links = b.status()?.links.incoming;
            Ok((links.iter().map(|link| link.applied).sum::<u64>() >= KEYS as u64).then_some(()))
        })?;
        let said = verify(&lab.regions, &["--limit=5"])?;
        let found = said.verified()?;
        ensure!(said.code == Some(1) && found.differences.len() == 5, "{said:?}");
        ensure!(found.differences.iter().all(|found| found.is == "missing" && found.region == "b"), "{found:?}");
        ensure!(found.keys["a"] - found.keys["b"] == found.keys_differing, "{found:?}");
        Ok(())
    });
}

#[test]
fn regions_agree_while_they_are_written_to() {
    with_lab(&["--regions=us-east,eu-west", "--replicas=0"], |lab| {
        let lab: &Lab = lab;
        let loads: Vec<_> = lab
            .regions
            .iter()
            .map(|region| Load::start(&region.addresses(), &region.name, 2, 50, Promise::Acknowledged))
            .collect();
        for _ in 0..3 {
            loads.iter().try_for_each(|load| load.until_promised(200))?;
            let said = verify(&lab.regions, &["--patience=60s"])?;
            ensure!(said.verified()?.agree, "{said:?}");
        }
        loads.into_iter().try_for_each(|load| load.finish()?.check())
    });
}

#[test]
fn who_does_not_answer_is_named() {
    with_lab(&["--regions=us-east,eu-west", "--wan=none", "--replicas=0"], |lab| {
        let [us, eu] = &mut lab.regions[..] else { panic!("two regions") };
        eu.nodes[1].kill()?;
        let address = eu.nodes[1].addr.clone();
        let said = verify([&*us, &*eu], &[])?;
        ensure!(said.code == Some(1) && said.complaints.contains(&address), "{said:?}");
        let alone = verify([&*us], &[])?;
        ensure!(alone.code == Some(2) && alone.complaints.contains("us-east"), "{alone:?}");
        eu.nodes[0].kill()?;
        let said = verify([&*us, &*eu], &[])?;
        ensure!(said.complaints.contains(&format!("{} does not answer", eu.addr)), "{said:?}");
        Ok(())
    });
}

/// A stamp in the name of a region that nobody bears, and that all others have seen that region beyond.
fn passed(lab: &Lab, region: &Region) -> Result<String> {
    region.run::<()>(&["SET", "passed", "now"])?;
    let fetched: Vec<String> = region.run(&["REGION", "FETCH", "passed"])?;
    let (time, origin) = fetched[0].split_once('@').context("a stamp has an origin")?;
    let time = u64::from_str_radix(time, 16)?;
    // Once it is read elsewhere, and another after it, `seen` is beyond the first; where nothing is written, by the next heartbeat.
    lab.until_settled(&fetched[0])?;
    until("all regions have seen beyond it", || {
        for other in lab.regions.iter().filter(|other| other.id != region.id) {
            let token = format!("{origin}@{:x}", time + 1);
            let reached: i64 = other.run(&["REGION", "AWAIT", &token, "1000"])?;
            ensure!(reached == 1, "{} has not", other.name);
        }
        Ok(Some(()))
    })?;
    delete(region, &["passed".to_owned()])?;
    until("nobody has it any more", || {
        let held = lab.regions.iter().map(|region| region.run::<i64>(&["EXISTS", "passed"])).sum::<Result<i64>>()?;
        Ok((held == 0).then_some(()))
    })?;
    Ok(format!("{:016x}@{origin}", time + 1))
}

/// Merges a record of a region of one node, which wins.
fn merge(region: &Region, key: &str, stamp: &str, state: &[&str]) -> Result<()> {
    let answer: String = region.run(&[&["REGION", "MERGE", key, stamp], state].concat())?;
    ensure!(answer == "APPLIED", "{key} at {}: {answer}", region.name);
    Ok(())
}
