//! Whatever reads bytes that somebody else has written: each handed bytes that are anything.
//!
//! A decoder may refuse; it may not panic, take more than its bounds allow, or say one thing of bytes that come at once and another of
//! the same bytes in pieces. `tests/fuzz` has a fuzzing target for each of these functions, `seeds` are where those begin, and
//! `tests/decoders.rs` replays what they have found worth keeping, on any toolchain.

mod seeds;

use std::time::Duration;

use clock::{Incarnation, Now, Origin, RegionId, Time};
use config::{GatewayConfig, NodeConfig};
use futures_util::FutureExt;
use geo_link::tunnel::greeting::{self, Wanted};
use geo_link_core::{
    Ack, Hello, Inbox, Layout, Malformed, Receiver, ReceiverEvent, ReceiverOptions, Refusal, Sender, SenderOptions,
    Want, Welcome, check_own,
};
use node_core::{
    cluster::{
        Addresses, Assignment, ClusterMap, FoundShard, Founder, Id, MapCommand, NodeId, Opening, Report, Run,
        control::{Request, Response},
        gossip::{Gossip, GossipOptions},
    },
    command::{Call, execute},
    command_table,
    glob::{self, Case},
    keyspace::Keyspace,
    resp::{ArgsBuf, Limits, Parsed, Parser, Protocol, Reply, value::Decoder},
    slot::{SlotRange, SlotSet},
    store::{Intake, Seen, SeenTable, Store, StoreOptions, Token},
};
use sim_wan::topology::Topology;

pub use self::seeds::seeds;

/// One of them: its name, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("requests", requests),
    ("commands", commands),
    ("replies", replies),
    ("link_receiver", link_receiver),
    ("link_sender", link_sender),
    ("link_frames", link_frames),
    ("batch_body", batch_body),
    ("tunnel_greetings", tunnel_greetings),
    ("gossip", gossip),
    ("map_commands", map_commands),
    ("reports", reports),
    ("control", control),
    ("openings", openings),
    ("tokens", tokens),
    ("configuration", configuration),
    ("patterns", patterns),
];

const NOW: Now = Now { wall: Time::from_unix_ms(1_800_000_000_000), monotonic: Duration::from_secs(100) };
/// Of one request. Small, so that bytes can break each bound.
const LIMITS: Limits = Limits {
    arguments_max: 64,
    bulk_bytes_max: 1 << 12,
    inline_bytes_max: 1 << 10,
    request_bytes_max: 1 << 14,
    authenticated: true,
};
const FRAME_BYTES_MAX: usize = 1 << 16;

/// Requests of a client, at once and byte by byte.
pub fn requests(bytes: &[u8]) {
    let all = parse_requests(bytes, bytes.len().max(1));
    assert_eq!(all, parse_requests(bytes, 1));
    assert_eq!(all, parse_requests(bytes, 7));
}

/// The requests in bytes that come in pieces, and whether they end in an error.
fn parse_requests(bytes: &[u8], piece: usize) -> (Vec<Vec<Vec<u8>>>, bool) {
    let (mut parser, mut buffer, mut requests) = (Parser::new(), Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            let (taken, is_whole) = match parser.parse(&buffer, &LIMITS) {
                Err(_) => return (requests, true),
                Ok(Parsed::Request { args, consumed }) => {
                    requests.push(args.iter().map(<[u8]>::to_vec).collect());
                    (consumed, true)
                }
                Ok(Parsed::Incomplete { consumed, missing }) => {
                    assert!(missing > 0, "it waits for nothing");
                    (consumed, false)
                }
            };
            buffer.drain(..taken);
            if !is_whole {
                break;
            }
        }
        assert!(parser.memory() <= 1 << 20, "{} bytes are kept", parser.memory());
    }
    (requests, false)
}

/// Commands of a client, carried out: each gets one reply, whole, by either protocol.
pub fn commands(bytes: &[u8]) {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let (store, mut out) = (store(), Vec::new());
        for request in parse_requests(bytes, bytes.len().max(1)).0 {
            let request: ArgsBuf = request.iter().collect();
            let args = request.as_args();
            let Ok(command) = command_table::resolve(args) else { continue };
            out.clear();
            let mut reply = Reply::new(&mut out, protocol);
            let mut keyspace = Keyspace::new(&store, NOW);
            let value_bytes_max = LIMITS.bulk_bytes_max as usize;
            let mut call = Call { args, keyspace: &mut keyspace, reply: &mut reply, value_bytes_max, random: 7 };
            match execute(command.id, &mut call) {
                // It is no command on keys.
                None => continue,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    assert_eq!(reply.buffered(), 0, "part of a reply stands before an error");
                    reply.error(error);
                }
            }
            let decoded = Decoder::default().decode(&out).expect("a reply is well formed");
            assert!(decoded.value.is_some() && decoded.consumed == out.len(), "not one reply: {}", out.escape_ascii());
        }
    }
}

/// Replies of another node.
pub fn replies(bytes: &[u8]) {
    let decode = |piece: usize| {
        let (mut decoder, mut buffer, mut values) = (Decoder::new(1 << 14), Vec::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            buffer.extend_from_slice(piece);
            loop {
                let Ok(decoded) = decoder.decode(&buffer) else { return (values, true) };
                buffer.drain(..decoded.consumed);
                match decoded.value {
                    Some(value) => values.push(format!("{value:?}")),
                    None => break,
                }
            }
        }
        (values, false)
    };
    assert_eq!(decode(bytes.len().max(1)), decode(1));
}

fn origin(region: u8) -> Origin {
    Origin::new(RegionId::new(region).expect("there is such a region"), Incarnation::FIRST)
}

fn store() -> Store {
    let peers = vec![origin(2).region(), origin(3).region()];
    Store::new(&StoreOptions { origin: origin(1), start: Time::ZERO, peers, stripes: 2, log_records: 64, hash_seed: 7 })
}

/// What the other end of a link sends to who receives: greetings, batches and all they say to a store.
pub fn link_receiver(bytes: &[u8]) {
    let store = store();
    let options = ReceiverOptions { frame_bytes_max: FRAME_BYTES_MAX, ..ReceiverOptions::new(origin(1), Time::ZERO) };
    let mut receiver = Receiver::new(options, NOW);
    let (mut inbox, mut intake, mut out) = (Inbox::new(FRAME_BYTES_MAX), Intake::default(), Vec::new());
    inbox.buffer().extend_from_slice(bytes);
    while let Ok(Some((kind, payload))) = inbox.next_frame() {
        if !receiver.wants_frames() || receiver.handle_frame(NOW, kind, payload).is_err() {
            return;
        }
        while let Some(event) = receiver.poll_event() {
            if matches!(event, ReceiverEvent::Greeted(_) | ReceiverEvent::Asked) {
                receiver.welcome(NOW, Want::Resume(SeenTable::new(SlotRange::ALL)));
            }
        }
        if let Some(batch) = receiver.poll_batch(NOW) {
            for item in batch.items() {
                let Ok(item) = item else { return };
                let is_entitled = check_own(store.origin(), &item, |slot| store.promised_in(slot));
                if receiver.check(&item).and(is_entitled).is_err()
                    || intake.take(&store, &item, &Seen::new(), NOW).is_err()
                {
                    return;
                }
            }
            receiver.applied(NOW, batch);
        }
        receiver.poll_transmit(NOW, &mut out);
        receiver.handle_timeout(NOW);
    }
}

/// What the other end of a link sends to who sends: welcomes and acknowledgements.
pub fn link_sender(bytes: &[u8]) {
    let mut sender = Sender::new(SenderOptions::new("a", origin(1), Time::ZERO));
    sender.dial(NOW);
    sender.handle_connected(NOW);
    let (mut inbox, mut out) = (Inbox::new(FRAME_BYTES_MAX), Vec::new());
    inbox.buffer().extend_from_slice(bytes);
    while let Ok(Some((kind, payload))) = inbox.next_frame() {
        if sender.handle_frame(NOW, kind, payload).is_err() {
            return;
        }
        while sender.poll_event().is_some() {}
        sender.poll_transmit(NOW, &mut out);
        sender.handle_timeout(NOW);
    }
}

/// The payload of each kind of frame. What was read, and is written again, is read as the same.
pub fn link_frames(bytes: &[u8]) {
    let Some((kind, payload)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => same_again(Hello::read(payload), |hello, out| hello.put(out), Hello::read),
        1 => same_again(Welcome::read(payload), |welcome, out| welcome.put(out), Welcome::read),
        2 => same_again(Refusal::read(payload), |refusal, out| refusal.put(out), Refusal::read),
        _ => same_again(Ack::read(payload), |ack, out| ack.put(out), Ack::read),
    }
}

fn same_again<T>(
    read: Result<T, Malformed>,
    put: impl Fn(&T, &mut Vec<u8>),
    read_again: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) {
    let Ok(value) = read else { return };
    let (mut inbox, mut first, mut second) = (Inbox::new(1 << 24), Vec::new(), Vec::new());
    put(&value, &mut first);
    inbox.buffer().extend_from_slice(&first);
    let (_, payload) = inbox.next_frame().expect("it was just put").expect("it is whole");
    put(&read_again(payload).expect("it was just put"), &mut second);
    assert_eq!(first, second);
}

/// What is in a batch when it has been expanded and its checksum is right, and all that it says to a store.
pub fn batch_body(bytes: &[u8]) {
    let Some((count, body)) = bytes.split_first() else { return };
    let Ok(layout) = Layout::of(body, usize::from(*count)) else { return };
    let (store, mut intake) = (store(), Intake::default());
    for item in layout.items(body) {
        let Ok(item) = item else { return };
        if intake.take(&store, &item, &Seen::new(), NOW).is_err() {
            return;
        }
    }
}

/// What a primary and a gateway say to one another before a link begins.
pub fn tunnel_greetings(bytes: &[u8]) {
    if let Ok(wanted) = Wanted::read(bytes) {
        assert_eq!(Wanted::read(&wanted.to_frame()), Ok(wanted));
    }
    let verdict = greeting::hear(&mut &*bytes).now_or_never();
    drop(verdict.expect("what is there need not be waited for"));
}

fn node(number: u8) -> NodeId {
    NodeId(Id::from_bytes([number; 20]))
}

/// A region of one shard of four nodes.
fn map() -> ClusterMap {
    let founder = |number: u8| {
        let addresses = Addresses { host: "localhost".into(), port: 1, tls_port: 0, bus_port: 2 };
        Founder { id: node(number), run: Run(number.into()), addresses }
    };
    let nodes = (0..4).map(founder).collect();
    let shards = vec![FoundShard { label: Id::from_bytes([9; 20]), nodes, slots: SlotSet::all(), weight: 100 }];
    let mut map = ClusterMap::new();
    map.apply(&MapCommand::Found { region: RegionId::MIN, shards, at: Time::ZERO }).expect("it can be founded");
    map
}

/// A packet of gossip.
pub fn gossip(bytes: &[u8]) {
    let mut gossip = Gossip::new(node(0), Run(0), GossipOptions::default(), 1);
    gossip.set_members(Duration::ZERO, &map());
    drop(gossip.handle_message(Duration::ZERO, bytes));
    while gossip.poll_transmit().is_some() {}
    assert_eq!(gossip.members().count(), 3);
}

/// Entries of the Raft log, one after the other: an entry that was agreed on is applied by every node, or refused by every node.
pub fn map_commands(bytes: &[u8]) {
    let (mut map, mut rest) = (map(), bytes);
    while let Ok(command) = rmp_serde::from_read::<_, MapCommand>(&mut rest) {
        let (before, mut other) = (map.epoch(), map.clone());
        let applied = map.apply(&command);
        assert_eq!(applied, other.apply(&command));
        assert_eq!(map, other);
        assert!(map.epoch() >= before);
        assert!(map.epoch() == before || applied.is_ok(), "refused, and changed: {command:?}");
    }
}

/// What a node reports to the leader.
pub fn reports(bytes: &[u8]) {
    drop(rmp_serde::from_slice::<Report>(bytes));
}

/// What nodes, gateways and operators ask of a node, and what it answers: a map among that, by which nodes act.
pub fn control(bytes: &[u8]) {
    drop(rmp_serde::from_slice::<Request>(bytes));
    if let Ok(Response::Map(map) | Response::Attached(Some(map))) = rmp_serde::from_slice(bytes) {
        for number in 0..4 {
            drop(Assignment::of(&map, node(number), Run(number.into()), Duration::ZERO));
        }
        assert!(map.shards().map(|(id, _)| map.slots(id).len()).sum::<usize>() <= SlotRange::ALL.count());
    }
}

/// What is said first on a connection on which data moves within a region.
pub fn openings(bytes: &[u8]) {
    let Ok(opening) = rmp_serde::from_slice::<Opening>(bytes) else { return };
    let again = rmp_serde::to_vec(&opening).expect("what was read can be written");
    assert_eq!(rmp_serde::from_slice::<Opening>(&again).expect("it was just written"), opening);
    if let Opening::Feed { from, purpose } = opening {
        let primary = Assignment::of(&map(), node(0), Run(0), Duration::ZERO);
        let is_member = (0..4).any(|number| from == node(number));
        assert!(is_member || !primary.expects(from, &purpose), "a stranger is let in");
    }
}

/// What a client says that another region must have.
pub fn tokens(bytes: &[u8]) {
    let Ok(Ok(token)) = str::from_utf8(bytes).map(str::parse::<Token>) else { return };
    assert_eq!(token.to_string().parse(), Ok(token));
}

/// Files of an operator. What is wrong with one is said with its place in it.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let errors = [
        NodeConfig::parse("node.toml", text).err(),
        GatewayConfig::parse("gateway.toml", text).err(),
        config::parse::<Topology>("wan.toml", text).err(),
    ];
    errors.into_iter().flatten().for_each(|report| assert!(!report.to_string().is_empty()));
}

/// Patterns of clients, and names to find by them.
pub fn patterns(bytes: &[u8]) {
    let (pattern, text) = bytes.split_at(bytes.len() / 2);
    glob::matches(pattern, text, Case::Sensitive);
}
