//! The commands on keys against the real Redis 7.0: random sequences of them, and every reply compared byte for byte,
//! in RESP2 and in RESP3.
//!
//! The test starts a `redis-server` of its own on a free port of the loopback and ends it. Where there is none, or one of
//! another version, it says so on standard error and checks nothing.
//!
//! # Time
//! Redis reads its clock, and our commands are told the time. So each command is sent between two TIMEs, all of a
//! sequence in one pipeline, and ours is executed at the time that Redis said just before. Where a millisecond ended
//! between the two, a reply that depends on it may differ; then the sequence is run again, and only a difference without
//! such a doubt counts. Time passes by DEBUG SLEEP, and Redis's own search for expired keys is off.
//!
//! A value lives through the millisecond in which it ends, there and here (`Expiry::has_passed`).
//!
//! # What is compared less strictly
//! - KEYS and SCAN list in another order; they are sorted. Cursors are our own, so SCAN is asked for all at once.
//! - RANDOMKEY is random: null or not is what counts.
//! - OBJECT ENCODING, REFCOUNT, IDLETIME and MEMORY USAGE tell of Redis's insides: whether there is an answer counts.
//!   And MEMORY USAGE still finds a key in Redis that has ended.
//! - DBSIZE counts expired keys until somebody asks for them, so the test asks for them first.
//! - INCRBYFLOAT gets numbers that the 80-bit floats of Redis print without noise (see `number.rs`).

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the core has no sockets and no clock, but its oracle has"
)]

use std::{
    cell::RefCell,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use clock::{Incarnation, Now, Origin, RegionId, Time};
use node_core::{
    command::{Call, execute},
    command_table::resolve,
    keyspace::Keyspace,
    limits::VALUE_BYTES_MAX,
    resp::{ArgsBuf, Protocol, Reply, Value, value::Decoder},
    store::{Store, StoreOptions},
};
use proptest::{
    collection::vec,
    prelude::{BoxedStrategy, Just, ProptestConfig, Strategy, TestCaseError, any, prop_oneof},
    sample::select,
    strategy::Union,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};

/// A request: its words.
type Words = Vec<Vec<u8>>;

/// Sequences in one run.
const SEQUENCES: u32 = 3_000;
/// Commands in a sequence, at most.
const COMMANDS_MAX: usize = 40;
/// Runs of a sequence whose outcome is in doubt because a millisecond ended at the wrong time.
const RUNS_MAX: usize = 100;
/// How long the server may take to start.
const START_MAX: Duration = Duration::from_secs(20);
/// The seed, unless the environment has another.
const SEED: u64 = 1;
const SEED_VARIABLE: &str = "MERIDIAN_ORACLE_SEED";

#[test]
fn replies_are_those_of_redis() {
    let Some(redis) = Redis::start() else { return };
    let (redis, ours) = (RefCell::new(redis), Ours::new());
    let seed = std::env::var(SEED_VARIABLE).map_or(SEED, |seed| seed.parse().expect("a seed is a number"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = ProptestConfig { cases: SEQUENCES, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let protocol = select(vec![Protocol::Resp2, Protocol::Resp3]);
    let outcome = runner.run(&(protocol, vec(command(), 1..COMMANDS_MAX)), |(protocol, commands)| {
        compare(&mut redis.borrow_mut(), &ours, protocol, &commands).map_err(TestCaseError::fail)
    });
    if let Err(difference) = outcome {
        panic!(
            "{difference}\nto run it again: {SEED_VARIABLE}={seed} cargo test -p meridian-node-core --test redis_oracle"
        );
    }
}

/// Runs a sequence here and there. The error tells the first difference.
fn compare(redis: &mut Redis, ours: &Ours, protocol: Protocol, commands: &[Step]) -> Result<(), String> {
    let mut requests = vec![words(&format!("HELLO {}", protocol.version())), words("FLUSHALL")];
    commands.iter().for_each(|step| step.0.iter().for_each(|request| requests.push(request.clone())));
    for key in KEYS {
        requests.push(vec![b"GET".to_vec(), key.to_vec()]);
        requests.push(vec![b"PEXPIRETIME".to_vec(), key.to_vec()]);
    }
    let mut difference = Ok(());
    for _ in 0..RUNS_MAX {
        let mut in_doubt = false;
        difference = redis.send(&requests).into_iter().zip(&requests).try_for_each(|(reply, request)| {
            if request[0] == b"DEBUG" || request[0] == b"HELLO" {
                return Ok(());
            }
            in_doubt |= reply.from_ms != reply.to_ms;
            let mine = ours.send(request, protocol, reply.from_ms);
            same(request, &reply.bytes, &mine)
        });
        if difference.is_ok() || !in_doubt {
            break;
        }
    }
    difference
}

/// Whether two replies to a request say the same. The error tells the difference.
fn same(request: &[Vec<u8>], theirs: &[u8], mine: &[u8]) -> Result<(), String> {
    let is_null = |reply: &[u8]| matches!(reply, b"$-1\r\n" | b"_\r\n");
    let kind = |reply: &[u8]| (reply[0], is_null(reply));
    let agree = match request[0].to_ascii_uppercase().as_slice() {
        b"KEYS" | b"SCAN" => sorted(theirs) == sorted(mine),
        b"MEMORY" if is_null(mine) => theirs[0] != b'-',
        b"RANDOMKEY" | b"MEMORY" | b"OBJECT" if mine[0] != b'-' => kind(theirs) == kind(mine),
        _ => theirs == mine,
    };
    if agree {
        return Ok(());
    }
    let request: Vec<_> = request.iter().map(|word| format!("'{}'", word.escape_ascii())).collect();
    let [theirs, mine] = [theirs, mine].map(<[u8]>::escape_ascii);
    Err(format!("{}\nredis: {theirs}\n ours: {mine}", request.join(" ")))
}

/// The reply with the list of keys in it in order.
fn sorted(reply: &[u8]) -> Value {
    fn sort(value: &mut Value) {
        if let Value::Array(elements) = value {
            elements.iter_mut().for_each(sort);
            elements.sort_by_key(|element| format!("{element:?}"));
        }
    }
    let mut value = Decoder::default().decode(reply).expect("a reply is well formed").value.expect("it is complete");
    sort(&mut value);
    value
}

/// Our commands, without a server around them.
struct Ours {
    store: Store,
}

impl Ours {
    fn new() -> Self {
        let store = Store::new(&StoreOptions {
            origin: Origin::new(RegionId::MIN, Incarnation::FIRST),
            start: Time::ZERO,
            peers: vec![],
            stripes: 16,
            log_records: 1024,
            hash_seed: 1,
        });
        Self { store }
    }

    fn send(&self, request: &[Vec<u8>], protocol: Protocol, now_ms: u64) -> Vec<u8> {
        let args: ArgsBuf = request.iter().collect();
        let (args, mut out) = (args.as_args(), Vec::new());
        let mut reply = Reply::new(&mut out, protocol);
        let now = Now { wall: Time::from_unix_ms(now_ms), monotonic: Duration::from_millis(now_ms) };
        let mut keyspace = Keyspace::new(&self.store, now);
        match resolve(args) {
            Err(rejection) => rejection.write(args, &mut reply),
            Ok(command) => {
                let (value_bytes_max, random) = (VALUE_BYTES_MAX, now_ms);
                let mut call = Call { args, keyspace: &mut keyspace, reply: &mut reply, value_bytes_max, random };
                if let Err(error) = execute(command.id, &mut call).expect("only commands on keys are sent") {
                    reply.error(error);
                }
            }
        }
        out
    }
}

/// What Redis replied, and when.
struct Timed {
    /// Before the command, in milliseconds since the Unix epoch.
    from_ms: u64,
    /// After it.
    to_ms: u64,
    bytes: Vec<u8>,
}

/// A server of the test's own, and a connection to it.
struct Redis {
    server: Child,
    connection: TcpStream,
    received: Vec<u8>,
}

impl Redis {
    /// `None`, with a word on standard error, if there is no Redis 7.0 on this machine.
    fn start() -> Option<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let port = port.expect("the loopback has a free port").port();
        let server = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--enable-debug-command", "local"])
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let server = match server {
            Ok(server) => server,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                skip("there is no redis-server on the PATH");
                return None;
            }
            Err(error) => panic!("redis-server does not start: {error}"),
        };
        let mut redis = Unconnected(Some(server)).connect(port);
        let info = redis.send(&[words("INFO server")]).remove(0).bytes;
        let info = String::from_utf8_lossy(&info);
        if !info.contains("redis_version:7.0.") {
            let version = info.lines().find(|line| line.starts_with("redis_version")).unwrap_or("another version");
            skip(&format!("the redis-server on the PATH is {version}, not 7.0"));
            return None;
        }
        let active_expire = redis.send(&[words("DEBUG SET-ACTIVE-EXPIRE 0")]).remove(0).bytes;
        assert_eq!(active_expire, b"+OK\r\n");
        Some(redis)
    }

    /// Sends the requests in one pipeline.
    fn send(&mut self, requests: &[Words]) -> Vec<Timed> {
        let time = words("TIME");
        let mut bytes = Vec::new();
        for request in requests {
            encode(&time, &mut bytes);
            encode(request, &mut bytes);
        }
        encode(&time, &mut bytes);
        self.connection.write_all(&bytes).expect("redis takes the requests");
        let mut from_ms = self.receive_time();
        let replies = requests.iter().map(|_| {
            let bytes = self.receive();
            let to_ms = self.receive_time();
            Timed { from_ms: std::mem::replace(&mut from_ms, to_ms), to_ms, bytes }
        });
        replies.collect()
    }

    /// The next reply, as it came.
    fn receive(&mut self) -> Vec<u8> {
        loop {
            let decoded = Decoder::default().decode(&self.received).expect("redis replies in RESP");
            if decoded.value.is_some() {
                return self.received.drain(..decoded.consumed).collect();
            }
            let mut chunk = [0; 64 * 1024];
            let length = self.connection.read(&mut chunk).expect("redis replies");
            assert!(length > 0, "redis closed the connection");
            self.received.extend_from_slice(&chunk[..length]);
        }
    }

    /// The next reply, which is one to TIME: seconds and microseconds.
    fn receive_time(&mut self) -> u64 {
        let reply = self.receive();
        let Ok(Some(Value::Array(parts))) = Decoder::default().decode(&reply).map(|decoded| decoded.value) else {
            panic!("no reply to TIME: {}", reply.escape_ascii());
        };
        let number = |part: &Value| match part {
            Value::Bulk(digits) => String::from_utf8_lossy(digits).parse::<u64>().expect("TIME replies numbers"),
            other => panic!("no part of a reply to TIME: {other:?}"),
        };
        number(&parts[0]) * 1_000 + number(&parts[1]) / 1_000
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        end(&mut self.server);
    }
}

/// A server that may not be listening yet. It is ended, too, if it never does.
struct Unconnected(Option<Child>);

impl Unconnected {
    fn connect(mut self, port: u16) -> Redis {
        let start = Instant::now();
        loop {
            let server = self.0.as_mut().expect("the server is here until it is connected");
            let ended = server.try_wait().expect("the server can be asked for");
            assert!(ended.is_none(), "redis-server ended at once: {ended:?}");
            match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                Ok(connection) => {
                    connection.set_nodelay(true).expect("a connection on the loopback takes options");
                    let server = self.0.take().expect("the server is here until it is connected");
                    return Redis { server, connection, received: Vec::new() };
                }
                Err(error) => assert!(start.elapsed() < START_MAX, "redis-server does not listen: {error}"),
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Unconnected {
    fn drop(&mut self) {
        self.0.as_mut().map(end);
    }
}

fn end(server: &mut Child) {
    // It may have ended by itself; nothing is lost then.
    let _ = server.kill();
    let _ = server.wait();
}

/// Says that nothing was checked, past the test harness, which keeps what a passing test prints to itself.
fn skip(why: &str) {
    let line = format!("\n*** SKIPPED: the commands were NOT compared with Redis: {why} ***\n\n");
    io::stderr().write_all(line.as_bytes()).expect("standard error takes a line");
}

fn encode(request: &[Vec<u8>], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", request.len()).as_bytes());
    for word in request {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn words(text: &str) -> Words {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// One or more requests that belong together.
#[derive(Clone)]
struct Step(Vec<Words>);

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for request in &self.0 {
            f.debug_list().entries(request.iter().map(|word| word.escape_ascii().to_string())).finish()?;
        }
        Ok(())
    }
}

/// What is sent: capitals stand for themselves, other words for any of a kind (see [`kind`]), a star for none to three.
const COMMANDS: &[&str] = &[
    "GET key",
    "SET key value",
    "SET key value set-option",
    "SET key value set-option*",
    "SET key value KEEPTTL set-option*",
    "SETNX key value",
    "SETEX key seconds value",
    "PSETEX key milliseconds value",
    "GETSET key value",
    "GETDEL key",
    "GETEX key getex-option*",
    "MGET key key*",
    "MSET key value pair*",
    "MSETNX key value pair*",
    "APPEND key value",
    "STRLEN key",
    "GETRANGE key integer integer",
    "GETRANGE key small small",
    "SUBSTR key small small",
    "SETRANGE key small value",
    "SETRANGE key integer value",
    "INCR key",
    "DECR key",
    "INCRBY key integer",
    "DECRBY key integer",
    "SET float-key decimal",
    "INCRBYFLOAT float-key decimal",
    "SET odd-key odd",
    "INCRBYFLOAT odd-key odd",
    "DEL key key*",
    "UNLINK key key*",
    "EXISTS key key*",
    "TOUCH key key*",
    "TYPE key",
    "RENAME key key",
    "RENAMENX key key",
    "COPY key key copy-option*",
    "EXPIRE key seconds condition*",
    "PEXPIRE key milliseconds condition*",
    "EXPIREAT key second condition",
    "EXPIREAT key 4000000000 condition",
    "EXPIREAT key second condition*",
    "PEXPIREAT key millisecond condition*",
    "TTL key",
    "PTTL key",
    "EXPIRETIME key",
    "PEXPIRETIME key",
    "PERSIST key",
    "SCAN 0 COUNT 1000 scan-option*",
    "SCAN cursor",
    "KEYS pattern",
    "RANDOMKEY",
    "FLUSHDB flush-option*",
    "FLUSHALL flush-option*",
    "OBJECT ENCODING key",
    "OBJECT FREQ key",
    "OBJECT IDLETIME key",
    "OBJECT REFCOUNT key",
    "OBJECT NOTHING key",
    "MEMORY USAGE key memory-option*",
];

/// All keys that are used.
const KEYS: [&[u8]; 10] = [b"a", b"b", b"c", b"d", b"{a}x", b"", b"\xff\r\n\0", b"float:1", b"float:2", b"odd"];

fn command() -> BoxedStrategy<Step> {
    let commands = COMMANDS.iter().map(|syntax| {
        let parts: Vec<_> = syntax.split(' ').map(part).collect();
        parts.prop_map(|parts| parts.concat())
    });
    let commands = Union::new(commands.map(Strategy::boxed)).boxed();
    // One in twenty has a word too few or too many.
    let mutated = (commands, 0..40_u8, any::<bool>()).prop_map(|(mut request, mutation, lower)| {
        match mutation {
            0 if request.len() > 1 => drop(request.pop()),
            1 => request.push(b"x".to_vec()),
            _ => {}
        }
        if lower {
            request[0].make_ascii_lowercase();
        }
        Step(vec![request])
    });
    let dbsize = || {
        let exists = [b"EXISTS".to_vec()].into_iter().chain(KEYS.iter().map(|key| key.to_vec())).collect();
        Step(vec![exists, words("DBSIZE")])
    };
    prop_oneof![
        120 => mutated,
        2 => Just(dbsize()),
        1 => Just(Step(vec![words("DEBUG SLEEP 0.005")])),
    ]
    .boxed()
}

/// The words that a word of a syntax stands for.
fn part(word: &'static str) -> BoxedStrategy<Words> {
    if let Some(repeated) = word.strip_suffix('*') {
        return vec(kind(repeated), 0..=3).prop_map(|parts| parts.concat()).boxed();
    }
    if word.chars().any(|letter| letter.is_ascii_lowercase()) { kind(word) } else { Just(words(word)).boxed() }
}

/// Kinds that are lists: any of these texts, between bars. A blank parts words.
const LISTS: &[(&str, &str)] = &[
    ("text", "|1|v|hello|007"),
    (
        "integer",
        "|0|1|-1|7|10|-100|9223372036854775807|-9223372036854775808|9223372036854775808|4611686018427387904|\
         536870912|x|1.0|+1|01|-0",
    ),
    ("decimal", "0.1|-0.2|1.5|-1.25|3|0|2.0e0|-5e-1|0.000001|1.|.5|x"),
    ("odd", "|abc|nan|inf|-inf|+5|1e2|1e|--1|1a|1e400000|5"),
    ("seconds", "|100|100|200|1000|0|-1|9223372036854775|9223372036854776|-9223372036854776|x"),
    ("milliseconds", "1|2|3|100499|100499|100500|100500|0|-1|9223372036854775807|-9223372036854775808|x"),
    ("second", "4000000000|4000000000|4000000001|4000000001|1|0|-5|9223372036854775|9223372036854776|x"),
    ("millisecond", "4000000000000|4000000000499|4000000000500|1|0|-5|9223372036854775807|x"),
    ("set-flag", "NX|xx|GET|KEEPTTL|PERSIST|foo|EX"),
    ("getex-flag", "PERSIST|persist|KEEPTTL|PX"),
    ("condition", "NX|XX|GT|LT|gt|lt|foo"),
    ("copy-option", "REPLACE|replace|DB 0|DB|DB -1|DB x|DB 99|DB 99999999999|foo"),
    ("scan-flag", "TYPE string|TYPE HASH|COUNT 0|COUNT x|COUNT|foo 1"),
    ("cursor", "x|0x|1.5|18446744073709551616|0 COUNT 1000"),
    ("pattern", "*|?|[a-c]||{a}*|{a}x|f*|*[^1]|\\a|[|a|no"),
    ("flush-option", "ASYNC|sync|foo"),
    ("memory-option", "SAMPLES 0|samples 5|SAMPLES -1|SAMPLES x|SAMPLES|foo"),
];

/// Any of the kind of that name.
fn kind(name: &str) -> BoxedStrategy<Words> {
    if let Some((_, texts)) = LISTS.iter().find(|(list, _)| *list == name) {
        return select(texts.split('|').collect::<Vec<_>>()).prop_map(words).boxed();
    }
    let key = |keys: &'static [&'static [u8]]| select(keys).prop_map(|key| vec![key.to_vec()]).boxed();
    let with = |option: &'static str, argument: &str| {
        kind(argument).prop_map(move |argument| [words(option), argument].concat()).boxed()
    };
    let bytes = vec(any::<u8>(), 0..100).prop_map(|value| vec![value]).boxed();
    let union = |kinds: Vec<BoxedStrategy<Words>>| Union::new(kinds).boxed();
    match name {
        // Most things happen to few keys, so that there is something for them to happen to.
        "key" => prop_oneof![key(&KEYS[..2]), key(&KEYS[..7])].boxed(),
        "float-key" => key(&KEYS[7..9]),
        "odd-key" => key(&KEYS[9..]),
        "value" => union(vec![kind("text"), kind("integer"), bytes]),
        "pair" => (kind("key"), kind("value")).prop_map(|(key, value)| [key, value].concat()).boxed(),
        "small" => (-12..12_i32).prop_map(|number| vec![number.to_string().into_bytes()]).boxed(),
        "end" => union(vec![
            with("EX", "seconds"),
            with("px", "milliseconds"),
            with("EXAT", "second"),
            with("PXAT", "millisecond"),
        ]),
        "set-option" => union(vec![kind("set-flag"), kind("end"), kind("end")]),
        "getex-option" => union(vec![kind("getex-flag"), kind("end"), kind("end")]),
        "scan-option" => union(vec![with("MATCH", "pattern"), kind("scan-flag")]),
        other => panic!("there is no kind {other}"),
    }
}
