//! Regions that are clusters, linked: what is written in one is read in the other, whoever dies or moves meanwhile.
//!
//! A link between clusters is many streams, by way of gateways, between nodes whose slots differ from region to region. What
//! can go wrong is at its joints: a gateway that dies with streams in its hands, a primary that dies with writes that it has
//! acknowledged and not sent, slots that change hands at either end. In each case a load goes on, and in the end both
//! regions must have what was promised and hold the same.

use anyhow::{Result, ensure};
use meridian_tests::{
    Client, Load, Promise, Region, Written, kill, members, note, operate, until, until_follows, until_members,
    until_same_entries, with_lab,
};

/// Two primaries with a replica each, as a lab has them by default.
const REGIONS: &str = "--regions=us-east,eu-west";
const WRITERS: usize = 2;
const KEYS_EACH: usize = 50;
/// Writes that are promised before and after anything happens.
const PROMISED: u64 = 300;
/// Keys that both regions write to.
const CONTENDED: usize = 100;

#[test]
fn streams_go_on_through_the_other_gateway_when_one_is_killed() {
    with_lab(&[REGIONS, "--gateways=2"], |lab| {
        let [a, b] = &lab.regions[..] else { panic!("two regions") };
        until_read_elsewhere(a, b, "there")?;
        until_read_elsewhere(b, a, "back")?;
        let load = Load::start(&a.addresses(), "key", WRITERS, KEYS_EACH, Promise::Acknowledged);
        // One of those that send, then one of those that receive.
        for region in [a, b] {
            load.until_promised(PROMISED)?;
            let gateway = &region.gateways[0];
            kill(gateway.pid)?;
            until_read_elsewhere(a, b, &format!("after {} was killed", gateway.id))?;
            until_read_elsewhere(b, a, &format!("back after {} was killed", gateway.id))?;
        }
        load.until_promised(PROMISED)?;
        let written = load.finish()?;
        written.check()?;
        ensure!(written.lost == 0 && written.refused == 0, "{} lost, {} refused", written.lost, written.refused);
        until_promise_is_kept(&written, b)?;
        let keys: Vec<_> = written.keys().map(str::to_owned).collect();
        until_same_entries(&lab.regions, &keys).map(drop)
    });
}

#[test]
fn what_a_killed_primary_had_promised_reaches_the_other_region() {
    with_lab(&[REGIONS], |lab| {
        let [a, b] = &mut lab.regions[..] else { panic!("two regions") };
        let all = members(a)?;
        let load = Load::start(&a.addresses(), "key", WRITERS, KEYS_EACH, Promise::Replicated);
        load.until_promised(PROMISED)?;
        let victim = all.iter().find(|member| member.is_primary).expect("a cluster has a primary");
        let place = a.place(&victim.addr);
        a.nodes[place].kill()?;
        let survivor = &a.nodes[(place + 1) % a.nodes.len()];
        until_members(survivor, "another is primary in its place", |members| {
            let primaries: Vec<_> =
                members.iter().filter(|member| member.is_primary && !member.slots.is_empty()).collect();
            primaries.len() == 2 && primaries.iter().all(|member| member.id != victim.id)
        })?;
        until_read_elsewhere(a, b, "after the failover")?;
        until_read_elsewhere(b, a, "back after the failover")?;
        // Without a replica the heir promises nothing.
        a.nodes[place].restart()?;
        until_follows(&a.nodes[place])?;
        load.until_promised(PROMISED)?;
        let written = load.finish()?;
        written.check()?;
        note(&format!("{} promised, {} without an answer", written.promised(), written.lost));
        until_promise_is_kept(&written, b)?;
        let keys: Vec<_> = written.keys().map(str::to_owned).collect();
        until_same_entries(&lab.regions, &keys).map(drop)
    });
}

#[test]
fn regions_hold_the_same_after_slots_have_moved_in_both_of_them_under_writes() {
    with_lab(&[REGIONS], |lab| {
        let lab: &meridian_tests::Lab = lab;
        let [a, b] = &lab.regions[..] else { panic!("two regions") };
        let load =
            |region: &Region| Load::start(&region.addresses(), &region.name, WRITERS, KEYS_EACH, Promise::Acknowledged);
        let loads = [load(a), load(b)];
        let contended: Vec<_> = (0..CONTENDED).map(|index| format!("both:{index}")).collect();
        let [mut at_a, mut at_b] = [a, b].map(Region::client);
        // The shares differ between the regions all the time, and what moves in one has moved or stays in the other.
        for (region, weight) in [(a, "0=50"), (b, "1=50"), (a, "0=100"), (b, "1=100")] {
            loads.iter().try_for_each(|load| load.until_promised(PROMISED))?;
            operate(lab, &region.nodes[0].name, &["rebalance", "--weight", weight, "--yes"])?;
            for key in &contended {
                set(&mut at_a, key, weight)?;
                set(&mut at_b, key, weight)?;
            }
        }
        loads.iter().try_for_each(|load| load.until_promised(PROMISED))?;
        let mut keys = contended;
        for (load, elsewhere) in loads.into_iter().zip([b, a]) {
            let written = load.finish()?;
            written.check()?;
            ensure!(written.lost == 0 && written.refused == 0, "{} lost, {} refused", written.lost, written.refused);
            until_promise_is_kept(&written, elsewhere)?;
            keys.extend(written.keys().map(str::to_owned));
        }
        let held = until_same_entries(&lab.regions, &keys)?;
        ensure!(held.iter().all(|entry| entry.value.is_some()), "a key that was written is nowhere");
        Ok(())
    });
}

#[test]
fn cut_that_outlasts_the_tombstone_budget_costs_misses_and_never_a_deleted_value() {
    const KEYS: usize = 3_000;
    // Room for a hundred deletes or so at each node.
    with_lab(&[REGIONS, "--node-set=memory.tombstone_budget=4KiB"], |lab| {
        let [a, b] = &lab.regions[..] else { panic!("two regions") };
        let keys: Vec<_> = (0..KEYS).map(|index| format!("key:{index}")).collect();
        let (mut at_a, mut at_b) = (a.client(), b.client());
        keys.iter().try_for_each(|key| set(&mut at_a, key, "before"))?;
        until_read_elsewhere(a, b, "before the cut")?;
        lab.wan.partition(&[&b.name])?;
        // A third is deleted in one region; of these every tenth was written anew in the other before, and one in ten after that.
        let (deleted, kept) = keys.split_at(KEYS / 3);
        let of_ten = |which: usize| deleted.iter().skip(which).step_by(10);
        of_ten(0).try_for_each(|key| set(&mut at_b, key, "older"))?;
        for key in deleted {
            at_a.run::<()>(key, redis::cmd("DEL").arg(key))?;
        }
        of_ten(5).try_for_each(|key| set(&mut at_b, key, "newer"))?;
        until("both primaries have forgotten early, and say so", || {
            let primaries = a.nodes_of_role("primary");
            let early =
                primaries.map(|node| node.status().map(|status| status.forgotten_early)).collect::<Result<Vec<_>>>()?;
            ensure!(early.len() == 2 && early.iter().all(|count| *count > 0), "they say {early:?}");
            Ok(Some(()))
        })?;
        let metric = a.nodes_of_role("primary").map(|node| node.metric("meridian_forgotten_early_total"));
        let metric: f64 = metric.sum::<Result<f64>>()?;
        ensure!(metric > 0.0, "the metric is {metric}");
        lab.wan.heal()?;
        until_read_elsewhere(a, b, "after the cut")?;
        until_read_elsewhere(b, a, "after the cut")?;
        let held = until_same_entries(&lab.regions, &keys)?;
        let value =
            |key: &str| held[keys.iter().position(|other| other == key).expect("it is one of them")].value.as_deref();
        for (index, key) in deleted.iter().enumerate() {
            let is_right = match value(key) {
                None => true,
                Some(value) => value == "newer" && index % 10 == 5,
            };
            ensure!(is_right, "{key} was deleted, and is {:?}", value(key));
        }
        let lost = kept.iter().filter(|key| value(key) != Some("before")).count();
        ensure!(lost == 0, "{lost} keys are lost that nobody has touched since all had them");
        let misses = of_ten(5).filter(|key| value(key).is_none()).count();
        note(&format!("forgotten early: {metric}; {misses} of {} newer writes are misses", KEYS / 30));
        Ok(())
    });
}

/// Writes a value for each primary of both regions in one of them, and waits until it is read in the other.
fn until_read_elsewhere(from: &Region, to: &Region, value: &str) -> Result<()> {
    let keys: Vec<_> = (0..32).map(|index| format!("{}:{index}", from.name)).collect();
    let (mut writer, mut reader) = (from.client(), to.client());
    keys.iter().try_for_each(|key| set(&mut writer, key, value))?;
    for key in keys {
        until(&format!("{key} is {value:?} in {}", to.name), || {
            let read: Option<String> = reader.run(&key, redis::cmd("GET").arg(&key))?;
            ensure!(read.as_deref() == Some(value), "it is {read:?}");
            Ok(Some(()))
        })?;
    }
    Ok(())
}

fn set(client: &mut Client, key: &str, value: &str) -> Result<()> {
    Ok(client.run(key, redis::cmd("SET").arg(key).arg(value))?)
}

/// Waits until a region has all that was promised in another.
fn until_promise_is_kept(written: &Written, region: &Region) -> Result<()> {
    until(&format!("{} has all that was promised", region.name), || Ok(Some(written.check_at(&region.addresses())?)))
}
