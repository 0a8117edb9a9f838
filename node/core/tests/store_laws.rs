//! Laws of the store that hold whatever is done to it, in whatever order.

mod store_support;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
};

use clock::{Now, Origin, Stamp, Time};
use node_core::{
    limits::{FEED_LOOKS_PER_POLL, SCAN_ENTRIES_PER_HOLD},
    slot::{Slot, SlotRange},
    store::{
        Claim, EvictionPolicy, Expiry, Feed, FeedItem, Intake, Polled, Record, ScanPosition, Scope, Seen, SeenTable,
        State, Store, StoreOptions,
    },
};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use store_support::{COLLIDING, at_ms, delete, held, options, origin, parcel::Parcel, region, write};

/// A few keys of few slots, so that they meet, and two that collide.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    let spread = (0..4_u8, 0..12_u8).prop_map(|(tag, key)| format!("{{{tag}}}{key}").into_bytes());
    prop_oneof![4 => spread, 1 => (0..2_usize).prop_map(|which| COLLIDING[which].clone())]
}

#[derive(Clone, Debug)]
enum Step {
    Write { key: Vec<u8>, size: usize, expires_ms: Option<u64> },
    Delete(Vec<u8>),
    SetExpiry { key: Vec<u8>, expires_ms: Option<u64> },
    Overwrite { key: Vec<u8>, offset: usize, size: usize },
    Apply { key: Vec<u8>, region: u8, at_ms: u64, kind: u8 },
    Evict,
    Sweep(usize),
    Collect(usize),
    Frontier,
    Budget(usize),
    Flush,
    ApplyFlush { region: u8, at_ms: u64 },
    Read(Vec<u8>),
    Pass(u64),
}

impl Step {
    const fn is_from_elsewhere(&self) -> bool {
        matches!(self, Self::Apply { .. } | Self::ApplyFlush { .. })
    }
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let size = || prop_oneof![8 => 0..300_usize, 1 => 0..6_000_usize];
    let step = prop_oneof![
        8 => (keys(), size(), proptest::option::weighted(0.3, 1..60_u64))
            .prop_map(|(key, size, expires_ms)| Step::Write { key, size, expires_ms }),
        4 => keys().prop_map(Step::Delete),
        1 => (keys(), proptest::option::of(0..60_u64)).prop_map(|(key, expires_ms)| Step::SetExpiry { key, expires_ms }),
        2 => (keys(), size(), size()).prop_map(|(key, offset, size)| Step::Overwrite { key, offset, size }),
        6 => (keys(), 2..5_u8, 0..200_u64, 0..3_u8)
            .prop_map(|(key, region, at_ms, kind)| Step::Apply { key, region, at_ms, kind }),
        3 => Just(Step::Evict),
        1 => (0..20_usize).prop_map(Step::Sweep),
        2 => (0..9_usize).prop_map(Step::Collect),
        1 => Just(Step::Frontier),
        1 => prop_oneof![Just(0), 1..2_000_usize, Just(1 << 20)].prop_map(Step::Budget),
        1 => Just(Step::Flush),
        1 => (2..5_u8, 0..200_u64).prop_map(|(region, at_ms)| Step::ApplyFlush { region, at_ms }),
        3 => keys().prop_map(Step::Read),
        3 => (0..40_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..most)
}

/// A store to which steps happen, and its time.
struct Subject {
    store: Store,
    now: Now,
}

impl Subject {
    fn new(stripes: usize, log_records: usize) -> Self {
        let store = Store::new(&options(stripes, log_records));
        store.settings().set_policy(EvictionPolicy::AllKeysRandom);
        Self { store, now: at_ms(100) }
    }

    /// The same, among the regions whose records the steps bring. They never report, so the frontier stays at zero.
    fn among_peers(stripes: usize, log_records: usize) -> Self {
        let subject = Self::new(stripes, log_records);
        subject.store.update_matrix(|matrix| {
            for id in 2..5 {
                matrix.set_member(region(id), true);
                matrix.announce(origin(id, 0), Time::ZERO, &Claim::all());
            }
        });
        subject
    }

    fn expiry(&self, expires_ms: Option<u64>) -> Option<Expiry> {
        expires_ms.map(|ms| Expiry::at_unix_ms(self.now.unix_ms() + ms))
    }

    /// Takes a step.
    fn take(&mut self, step: &Step) {
        let (store, now) = (&self.store, self.now);
        match step {
            Step::Write { key, size, expires_ms } => {
                _ = write(store, key, &vec![b'v'; *size], self.expiry(*expires_ms), now)
            }
            Step::Delete(key) => _ = delete(store, key, now),
            Step::SetExpiry { key, expires_ms } => {
                let at = store.address(key);
                let mut stripe = store.lock(store.stripe_of(at.slot));
                stripe.set_expiry(at, key, self.expiry(*expires_ms), now.wall).unwrap();
            }
            Step::Overwrite { key, offset, size } => {
                let at = store.address(key);
                let mut stripe = store.lock(store.stripe_of(at.slot));
                stripe.overwrite(at, key, *offset, &vec![b'o'; *size], now.wall).unwrap();
            }
            Step::Apply { key, region, at_ms: ms, kind } => {
                let stamp = Stamp { time: at_ms(*ms).wall, origin: origin(*region, 0) };
                let state = match kind {
                    0 => State::Tombstone,
                    1 => State::Evicted,
                    _ => State::Value { bytes: b"from elsewhere", expiry: None },
                };
                let (at, record) = (store.address(key), Record { key, stamp, state });
                let mut stripe = store.lock(store.stripe_of(at.slot));
                stripe.apply(at, &record, &Seen::new(), now.wall).unwrap();
            }
            Step::Evict => (0..store.stripes()).for_each(|index| _ = store.lock(index).evict_one(now.wall)),
            Step::Sweep(visits) => {
                (0..store.stripes()).for_each(|index| _ = store.lock(index).sweep(now.wall, *visits))
            }
            Step::Collect(items) => (0..store.stripes()).for_each(|index| _ = store.lock(index).collect(*items)),
            Step::Frontier => _ = store.advance_frontier(now),
            Step::Budget(bytes) => store.settings().set_tombstone_budget(*bytes),
            Step::Flush => _ = store.flush(now.wall),
            Step::ApplyFlush { region, at_ms: ms } => {
                let stamp = Stamp { time: at_ms(*ms).wall, origin: origin(*region, 0) };
                (0..store.stripes()).for_each(|index| store.lock(index).flush(&SlotRange::ALL, stamp));
            }
            Step::Read(key) => {
                let at = store.address(key);
                store.lock(store.stripe_of(at.slot)).read(at, key, now.wall);
            }
            Step::Pass(ms) => {
                let passed = std::time::Duration::from_millis(*ms);
                self.now = self.now.after(passed);
            }
        }
    }
}

/// Everything that holds a value, by looking at every slot.
fn recount(store: &Store) -> BTreeMap<Vec<u8>, (Stamp, Vec<u8>, Option<Expiry>)> {
    let mut found = BTreeSet::new();
    for slot in Slot::all() {
        let (stripe, mut budget) = (store.lock(store.stripe_of(slot)), usize::MAX);
        let rest = stripe.scan_keys(slot, ScanPosition::default(), Time::ZERO, &mut budget, |key, _| {
            found.insert(key.to_vec());
            true
        });
        assert_eq!(rest, None, "nothing bounded this scan");
    }
    found.into_iter().map(|key| (key.clone(), held(store, &key).expect("a value was just there"))).collect()
}

/// Few cases, since each is long; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    if env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default() } else { ProptestConfig::with_cases(64) }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn stamps_of_a_key_never_go_back_and_floors_never_fall(steps in steps(120)) {
        let mut subject = Subject::new(2, 8);
        let mut known: BTreeMap<Vec<u8>, Stamp> = BTreeMap::new();
        let mut floors: BTreeMap<Slot, Stamp> = BTreeMap::new();
        for step in &steps {
            subject.take(step);
            for key in (0..4).flat_map(|tag| (0..12).map(move |key| format!("{{{tag}}}{key}").into_bytes())) {
                let slot = Slot::of(&key);
                let floor = subject.store.lock(subject.store.stripe_of(slot)).floor(slot);
                let last = floors.insert(slot, floor).unwrap_or(Stamp::ZERO);
                prop_assert!(floor >= last, "the floor of {slot} fell from {last} to {floor}");
                if let Some((stamp, ..)) = held(&subject.store, &key) {
                    let last = known.insert(key, stamp).unwrap_or(Stamp::ZERO);
                    prop_assert!(stamp >= last, "a stamp went back from {last} to {stamp}");
                }
            }
        }
    }

    #[test]
    fn the_books_agree_with_a_recount(steps in steps(150)) {
        let mut subject = Subject::new(4, 16);
        for step in &steps {
            subject.take(step);
            let sum: usize = (0..4).map(|index| subject.store.lock(index).used_bytes()).sum();
            prop_assert_eq!(subject.store.settings().used_bytes(), sum, "after {:?}", step);
        }
        let there = recount(&subject.store);
        let census = subject.store.census();
        prop_assert_eq!(census.values, there.len());
        prop_assert_eq!(census.volatile, there.values().filter(|(_, _, expiry)| expiry.is_some()).count());
        for slot in there.keys().map(|key| Slot::of(key)).collect::<BTreeSet<_>>() {
            let here = there.keys().filter(|key| Slot::of(key) == slot).count();
            prop_assert_eq!(subject.store.lock(subject.store.stripe_of(slot)).count_values(slot), here);
        }
    }

    #[test]
    fn memory_comes_back_when_all_is_gone(steps in steps(150)) {
        let mut subject = Subject::new(2, 8);
        steps.iter().for_each(|step| subject.take(step));
        for key in recount(&subject.store).into_keys() {
            delete(&subject.store, &key, subject.now);
        }
        subject.now = subject.now.after(std::time::Duration::from_secs(10));
        subject.store.advance_frontier(subject.now);
        (0..2).for_each(|index| while subject.store.lock(index).collect(10) {});
        prop_assert_eq!(subject.store.census().tombstones, 0);
        prop_assert_eq!(subject.store.settings().tombstone_bytes(), 0);
        prop_assert_eq!(subject.store.settings().used_bytes(), 0);
    }

    /// Whatever happens to a source, and however its feed is polled in between: who takes it all in has what the source
    /// has, and has seen what the source had.
    #[test]
    fn a_consumer_ends_with_what_the_source_has(
        steps in steps(150),
        polls in proptest::collection::vec((1..600_usize, 0..6_usize), 1..150),
        cuts in proptest::collection::vec(proptest::bool::weighted(0.1), 150),
        clones in any::<bool>(),
        alone in any::<bool>(),
        rings in 2..30_usize,
        consumer_stripes in 0..3_u32,
    ) {
        let mut subject = if alone { Subject::new(2, rings) } else { Subject::among_peers(2, rings) };
        let steps: Vec<_> = steps.into_iter().filter(|step| !alone || !step.is_from_elsewhere()).collect();
        let consumer = Consumer::new(1 << consumer_stripes);
        let before = polls.len().min(steps.len() / 4);
        steps[..before].iter().for_each(|step| subject.take(step));
        let mut feed = if clones {
            Feed::clone_all(&subject.store, Scope::Everything, consumer.store.origin())
        } else {
            Feed::resume(&subject.store, Scope::Everything, consumer.store.origin(), SeenTable::new(SlotRange::ALL))
        };
        let mut intake = Intake::default();
        let mut turns = polls.iter().zip(cuts).cycle();
        let mut rest = steps[before..].iter();
        while rest.len() > 0 {
            let ((bytes_max, between), is_cut) = turns.next().expect("a cycle does not end");
            rest.by_ref().take(*between.max(&1)).for_each(|step| subject.take(step));
            consumer.poll(&subject, &mut feed, &mut intake, *bytes_max);
            if clones && is_cut {
                let seen = consumer.store.seen_table(subject.now);
                feed = Feed::clone_rest(&subject.store, Scope::Everything, consumer.store.origin(), seen);
                intake = Intake::default();
            }
        }
        while consumer.poll(&subject, &mut feed, &mut intake, 10_000) == Polled::More {}
        let (expected, found) = (recount(&subject.store), recount(&consumer.store));
        // What the source dropped for its own reasons may live on here, but then as it was written.
        for (key, value) in &expected {
            prop_assert_eq!(found.get(key), Some(value), "{:?}", String::from_utf8_lossy(key));
        }
        let dropped = subject.store.counters();
        if dropped.evicted + dropped.expired + dropped.forgotten_early == 0 {
            prop_assert_eq!(found, expected);
        }
        let watermark = consumer.store.seen_minima(subject.now).at(subject.store.origin());
        prop_assert!(watermark >= subject.now.wall);
    }

    #[test]
    fn flushes_and_writes_in_any_order_of_arrival_end_alike(
        steps in proptest::collection::vec((keys(), 2..5_u8, 0..12_u64, 0..8_u8), 1..40),
        order in proptest::collection::vec(any::<u32>(), 40),
    ) {
        let straight = Subject::new(1, 8);
        let shuffled = Subject::new(4, 8);
        let mut arrivals: Vec<_> = steps.iter().zip(order).collect();
        let play = |store: &Store, (key, region, ms, kind): &(Vec<u8>, u8, u64, u8)| {
            // One write made a stamp: what it wrote, and where, follows from it.
            let stamp = Stamp { time: at_ms(*ms).wall, origin: origin(*region, u16::from(*kind)) };
            if *kind == 0 {
                (0..store.stripes()).for_each(|index| store.lock(index).flush(&SlotRange::ALL, stamp));
                return;
            }
            let key = &[&key[..3], &[b'0' + ms.wrapping_add(u64::from(*kind)) as u8 % 3]].concat();
            let state = if *kind == 1 { State::Tombstone } else { State::Value { bytes: &key[..2], expiry: None } };
            let (at, record) = (store.address(key), Record { key, stamp, state });
            store.lock(store.stripe_of(at.slot)).apply(at, &record, &Seen::new(), at_ms(0).wall).unwrap();
        };
        arrivals.iter().for_each(|(step, _)| play(&straight.store, step));
        arrivals.sort_by_key(|(_, order)| *order);
        arrivals.iter().for_each(|(step, _)| play(&shuffled.store, step));
        prop_assert_eq!(recount(&straight.store), recount(&shuffled.store));
    }
}

/// A store that takes in what another one feeds it.
struct Consumer {
    store: Store,
}

impl Consumer {
    fn new(stripes: usize) -> Self {
        let peers = vec![region(1)];
        let store = Store::new(&StoreOptions { origin: origin(9, 0), peers, ..options(stripes, 8) });
        Self { store }
    }

    fn poll(&self, source: &Subject, feed: &mut Feed, intake: &mut Intake, bytes_max: usize) -> Polled {
        let mut parcels = Vec::new();
        let polled = feed.poll(&source.store, source.now, bytes_max, |item| {
            parcels.push(Parcel::of(item));
            parcels[parcels.len() - 1].bytes()
        });
        for parcel in &parcels {
            intake.take(&self.store, &parcel.item(), &Seen::new(), source.now).expect("the heap has room");
        }
        polled
    }
}

/// More keys in one slot than a scan visits under one hold of the lock; writes, deletes and growth of the table go on
/// between any two of its steps.
#[test]
fn a_slot_larger_than_a_hold_is_scanned_while_it_changes() {
    let key = |number: usize| format!("{{x}}{number}").into_bytes();
    let mut subject = Subject::new(1, 64);
    let count = SCAN_ENTRIES_PER_HOLD * 16;
    for number in 0..count {
        write(&subject.store, &key(number), b"before", None, subject.now);
    }
    let consumer = Consumer::new(1);
    let mut feed = Feed::clone_all(&subject.store, Scope::Region(region(1)), consumer.store.origin());
    let (mut intake, mut turn) = (Intake::default(), 0);
    while consumer.poll(&subject, &mut feed, &mut intake, 5_000) == Polled::More {
        turn += 1;
        subject.now = subject.now.after(std::time::Duration::from_millis(1));
        for number in (turn * 50..turn * 50 + 50).filter(|_| turn < 100) {
            write(&subject.store, &key(number * 17 % count), b"during", None, subject.now);
            write(&subject.store, &key(count + number), b"new", None, subject.now);
            delete(&subject.store, &key(number * 31 % count), subject.now);
        }
    }
    assert!(turn > 10, "the scan did not pause");
    assert_eq!(recount(&consumer.store), recount(&subject.store));
}

#[test]
fn a_clone_that_was_cut_off_goes_on_where_it_was() {
    let mut subject = Subject::among_peers(4, 4_000);
    let keys: Vec<_> = (0..5_000).map(|number| format!("key:{number}").into_bytes()).collect();
    for key in &keys {
        write(&subject.store, key, b"value", None, subject.now);
    }
    let (consumer, scope) = (Consumer::new(2), Scope::Region(region(1)));
    let (source, taker) = (subject.store.origin(), consumer.store.origin());
    let mut feed = Feed::clone_all(&subject.store, scope, taker);
    let mut intake = Intake::default();
    while feed.slots_scanned() < SlotRange::ALL.count() as u64 / 2 {
        subject.now = subject.now.after(std::time::Duration::from_millis(1));
        consumer.poll(&subject, &mut feed, &mut intake, 5_000);
    }
    let left = feed.slots_waiting();
    let seen = consumer.store.seen_table(subject.now);
    let birth = subject.store.matrix().birth(source);
    let mut through = keys.iter().filter(|key| seen.at(Slot::of(key), source) > birth);
    // Meanwhile a slot that was through hears of a third region, and another one is written to.
    let (heard, written) = (through.next().expect("half of them"), through.next().expect("half of them"));
    subject.take(&Step::Apply { key: heard.clone(), region: 3, at_ms: 100_000, kind: 0 });
    write(&subject.store, written, b"newer", None, subject.now);
    let mut rest = Feed::clone_rest(&subject.store, scope, taker, seen);
    assert_eq!(rest.slots_waiting(), left + 1);
    let mut intake = Intake::default();
    while consumer.poll(&subject, &mut rest, &mut intake, 5_000) == Polled::More {}
    assert_eq!(rest.slots_scanned(), left as u64 + 1);
    assert_eq!(recount(&consumer.store), recount(&subject.store));
    // A slot that was cut in its middle may come twice, and nothing else.
    let again = intake.tally().stale;
    assert!(again < 50, "{again} records came twice");
}

#[test]
fn a_feed_that_the_ring_outran_scans_only_slots_that_changed() {
    let mut subject = Subject::new(1, 4);
    for number in 0..100 {
        write(&subject.store, format!("old:{number}").as_bytes(), b"v", None, subject.now);
    }
    let consumer = Consumer::new(1);
    let mut feed = Feed::clone_all(&subject.store, Scope::Region(region(1)), consumer.store.origin());
    let mut intake = Intake::default();
    while consumer.poll(&subject, &mut feed, &mut intake, 100_000) == Polled::More {}
    let scanned = feed.slots_scanned();
    subject.now = subject.now.after(std::time::Duration::from_millis(1));
    for number in 0..50 {
        write(&subject.store, format!("{{x}}{number}").as_bytes(), b"v", None, subject.now);
    }
    assert_eq!(feed.backlog(&subject.store), 50);
    while consumer.poll(&subject, &mut feed, &mut intake, 100_000) == Polled::More {}
    assert_eq!(feed.slots_scanned(), scanned + 1);
    assert!(!feed.has_news(&subject.store));
    assert_eq!(recount(&consumer.store), recount(&subject.store));
}

/// What a region has from another is in its log as well, and nothing that the other need be told.
#[test]
fn what_came_from_the_consumer_is_no_news_for_it() {
    let subject = Subject::new(1, 4);
    let consumer = Consumer::new(1);
    let (there, back) = (subject.store.origin(), consumer.store.origin());
    let mut feed = Feed::clone_all(&subject.store, Scope::Region(region(1)), back);
    let mut returning = Feed::clone_all(&consumer.store, Scope::Region(back.region()), there);
    let mut intake = Intake::default();
    let poll = |returning: &mut Feed, bytes_max| {
        let (mut records, mut watermarks) = (0, 0);
        let polled = returning.poll_news(&consumer.store, subject.now, bytes_max, |item| {
            records += usize::from(matches!(item, FeedItem::Record { .. }));
            watermarks += usize::from(matches!(item, FeedItem::Watermark { .. }));
            1
        });
        (polled, records, watermarks)
    };
    while poll(&mut returning, usize::MAX).0 == Polled::More {}
    write(&subject.store, b"key", b"value", None, subject.now);
    while consumer.poll(&subject, &mut feed, &mut intake, 100_000) == Polled::More {}
    assert_eq!(returning.backlog(&consumer.store), 1);
    assert_eq!(poll(&mut returning, usize::MAX), (Polled::Idle, 0, 0));
    // What it writes itself is followed by a watermark, also when it was sent before all was read.
    write(&consumer.store, b"own", b"value", None, subject.now);
    assert_eq!(poll(&mut returning, 1), (Polled::More, 1, 0));
    assert_eq!(poll(&mut returning, usize::MAX), (Polled::Drained, 0, 1));
    assert_eq!(poll(&mut returning, usize::MAX), (Polled::Idle, 0, 0));
}

#[test]
fn what_is_of_no_use_to_a_consumer_is_looked_through_in_turns() {
    const TURNS: usize = 3;
    let log_records = TURNS * FEED_LOOKS_PER_POLL;
    let store = Store::new(&options(1, log_records));
    for number in 0..log_records as u64 {
        write(&store, b"key", b"value", None, at_ms(number));
    }
    let now = at_ms(log_records as u64);
    let mut feed = Feed::resume(&store, Scope::Region(region(1)), origin(2, 0), store.seen_table(now));
    let mut emitted = Vec::new();
    let mut poll = || {
        feed.poll(&store, now, usize::MAX, |item| {
            emitted.push(Parcel::of(item));
            1
        })
    };
    for _ in 0..TURNS {
        assert_eq!(poll(), Polled::More);
    }
    assert_eq!(poll(), Polled::Drained);
    assert!(matches!(emitted[..], [Parcel::Watermark { .. }]), "{emitted:?}");
}

#[test]
fn a_poll_of_no_bytes_makes_progress_all_the_same() {
    let subject = Subject::new(4, 8);
    write(&subject.store, b"key", b"value", None, subject.now);
    let consumer = Consumer::new(2);
    let mut feed =
        Feed::resume(&subject.store, Scope::Everything, consumer.store.origin(), SeenTable::new(SlotRange::ALL));
    let mut intake = Intake::default();
    let drained = (0..100).any(|_| consumer.poll(&subject, &mut feed, &mut intake, 0) == Polled::Drained);
    assert!(drained);
    assert!(held(&consumer.store, b"key").is_some());
}

/// A watermark says "everything up to here", so nothing may be issued at or below it afterwards, also not while the
/// wall clock stands still.
#[test]
fn nothing_is_stamped_under_a_watermark_that_was_given_out() {
    let subject = Subject::new(2, 8);
    let own: Origin = subject.store.origin();
    for number in 0..1_000_u32 {
        let given: Time = subject.store.seen_minima(subject.now).at(own);
        let stamp = write(&subject.store, &number.to_le_bytes(), b"v", None, subject.now);
        assert!(stamp.time > given, "{stamp} was issued under {given:?}");
    }
}

/// Region 1 dies after a record or a flush of it reached region 2, and before the watermark that would have covered it did:
/// region 2 alone can tell region 3, whether its feed begins afterwards or was under way.
#[test]
fn what_a_dead_origin_had_sent_ahead_of_its_watermark_reaches_everyone() {
    for (flushes, under_way) in [(false, false), (false, true), (true, false), (true, true)] {
        let [dead, second, third] = [1, 2, 3].map(|id| {
            let peers = (1..=3).filter(|peer| *peer != id).map(region).collect();
            let store = Store::new(&StoreOptions { origin: origin(id, 0), peers, ..options(1, 8) });
            (1..=3).for_each(|peer| {
                _ = store.update_matrix(|matrix| matrix.announce(origin(peer, 0), Time::ZERO, &Claim::all()))
            });
            Subject { store, now: at_ms(0) }
        });
        let (second_seen, third_seen) = (SeenTable::new(SlotRange::ALL), SeenTable::new(SlotRange::ALL));
        let mut first_feed = Feed::resume(&dead.store, Scope::Region(region(1)), origin(2, 0), second_seen);
        let mut feed = Feed::resume(&second.store, Scope::Region(region(2)), origin(3, 0), third_seen);
        let (second, third) = (Consumer { store: second.store }, Consumer { store: third.store });
        write(&third.store, b"key", b"old", None, at_ms(0));
        write(&dead.store, b"key", b"new", None, at_ms(1));
        if flushes {
            dead.store.flush(at_ms(2).wall);
        }
        // One byte at a time: the watermark would come last, and does not come.
        assert_eq!(second.poll(&dead, &mut first_feed, &mut Intake::default(), 1), Polled::More);
        let source = Subject { store: second.store, now: at_ms(3) };
        let mut intake = Intake::default();
        while under_way && third.poll(&source, &mut feed, &mut intake, 1_000) == Polled::More {}
        source.store.update_matrix(|matrix| matrix.announce(origin(1, 1), at_ms(3).wall, &Claim::all()));
        if under_way {
            feed.queue_orphans(&source.store);
        } else {
            let seen = third.store.seen_table(at_ms(3));
            feed = Feed::resume(&source.store, Scope::Region(region(2)), origin(3, 0), seen);
        }
        while third.poll(&source, &mut feed, &mut intake, 1_000) == Polled::More {}
        assert_eq!(held(&third.store, b"key"), held(&source.store, b"key"), "flushes {flushes}, under way {under_way}");
        assert_eq!(held(&third.store, b"key").is_none(), flushes);
    }
}
