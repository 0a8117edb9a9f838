//! The sending end of a link: when it greets, sends, waits and gives up.

use std::{collections::BTreeSet, time::Duration};

use clock::{Incarnation, Now, Origin, RegionId, Stamp, Time};
use node_core::{
    slot::{Slot, SlotRange},
    store::{FeedItem, Polled, Record, Seen, SeenTable, State},
};

use super::{LinkEnd, Phase, Sender, SenderEvent, SenderOptions};
use crate::{
    batch::{Batch, Unpacker},
    frame::{Ack, Echo, FrameKind, Inbox, Malformed, Refusal, Want, Welcome},
};

const MS: Duration = Duration::from_millis(1);
const START: Now = Now { wall: Time::from_unix_ms(1_800_000_000_000), monotonic: Duration::from_secs(100) };

fn origin(region: u8) -> Origin {
    Origin::new(RegionId::new(region).unwrap(), Incarnation::FIRST)
}

fn sender() -> Sender {
    Sender::new(SenderOptions::new("a", origin(1), START.wall))
}

fn frame(put: impl FnOnce(&mut Vec<u8>)) -> (FrameKind, Vec<u8>) {
    let mut inbox = Inbox::new(1 << 24);
    put(inbox.buffer());
    let (kind, payload) = inbox.next_frame().unwrap().unwrap();
    (kind, payload.to_vec())
}

fn receive(sender: &mut Sender, now: Now, put: impl FnOnce(&mut Vec<u8>)) -> Result<(), Malformed> {
    let (kind, payload) = frame(put);
    sender.handle_frame(now, kind, &payload)
}

fn welcome(sender: &mut Sender, now: Now, want: Want) {
    let welcome = Welcome { origin: origin(2), birth: START.wall, frame_bytes_max: 1 << 28, round: 1, want };
    receive(sender, now, |out| welcome.put(out)).unwrap();
}

fn acknowledge(sender: &mut Sender, now: Now, sequence: u64) -> Result<(), Malformed> {
    receive(sender, now, |out| Ack { sequence, ..Ack::default() }.put(out))
}

fn connect(sender: &mut Sender, now: Now) {
    sender.dial(now);
    sender.handle_connected(now);
}

fn streaming(now: Now) -> Sender {
    let mut sender = sender();
    connect(&mut sender, now);
    welcome(&mut sender, now, Want::Clone(SeenTable::new(SlotRange::ALL)));
    drain_events(&mut sender);
    sender.poll_transmit(now, &mut Vec::new());
    sender
}

fn drain_events(sender: &mut Sender) -> Vec<SenderEvent> {
    std::iter::from_fn(|| sender.poll_event()).collect()
}

fn ended(sender: &mut Sender) -> Option<LinkEnd> {
    drain_events(sender).into_iter().find_map(|event| match event {
        SenderEvent::Ended(end) => Some(end),
        _ => None,
    })
}

/// What a feed that has `value` to say, and nothing more, would do.
fn feed(sender: &mut Sender, now: Now, value: &[u8]) {
    let stamp = Stamp { time: now.wall, origin: origin(1) };
    let record = Record { key: b"key", stamp, state: State::Value { bytes: value, expiry: None } };
    sender.push(&FeedItem::Record { slot: Slot::of(b"key"), record });
    sender.fed(now, Polled::Drained);
}

fn sent(sender: &mut Sender, now: Now) -> Option<Batch> {
    let mut out = Vec::new();
    sender.poll_transmit(now, &mut out)?;
    let (_, payload) = frame(|buffer| buffer.extend_from_slice(&out));
    Some(Unpacker::new().unpack(&payload, 1 << 28).unwrap())
}

#[test]
fn first_write_after_a_pause_leaves_at_once_and_the_next_after_the_delay() {
    let mut sender = streaming(START);
    assert!(sender.poll_items(START));
    sender.fed(START, Polled::Drained);
    sender.poll_transmit(START, &mut Vec::new());
    let idle = START.after(20 * MS);
    assert!(!sender.poll_items(idle) && sender.wants_news());
    sender.handle_news(idle);
    assert!(sender.poll_items(idle) && !sender.wants_news());
    feed(&mut sender, idle, b"1");
    assert_eq!(sent(&mut sender, idle).unwrap().items().count(), 1);
    let soon = idle.after(MS / 4);
    sender.handle_news(soon);
    assert!(!sender.poll_items(soon));
    assert_eq!(sender.poll_timeout(true), Some((idle.monotonic) + MS));
    assert!(sender.poll_items(idle.after(MS)));
}

#[test]
fn who_waits_for_what_was_written_waits_for_no_delay() {
    let mut sender = streaming(START);
    sender.fed(START, Polled::Drained);
    sender.poll_transmit(START, &mut Vec::new());
    let soon = START.after(MS / 4);
    assert!(!sender.poll_items(soon));
    sender.hurry(soon);
    assert!(sender.poll_items(soon) && !sender.wants_news());
    sender.fed(soon, Polled::Drained);
    assert!(sent(&mut sender, soon).is_some(), "also if there is nothing to say");
    assert!(!sender.poll_items(soon.after(MS)));
}

#[test]
fn news_that_is_nothing_for_the_peer_waits_for_the_heartbeat() {
    let mut sender = streaming(START);
    sender.fed(START, Polled::Drained);
    sender.poll_transmit(START, &mut Vec::new());
    let heartbeat = Duration::from_millis(50);
    for elapsed in [10, 20, 30] {
        let now = START.after(elapsed * MS);
        sender.handle_news(now);
        assert!(sender.poll_items(now));
        sender.fed(now, Polled::Idle);
        assert!(sent(&mut sender, now).is_none());
        assert!(sender.wants_news());
        assert_eq!(sender.poll_timeout(true), Some(START.monotonic + heartbeat));
    }
    assert!(sender.poll_items(START.after(heartbeat)));
}

#[test]
fn silence_is_broken_by_a_heartbeat() {
    let mut sender = streaming(START);
    sender.fed(START, Polled::Drained);
    sender.poll_transmit(START, &mut Vec::new());
    let heartbeat = Duration::from_millis(50);
    assert!(!sender.poll_items(START.after(heartbeat - MS)));
    assert_eq!(sender.poll_timeout(true), Some(START.monotonic + heartbeat));
    assert!(sender.poll_items(START.after(heartbeat)));
}

#[test]
fn while_nothing_is_wanted_heartbeats_are_empty() {
    let mut sender = sender();
    connect(&mut sender, START);
    welcome(&mut sender, START, Want::Later);
    assert_eq!(sender.phase(), Phase::Waiting);
    sender.poll_transmit(START, &mut Vec::new());
    let later = START.after(100 * MS);
    sender.handle_timeout(later);
    assert!(!sender.poll_items(later));
    assert_eq!(sent(&mut sender, later).unwrap().items().count(), 0);
    welcome(&mut sender, later, Want::Clone(SeenTable::new(SlotRange::ALL)));
    assert_eq!(sender.phase(), Phase::Streaming);
    let wanted = |event: &SenderEvent| matches!(event, SenderEvent::Wanted(Want::Clone(_)));
    assert!(drain_events(&mut sender).iter().any(wanted));
}

#[test]
fn a_full_window_stops_the_feed_until_it_is_acknowledged() {
    let mut sender = streaming(START);
    // Noise, so that it does not shrink.
    let value: Vec<u8> =
        (0..1_u64 << 17).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23).to_le_bytes()).collect();
    let mut batches = 0;
    while sender.poll_items(START) {
        feed(&mut sender, START, &value);
        assert!(sender.poll_transmit(START, &mut Vec::new()).is_some());
        sender.handle_news(START.after(MS));
        sender.due = START.monotonic;
        batches += 1;
        assert!(batches < 1_000, "the window never fills");
    }
    assert!(sender.in_flight_bytes() >= 32 << 20);
    acknowledge(&mut sender, START, batches / 2).unwrap();
    assert!(sender.poll_items(START));
    assert_eq!(acknowledge(&mut sender, START, batches + 1), Err(Malformed::Acknowledgement(batches + 1)));
}

#[test]
fn a_silent_peer_is_given_up_and_one_that_answers_is_not() {
    let mut sender = streaming(START);
    let seconds = |n| START.after(Duration::from_secs(n));
    sender.handle_timeout(seconds(4));
    assert_eq!(ended(&mut sender), None);
    acknowledge(&mut sender, seconds(4), 0).unwrap();
    sender.handle_timeout(seconds(8));
    assert_eq!(ended(&mut sender), None);
    sender.handle_timeout(seconds(9));
    assert_eq!(ended(&mut sender), Some(LinkEnd::Silent));
}

#[test]
fn pauses_double_are_jittered_and_end_when_the_link_serves() {
    let mut sender = sender();
    assert!(sender.poll_dial(START));
    let mut pause = |entropy| {
        sender.dial(START);
        sender.handle_lost(START, entropy);
        sender.poll_timeout(true).unwrap() - START.monotonic
    };
    assert_eq!(pause(0), 25 * MS);
    assert_eq!(pause(0), 50 * MS);
    let jittered = pause(u64::MAX / 3);
    assert!(jittered >= 100 * MS && jittered < 200 * MS, "{jittered:?}");
    for _ in 0..40 {
        assert!(pause(u64::MAX) <= Duration::from_secs(5));
    }
    connect(&mut sender, START);
    welcome(&mut sender, START, Want::Clone(SeenTable::new(SlotRange::ALL)));
    feed(&mut sender, START, b"1");
    sender.poll_transmit(START, &mut Vec::new());
    acknowledge(&mut sender, START, 1).unwrap();
    sender.handle_lost(START, 0);
    assert_eq!(sender.poll_timeout(true).unwrap() - START.monotonic, 25 * MS);
}

#[test]
fn an_answer_measures_the_peers_clock_and_reports_its_progress() {
    let mut sender = streaming(START);
    feed(&mut sender, START, b"1");
    let asked = sent(&mut sender, START).unwrap().envelope.sent;
    let ahead = |time: Time| time.after(300 * MS);
    let received = ahead(START.wall.after(40 * MS));
    let seen: Seen = [(origin(1), START.wall)].into_iter().collect();
    let echo = Some(Echo { asked, received, answered: received });
    let ack = Ack { sequence: 1, held: true, echo, seen: Some(seen.clone()), deaf: BTreeSet::new() };
    receive(&mut sender, START.after(80 * MS), |out| ack.put(out)).unwrap();
    let estimate = sender.estimate().unwrap();
    assert!(estimate.offset.magnitude().abs_diff(300 * MS) < MS && estimate.rtt.abs_diff(80 * MS) < MS);
    assert!(sender.is_held() && sender.in_flight_bytes() == 0);
    let events = drain_events(&mut sender);
    assert!(events.iter().any(|event| matches!(event, SenderEvent::Held(true))));
    let reported = |event: &SenderEvent| matches!(event, SenderEvent::Reported { seen: row, .. } if *row == seen);
    assert!(events.iter().any(reported));
}

#[test]
fn a_refusal_ends_the_connection_and_says_why() {
    let mut sender = sender();
    connect(&mut sender, START);
    receive(&mut sender, START, |out| Refusal::Superseded(origin(1)).put(out)).unwrap();
    let events = drain_events(&mut sender);
    assert!(matches!(events[..], [SenderEvent::Refused(Refusal::Superseded(_)), SenderEvent::Ended(_)]));
    sender.handle_lost(START, 0);
    assert_eq!(sender.phase(), Phase::Down);
}

#[test]
fn a_batch_that_the_peer_does_not_take_is_not_sent() {
    let mut sender = sender();
    connect(&mut sender, START);
    let welcome = Welcome {
        origin: origin(2),
        birth: START.wall,
        frame_bytes_max: 1 << 20,
        round: 1,
        want: Want::Clone(SeenTable::new(SlotRange::ALL)),
    };
    receive(&mut sender, START, |out| welcome.put(out)).unwrap();
    drain_events(&mut sender);
    feed(&mut sender, START, &vec![0; 1 << 20]);
    sender.poll_transmit(START, &mut Vec::new());
    assert!(matches!(ended(&mut sender), Some(LinkEnd::TooLarge(_))));
}

#[test]
fn it_asks_once_and_answers_another_welcome_with_another_feed() {
    let mut sender = streaming(START);
    feed(&mut sender, START, b"of the old feed");
    sender.ask();
    sender.ask();
    let mut out = Vec::new();
    sender.poll_transmit(START, &mut out);
    let (kind, _) = frame(|bytes| *bytes = out.clone());
    assert_eq!(kind, FrameKind::Ask);
    feed(&mut sender, START, b"of the old feed too");
    let again = Welcome {
        origin: origin(2),
        birth: START.wall,
        frame_bytes_max: 1 << 28,
        round: 2,
        want: Want::Resume(SeenTable::new(SlotRange::ALL)),
    };
    receive(&mut sender, START, |out| again.put(out)).unwrap();
    assert!(matches!(drain_events(&mut sender)[..], [SenderEvent::Wanted(Want::Resume(_))]));
    out.clear();
    assert!(sender.poll_transmit(START, &mut out).is_none(), "what was taken from the old feed is gone");
    feed(&mut sender, START, b"of the new one");
    sender.poll_transmit(START, &mut out).unwrap();
    let (_, payload) = frame(|bytes| *bytes = out.clone());
    assert_eq!(Unpacker::new().unpack(&payload, 1 << 20).unwrap().envelope.round, 2);
}

#[test]
fn each_connection_has_its_own_epoch_and_order() {
    let mut sender = streaming(START);
    feed(&mut sender, START, b"1");
    let first = sent(&mut sender, START).unwrap().envelope;
    sender.handle_lost(START, 0);
    connect(&mut sender, START);
    welcome(&mut sender, START, Want::Clone(SeenTable::new(SlotRange::ALL)));
    sender.poll_transmit(START, &mut Vec::new());
    feed(&mut sender, START, b"2");
    let second = sent(&mut sender, START).unwrap().envelope;
    assert_eq!((first.epoch, first.sequence), (1, 1));
    assert_eq!((second.epoch, second.sequence), (2, 1));
}

#[test]
fn frames_that_make_no_sense_in_a_state_are_malformed() {
    let mut sender = sender();
    connect(&mut sender, START);
    assert!(acknowledge(&mut sender, START, 0).is_err());
    assert!(sender.handle_frame(START, FrameKind::Batch, &[]).is_err());
    assert!(sender.handle_frame(START, FrameKind::Hello, &[]).is_err());
    assert!(sender.handle_frame(START, FrameKind::Welcome, &[1, 2, 3]).is_err());
}
