//! Bytes as they come from who means well: where a search for bad ones begins.

use std::{sync::Arc, time::Duration};

use clock::{Stamp, Time};
use geo_link::tunnel::greeting::Wanted;
use geo_link_core::{
    Ack, BodyWriter, Envelope, Hello, Packer, Refusal, TimeRange, Want, Welcome, limits::PROTOCOL_VERSION,
};
use node_core::{
    cluster::{
        Cargo, Entrance, Epoch, Founder, Id, Joins, MapCommand, Opening, Purpose, Report, Run, ShardId,
        control::{Request, Response},
        gossip::{Gossip, GossipOptions},
    },
    slot::{Slot, SlotRange, SlotSet},
    store::{Claim, Expiry, FeedItem, Record, Seen, SeenTable, State},
};

use super::{NOW, map, node, origin};

/// The first examples for a target, by its name.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "requests" => texts(&[
            "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n*1\r\n$4\r\nPING\r\n",
            "SET a \"b c\" 'd' \"\\x41\\n\"\r\nPING\r\n\r\n",
            "*0\r\n*-1\r\n*1\r\n$0\r\n\r\n",
        ]),
        "commands" => texts(&[
            "SET a 10 EX 100 GET\r\nINCRBY a 5\r\nINCRBYFLOAT a 1.5e2\r\nGETEX a PERSIST\r\nAPPEND a xyz\r\nSETRANGE a 5 ab\r\n\
             GETRANGE a -3 -1\r\nEXPIRE a 10 NX\r\nTTL a\r\nPEXPIREAT a 1800000001000 GT\r\nPEXPIRETIME a\r\nGETDEL a\r\n",
            "MSET {a}1 x {a}2 y\r\nMGET {a}1 {a}2 {a}3\r\nRENAME {a}1 {a}3\r\nCOPY {a}3 {a}2 REPLACE\r\nSCAN 0 MATCH {a}* COUNT 5\r\n\
             KEYS *\r\nDBSIZE\r\nRANDOMKEY\r\nOBJECT ENCODING {a}2\r\nMEMORY USAGE {a}2\r\nTYPE {a}2\r\nDEL {a}2 {a}3\r\nFLUSHALL\r\n",
        ]),
        "replies" => texts(&[
            "+OK\r\n-ERR no\r\n:1\r\n$3\r\nabc\r\n$-1\r\n*2\r\n:1\r\n*0\r\n*-1\r\n",
            "%1\r\n+a\r\n,1.5\r\n~1\r\n#t\r\n_\r\n=7\r\ntxt:abc\r\n(123\r\n>1\r\n+p\r\n!3\r\nERR\r\n|1\r\n+a\r\n+b\r\n:2\r\n",
        ]),
        "link_receiver" => vec![[hello(), batch(1), batch(2)].concat()],
        "link_sender" => vec![[welcome(false), ack()].concat(), welcome(true), refusal()],
        "link_frames" => {
            let frames = [(0, hello()), (1, welcome(false)), (1, welcome(true)), (2, refusal()), (3, ack())];
            frames.map(|(kind, frame)| [&[kind], &frame[5..]].concat()).to_vec()
        }
        "batch_body" => {
            let (mut body, mut raw) = (body(), Vec::new());
            let count = body.count() as u8;
            body.finish(&mut raw);
            vec![[&[count], &raw[..]].concat()]
        }
        "tunnel_greetings" => vec![
            Wanted { to: origin(2).region(), from: "0123".to_owned() }.to_frame(),
            [&[0, 0, 0, 10], &b"\xa9Connected"[..]].concat(),
            [&[0, 0, 0, 15], &b"\x81\xa7Refused\xa4Full"[..]].concat(),
        ],
        "gossip" => packets(),
        "map_commands" => vec![commands().iter().flat_map(encoded).collect()],
        "reports" => vec![encoded(&report())],
        "control" => vec![
            encoded(&Request::Report(report())),
            encoded(&Request::Change(commands().remove(0))),
            encoded(&Request::Prepared { at: Epoch(3) }),
            encoded(&Response::Map(Box::new(map()))),
            encoded(&Response::Attached(Some(Box::new(map())))),
            encoded(&Response::NotHere(Some("localhost:2".to_owned()))),
        ],
        "openings" => openings().iter().map(encoded).collect(),
        "tokens" => texts(&["3.7@123456789abc", "1.0@5,2.1023@ffffffffffffffff"]),
        "configuration" => texts(&[
            include_str!("../../../config/regions/us-east.toml"),
            include_str!("../../../config/deploy/gateway.toml"),
            include_str!("../../../config/reference.toml"),
        ]),
        "patterns" => texts(&["user:*[0-9]?\\*user:1232*", "[^a-z]*[]-]Zx-"]),
        _ => Vec::new(),
    }
}

fn openings() -> Vec<Opening> {
    let slots: SlotSet = [Slot::of(b"a"), Slot::of(b"b")].into_iter().collect();
    let purposes = [Purpose::Follow, Purpose::Return, Purpose::Move(Cargo { slots: slots.clone(), since: Epoch(3) })];
    let feeds = purposes.into_iter().map(|purpose| Opening::Feed { from: node(1), purpose });
    let entrance = Entrance { gateway: "g1".to_owned(), region: "b".to_owned(), slots };
    feeds.chain([Opening::Stream(entrance)]).collect()
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn encoded(value: &impl serde::Serialize) -> Vec<u8> {
    rmp_serde::to_vec(value).expect("what is ours can be written")
}

fn framed(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out);
    out
}

fn hello() -> Vec<u8> {
    let hello = Hello {
        version: PROTOCOL_VERSION,
        name: "b".to_owned(),
        origin: origin(2),
        birth: Time::ZERO,
        epoch: 1,
        claim: Claim { epoch: 3, slots: Arc::new(SlotSet::all()) },
        complete: true,
        frame_bytes_max: 1 << 16,
    };
    framed(|out| hello.put(out))
}

fn welcome(clones: bool) -> Vec<u8> {
    let mut table = SeenTable::new(SlotRange::ALL);
    table.advance(&SlotRange::new(0..100).expect("there are such slots"), origin(1), NOW.wall);
    let want = if clones { Want::Clone(table) } else { Want::Resume(table) };
    let welcome = Welcome { origin: origin(2), birth: Time::ZERO, frame_bytes_max: 1 << 16, round: 1, want };
    framed(|out| welcome.put(out))
}

fn refusal() -> Vec<u8> {
    framed(|out| Refusal::Region("c".to_owned()).put(out))
}

fn ack() -> Vec<u8> {
    framed(|out| Ack { sequence: 1, seen: Some(seen()), ..Ack::default() }.put(out))
}

fn seen() -> Seen {
    [(origin(1), NOW.wall), (origin(2), NOW.wall)].into_iter().collect()
}

/// An item of each kind.
fn body() -> BodyWriter {
    let mut body = BodyWriter::new();
    let (slot, stamp) = (Slot::of(b"key"), Stamp { time: NOW.wall, origin: origin(2) });
    let expiry = Some(Expiry::at_unix_ms(1_800_000_100_000));
    body.push(&FeedItem::Speaks { origin: origin(2), epoch: 3, slots: Arc::new(SlotSet::all()) });
    body.push(&FeedItem::SlotBegin { slot, whole: true });
    let states = [
        State::Value { bytes: b"value", expiry },
        State::Value { bytes: b"", expiry: None },
        State::Tombstone,
        State::Evicted,
    ];
    for state in states {
        body.push(&FeedItem::Record { slot, record: Record { key: b"key", stamp, state } });
    }
    body.push(&FeedItem::SlotEnd { slot, floor: Some(stamp), seen: seen() });
    body.push(&FeedItem::Flush { slots: SlotRange::ALL, stamp });
    body.push(&FeedItem::Watermark { origin: origin(2), time: NOW.wall });
    body
}

fn batch(sequence: u64) -> Vec<u8> {
    let range = TimeRange::EMPTY;
    let envelope =
        Envelope { origin: origin(2), epoch: 1, sequence, round: 1, sent: NOW.wall, range, seen: Some(seen()) };
    framed(|out| _ = Packer::new().pack(&envelope, &mut body(), out))
}

/// What another node of the region says at first.
fn packets() -> Vec<Vec<u8>> {
    let mut other = Gossip::new(node(1), Run(1), GossipOptions::default(), 2);
    other.set_members(Duration::ZERO, &map());
    other.handle_timeout(Duration::from_secs(2));
    std::iter::from_fn(|| other.poll_transmit()).map(|transmit| transmit.packet.to_vec()).collect()
}

fn commands() -> Vec<MapCommand> {
    let slots: SlotSet = Slot::all().take(100).collect();
    let founder = report().node;
    let new = Founder { id: node(7), ..founder };
    vec![
        MapCommand::AddNode {
            node: new,
            joins: Joins::New { label: Id::from_bytes([8; 20]), weight: 100 },
            at: NOW.wall,
        },
        MapCommand::Move { slots: slots.clone(), to: ShardId(1) },
        MapCommand::Prepare { slots: slots.clone(), from: ShardId(0), to: ShardId(1), since: Epoch(3) },
        MapCommand::StopMove { slots },
        MapCommand::SetWeight { shard: ShardId(0), weight: 50 },
        MapCommand::Failed { node: node(0), run: Run(0) },
        MapCommand::Promote {
            shard: ShardId(0),
            node: node(1),
            run: Run(1),
            former: (node(0), Run(0)),
            has_all: false,
            at: NOW.wall,
        },
    ]
}

fn report() -> Report {
    let map = map();
    let addresses = map.node(node(0)).expect("it was founded with it").addresses.clone();
    Report {
        node: Founder { id: node(0), run: Run(0), addresses },
        number: 1,
        epoch: map.epoch(),
        after: None,
        held: None,
        suspects: vec![(node(1), Run(1))],
        resigns_to: None,
    }
}
