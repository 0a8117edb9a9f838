//! Frames keep what was written, however they arrive in pieces, and any bytes are frames or an error.

use std::sync::Arc;

use clock::{Incarnation, Origin, RegionId, Time};
use node_core::{
    slot::{Slot, SlotRange},
    store::{Claim, Seen, SeenTable},
};
use proptest::collection::btree_set;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::{Ack, Echo, FrameKind, Hello, Inbox, Malformed, Refusal, Want, Welcome};
use crate::limits::{FRAME_BYTES_MAX, PROTOCOL_VERSION};

fn origin() -> impl Strategy<Value = Origin> {
    (1..64_u8, 0..1_024_u16)
        .prop_map(|(region, life)| Origin::new(RegionId::new(region).unwrap(), Incarnation::new(life)))
}

fn regions() -> impl Strategy<Value = RegionId> {
    (1..64_u8).prop_map(|region| RegionId::new(region).unwrap())
}

fn claim() -> impl Strategy<Value = Claim> {
    (any::<u64>(), btree_set(0..16_384_u16, 0..40)).prop_map(|(epoch, slots)| Claim {
        epoch,
        slots: Arc::new(slots.into_iter().map(|slot| Slot::new(slot).unwrap()).collect()),
    })
}

fn time() -> impl Strategy<Value = Time> {
    any::<u64>().prop_map(Time::from_ntp64)
}

fn row() -> impl Strategy<Value = Option<Seen>> {
    proptest::option::of(
        proptest::collection::vec((origin(), time()), 1..5).prop_map(|pairs| pairs.into_iter().collect()),
    )
}

fn echo() -> impl Strategy<Value = Option<Echo>> {
    let times = (1_u64.., time(), time());
    proptest::option::of(times.prop_map(|(asked, received, answered)| Echo {
        asked: Time::from_ntp64(asked),
        received,
        answered,
    }))
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        any::<u16>().prop_map(Refusal::Version),
        "[a-z]{0,20}".prop_map(Refusal::Region),
        origin().prop_map(Refusal::Superseded),
        Just(Refusal::Replaced),
        "[a-zü]{0,20}".prop_map(Refusal::Other),
    ]
}

/// Puts bytes into an inbox and takes the one frame out.
fn through(bytes: &[u8], kind: FrameKind) -> Vec<u8> {
    let mut inbox = Inbox::new(1 << 20);
    inbox.buffer().extend_from_slice(bytes);
    let (found, payload) = inbox.next_frame().unwrap().unwrap();
    assert_eq!(found, kind);
    let payload = payload.to_vec();
    assert_eq!(inbox.next_frame(), Ok(None));
    payload
}

/// What version 1 said of itself.
#[derive(serde::Serialize)]
struct OldHello(u16, &'static str, u16, u64, u64, bool, u32);

#[test]
fn a_hello_of_an_older_version_is_understood_well_enough_to_refuse_it() {
    let mut payload = Vec::new();
    super::put_payload(&mut payload, &OldHello(1, "a", 1 << 10, 7, 1, true, 99));
    assert_eq!(Hello::read(&payload).map(|hello| (hello.version, hello.name)), Ok((1, "a".to_owned())));
}

proptest! {
    #[test]
    fn hellos_survive_the_round_trip(
        name in "[a-z-]{1,63}", origin in origin(), birth in time(), epoch: u64, complete: bool, claim in claim(),
    ) {
        let (version, frame_bytes_max) = (PROTOCOL_VERSION, FRAME_BYTES_MAX);
        let hello = Hello { version, name, origin, birth, epoch, claim, complete, frame_bytes_max };
        let mut out = Vec::new();
        hello.put(&mut out);
        prop_assert_eq!(Hello::read(&through(&out, FrameKind::Hello)), Ok(hello));
    }

    #[test]
    fn answers_survive_the_round_trip(
        sequence: u64, held: bool, echo in echo(), seen in row(), deaf in btree_set(regions(), 0..9),
    ) {
        let ack = Ack { sequence, held, echo, seen, deaf };
        let mut out = Vec::new();
        ack.put(&mut out);
        prop_assert_eq!(Ack::read(&through(&out, FrameKind::Ack)), Ok(ack));
    }

    #[test]
    fn refusals_survive_the_round_trip(refusal in refusal()) {
        let mut out = Vec::new();
        refusal.put(&mut out);
        prop_assert_eq!(Refusal::read(&through(&out, FrameKind::Refuse)), Ok(refusal));
    }

    #[test]
    fn any_bytes_are_a_message_or_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Hello::read(&bytes);
        let _ = Welcome::read(&bytes);
        let _ = Refusal::read(&bytes);
        let _ = Ack::read(&bytes);
        let mut inbox = Inbox::new(100);
        inbox.buffer().extend_from_slice(&bytes);
        while let Ok(Some((_, payload))) = inbox.next_frame() {
            prop_assert!(payload.len() < 100);
        }
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_the_stream_is_cut(
        refusals in proptest::collection::vec(refusal(), 1..6), cuts in proptest::collection::vec(1..9_usize, 1..40),
    ) {
        let mut bytes = Vec::new();
        refusals.iter().for_each(|refusal| refusal.put(&mut bytes));
        let (mut inbox, mut found, mut rest) = (Inbox::new(1_000), Vec::new(), &bytes[..]);
        for cut in cuts.into_iter().cycle() {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            inbox.buffer().extend_from_slice(now);
            rest = later;
            while let Some((_, payload)) = inbox.next_frame().unwrap() {
                found.push(Refusal::read(payload).unwrap());
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(found, refusals);
    }
}

#[test]
fn welcomes_survive_the_round_trip() {
    let region = Origin::new(RegionId::MIN, Incarnation::FIRST);
    let mut table = SeenTable::new(SlotRange::ALL);
    table.advance(&SlotRange::new(0..5_000).unwrap(), region, Time::from_ntp64(9));
    for want in [Want::Clone(table.clone()), Want::Later, Want::Resume(table.clone())] {
        let welcome = Welcome { origin: region, birth: Time::from_ntp64(3), frame_bytes_max: 77, round: 3, want };
        let mut out = Vec::new();
        welcome.put(&mut out);
        let back = Welcome::read(&through(&out, FrameKind::Welcome)).unwrap();
        assert_eq!((back.origin, back.birth, back.frame_bytes_max), (region, Time::from_ntp64(3), 77));
        match (&welcome.want, &back.want) {
            (Want::Later, Want::Later) => {}
            (Want::Clone(_), Want::Clone(back)) | (Want::Resume(_), Want::Resume(back)) => {
                assert!(Slot::all().all(|slot| back.of(slot) == table.of(slot)))
            }
            (sent, back) => panic!("{sent:?} became {back:?}"),
        }
    }
}

#[test]
fn a_frame_that_announces_too_much_is_refused_before_it_has_arrived() {
    let mut inbox = Inbox::new(1_000);
    inbox.buffer().extend_from_slice(&u32::MAX.to_be_bytes());
    assert!(inbox.has_frame());
    assert_eq!(inbox.next_frame(), Err(Malformed::FrameTooLong(u32::MAX as usize, 1_000)));
    assert!(inbox.buffer().capacity() < 100);
}

#[test]
fn a_kind_that_does_not_exist_is_refused_before_its_frame_has_arrived() {
    let mut inbox = Inbox::new(1_000);
    inbox.buffer().extend_from_slice(&[0, 0, 3, 0, 99]);
    assert_eq!(inbox.next_frame(), Err(Malformed::Kind(99)));
    let mut inbox = Inbox::new(1_000);
    inbox.buffer().extend_from_slice(&[0, 0, 0, 0]);
    assert_eq!(inbox.next_frame(), Err(Malformed::EmptyFrame));
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let mut out = Vec::new();
    Refusal::Other("ü".repeat(1_000)).put(&mut out);
    let Refusal::Other(text) = Refusal::read(&through(&out, FrameKind::Refuse)).unwrap() else { panic!("not other") };
    assert_eq!(text, "ü".repeat(256));
}

#[test]
fn a_code_of_a_later_version_is_still_a_refusal() {
    let mut payload = Vec::new();
    super::put_payload(&mut payload, &super::RefuseWire(200, 7, "because"));
    assert_eq!(Refusal::read(&payload), Ok(Refusal::Other("because".into())));
}
