//! A primary that dies or hangs is replaced, and nothing that was promised is lost.
//!
//! Three ways to lose a primary, under a load that goes on: it is killed, and comes back empty; it is stopped for longer
//! than its lease, and comes back with all it had, believing to be what it was; or its network is cut one way, so that it hears the
//! others and they do not hear it, or the other way round, while clients reach it all the time. In each, what `WAIT 1` has acknowledged
//! is there afterwards, nothing goes back, and the former primary becomes a replica. After a stop it also brings home
//! what its heir had never received.
//!
//! How long clients were without a primary is said and not asserted. `MERIDIAN_TEST_TRIES` says how often each is tried.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use meridian_tests::{
    Client, Frozen, Lab, Load, Member, Node, Promise, Region, Written, key_of, members, note, operate, until,
    until_feeds, until_follows, until_members, with_lab, with_machines,
};

const CLUSTER: &[&str] = &["--regions=us-east", "--primaries=2", "--replicas=1"];
const WRITERS: usize = 2;
const KEYS_EACH: usize = 50;
/// Writes that are promised before and after anything happens to a node.
const PROMISED: u64 = 300;
/// How long a primary hangs that hangs for long.
const HUNG_MAX: Duration = Duration::from_secs(10);
/// How long a cut goes on after the failover.
const CUT: Duration = Duration::from_secs(3);
/// Keys that a primary has and its replica does not.
const UNSHIPPED: usize = 200;
const BY_THE_HEIR: &str = "by the heir";
/// Requests that wait in the sockets of a primary that hangs.
const LATE: usize = 100;

#[test]
fn what_wait_has_acknowledged_outlives_a_primary_that_is_killed() {
    with_lab(CLUSTER, |lab| {
        let region = &mut lab.regions[0];
        for turn in 0..tries()? {
            let (victim, heir) = shard(region, turn % 2)?;
            let load =
                Load::start(&region.addresses(), &format!("kill{turn}"), WRITERS, KEYS_EACH, Promise::Replicated);
            load.until_promised(PROMISED)?;
            let probe = key_of(&region.nodes[heir.place], &victim.member, "probe")?;
            let killed = Instant::now();
            region.nodes[victim.place].kill()?;
            until_accepted(&region.nodes[heir.place], &probe)?;
            let accepted = killed.elapsed();
            until_written(region, &probe, &heir.member.addr)?;
            note(&format!("try {turn}: killed; writes were accepted again after {accepted:?}"));
            // Of the heir's keys none, since it has no replica: each WAIT there takes all its time.
            load.until_promised(PROMISED / 10)?;
            region.nodes[victim.place].restart()?;
            let all: &Region = region;
            until_members(&all.nodes[heir.place], "the killed node is a replica", |members| {
                members.iter().any(|member| member.id == victim.member.id && !member.is_primary && !member.has_failed)
            })?;
            until_follows(&all.nodes[victim.place])?;
            let written = ends_well(load, all, (&victim, &heir), turn)?;
            ensure!(written.refused == 0, "{} commands were refused for long", written.refused);
        }
        Ok(())
    });
}

#[test]
fn primary_that_hung_for_longer_than_its_lease_takes_no_write() {
    with_lab(CLUSTER, |lab| {
        let region = &lab.regions[0];
        for turn in 0..tries()? {
            let mut lost = Lost::begin(region, turn, "hang")?;
            let stopped = Instant::now();
            let frozen = Frozen::freeze(region.nodes[lost.victim.place].pid)?;
            until_accepted(&region.nodes[lost.heir.place], &lost.probe)?;
            let accepted = stopped.elapsed();
            until_written(region, &lost.probe, &lost.heir.member.addr)?;
            note(&format!("try {turn}: stopped; writes were accepted again after {accepted:?}"));
            until_set(region, &lost.late, BY_THE_HEIR)?;
            lost.write_late()?;
            if turn == 0 {
                // Longer than anybody waits for it: connections are given up, and the map has moved on.
                thread::sleep(HUNG_MAX.saturating_sub(stopped.elapsed()));
            }
            drop(frozen);
            let answers = lost.refused()?;
            note(&format!(
                "try {turn}: {} of {LATE} late writes were answered, with {:?}",
                answers.len(),
                answers.first()
            ));
            lost.comes_back(region, turn)?;
        }
        Ok(())
    });
}

#[test]
fn primary_that_is_cut_off_one_way_takes_no_write_once_its_lease_is_over() {
    with_machines("primary_that_is_cut_off_one_way_takes_no_write_once_its_lease_is_over", 2, |machines| {
        for turn in 0..tries()?.max(2) {
            let (is_mute, region) = (turn % 2 == 0, &machines.region);
            let what = if is_mute { "nobody hears it" } else { "it hears nobody" };
            let mut lost = Lost::begin(region, turn, "cut")?;
            let victim = [lost.victim.place];
            let others: Vec<_> = (0..region.nodes.len()).filter(|place| !victim.contains(place)).collect();
            let (from, to) = if is_mute { (&victim[..], &others[..]) } else { (&others[..], &victim[..]) };
            let began = Instant::now();
            let cut = machines.cut(from, to)?;
            let heir = &region.nodes[lost.heir.place];
            until_accepted(heir, &lost.probe)?;
            note(&format!("try {turn}: {what}; writes were accepted again after {:?}", began.elapsed()));
            // Who is cut off says CLUSTERDOWN, so a client that knows of no other primary would not get on.
            heir.run::<()>(&["SET", &lost.late, BY_THE_HEIR])?;
            lost.write_late()?;
            let answered = lost.refused()?.len();
            ensure!(answered == LATE, "{answered} of {LATE} late writes were answered");
            // For longer than anybody's patience with a connection.
            thread::sleep(CUT);
            drop(cut);
            lost.comes_back(region, turn)?;
        }
        Ok(())
    });
}

#[test]
fn what_only_the_former_primary_had_comes_home_and_overwrites_nothing_newer() {
    with_lab(CLUSTER, |lab| {
        let region = &lab.regions[0];
        let (victim, heir) = shard(region, 0)?;
        let tag = key_of(region, &victim.member, "tag")?;
        let keys: Vec<_> = (0..UNSHIPPED).map(|index| format!("{{{tag}}}:{index}")).collect();
        let primary = &region.nodes[victim.place];
        // The replica hangs first, until the primary has given it up: what is written then is in no socket's buffer.
        let replica_frozen = Frozen::freeze(region.nodes[heir.place].pid)?;
        until("the primary has no replica", || {
            let text: String = primary.run(&["INFO", "replication"])?;
            Ok((!text.contains("state=online")).then_some(()))
        })?;
        for key in &keys {
            primary.run::<()>(&["SET", key, "unshipped"])?;
        }
        let primary_frozen = Frozen::freeze(primary.pid)?;
        drop(replica_frozen);
        // From here on the heir knows nothing of these keys, and half of them are written anew.
        until_written(region, &tag, &heir.member.addr)?;
        let mut client = Client::new(region.addresses());
        let there = keys.iter().map(|key| client.run::<bool>(key, redis::cmd("EXISTS").arg(key)));
        let there = there.filter(|is_there| matches!(is_there, Ok(true))).count();
        note(&format!("{there} of {UNSHIPPED} keys had reached the heir all the same"));
        ensure!(there < UNSHIPPED / 2, "the heir had most of it already, nothing is tested");
        let (newer, older) = keys.split_at(UNSHIPPED / 2);
        for key in newer {
            client.run::<()>(key, redis::cmd("SET").arg(key).arg("newer"))?;
        }
        drop(primary_frozen);
        until_follows(primary)?;
        for (keys, expected) in [(older, "unshipped"), (newer, "newer")] {
            for key in keys {
                until(&format!("{key} is {expected}"), || {
                    let value: Option<String> = client.run(key, redis::cmd("GET").arg(key))?;
                    ensure!(value.as_deref() == Some(expected), "it is {value:?}");
                    Ok(Some(()))
                })?;
            }
        }
        until_same_keys(&region.nodes[heir.place], primary)
    });
}

#[test]
fn failover_by_hand_loses_nothing_and_refuses_nothing() {
    with_lab(CLUSTER, |lab| {
        let lab: &Lab = lab;
        let region = &lab.regions[0];
        // Nobody dies, so whatever was acknowledged is promised.
        let load = Load::start(&region.addresses(), "by hand", WRITERS, KEYS_EACH, Promise::Acknowledged);
        for turn in 0..2 * tries()? {
            load.until_promised(PROMISED)?;
            let (former, heir) = shard(region, turn % 2)?;
            operate(lab, &region.nodes[0].name, &["failover", &heir.member.id, "--yes"])?;
            until_follows(&region.nodes[former.place])?;
            until_feeds(&region.nodes[heir.place], &region.nodes[former.place])?;
        }
        load.until_promised(PROMISED)?;
        let written = load.finish()?;
        written.check()?;
        note(&format!("{} promised; {:?}", written.promised(), written.errors));
        ensure!(written.lost == 0, "{} commands had no answer", written.lost);
        meridian_tests::check_redirections_alone(&written.errors)
    });
}

/// A primary that is about to be lost without dying, under a load, and a client that it goes on serving.
struct Lost {
    victim: Seat,
    heir: Seat,
    load: Load,
    /// A key of its slots, to see who takes writes.
    probe: String,
    /// A key of its slots that its heir writes, and it must not.
    late: String,
    client: TcpStream,
}

impl Lost {
    fn begin(region: &Region, turn: usize, name: &str) -> Result<Self> {
        let (victim, heir) = shard(region, turn % 2)?;
        let load = Load::start(&region.addresses(), &format!("{name}{turn}"), WRITERS, KEYS_EACH, Promise::Replicated);
        load.until_promised(PROMISED)?;
        let [probe, late] = ["probe", "late"].map(|name| key_of(region, &victim.member, name));
        let (probe, late) = (probe?, late?);
        let mut client = TcpStream::connect(&victim.member.addr)?;
        // A connection that is served already, not one that waits to be accepted.
        say(&mut client, &["PING"])?;
        ensure!(hear(&client, 1)? == ["+PONG"], "the primary does not answer");
        Ok(Self { victim, heir, load, probe, late, client })
    }

    /// Its client writes what its heir has written already.
    fn write_late(&mut self) -> Result<()> {
        (0..LATE).try_for_each(|_| say(&mut self.client, &["SET", &self.late, "by the former primary"]))
    }

    /// What its client is told, none of which may be that it is done.
    fn refused(&self) -> Result<Vec<String>> {
        let answers = hear(&self.client, LATE)?;
        let accepted = answers.iter().filter(|answer| !answer.starts_with('-')).count();
        ensure!(accepted == 0, "{accepted} late writes were accepted: {:?}", answers.first());
        Ok(answers)
    }

    /// It becomes a replica, and what its heir has written stands.
    fn comes_back(self, region: &Region, turn: usize) -> Result<()> {
        let Self { victim, heir, load, late, .. } = self;
        until_follows(&region.nodes[victim.place])?;
        ends_well(load, region, (&victim, &heir), turn)?;
        let value: String = region.client().run(&late, redis::cmd("GET").arg(&late))?;
        ensure!(value == BY_THE_HEIR, "{late} is {value}");
        until_feeds(&region.nodes[heir.place], &region.nodes[victim.place])
    }
}

/// The load goes on, nothing that was promised is missing, and the former primary has what its heir has.
fn ends_well(load: Load, region: &Region, (victim, heir): (&Seat, &Seat), turn: usize) -> Result<Written> {
    load.until_promised(PROMISED)?;
    let written = load.finish()?;
    written.check()?;
    until_same_keys(&region.nodes[heir.place], &region.nodes[victim.place])?;
    let (promised, lost, errors) = (written.promised(), written.lost, &written.errors);
    note(&format!("try {turn}: {promised} promised, {lost} without an answer, {errors:?}"));
    Ok(written)
}

/// A node of a shard: by its place in the region, and as the cluster sees it.
struct Seat {
    place: usize,
    member: Member,
}

/// The primary and the replica of one of the shards.
fn shard(region: &Region, index: usize) -> Result<(Seat, Seat)> {
    let members = members(region)?;
    let seat = |member: &Member| Seat { place: region.place(&member.addr), member: member.clone() };
    let mut primaries: Vec<_> = members.iter().filter(|member| member.is_primary).collect();
    primaries.sort_by_key(|member| member.slots.first().map(|range| *range.start()));
    let primary = primaries[index];
    let replica = members.iter().find(|member| member.follows.as_ref() == Some(&primary.id));
    Ok((seat(primary), seat(replica.context("the shard has no replica")?)))
}

/// Waits until this node accepts a write. Nobody else is asked: a client that is sent to a node which hangs loses its own
/// patience there, and would say more of that than of the region.
fn until_accepted(node: &Node, key: &str) -> Result<()> {
    let mut connection = node.connect()?;
    let mut set = redis::cmd("SET");
    set.arg(key).arg("probe");
    until(&format!("{} accepts a write", node.name), || Ok(Some(set.exec(&mut connection)?)))
}

/// Waits until a write is accepted, and by this node.
fn until_written(region: &Region, key: &str, addr: &str) -> Result<()> {
    let mut client = Client::new(region.addresses());
    until(&format!("{addr} accepts a write"), || {
        client.run::<()>(key, redis::cmd("SET").arg(key).arg("probe"))?;
        ensure!(client.last_node() == addr, "{} did", client.last_node());
        Ok(Some(()))
    })
}

fn until_set(region: &Region, key: &str, value: &str) -> Result<()> {
    let mut client = Client::new(region.addresses());
    until(&format!("{key} is written"), || Ok(Some(client.run::<()>(key, redis::cmd("SET").arg(key).arg(value))?)))
}

/// Waits until a replica has as many keys as its primary.
fn until_same_keys(primary: &Node, replica: &Node) -> Result<()> {
    until(&format!("{} has what {} has", replica.name, primary.name), || {
        let [held, wanted] = [replica, primary].map(|node| node.run::<u64>(&["DBSIZE"]));
        let (held, wanted) = (held?, wanted?);
        ensure!(held == wanted, "it has {held} keys of {wanted}");
        Ok(Some(()))
    })
}

/// Sends a command, and does not wait.
fn say(stream: &mut TcpStream, words: &[&str]) -> Result<()> {
    let mut text = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| text.push_str(&format!("${}\r\n{word}\r\n", word.len())));
    Ok(stream.write_all(text.as_bytes())?)
}

/// Up to so many answers of one line, fewer if the connection ends.
fn hear(stream: &TcpStream, count: usize) -> Result<Vec<String>> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut lines = BufReader::new(stream).lines();
    let answers = (0..count).map_while(|_| match lines.next() {
        Some(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
        other => other,
    });
    Ok(answers.collect::<Result<_, _>>()?)
}

fn tries() -> Result<usize> {
    let given = env::var("MERIDIAN_TEST_TRIES").ok();
    given.map_or(Ok(3), |given| given.parse().context("MERIDIAN_TEST_TRIES is no number"))
}
