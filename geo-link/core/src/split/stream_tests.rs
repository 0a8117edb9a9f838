//! What a stream's sender is told of its owners.

use std::{sync::Arc, time::Duration};

use clock::{Incarnation, Now, Origin, RegionId, Time};
use node_core::{
    slot::{Slot, SlotRange},
    store::{Claim, SeenTable},
};

use super::{Owner, Owners, Split, SplitEvent, SplitOptions};
use crate::{
    frame::{FrameKind, Hello, Inbox, Want, Welcome},
    limits::{OWNERS_PATIENCE, PROTOCOL_VERSION, ROUND_INTERVAL},
};

const START: Now = Now { wall: Time::from_unix_ms(1_800_000_000_000), monotonic: Duration::from_secs(100) };
/// The slots of the two owners.
const PARTS: [SlotRange; 2] =
    [SlotRange { first: slot(0), last: slot(8_191) }, SlotRange { first: slot(8_192), last: slot(16_383) }];

const fn slot(number: u16) -> Slot {
    match Slot::new(number) {
        Some(slot) => slot,
        None => panic!("no slot"),
    }
}

fn origin(region: u8) -> Origin {
    Origin::new(RegionId::new(region).unwrap(), Incarnation::FIRST)
}

fn after(milliseconds: u64) -> Now {
    let passed = Duration::from_millis(milliseconds);
    Now { wall: START.wall.after(passed), monotonic: START.monotonic + passed }
}

/// A stream from region 1 to the two owners, both connected to.
fn stream() -> Split {
    let mut split = Split::new(SplitOptions::new(origin(2).region()), START);
    let hello = Hello {
        version: PROTOCOL_VERSION,
        name: "a".to_owned(),
        origin: origin(1),
        birth: Time::ZERO,
        epoch: 1,
        claim: Claim::all(),
        complete: true,
        frame_bytes_max: 1 << 20,
    };
    let frames = frames(|out| hello.put(out));
    split.handle_frame(START, frames[0].0, &frames[0].1).unwrap();
    let Some(SplitEvent::Greeted(hello)) = split.poll_event() else { panic!("it has greeted") };
    let owner = |slots: SlotRange| Owner { address: "owner".into(), slots: Arc::new(slots.iter().collect()) };
    split.admit(hello, START, Arc::new(Owners::new(PARTS.map(owner).into())));
    while let Some((branch, _)) = split.poll_dial(START) {
        assert!(split.handle_connected(START, branch));
    }
    split
}

fn frames(put: impl FnOnce(&mut Vec<u8>)) -> Vec<(FrameKind, Vec<u8>)> {
    let mut inbox = Inbox::new(1 << 24);
    put(inbox.buffer());
    std::iter::from_fn(|| inbox.next_frame().unwrap().map(|(kind, payload)| (kind, payload.to_vec()))).collect()
}

/// What an owner is sent.
fn sent(split: &mut Split, now: Now, owner: usize) -> Vec<FrameKind> {
    let branch = split.branches().nth(owner).unwrap().id();
    frames(|out| split.poll_branch_transmit(now, branch, out)).into_iter().map(|(kind, _)| kind).collect()
}

/// An owner says that it has seen everything up to so many milliseconds after the start.
fn says(split: &mut Split, now: Now, owner: usize, milliseconds: u64) {
    let branch = split.branches().nth(owner).unwrap().id();
    let mut seen = SeenTable::new(SlotRange::ALL);
    seen.advance(&SlotRange::ALL, origin(1), after(milliseconds).wall);
    let want = Want::Resume(seen);
    let welcome = Welcome { origin: origin(2), birth: Time::ZERO, frame_bytes_max: 1 << 20, round: 1, want };
    for (kind, payload) in frames(|out| welcome.put(out)) {
        split.handle_branch_frame(now, branch, kind, &payload).unwrap();
    }
    split.work_branch(now, branch).unwrap();
}

/// What the sender is told that the owners have seen.
fn told(split: &mut Split, now: Now) -> [Time; 2] {
    let all = frames(|out| split.poll_transmit(now, out));
    let (_, payload) = all.iter().find(|(kind, _)| *kind == FrameKind::Welcome).expect("the sender is told something");
    let Want::Resume(seen) = Welcome::read(payload).unwrap().want else { panic!("nothing is cloned") };
    PARTS.map(|part| seen.at(part.first, origin(1)))
}

/// Both have said what they want, and the sender knows.
fn welcomed() -> Split {
    let mut split = stream();
    says(&mut split, START, 0, 1);
    assert_eq!(split.begin_round(START), None, "the other has not said anything");
    says(&mut split, START, 1, 2);
    assert_eq!(split.begin_round(START), Some((16_384, false)));
    assert_eq!(told(&mut split, START), [1, 2].map(|at| after(at).wall));
    for owner in [0, 1] {
        assert_eq!(sent(&mut split, START, owner), [FrameKind::Hello]);
    }
    split
}

#[test]
fn when_one_owner_says_anew_what_it_lacks_so_do_the_others() {
    let mut split = welcomed();
    says(&mut split, after(1_000), 0, 900);
    assert_eq!(split.begin_round(after(1_000)), None, "what the other said has been sent to it since");
    assert_eq!(sent(&mut split, after(1_000), 1), [FrameKind::Ask]);
    says(&mut split, after(1_001), 1, 950);
    assert_eq!(split.begin_round(after(1_001)), Some((16_384, false)));
    assert_eq!(told(&mut split, after(1_001)), [900, 950].map(|at| after(at).wall));
}

#[test]
fn rounds_are_not_too_close() {
    let mut split = welcomed();
    says(&mut split, after(1), 0, 3);
    says(&mut split, after(1), 1, 4);
    assert_eq!(split.begin_round(after(1)), None);
    let interval = u64::try_from(ROUND_INTERVAL.as_millis()).unwrap();
    assert_eq!(split.begin_round(after(interval)), Some((16_384, false)));
}

#[test]
fn an_owner_that_does_not_answer_is_left_out_until_it_does() {
    let mut split = welcomed();
    says(&mut split, after(1_000), 0, 900);
    assert_eq!(split.begin_round(after(1_000)), None);
    let patience = u64::try_from(OWNERS_PATIENCE.as_millis()).unwrap();
    assert_eq!(split.begin_round(after(1_000 + patience - 1)), None);
    assert_eq!(split.begin_round(after(1_000 + patience)), Some((8_192, false)));
    assert!(!split.branches().nth(1).unwrap().is_in());
    says(&mut split, after(2_000), 1, 950);
    assert_eq!(split.begin_round(after(2_000)), None, "now the first is out of date");
    assert_eq!(sent(&mut split, after(2_000), 0), [FrameKind::Ask]);
    says(&mut split, after(2_001), 0, 1_900);
    assert_eq!(split.begin_round(after(2_001)), Some((16_384, false)));
}

#[test]
fn an_owner_that_is_not_connected_is_not_waited_for_a_second_time() {
    let mut split = welcomed();
    let lost = split.branches().nth(1).unwrap().id();
    split.handle_branch_lost(after(900), lost, 0);
    says(&mut split, after(1_000), 0, 900);
    assert_eq!(split.begin_round(after(1_000)), Some((8_192, false)));
}
