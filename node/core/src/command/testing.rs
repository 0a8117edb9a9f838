//! A server without sockets, for the tests of the commands: given these commands, these replies.
//!
//! It keeps two stores and executes every command on both: on one as a command for itself, on the other as a transaction
//! would, with the stripes held that the table and [`is_of_whole_keyspace`] say it touches. So every test of a command
//! also tests that it works both ways, and that it touches nothing else.

use std::time::Duration;

use clock::{Incarnation, Now, Origin, RegionId, Time};

use super::{Call, execute, is_of_whole_keyspace};
use crate::{
    command_table::resolve,
    keyspace::Keyspace,
    limits::VALUE_BYTES_MAX,
    resp::{Args, ArgsBuf, Protocol, Reply, Value, value::Decoder},
    store::{EvictionPolicy, Store, StoreOptions},
};

/// See the head of this file.
pub(super) struct Server {
    single: Store,
    held: Store,
    now_ms: u64,
    random: u64,
    pub(super) value_bytes_max: usize,
}

impl Server {
    pub(super) fn new() -> Self {
        Self::with_stripes(16)
    }

    pub(super) fn with_stripes(stripes: usize) -> Self {
        let options = StoreOptions {
            origin: Origin::new(RegionId::MIN, Incarnation::FIRST),
            start: Time::ZERO,
            peers: vec![],
            stripes,
            log_records: 1024,
            hash_seed: 7,
        };
        let (single, held) = (Store::new(&options), Store::new(&options));
        Self { single, held, now_ms: 1_700_000_000_000, random: 0, value_bytes_max: VALUE_BYTES_MAX }
    }

    /// Sends each command and compares its reply.
    #[track_caller]
    pub(super) fn gives(&mut self, expected: &[(&str, &str)]) {
        for (command, reply) in expected {
            assert_eq!(self.send(command), *reply, "{command}");
        }
    }

    /// The reply to a command, whose words are set apart by blanks; `''` is the empty word.
    ///
    /// Integers and simple strings are bare, bulk strings in quotes, arrays in brackets, errors behind a minus, and a
    /// null is `nil`.
    #[track_caller]
    pub(super) fn send(&mut self, command: &str) -> String {
        self.answer(&command.split(' ').map(|word| if word == "''" { "" } else { word }).collect())
    }

    /// The reply to a request of any bytes.
    #[track_caller]
    pub(super) fn answer(&mut self, args: &ArgsBuf) -> String {
        // Steele and Vigna's splitmix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let now = Now { wall: Time::from_unix_ms(self.now_ms), monotonic: Duration::from_millis(self.now_ms) };
        let replies = [(&self.single, false), (&self.held, true)].map(|(store, in_transaction)| {
            let mut keyspace = Keyspace::new(store, now);
            if in_transaction {
                hold(args.as_args(), &mut keyspace);
            }
            self.reply(args, &mut keyspace)
        });
        assert_eq!(replies[0], replies[1], "in a transaction {args:?} gives the same");
        replies[0].clone()
    }

    pub(super) fn wait_ms(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    pub(super) fn set_policy(&self, policy: EvictionPolicy) {
        for store in [&self.single, &self.held] {
            store.settings().set_policy(policy);
        }
    }

    /// How many records were written: what went out to the other regions.
    pub(super) fn writes(&self) -> u64 {
        self.single.counters().writes
    }

    fn reply(&self, args: &ArgsBuf, keyspace: &mut Keyspace<'_>) -> String {
        let (mut out, args) = (Vec::new(), args.as_args());
        let mut reply = Reply::new(&mut out, Protocol::Resp2);
        match resolve(args) {
            Err(rejection) => rejection.write(args, &mut reply),
            Ok(command) => {
                let (value_bytes_max, random) = (self.value_bytes_max, mix(self.random));
                let mut call = Call { args, keyspace, reply: &mut reply, value_bytes_max, random };
                let done = execute(command.id, &mut call).expect("tests send commands on keys");
                if let Err(error) = done {
                    assert_eq!(reply.buffered(), 0, "no part of a reply stands before an error");
                    reply.error(error);
                }
            }
        }
        let decoded = Decoder::default().decode(&out).expect("a reply is well formed");
        assert_eq!(decoded.consumed, out.len(), "a command has one reply");
        show(&decoded.value.expect("a reply is complete"))
    }
}

/// Holds what a transaction with this one request in it does.
fn hold(args: Args<'_>, keyspace: &mut Keyspace<'_>) {
    match resolve(args) {
        Ok(command) if is_of_whole_keyspace(command.id) => keyspace.hold_all(),
        Ok(command) => keyspace.hold(command.keys_of(args)),
        Err(_) => {}
    }
}

fn mix(mut state: u64) -> u64 {
    state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ state >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ state >> 31
}

fn show(value: &Value) -> String {
    match value {
        Value::Simple(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Error(text) => format!("-{}", String::from_utf8_lossy(text)),
        Value::Integer(number) => number.to_string(),
        Value::Bulk(bytes) => format!("'{}'", bytes.escape_ascii()),
        Value::Null => "nil".to_owned(),
        Value::Array(elements) => format!("[{}]", elements.iter().map(show).collect::<Vec<_>>().join(", ")),
        other => panic!("RESP2 has no {other:?}"),
    }
}
