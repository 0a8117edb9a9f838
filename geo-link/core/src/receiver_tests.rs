//! The receiving end of a link: whom it lets in, what it holds, what it acknowledges.

use std::{sync::Arc, time::Duration};

use clock::{Incarnation, Now, Origin, RegionId, Stamp, Time};
use node_core::{
    slot::{Slot, SlotRange},
    store::{Claim, FeedItem, Record, SeenTable, State},
};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::{Receiver, ReceiverEvent, ReceiverOptions};
use crate::{
    batch::{Envelope, Packer},
    body::{BodyWriter, TimeRange},
    frame::{Ack, FrameKind, Hello, Inbox, Malformed, Want},
    limits::{FRAME_BYTES_MAX, PROTOCOL_VERSION},
    sender::LinkEnd,
};

const MS: Duration = Duration::from_millis(1);
const START: Now = Now { wall: Time::from_unix_ms(1_800_000_000_000), monotonic: Duration::from_secs(100) };

fn origin(region: u8) -> Origin {
    Origin::new(RegionId::new(region).unwrap(), Incarnation::FIRST)
}

fn payload(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut inbox = Inbox::new(1 << 24);
    put(inbox.buffer());
    inbox.next_frame().unwrap().unwrap().1.to_vec()
}

fn hello() -> Vec<u8> {
    let hello = Hello {
        version: PROTOCOL_VERSION,
        name: "a".into(),
        origin: origin(1),
        birth: START.wall,
        epoch: 4,
        claim: Claim::all(),
        complete: true,
        frame_bytes_max: FRAME_BYTES_MAX,
    };
    payload(|out| hello.put(out))
}

fn batch_of(sequence: u64, items: &[FeedItem<'_>]) -> Vec<u8> {
    batch_in(1, sequence, items)
}

fn batch_in(round: u32, sequence: u64, items: &[FeedItem<'_>]) -> Vec<u8> {
    let mut body = BodyWriter::new();
    for item in items {
        body.push(item);
    }
    let (origin, sent, range) = (origin(1), START.wall, TimeRange::EMPTY);
    let envelope = Envelope { origin, epoch: 4, sequence, round, sent, range, seen: None };
    payload(|out| {
        Packer::new().pack(&envelope, &mut body, out);
    })
}

fn record(time: Time) -> FeedItem<'static> {
    let record = Record { key: b"key", stamp: Stamp { time, origin: origin(1) }, state: State::Tombstone };
    FeedItem::Record { slot: Slot::of(b"key"), record }
}

fn receiver() -> Receiver {
    Receiver::new(ReceiverOptions::new(origin(2), START.wall), START)
}

fn streaming() -> Receiver {
    let mut receiver = receiver();
    receiver.handle_frame(START, FrameKind::Hello, &hello()).unwrap();
    receiver.welcome(START, Want::Clone(SeenTable::new(SlotRange::ALL)));
    answers(&mut receiver, START);
    events(&mut receiver);
    receiver
}

fn events(receiver: &mut Receiver) -> Vec<ReceiverEvent> {
    std::iter::from_fn(|| receiver.poll_event()).collect()
}

fn answers(receiver: &mut Receiver, now: Now) -> Vec<Ack> {
    let mut inbox = Inbox::new(1 << 24);
    receiver.poll_transmit(now, inbox.buffer());
    let mut acks = Vec::new();
    while let Some((kind, payload)) = inbox.next_frame().unwrap() {
        if kind == FrameKind::Ack {
            acks.push(Ack::read(payload).unwrap());
        }
    }
    acks
}

fn apply(receiver: &mut Receiver, now: Now) -> bool {
    let Some(batch) = receiver.poll_batch(now) else { return false };
    for item in batch.items() {
        receiver.check(&item.unwrap()).unwrap();
    }
    receiver.applied(now, batch);
    true
}

#[test]
fn a_batch_is_acknowledged_after_it_was_applied_and_not_before() {
    let mut receiver = streaming();
    receiver.handle_frame(START, FrameKind::Batch, &batch_of(1, &[record(START.wall)])).unwrap();
    assert!(!receiver.wants_frames());
    assert_eq!(answers(&mut receiver, START), []);
    assert!(apply(&mut receiver, START) && receiver.wants_frames());
    let [ack] = &answers(&mut receiver, START)[..] else { panic!("one answer is due") };
    assert_eq!((ack.sequence, ack.held), (1, false));
    assert_eq!(ack.echo.unwrap().asked, START.wall);
}

#[test]
fn one_answer_covers_several_batches() {
    let mut receiver = streaming();
    for sequence in 1..=5 {
        receiver.handle_frame(START, FrameKind::Batch, &batch_of(sequence, &[])).unwrap();
        assert!(apply(&mut receiver, START));
    }
    let sequences: Vec<_> = answers(&mut receiver, START).iter().map(|ack| ack.sequence).collect();
    assert_eq!(sequences, [5]);
}

#[test]
fn a_batch_out_of_turn_or_of_another_connection_is_malformed() {
    let mut receiver = streaming();
    let skipped = receiver.handle_frame(START, FrameKind::Batch, &batch_of(2, &[]));
    assert_eq!(skipped, Err(Malformed::Sequence { expected: 1, found: 2 }));
    let envelope = |origin, epoch| Envelope {
        origin,
        epoch,
        sequence: 1,
        round: 1,
        sent: START.wall,
        range: TimeRange::EMPTY,
        seen: None,
    };
    for wrong in [envelope(origin(1), 5), envelope(origin(3), 4)] {
        let payload = payload(|out| {
            Packer::new().pack(&wrong, &mut BodyWriter::new(), out);
        });
        assert_eq!(receiver.handle_frame(START, FrameKind::Batch, &payload), Err(Malformed::Epoch));
    }
}

#[test]
fn a_batch_from_the_future_is_held_reported_once_and_let_go_when_its_time_comes() {
    let mut receiver = streaming();
    let future = START.wall.after(Duration::from_secs(2));
    receiver.handle_frame(START, FrameKind::Batch, &batch_of(1, &[record(future)])).unwrap();
    assert!(!apply(&mut receiver, START) && !receiver.wants_frames());
    assert_eq!(receiver.poll_timeout(START), Some(START.monotonic + 100 * MS));
    let mut held = 0;
    for step in 1..15 {
        let now = START.after(step * 100 * MS);
        receiver.handle_timeout(now);
        assert!(!apply(&mut receiver, now), "let go after {step} steps");
        held += events(&mut receiver).iter().filter(|event| matches!(event, ReceiverEvent::Held(_))).count();
        assert_eq!(receiver.is_held(), step > 2);
        assert!(answers(&mut receiver, now).iter().all(|ack| ack.held == (step > 2) && ack.sequence == 0));
    }
    assert_eq!(held, 1);
    let late = START.after(1_500 * MS);
    assert!(apply(&mut receiver, late));
    assert_eq!(answers(&mut receiver, late).last().map(|ack| (ack.sequence, ack.held)), Some((1, true)));
    let quiet = late.after(900 * MS);
    receiver.handle_timeout(quiet);
    assert!(matches!(events(&mut receiver)[..], [ReceiverEvent::Resumed]));
    assert_eq!(answers(&mut receiver, quiet).last().map(|ack| ack.held), Some(false));
}

#[test]
fn batches_that_wait_for_moments_one_behind_the_other_are_one_hold() {
    let mut receiver = streaming();
    let mut reports = 0;
    for sequence in 1..100 {
        let now = START.after(sequence as u32 * 50 * MS);
        let future = now.wall.after(520 * MS);
        receiver.handle_timeout(now);
        receiver.handle_frame(now, FrameKind::Batch, &batch_of(sequence, &[record(future)])).unwrap();
        assert!(!apply(&mut receiver, now));
        assert!(apply(&mut receiver, now.after(25 * MS)));
        reports += events(&mut receiver).len();
        assert_eq!(receiver.is_held(), sequence > 5);
    }
    assert_eq!(reports, 1);
}

#[test]
fn only_a_batch_that_would_be_handed_out_says_how_far_it_reaches() {
    let mut receiver = streaming();
    assert_eq!(receiver.ready_until(START), None);
    let future = START.wall.after(Duration::from_secs(2));
    receiver.handle_frame(START, FrameKind::Batch, &batch_of(1, &[record(future)])).unwrap();
    assert_eq!(receiver.ready_until(START), None);
    let later = START.after(Duration::from_secs(2));
    assert_eq!(receiver.ready_until(later), Some(future));
    assert!(apply(&mut receiver, later));
    assert_eq!(receiver.ready_until(later), None);
}

#[test]
fn a_held_batch_is_let_go_when_the_clock_is_set() {
    let mut receiver = streaming();
    let future = START.wall.after(Duration::from_secs(3_600));
    receiver.handle_frame(START, FrameKind::Batch, &batch_of(1, &[record(future)])).unwrap();
    assert!(!apply(&mut receiver, START));
    let set = Now { wall: future, monotonic: START.monotonic + 100 * MS };
    assert!(apply(&mut receiver, set));
}

#[test]
fn a_watermark_from_the_future_is_held_as_well() {
    let mut receiver = streaming();
    let watermark = FeedItem::Watermark { origin: origin(1), time: START.wall.after(Duration::from_secs(1)) };
    receiver.handle_frame(START, FrameKind::Batch, &batch_of(1, &[watermark])).unwrap();
    assert!(!apply(&mut receiver, START));
}

#[test]
fn while_it_holds_silence_is_no_reason_to_give_up() {
    let mut receiver = streaming();
    let future = START.wall.after(Duration::from_secs(60));
    receiver.handle_frame(START, FrameKind::Batch, &batch_of(1, &[record(future)])).unwrap();
    assert!(!apply(&mut receiver, START));
    for second in 1..50 {
        let now = START.after(Duration::from_secs(second));
        receiver.handle_timeout(now);
        assert!(!apply(&mut receiver, now));
        let is_end = |event: &ReceiverEvent| matches!(event, ReceiverEvent::Ended(_));
        assert!(!events(&mut receiver).iter().any(is_end));
        assert!(receiver.is_held() && answers(&mut receiver, now).iter().all(|ack| ack.held));
    }
}

#[test]
fn a_silent_sender_is_given_up_and_one_whose_bytes_trickle_is_not() {
    let mut receiver = streaming();
    let seconds = |n| START.after(Duration::from_secs(n));
    receiver.handle_bytes(seconds(4));
    receiver.handle_timeout(seconds(8));
    assert!(events(&mut receiver).is_empty());
    receiver.handle_timeout(seconds(9));
    assert!(matches!(events(&mut receiver)[..], [ReceiverEvent::Ended(LinkEnd::Silent)]));
}

#[test]
fn it_answers_once_a_second_though_nothing_comes() {
    let mut receiver = streaming();
    assert_eq!(answers(&mut receiver, START.after(999 * MS)), []);
    let alive = answers(&mut receiver, START.after(1_000 * MS));
    assert_eq!(alive, [Ack::default()]);
}

#[test]
fn only_an_origin_itself_knows_its_watermark_and_we_our_flushes() {
    let mut receiver = streaming();
    let flush = |origin| FeedItem::Flush { slots: SlotRange::ALL, stamp: Stamp { time: START.wall, origin } };
    let watermark = |origin| FeedItem::Watermark { origin, time: START.wall };
    let speaks =
        |origin| FeedItem::Speaks { origin, epoch: 1, slots: Arc::new([Slot::of(b"a")].into_iter().collect()) };
    let earlier_life = Origin::new(RegionId::new(1).unwrap(), Incarnation::new(9));
    for other in [origin(3), earlier_life] {
        assert_eq!(receiver.check(&watermark(other)), Err(Malformed::Authority(other)));
        assert_eq!(receiver.check(&speaks(other)), Err(Malformed::Authority(other)));
        // It may have ended there, and nobody else have heard it.
        assert_eq!(receiver.check(&flush(other)), Ok(()));
    }
    assert_eq!(receiver.check(&speaks(origin(1))), Ok(()));
    assert_eq!(receiver.check(&flush(origin(2))), Err(Malformed::Authority(origin(2))));
}

#[test]
fn a_region_that_cannot_be_heard_may_be_spoken_of() {
    let mut receiver = streaming();
    let watermark = FeedItem::Watermark { origin: origin(3), time: START.wall };
    receiver.set_deaf([origin(3).region()].into());
    assert_eq!(answers(&mut receiver, START)[0].deaf, [origin(3).region()].into());
    assert_eq!(receiver.check(&watermark), Ok(()));
    receiver.set_deaf([].into());
    assert_eq!(answers(&mut receiver, START)[0].deaf, [].into());
    assert_eq!(receiver.check(&watermark), Ok(()), "it may have been on its way");
}

#[test]
fn what_answers_an_earlier_welcome_is_let_be() {
    let mut receiver = streaming();
    let batch = |round, sequence| batch_in(round, sequence, &[record(START.wall)]);
    receiver.handle_frame(START, FrameKind::Batch, &batch(1, 1)).unwrap();
    receiver.handle_frame(START, FrameKind::Ask, &[]).unwrap();
    assert!(matches!(events(&mut receiver)[..], [ReceiverEvent::Asked]));
    receiver.welcome(START, Want::Resume(SeenTable::new(SlotRange::ALL)));
    assert!(receiver.poll_batch(START).is_none());
    receiver.handle_frame(START, FrameKind::Batch, &batch(1, 2)).unwrap();
    assert!(receiver.poll_batch(START).is_none());
    receiver.handle_frame(START, FrameKind::Batch, &batch(2, 3)).unwrap();
    let batch_of_this = receiver.poll_batch(START).unwrap();
    receiver.applied(START, batch_of_this);
    let last = answers(&mut receiver, START).pop().unwrap();
    assert_eq!(last.sequence, 3);
    assert_eq!(receiver.handle_frame(START, FrameKind::Batch, &batch(3, 4)), Err(Malformed::Round(3)));
}

#[test]
fn delay_is_that_of_the_oldest_record_of_the_tail() {
    let mut receiver = streaming();
    let slot = Slot::of(b"key");
    let ago = |ms: u32| START.wall.before(ms * MS);
    let scan = [
        FeedItem::SlotBegin { slot, whole: true },
        record(ago(400)),
        FeedItem::SlotEnd { slot, floor: Some(Stamp::ZERO), seen: node_core::store::Seen::new() },
        record(ago(30)),
        record(ago(20)),
    ];
    receiver.handle_frame(START, FrameKind::Batch, &batch_of(1, &scan)).unwrap();
    let batch = receiver.poll_batch(START).unwrap();
    for item in batch.items() {
        receiver.check(&item.unwrap()).unwrap();
    }
    let applied = receiver.applied(START, batch);
    assert!(applied.delay.unwrap().abs_diff(30 * MS) < MS && !applied.has_watermark);
}

#[test]
fn before_it_is_let_in_a_sender_has_nothing_to_say() {
    let mut receiver = receiver();
    assert!(receiver.handle_frame(START, FrameKind::Batch, &batch_of(1, &[])).is_err());
    receiver.handle_frame(START, FrameKind::Hello, &hello()).unwrap();
    assert!(!receiver.wants_frames());
    receiver.welcome(START, Want::Later);
    assert!(receiver.wants_frames());
    assert!(receiver.handle_frame(START, FrameKind::Batch, &batch_of(1, &[record(START.wall)])).is_err());
    assert!(receiver.handle_frame(START, FrameKind::Hello, &hello()).is_err());
}

#[test]
fn a_sender_that_never_greets_is_given_up() {
    let mut receiver = receiver();
    receiver.handle_timeout(START.after(Duration::from_secs(10)));
    assert!(matches!(events(&mut receiver)[..], [ReceiverEvent::Ended(LinkEnd::NoGreeting)]));
}

/// Frames as they could come from a peer that follows no rules: good ones, good ones changed, and noise.
fn frames() -> impl Strategy<Value = Vec<(FrameKind, Vec<u8>)>> {
    let kinds = prop_oneof![
        Just(FrameKind::Hello),
        Just(FrameKind::Welcome),
        Just(FrameKind::Refuse),
        Just(FrameKind::Batch),
        Just(FrameKind::Ack),
        Just(FrameKind::Bye),
    ];
    let good = (1..4_u64).prop_map(|sequence| batch_of(sequence, &[record(START.wall), record(Time::MAX)]));
    let good = prop_oneof![Just(hello()), good, Just(batch_of(1, &[]))];
    let changed = (good.clone(), any::<u16>(), any::<u8>()).prop_map(|(mut payload, place, byte)| {
        let length = payload.len();
        payload[usize::from(place) % length] = byte;
        payload
    });
    let payloads = prop_oneof![4 => good, 1 => changed, 1 => proptest::collection::vec(any::<u8>(), 0..60)];
    proptest::collection::vec((kinds, payloads), 0..12)
}

proptest! {
    #[test]
    fn no_frames_in_whatever_order_panic(frames in frames(), late: bool) {
        let mut receiver = receiver();
        for (step, (kind, payload)) in frames.into_iter().enumerate() {
            let now = START.after(step as u32 * 100 * MS);
            receiver.handle_timeout(now);
            if !receiver.wants_frames() || receiver.handle_frame(now, kind, &payload).is_err() {
                break;
            }
            for event in events(&mut receiver) {
                if let ReceiverEvent::Greeted(_) = event {
                    receiver.welcome(now, if late { Want::Later } else { Want::Clone(SeenTable::new(SlotRange::ALL)) });
                }
            }
            if let Some(batch) = receiver.poll_batch(now) {
                let is_good = batch.items().all(|item| item.is_ok_and(|item| receiver.check(&item).is_ok()));
                if !is_good {
                    break;
                }
                receiver.applied(now, batch);
            }
            receiver.poll_transmit(now, &mut Vec::new());
            receiver.poll_timeout(now);
        }
    }
}
