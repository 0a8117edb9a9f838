//! Batches keep what was packed, and any bytes are a batch or an error.

use std::sync::Arc;

use clock::{Incarnation, Origin, RegionId, Stamp, Time};
use node_core::{
    slot::{Slot, SlotRange},
    store::{Expiry, FeedItem, Record, Seen, State},
};
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::{Envelope, Packer, Unpacker, Wire, put_payload};
use crate::{
    body::{BodyWriter, Layout, TimeRange},
    frame::{Inbox, Malformed},
    limits::PROTOCOL_VERSION,
};

/// An item that owns its bytes.
#[derive(Clone, Debug)]
enum Owned {
    Record { key: Vec<u8>, stamp: Stamp, state: OwnedState },
    Other(FeedItem<'static>),
}

#[derive(Clone, Debug)]
enum OwnedState {
    Value(Vec<u8>, Option<Expiry>),
    Tombstone,
    Evicted,
}

impl Owned {
    fn item(&self) -> FeedItem<'_> {
        match self {
            Self::Record { key, stamp, state } => {
                let state = match state {
                    OwnedState::Value(bytes, expiry) => State::Value { bytes, expiry: *expiry },
                    OwnedState::Tombstone => State::Tombstone,
                    OwnedState::Evicted => State::Evicted,
                };
                FeedItem::Record { slot: Slot::of(key), record: Record { key, stamp: *stamp, state } }
            }
            Self::Other(item) => item.clone(),
        }
    }
}

fn stamps() -> impl Strategy<Value = Stamp> {
    (any::<u64>(), 1..4_u8, 0..3_u16).prop_map(|(time, region, life)| Stamp {
        time: Time::from_ntp64(time),
        origin: Origin::new(RegionId::new(region).unwrap(), Incarnation::new(life)),
    })
}

fn slots() -> impl Strategy<Value = Slot> {
    (0..16_384_u16).prop_map(|number| Slot::new(number).unwrap())
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..40)
}

fn seens() -> impl Strategy<Value = Seen> {
    proptest::collection::vec(stamps(), 0..4)
        .prop_map(|stamps| stamps.into_iter().map(|stamp| (stamp.origin, stamp.time)).collect())
}

fn items() -> impl Strategy<Value = Owned> {
    let state = prop_oneof![
        (bytes(), proptest::option::of(any::<u64>()))
            .prop_map(|(bytes, expiry)| OwnedState::Value(bytes, expiry.map(Expiry::at_unix_ms))),
        proptest::strategy::Just(OwnedState::Tombstone),
        proptest::strategy::Just(OwnedState::Evicted),
    ];
    let record = (bytes(), stamps(), state).prop_map(|(key, stamp, state)| Owned::Record { key, stamp, state });
    let other = prop_oneof![
        (slots(), slots(), stamps()).prop_map(|(a, b, stamp)| FeedItem::Flush {
            slots: SlotRange::new(a.min(b).number()..a.max(b).number() + 1).unwrap(),
            stamp,
        }),
        (slots(), any::<bool>()).prop_map(|(slot, whole)| FeedItem::SlotBegin { slot, whole }),
        (slots(), proptest::option::of(stamps()), seens()).prop_map(|(slot, floor, seen)| FeedItem::SlotEnd {
            slot,
            floor,
            seen
        }),
        (stamps(), any::<u64>(), slots(), slots()).prop_map(|(stamp, epoch, a, b)| FeedItem::Speaks {
            origin: stamp.origin,
            epoch,
            slots: Arc::new([a, b].into_iter().collect()),
        }),
        stamps().prop_map(|stamp| FeedItem::Watermark { origin: stamp.origin, time: stamp.time }),
    ];
    prop_oneof![3 => record, 1 => other.prop_map(Owned::Other)]
}

fn envelope() -> Envelope {
    Envelope {
        origin: Origin::new(RegionId::new(1).unwrap(), Incarnation::FIRST),
        epoch: 3,
        sequence: 9,
        round: 2,
        sent: Time::from_unix_ms(1_800_000_000_000),
        range: TimeRange::EMPTY,
        seen: Some([(Origin::new(RegionId::MAX, Incarnation::FIRST), Time::MAX)].into_iter().collect()),
    }
}

fn pack(items: &[Owned]) -> Vec<u8> {
    let (mut body, mut frame) = (BodyWriter::new(), Vec::new());
    for item in items {
        body.push(&item.item());
    }
    let packed = Packer::new().pack(&envelope(), &mut body, &mut frame);
    assert_eq!((packed.count, packed.wire_bytes), (items.len(), frame.len()));
    frame
}

fn payload(frame: &[u8]) -> &[u8] {
    &frame[5..]
}

const RAW_MAX: usize = 1 << 20;

proptest! {
    #[test]
    fn batches_survive_the_round_trip(items in proptest::collection::vec(items(), 0..60)) {
        let frame = pack(&items);
        let mut unpacker = Unpacker::new();
        let batch = unpacker.unpack(payload(&frame), RAW_MAX).unwrap();
        prop_assert_eq!(&batch.envelope, &Envelope { range: batch.envelope.range, ..envelope() });
        prop_assert_eq!(batch.packed.wire_bytes, frame.len());
        let back: Vec<_> = batch.items().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(back, items.iter().map(Owned::item).collect::<Vec<_>>());
    }

    #[test]
    fn the_range_of_the_envelope_is_that_of_the_stamps_and_of_what_was_seen(items in proptest::collection::vec(items(), 1..60)) {
        let frame = pack(&items);
        let range = Unpacker::new().unpack(payload(&frame), RAW_MAX).unwrap().envelope.range;
        let times: Vec<Time> = items.iter().flat_map(|item| match item.item() {
            FeedItem::Record { record, .. } => vec![record.stamp.time],
            FeedItem::Flush { stamp, .. } => vec![stamp.time],
            FeedItem::SlotEnd { floor, seen, .. } => {
                floor.map(|floor| floor.time).into_iter().chain(seen.iter().map(|(_, time)| time)).collect()
            }
            FeedItem::Watermark { time, .. } => vec![time],
            FeedItem::SlotBegin { .. } | FeedItem::Speaks { .. } => Vec::new(),
        }).collect();
        if let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) {
            prop_assert_eq!(range, TimeRange { first: *first, last: *last });
        } else {
            prop_assert_eq!(range, TimeRange::EMPTY);
        }
    }

    #[test]
    fn a_changed_batch_is_malformed_or_still_one_and_never_a_panic(
        items in proptest::collection::vec(items(), 0..20),
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6),
    ) {
        let mut frame = pack(&items);
        let length = frame.len();
        for (place, byte) in changes {
            frame[5 + usize::from(place) % (length - 5)] = byte;
        }
        if let Ok(batch) = Unpacker::new().unpack(payload(&frame), RAW_MAX) {
            prop_assert!(batch.items().count() <= batch.packed.count + 1);
        }
    }

    #[test]
    fn any_bytes_are_a_body_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300), count in 0..40_usize) {
        if let Ok(layout) = Layout::of(&bytes, count) {
            prop_assert!(layout.items(&bytes).count() <= count + 1);
            // The layout of one body does no harm to another.
            prop_assert!(layout.items(&bytes[..bytes.len() / 2]).count() <= count + 1);
        }
    }

    /// What looks like a body in its first bytes gets further than noise does.
    #[test]
    fn columns_of_any_lengths_and_contents_are_a_body_or_an_error(
        lengths in proptest::array::uniform9(0..12_u8),
        kinds in proptest::collection::vec(0..12_u8, 12),
        bytes in proptest::collection::vec(any::<u8>(), 120),
    ) {
        let mut body = lengths.to_vec();
        body.extend_from_slice(&kinds[..usize::from(lengths[0])]);
        let rest: usize = lengths[1..].iter().map(|length| usize::from(*length)).sum();
        body.extend_from_slice(&bytes[..rest]);
        if let Ok(layout) = Layout::of(&body, usize::from(lengths[0])) {
            let _ = layout.items(&body).count();
        }
    }

    #[test]
    fn any_bytes_are_a_batch_or_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Unpacker::new().unpack(&bytes, RAW_MAX);
    }
}

/// A batch that says what it likes.
fn lie(codec: u8, raw_bytes: u32, hash: u64, count: u32, body: &[u8]) -> Vec<u8> {
    let row = crate::row::Row::default();
    let (first, last) = (u64::MAX, 0);
    let wire = Wire(PROTOCOL_VERSION, 1 << 10, 1, 1, 1, count, first, last, codec, raw_bytes, hash, 0, row, body);
    let mut payload = Vec::new();
    put_payload(&mut payload, &wire);
    payload
}

fn refused(payload: &[u8]) -> Malformed {
    Unpacker::new().unpack(payload, RAW_MAX).map(drop).unwrap_err()
}

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    let mut unpacker = Unpacker::new();
    let huge = unpacker.unpack(&lie(1, u32::MAX, 0, 1, &[0; 100]), RAW_MAX).map(drop);
    assert_eq!(huge, Err(Malformed::RawLength(u32::MAX as usize)));
    // Allowed by size, but not to be had from so few bytes.
    let dense = unpacker.unpack(&lie(1, 1 << 19, 0, 1, &[0; 100]), RAW_MAX).map(drop);
    assert_eq!(dense, Err(Malformed::RawLength(1 << 19)));
    assert_eq!(unpacker.raw.capacity(), 0);
}

#[test]
fn lies_about_the_body_are_refused() {
    let raw = [0_u8; 9];
    let hash = xxhash_rust::xxh3::xxh3_64(&raw);
    assert!(Unpacker::new().unpack(&lie(0, 9, hash, 0, &raw), RAW_MAX).is_ok());
    assert_eq!(refused(&lie(0, 9, hash ^ 1, 0, &raw)), Malformed::Checksum);
    assert_eq!(refused(&lie(0, 8, hash, 0, &raw)), Malformed::RawLength(8));
    assert_eq!(refused(&lie(7, 9, hash, 0, &raw)), Malformed::Codec(7));
    assert!(matches!(refused(&lie(0, 9, hash, 1, &raw)), Malformed::Body(_)));
    assert!(matches!(refused(&lie(1, 9, hash, 0, &raw)), Malformed::Compression(_) | Malformed::RawLength(_)));
}

#[test]
fn what_does_not_become_smaller_is_stored() {
    let noise: Vec<u8> =
        (0..4_096_u32).flat_map(|n| xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes()).to_le_bytes()).collect();
    let (mut body, mut frame) = (BodyWriter::new(), Vec::new());
    let stamp = Stamp { time: Time::from_ntp64(5), ..Stamp::ZERO };
    let record = Record { key: b"k", stamp, state: State::Value { bytes: &noise, expiry: None } };
    body.push(&FeedItem::Record { slot: Slot::of(b"k"), record });
    let packed = Packer::new().pack(&envelope(), &mut body, &mut frame);
    assert!(packed.wire_bytes >= packed.raw_bytes && packed.wire_bytes < packed.raw_bytes + 200);
    let mut inbox = Inbox::new(1 << 20);
    inbox.buffer().extend_from_slice(&frame);
    let (_, payload) = inbox.next_frame().unwrap().unwrap();
    assert!(Unpacker::new().unpack(payload, RAW_MAX).is_ok());
}

#[test]
fn a_range_that_hides_a_stamp_from_the_future_is_refused() {
    let mut body = BodyWriter::new();
    let stamp = Stamp { time: Time::from_ntp64(5), ..Stamp::ZERO };
    body.push(&FeedItem::Watermark { origin: stamp.origin, time: stamp.time });
    let mut raw = Vec::new();
    body.finish(&mut raw);
    let hash = xxhash_rust::xxh3::xxh3_64(&raw);
    assert!(matches!(refused(&lie(0, raw.len() as u32, hash, 1, &raw)), Malformed::Body(_)));
}
