//! What is written in one region is read in all others, and not before it can have got there.

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use meridian_tests::{Lab, Region, note, of_one_node, until, with_lab};

/// How often the delay of each link is measured.
const SAMPLES: usize = 20;

#[test]
fn write_is_read_in_every_other_region() {
    with_lab(&of_one_node(&[]), |lab| {
        for (from, to) in lab.pairs() {
            let key = format!("{}:{}", from.name, to.name);
            from.run::<()>(&["SET", &key, "hello"])?;
            to.until_result(&["GET", &key], &Some("hello".to_owned()))?;
            from.run::<()>(&["APPEND", &key, " world"])?;
            to.until_result(&["GET", &key], &Some("hello world".to_owned()))?;
            from.run::<()>(&["PEXPIREAT", &key, "4102444800000"])?;
            to.until_result(&["PEXPIRETIME", &key], &4_102_444_800_000_i64)?;
            from.run::<()>(&["DEL", &key])?;
            to.until_result(&["EXISTS", &key], &0)?;
            // And the way back, onto a key that was deleted there.
            to.run::<()>(&["SET", &key, "back"])?;
            from.until_result(&["GET", &key], &Some("back".to_owned()))?;
        }
        Ok(())
    });
}

#[test]
fn flush_is_final_everywhere_for_what_it_saw() {
    with_lab(&of_one_node(&["--wan=none"]), |lab| {
        let [us, eu, ap] = ["us-east", "eu-west", "ap-south"].map(|name| lab.region(name));
        for index in 0..100 {
            us.run::<()>(&["SET", &format!("old:{index}"), "x"])?;
        }
        lab.until_settled("before")?;
        eu.run::<()>(&["FLUSHALL"])?;
        ap.until_result(&["EXISTS", "old:0", "old:99"], &0)?;
        us.until_result(&["EXISTS", "old:0", "old:99"], &0)?;
        us.run::<()>(&["SET", "new", "y"])?;
        eu.until_result(&["GET", "new"], &Some("y".to_owned()))?;
        lab.until_settled("after")?;
        for region in [us, eu, ap] {
            region.until_result(&["GET", "new"], &Some("y".to_owned()))?;
            region.until_result(&["EXISTS", "old:0", "old:50", "old:99"], &0)?;
        }
        Ok(())
    });
}

#[test]
fn a_write_that_was_lost_against_a_concurrent_one_is_told_of() {
    with_lab(&of_one_node(&["--regions=a,b", "--wan=none"]), |lab| {
        let lab: &Lab = lab;
        let [a, b] = ["a", "b"].map(|name| lab.region(name));
        lab.until_settled("before")?;
        lab.wan.partition(&["b"])?;
        a.run::<()>(&["SET", "concurrent", "a"])?;
        b.run::<()>(&["SET", "concurrent", "b"])?;
        lab.wan.heal()?;
        // Where the write was lost. The other region hears of it only if it was sent before the winner arrived.
        a.until_result(&["GET", "concurrent"], &Some("b".to_owned()))?;
        let told: Vec<HashMap<String, redis::Value>> = a.run(&["REGION", "CONFLICTS", "5"])?;
        let [conflict] = &told[..] else { bail!("it tells of {told:?}") };
        let key: String = redis::from_redis_value_ref(&conflict["key"])?;
        let side = |name: &str| redis::from_redis_value_ref::<HashMap<String, String>>(&conflict[name]);
        let regions = (side("winner")?["region"].clone(), side("loser")?["region"].clone());
        ensure!(key == "concurrent" && regions == ("b".to_owned(), "a".to_owned()), "{key}, {regions:?}");
        let counted = a.metric("meridian_conflicts_total")?;
        ensure!((counted - 1.0).abs() < f64::EPSILON, "{counted} are counted");
        a.run::<()>(&["REGION", "CONFLICTS", "RESET"])?;
        let none: Vec<redis::Value> = a.run(&["REGION", "CONFLICTS"])?;
        ensure!(none.is_empty(), "after a reset it tells of {none:?}");
        Ok(())
    });
}

#[test]
fn no_write_is_read_before_its_way_is_over() {
    with_lab(&of_one_node(&[]), |lab| {
        let lab: &Lab = lab;
        thread::scope(|scope| {
            let links = lab.pairs().map(|(from, to)| scope.spawn(move || measure(lab, from, to)));
            let links: Vec<_> = links.collect();
            links.into_iter().try_for_each(|link| link.join().expect("a measurement does not panic"))
        })
    });
}

/// Measures from before a write to after the read that shows it, so that what is measured is never too short.
fn measure(lab: &Lab, from: &Region, to: &Region) -> Result<()> {
    let one_way = Duration::from_secs_f64(lab.wan.delay_ms(&from.name, &to.name)? / 1e3);
    let key = format!("delay:{}:{}", from.name, to.name);
    let (mut writer, mut reader) = (from.connect()?, to.connect()?);
    let mut measured = Vec::with_capacity(SAMPLES);
    for sample in 0..SAMPLES {
        let start = Instant::now();
        redis::cmd("SET").arg(&key).arg(sample).exec(&mut writer)?;
        until(&format!("{key} arrives"), || {
            let seen: Option<usize> = redis::cmd("GET").arg(&key).query(&mut reader)?;
            Ok((seen == Some(sample)).then_some(()))
        })?;
        measured.push(start.elapsed());
    }
    measured.sort();
    let [least, median, most] = [0, SAMPLES / 2, SAMPLES - 1].map(|index| measured[index].as_secs_f64() * 1e3);
    let (from, to, ms) = (&from.name, &to.name, one_way.as_secs_f64() * 1e3);
    note(&format!("{from:>8} -> {to:<8} {ms:>4} ms one way: read after {least:.1} / {median:.1} / {most:.1} ms"));
    ensure!(measured[0] >= one_way, "{from} -> {to}: {:?} is faster than {one_way:?}", measured[0]);
    Ok(())
}
