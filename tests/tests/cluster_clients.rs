//! The clients that people use follow a cluster that changes under them.
//!
//! redis-rs, redis-py and ioredis each write and read, by no other means than their users', while replicas take over by hand and
//! slots move to a new primary and back. None may show its user an error, and each must read in the end what it has
//! written. What a client does about MOVED, ASK, TRYAGAIN and CLUSTERDOWN is its own matter; that it can cope is ours.
//!
//! Where Python with `redis` or Node.js with `ioredis` is missing this says so and passes. `MERIDIAN_TEST_CLIENTS` names a folder
//! to find them in, and then they must be there: `python/` as for PYTHONPATH, `node_modules/` as npm makes it.

use std::{
    cell::RefCell,
    env, fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
};

use anyhow::{Context, Result, ensure};
use meridian_tests::{Lab, Region, members, note, operate, until, until_feeds, until_follows, with_lab};
use redis::cluster::ClusterClient;

const CLUSTER: &[&str] = &["--regions=us-east", "--primaries=2", "--replicas=1"];
const KEYS: u64 = 200;
/// Keys written and read back between one change of the cluster and the next.
const ROUND: u64 = 300;
/// Where clients are looked for.
const CLIENTS: &str = "MERIDIAN_TEST_CLIENTS";

#[test]
fn redis_rs_follows_failovers_and_moves() {
    with_lab(CLUSTER, |lab| {
        let lab: &Lab = lab;
        let (done, ending) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let client = scope.spawn(|| run_redis_rs(&lab.regions[0], &done, &ending));
            let changed = change_everything(lab, &|| (!client.is_finished()).then(|| done.load(SeqCst)));
            ending.store(true, SeqCst);
            let served = client.join().expect("a client does not panic");
            // What a client has met is the reason, where there is one, for what it has not done.
            served.and(changed)
        })
    });
}

#[test]
fn redis_py_follows_failovers_and_moves() {
    let python = |code: &str| {
        let mut command = Command::new("python3");
        command.args(["-c", code]);
        if let Some(clients) = clients() {
            command.env("PYTHONPATH", clients.join("python"));
        }
        command
    };
    if is_missing(python("import redis.cluster"), "Python with redis (pip install redis)") {
        return;
    }
    with_lab(CLUSTER, |lab| follow(lab, python(REDIS_PY)));
}

#[test]
fn ioredis_follows_failovers_and_moves() {
    let node = |code: &str| {
        let mut command = Command::new("node");
        command.args(["-e", code]);
        if let Some(clients) = clients() {
            command.env("NODE_PATH", clients.join("node_modules"));
        }
        command
    };
    if is_missing(node("require('ioredis')"), "Node.js with ioredis (npm install ioredis)") {
        return;
    }
    with_lab(CLUSTER, |lab| follow(lab, node(IOREDIS)));
}

/// Counts up over all keys until its standard input closes, and reads back at once and in the end. Says how far it is by
/// the file `PROGRESS`.
const REDIS_PY: &str = r#"
import os, select, sys
from redis.cluster import RedisCluster
host, port = os.environ['ADDRESS'].split(':')
keys, progress = int(os.environ['KEYS']), os.environ['PROGRESS']
client = RedisCluster(host=host, port=int(port), decode_responses=True)
last, count = {}, 0
while not select.select([sys.stdin], [], [], 0)[0]:
    count += 1
    key = f'key:{count % keys}'
    client.set(key, count)
    last[key] = str(count)
    assert client.get(key) == str(count), (key, count, client.get(key))
    if count % 20 == 0:
        with open(progress + '.new', 'w') as file:
            file.write(str(count))
        os.replace(progress + '.new', progress)
for key, value in last.items():
    assert client.get(key) == value, (key, value, client.get(key))
"#;

/// The same.
const IOREDIS: &str = r#"
const fs = require('fs'), Redis = require('ioredis');
const [host, port] = process.env.ADDRESS.split(':');
const keys = Number(process.env.KEYS), progress = process.env.PROGRESS;
const client = new Redis.Cluster([{ host, port: Number(port) }]);
let ending = false;
process.stdin.on('end', () => { ending = true; }).resume();
const expect = async (key, value) => {
  const read = await client.get(key);
  if (read !== value) throw new Error(`${key} is ${read}, not ${value}`);
};
(async () => {
  const last = new Map();
  for (let count = 1; !ending; count++) {
    const key = `key:${count % keys}`;
    await client.set(key, count);
    last.set(key, String(count));
    await expect(key, String(count));
    if (count % 20 === 0) {
      fs.writeFileSync(progress + '.new', String(count));
      fs.renameSync(progress + '.new', progress);
    }
  }
  for (const [key, value] of last) await expect(key, value);
  client.disconnect();
})().catch((error) => { console.error(error); process.exit(1); });
"#;

/// Runs a client's program through all that happens to a cluster.
fn follow(lab: &Lab, mut program: Command) -> Result<()> {
    let (progress, log) = (lab.dir.path().join("client.progress"), lab.dir.path().join("client.log"));
    program.env("ADDRESS", &lab.regions[0].addr).env("KEYS", KEYS.to_string()).env("PROGRESS", &progress);
    program.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
    let program = RefCell::new(Program(program.spawn().context("cannot start the client")?));
    let said = || fs::read_to_string(&log).unwrap_or_default();
    let changed = change_everything(lab, &|| {
        let has_ended = !matches!(program.borrow_mut().0.try_wait(), Ok(None));
        let done = fs::read_to_string(&progress).ok().and_then(|count| count.parse().ok());
        (!has_ended).then(|| done.unwrap_or_default())
    });
    let mut program = program.into_inner();
    drop(program.0.stdin.take());
    let status = until("the client ends", || Ok(program.0.try_wait()?))?;
    ensure!(status.success(), "the client ended with {status}: {}", said());
    changed
}

/// A client's program; ends with the test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run_redis_rs(region: &Region, done: &AtomicU64, ending: &AtomicBool) -> Result<()> {
    let nodes = region.addresses().into_iter().map(|addr| format!("redis://{addr}/"));
    let mut connection = ClusterClient::new(nodes)?.get_connection()?;
    let mut last = vec![None; KEYS as usize];
    let key = |index: u64| format!("key:{index}");
    for count in 1.. {
        if ending.load(SeqCst) {
            break;
        }
        let index = count % KEYS;
        redis::cmd("SET").arg(key(index)).arg(count).exec(&mut connection)?;
        last[index as usize] = Some(count);
        let read: Option<u64> = redis::cmd("GET").arg(key(index)).query(&mut connection)?;
        ensure!(read == Some(count), "{} is {read:?}, not {count}", key(index));
        done.store(count, SeqCst);
    }
    for (index, value) in last.into_iter().enumerate() {
        let read: Option<u64> = redis::cmd("GET").arg(key(index as u64)).query(&mut connection)?;
        ensure!(read == value, "key:{index} is {read:?}, not {value:?}");
    }
    Ok(())
}

/// Every primary hands over, slots move to a new primary and back; in between the client, which says by `done` how far it is
/// unless it has ended, goes on.
fn change_everything(lab: &Lab, done: &dyn Fn() -> Option<u64>) -> Result<()> {
    let region = &lab.regions[0];
    let name = &region.nodes[0].name;
    let go_on = |after: &str| {
        let goal = done().unwrap_or_default() + ROUND;
        let goes_on = || Ok(done().map_or(Some(false), |done| (done >= goal).then_some(true)));
        let goes_on = until(&format!("the client goes on after {after}"), goes_on)?;
        ensure!(goes_on, "the client has ended before it went on after {after}");
        Ok(())
    };
    go_on("its start")?;
    for replica in members(region)?.iter().filter(|member| !member.is_primary) {
        operate(lab, name, &["failover", &replica.id, "--yes"])?;
        let known = members(region)?;
        let former = known.iter().find(|member| member.follows.as_ref() == Some(&replica.id));
        let former = &region.nodes[region.place(&former.context("nobody follows the heir")?.addr)];
        until_follows(former)?;
        until_feeds(&region.nodes[region.place(&replica.addr)], former)?;
        go_on("a failover")?;
    }
    let (newcomer, bus) = lab.start_newcomer(0, "us-east-5")?;
    operate(lab, name, &["add-node", &bus.to_string(), "--yes"])?;
    operate(lab, name, &["rebalance", "--yes"])?;
    go_on("a rebalance")?;
    operate(lab, name, &["remove-node", &newcomer.addr, "--yes"])?;
    // Who is removed sends clients on for as long as it runs. redis-rs, where it is refused a connection, tries the same address again and does not
    // ask who owns the slot by now, so its map has to be newer than the node's end.
    go_on("a removal")?;
    drop(newcomer);
    go_on("the way back")
}

fn clients() -> Option<PathBuf> {
    env::var_os(CLIENTS).map(PathBuf::from)
}

/// Whether a client is not there, in which case that is said; none may be missing where they were prepared.
fn is_missing(mut probe: Command, what: &str) -> bool {
    let found = probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_there = found.is_ok_and(|status| status.success());
    assert!(is_there || clients().is_none(), "{what} is not where {CLIENTS} says");
    if !is_there {
        note(&format!("SKIPPED: {what} is not installed, so it is not tested"));
    }
    !is_there
}
