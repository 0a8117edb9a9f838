//! Too much of something: data for one region's memory, writes for a link's bandwidth.

use anyhow::{Result, ensure};
use meridian_tests::{Lab, Region, entries, note, of_one_node, set, until, with_lab};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

#[test]
fn region_that_evicts_takes_nothing_from_the_others() {
    const KEYS: usize = 4_000;
    const VALUE: usize = 1_000;
    let small = ["--node-set=b:memory.maxmemory=2mb", "--node-set=b:memory.maxmemory_policy=allkeys-lru"];
    with_lab(&of_one_node(&[&["--regions=a,b", "--wan=none"], &small[..]].concat()), |lab| {
        let lab: &Lab = lab;
        let [a, b] = ["a", "b"].map(|name| lab.region(name));
        let keys: Vec<_> = (0..KEYS).map(|index| format!("key:{index}")).collect();
        let values: Vec<_> = (0..KEYS).map(|index| format!("{index:0>VALUE$}")).collect();
        set(a, keys.iter().zip(&values))?;
        // No key can be waited for, since any of them may be evicted at once.
        until("all records have arrived", || Ok((applied(b)? >= KEYS as u64).then_some(())))?;
        let (held_by_a, held_by_b) = (entries(a, &keys)?, entries(b, &keys)?);
        let lost = held_by_a.iter().zip(&values).filter(|(entry, value)| entry.value.as_ref() != Some(value)).count();
        ensure!(lost == 0, "{lost} keys are lost in the region that has room for all");
        let present: Vec<_> = held_by_b.iter().zip(&values).filter(|(entry, _)| entry.value.is_some()).collect();
        ensure!(present.len() < KEYS, "nothing was evicted, although not everything fits");
        ensure!(!present.is_empty(), "everything was evicted");
        let wrong = present.iter().filter(|(entry, value)| entry.value.as_ref() != Some(value)).count();
        ensure!(wrong == 0, "{wrong} keys have another value than was written");
        // Where it was evicted it can be written again, and that is as good a write as any.
        let evicted = held_by_b.iter().position(|entry| entry.value.is_none()).expect("not all are present");
        b.run::<()>(&["SET", &keys[evicted], "again"])?;
        a.until_result(&["GET", &keys[evicted]], &Some("again".to_owned()))
    });
}

#[test]
fn burst_onto_one_key_crosses_a_slow_link_as_few_records() {
    const WRITES: usize = 2_000;
    const VALUE: usize = 10_000;
    // All of it would keep the link busy for 40 seconds. What is on its way is bounded, and what waits is overtaken.
    with_lab(&of_one_node(&["--regions=a,b", "--wan=none", "--node-set=gateway.window=128KiB"]), |lab| {
        let lab: &Lab = lab;
        let [a, b] = ["a", "b"].map(|name| lab.region(name));
        lab.wan.change("a", "b", &serde_json::json!({ "rate_mbit": 4 }))?;
        let before = applied(b)?;
        let mut random = Pcg64Mcg::seed_from_u64(7);
        let mut value = || (0..VALUE).map(|_| char::from(random.random_range(b' '..b'~'))).collect::<String>();
        let values: Vec<_> = (0..WRITES).map(|_| value()).collect();
        set(a, values.iter().map(|value| ("key", value)))?;
        b.until_result(&["GET", "key"], values.last().expect("there are values"))?;
        let records = applied(b)? - before;
        note(&format!("{WRITES} writes onto one key crossed as {records} records"));
        ensure!(records < WRITES as u64 / 2, "{records} records of {WRITES} writes: nothing was conflated");
        Ok(())
    });
}

#[test]
fn link_that_is_reset_over_and_over_loses_nothing() {
    const KEYS: usize = 2_000;
    const RESETS: usize = 10;
    with_lab(&of_one_node(&["--regions=a,b"]), |lab| {
        let lab: &Lab = lab;
        let [a, b] = ["a", "b"].map(|name| lab.region(name));
        for round in 0..RESETS {
            let keys: Vec<_> = (0..KEYS / RESETS).map(|index| format!("{round}:{index}")).collect();
            set(a, keys.iter().map(|key| (key, "value")))?;
            lab.wan.change("a", "b", &serde_json::json!({ "state": "reset" }))?;
            until("the link is down", || Ok(b.status()?.links.incoming.iter().any(|link| !link.up).then_some(())))?;
            lab.wan.heal()?;
            // Some rounds are reset while the link still comes up, others after it has.
            if round % 2 == 0 {
                b.until_linked()?;
            }
        }
        let keys: Vec<_> =
            (0..RESETS).flat_map(|round| (0..KEYS / RESETS).map(move |index| format!("{round}:{index}"))).collect();
        until("all keys have arrived", || {
            let lost = entries(b, &keys)?.iter().filter(|entry| entry.value.as_deref() != Some("value")).count();
            ensure!(lost == 0, "{lost} of {KEYS} keys have not arrived");
            Ok(Some(()))
        })
    });
}

/// How many records have won in a region.
fn applied(region: &Region) -> Result<u64> {
    Ok(region.status()?.links.incoming.iter().map(|link| link.applied).sum())
}
