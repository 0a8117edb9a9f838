//! A region that was down as a whole comes back by itself, as it was.
//!
//! All its nodes end, told to or by a power cut, and start again in any order. What they held is gone: they are a cache. But
//! who is in the cluster, who owns which slots and who follows whom is on their disks, and nobody has to repair it.

use anyhow::{Result, ensure};
use meridian_tests::{
    Client, Member, Region, Seed, key_of, members, terminate, until, until_follows, until_gone, with_lab,
};
use rand::{SeedableRng, seq::SliceRandom};
use rand_pcg::Pcg64Mcg;

const CLUSTER: &[&str] = &["--regions=us-east", "--primaries=2", "--replicas=1"];

#[test]
fn region_that_was_told_to_end_comes_back_with_its_map() {
    comes_back(|region| {
        let pids: Vec<_> = region.nodes.iter().map(|node| node.pid).collect();
        pids.iter().try_for_each(|&pid| terminate(pid))?;
        pids.into_iter().try_for_each(until_gone)
    });
}

#[test]
fn region_that_was_killed_comes_back_with_its_map() {
    comes_back(|region| region.nodes.iter_mut().try_for_each(|node| node.kill()));
}

fn comes_back(end: impl Fn(&mut Region) -> Result<()>) {
    with_lab(CLUSTER, |lab| {
        let seed = Seed::choose()?;
        seed.announce("region_restart");
        let mut random = Pcg64Mcg::seed_from_u64(seed.0);
        let region = &mut lab.regions[0];
        let before = members(region)?;
        ensure!(before.len() == 4, "the region has {before:?}");
        end(region)?;
        let mut order: Vec<_> = (0..region.nodes.len()).collect();
        order.shuffle(&mut random);
        order.iter().try_for_each(|&place| region.nodes[place].launch())?;
        let region: &Region = region;
        for node in &region.nodes {
            until(&format!("{} knows the region as it was", node.name), || {
                let after = members(node)?;
                ensure!(layout(&after) == layout(&before), "it knows {after:?} instead of {before:?}");
                ensure!(!after.iter().any(|member| member.has_failed), "it knows {after:?}");
                Ok(Some(()))
            })?;
        }
        for member in &before {
            let node = &region.nodes[region.place(&member.addr)];
            if !member.is_primary {
                until_follows(node)?;
                continue;
            }
            let key = key_of(region, member, "key")?;
            let mut client = Client::new(region.addresses());
            until(&format!("{} takes writes", node.name), || {
                client.run::<()>(&key, redis::cmd("SET").arg(&key).arg("again"))?;
                ensure!(client.last_node() == member.addr, "{} does", client.last_node());
                Ok(Some(()))
            })?;
        }
        Ok(())
    });
}

/// All but the health.
fn layout(members: &[Member]) -> Vec<Member> {
    members.iter().map(|member| Member { has_failed: false, ..member.clone() }).collect()
}
