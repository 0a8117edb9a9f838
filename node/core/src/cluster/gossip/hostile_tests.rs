//! Bytes that no member would send: never a panic, never more members, timers or packets than there may be.

use std::time::Duration;

use clock::{RegionId, Time};
use foca::{Member, Message, State};
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_oneof, proptest};

use super::{Gossip, GossipError, GossipOptions, life::Life, packet::Packet};
use crate::{
    cluster::{Addresses, ClusterMap, FoundShard, Founder, Id, MapCommand, NodeId, Run},
    limits::GOSSIP_PACKET_BYTES_MAX,
    slot::SlotSet,
};

const NODES: u8 = 4;

fn node(number: u8) -> NodeId {
    NodeId(Id::from_bytes([number; 20]))
}

/// Node 0 of a region of [`NODES`].
fn process() -> Gossip {
    let founder = |number| {
        let addresses = Addresses { host: "localhost".into(), port: 1, tls_port: 0, bus_port: 2 };
        Founder { id: node(number), run: Run(number.into()), addresses }
    };
    let nodes = (0..NODES).map(founder).collect();
    let shard = FoundShard { label: Id::from_bytes([9; 20]), nodes, slots: SlotSet::all(), weight: 100 };
    let mut map = ClusterMap::new();
    map.apply(&MapCommand::Found { region: RegionId::new(1).unwrap(), shards: vec![shard], at: Time::ZERO }).unwrap();
    let mut gossip = Gossip::new(node(0), Run(0), GossipOptions::default(), 1);
    gossip.set_members(Duration::ZERO, &map);
    gossip
}

fn lives() -> impl Strategy<Value = Life> {
    // One more than there are.
    let renewals = prop_oneof![0..3_u32, Just(u32::MAX), Just(u32::MAX - 1)];
    (0..=NODES, 0..5_u64, renewals).prop_map(|(number, run, renewals)| Life {
        node: node(number),
        run: Run(run),
        renewals,
    })
}

fn messages() -> impl Strategy<Value = Message<Life>> {
    prop_oneof![
        any::<u8>().prop_map(Message::Ping),
        any::<u8>().prop_map(Message::Ack),
        (lives(), any::<u8>()).prop_map(|(target, probe_number)| Message::PingReq { target, probe_number }),
        (lives(), any::<u8>()).prop_map(|(origin, probe_number)| Message::IndirectPing { origin, probe_number }),
        (lives(), any::<u8>()).prop_map(|(target, probe_number)| Message::IndirectAck { target, probe_number }),
        (lives(), any::<u8>()).prop_map(|(origin, probe_number)| Message::ForwardedAck { origin, probe_number }),
        Just(Message::Announce),
        Just(Message::Feed),
        Just(Message::Gossip),
        Just(Message::Broadcast),
        Just(Message::TurnUndead),
    ]
}

fn packets() -> impl Strategy<Value = Packet> {
    let state = prop_oneof![Just(State::Alive), Just(State::Suspect), Just(State::Down)];
    let member = (lives(), any::<u16>(), state).prop_map(|(life, number, state)| Member::new(life, number, state));
    let parts = (lives(), lives(), messages(), proptest::collection::vec(member, 0..8));
    parts.prop_map(|(from, to, message, news)| Packet::new(from, to, message, news))
}

fn check(gossip: &mut Gossip) {
    assert!(gossip.foca.iter_membership_state().len() < usize::from(NODES), "{gossip:?}");
    assert!(gossip.members().count() < usize::from(NODES));
    assert!(gossip.suspects().len() < usize::from(NODES));
    while let Some(transmit) = gossip.poll_transmit() {
        assert!(transmit.packet.len() <= GOSSIP_PACKET_BYTES_MAX);
        assert!(transmit.to != node(0) && transmit.to < node(NODES));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20)) {
        let mut gossip = process();
        for bytes in messages {
            drop(gossip.handle_message(Duration::ZERO, &bytes));
            check(&mut gossip);
        }
    }

    #[test]
    fn any_packets_leave_it_bounded_and_at_work(packets in proptest::collection::vec((packets(), 0..300_u64, any::<usize>(), any::<u8>()), 1..60)) {
        let mut gossip = process();
        let mut now = Duration::ZERO;
        for (packet, pause, place, byte) in packets {
            let mut bytes = packet.write().unwrap().to_vec();
            drop(gossip.handle_message(now, &bytes));
            // And with a byte changed, or cut short there.
            let place = place % bytes.len();
            bytes[place] ^= byte;
            drop(gossip.handle_message(now, &bytes));
            drop(gossip.handle_message(now, &bytes[..place]));
            check(&mut gossip);
            now += Duration::from_millis(pause);
            gossip.handle_timeout(now);
            prop_assert!(gossip.poll_timeout().is_some_and(|at| at > now));
            check(&mut gossip);
        }
    }
}

#[test]
fn many_packets_do_not_pile_up_timers() {
    let mut gossip = process();
    let (me, other) = (Life::first(node(0), Run(0)), Life::first(node(1), Run(1)));
    let mut timers_max = 0;
    for round in 0..10_000_u32 {
        // Down and up again, in ever another life.
        let from = Life { renewals: round, ..other };
        let news = [2, 3].map(|number| {
            let state = if round % 2 == 0 { State::Down } else { State::Alive };
            Member::new(Life { renewals: round, ..Life::first(node(number), Run(number.into())) }, 0, state)
        });
        let news = [news.to_vec(), vec![Member::down(from)]].concat();
        let packet = Packet::new(from, me, Message::Ping(1), news).write().unwrap();
        drop(gossip.handle_message(Duration::from_micros(round.into()), &packet));
        timers_max = timers_max.max(gossip.effects.timers());
    }
    // A knock, an ask for each other node, and what foca has under way.
    assert!(timers_max < 10, "{timers_max}");
}

#[test]
fn strangers_and_packets_for_others_are_refused() {
    let mut gossip = process();
    let mut refusal = |from: u8, to: u8| {
        let [from, to] = [from, to].map(|number| Life::first(node(number), Run(number.into())));
        let packet = Packet::new(from, to, Message::Ping(1), Vec::new()).write().unwrap();
        gossip.handle_message(Duration::ZERO, &packet)
    };
    assert!(matches!(refusal(NODES, 0), Err(GossipError::Stranger(stranger)) if stranger == node(NODES)));
    assert!(matches!(refusal(0, 0), Err(GossipError::Stranger(stranger)) if stranger == node(0)));
    assert!(matches!(refusal(1, 2), Err(GossipError::NotForMe(other)) if other == node(2)));
    assert!(refusal(1, 0).is_ok());
    let long = vec![0; GOSSIP_PACKET_BYTES_MAX + 1];
    assert!(matches!(gossip.handle_message(Duration::ZERO, &long), Err(GossipError::TooLong(_))));
}
