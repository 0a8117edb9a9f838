//! Which values give way, and that nothing else does: eviction by each policy, and the sweep for values that ended.

mod store_support;

use std::collections::BTreeSet;

use clock::Now;
use node_core::slot::SlotRange;
use node_core::store::{
    EvictionPolicy, Expiry, Feed, Intake, OutOfMemory, Polled, Scope, Seen, SeenTable, Store, StoreOptions,
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use store_support::{NOON_MS, at_ms, held, options, origin, parcel::Parcel, region, write};

const KEYS: usize = 4_000;

fn name(number: usize) -> Vec<u8> {
    format!("key:{number:06}").into_bytes()
}

fn read(store: &Store, number: usize, now: Now) {
    let key = name(number);
    let at = store.address(&key);
    assert!(store.lock(store.stripe_of(at.slot)).read(at, &key, now.wall).is_some());
}

/// A store of one region alone, so that what it drops is forgotten at once, with all keys written at noon.
fn filled(policy: EvictionPolicy, expiry: impl Fn(usize) -> Option<Expiry>) -> Store {
    let store = Store::new(&options(4, 64));
    store.settings().set_policy(policy);
    (0..KEYS).for_each(|number| _ = write(&store, &name(number), &[b'v'; 100], expiry(number), at_ms(0)));
    store
}

/// Takes `percent` of the memory in use away, and returns which keys are gone.
fn evicted(store: &Store, percent: usize, now: Now) -> BTreeSet<usize> {
    store.advance_frontier(now);
    let limit = store.settings().used_bytes() * (100 - percent) / 100;
    store.settings().set_max_memory(limit);
    store.make_room(now.wall).expect("there is enough to drop");
    assert!(store.settings().used_bytes() <= limit);
    let gone: BTreeSet<_> = (0..KEYS).filter(|number| held(store, &name(*number)).is_none()).collect();
    assert_eq!(store.counters().evicted, gone.len() as u64);
    gone
}

fn percent_of(part: usize, whole: usize) -> usize {
    part * 100 / whole
}

fn in_ms(ms: u64) -> Option<Expiry> {
    Some(Expiry::at_unix_ms(NOON_MS + ms))
}

/// Every third key is read each second, at random, for ten minutes.
fn use_every_third(store: &Store) -> Now {
    let mut random = Pcg64Mcg::seed_from_u64(11);
    for second in 1..=600 {
        for _ in 0..50 {
            read(store, random.random_range(0..KEYS / 3) * 3, at_ms(second * 1_000));
        }
    }
    at_ms(600_000)
}

#[test]
fn lru_drops_what_was_not_used_for_long() {
    for (policy, expiry) in [(EvictionPolicy::AllKeysLru, None), (EvictionPolicy::VolatileLru, in_ms(1 << 30))] {
        let store = filled(policy, |_| expiry);
        let now = use_every_third(&store);
        let gone = evicted(&store, 30, now);
        let used = gone.iter().filter(|number| *number % 3 == 0).count();
        // A third of the keys is in use; of what was dropped, less than one in a hundred.
        assert!(percent_of(used, gone.len()) < 1, "{policy:?} dropped {used} of {} that were in use", gone.len());
    }
}

#[test]
fn lfu_drops_what_was_used_seldom_even_if_just_now() {
    for (policy, expiry) in [(EvictionPolicy::AllKeysLfu, None), (EvictionPolicy::VolatileLfu, in_ms(1 << 30))] {
        let store = filled(policy, |_| expiry);
        let mut random = Pcg64Mcg::seed_from_u64(12);
        for _ in 0..KEYS * 30 {
            read(&store, random.random_range(0..KEYS / 3) * 3, at_ms(1_000));
        }
        let now = at_ms(2_000);
        (0..KEYS).filter(|number| number % 3 != 0).for_each(|number| read(&store, number, now));
        let gone = evicted(&store, 30, now);
        let often = gone.iter().filter(|number| *number % 3 == 0).count();
        assert!(percent_of(often, gone.len()) < 2, "{policy:?} dropped {often} of {} used often", gone.len());
    }
}

#[test]
fn ttl_drops_what_ends_first() {
    let mut random = Pcg64Mcg::seed_from_u64(13);
    let ends: Vec<u64> = (0..KEYS).map(|_| random.random_range(1_000_000..2_000_000)).collect();
    let store = filled(EvictionPolicy::VolatileTtl, |number| in_ms(ends[number]));
    let gone = evicted(&store, 25, at_ms(0));
    let late = gone.iter().filter(|number| ends[**number] > 1_500_000).count();
    assert!(percent_of(late, gone.len()) < 1, "dropped {late} of {} that end in the later half", gone.len());
}

#[test]
fn random_prefers_nobody() {
    for (policy, expiry) in [(EvictionPolicy::AllKeysRandom, None), (EvictionPolicy::VolatileRandom, in_ms(1 << 30))] {
        let store = filled(policy, |_| expiry);
        let now = use_every_third(&store);
        let gone = evicted(&store, 30, now);
        let used = gone.iter().filter(|number| *number % 3 == 0).count();
        assert!((28..39).contains(&percent_of(used, gone.len())), "{policy:?}: {used} of {}", gone.len());
    }
}

#[test]
fn volatile_policies_never_touch_what_does_not_expire_and_err_when_nothing_else_is_left() {
    for (policy, _) in EvictionPolicy::NAMES.into_iter().filter(|(policy, _)| policy.is_volatile()) {
        let store = filled(policy, |number| in_ms(1 << 30).filter(|_| number % 2 == 0));
        store.advance_frontier(at_ms(1));
        store.settings().set_max_memory(1);
        assert_eq!(store.make_room(at_ms(1).wall), Err(OutOfMemory));
        let kept: Vec<_> = (0..KEYS).filter(|number| held(&store, &name(*number)).is_some()).collect();
        assert_eq!(kept, (0..KEYS).filter(|number| number % 2 == 1).collect::<Vec<_>>(), "{policy:?}");
    }
}

#[test]
fn without_eviction_writes_that_need_memory_are_refused_and_all_stays() {
    let store = filled(EvictionPolicy::NoEviction, |_| in_ms(1 << 30));
    store.settings().set_max_memory(1_000);
    assert_eq!(store.make_room(at_ms(1).wall), Err(OutOfMemory));
    assert_eq!(store.census().values, KEYS);
    assert_eq!(store.counters().evicted, 0);
}

/// Also while markers have to stay, because a peer was never heard of: they count, and give way when the budget says so.
#[test]
fn memory_stays_under_its_limit_while_writes_go_on() {
    for (policy, _) in EvictionPolicy::NAMES.into_iter().filter(|(policy, _)| *policy != EvictionPolicy::NoEviction) {
        let store = Store::new(&StoreOptions { peers: vec![region(2)], ..options(4, 64) });
        let limit = 400_000;
        store.settings().set_policy(policy);
        store.settings().set_max_memory(limit);
        store.settings().set_tombstone_budget(limit / 10);
        for number in 0..KEYS * 5 {
            let now = at_ms(number as u64);
            store.make_room(now.wall).expect("all values may go");
            assert!(store.settings().used_bytes() <= limit);
            write(&store, &name(number), &[b'v'; 100], in_ms(1 << 30), now);
        }
        // Key, value and 33 bytes beyond; what is over goes for markers and tables.
        assert!(store.census().values * 150 > limit / 2, "{policy:?} keeps {} values", store.census().values);
    }
}

/// Carries all that `from` has to say into `to`.
fn drain(mut feed: Feed, from: &Store, to: &Store, now: Now) {
    let mut intake = Intake::default();
    loop {
        let mut parcels = Vec::new();
        let polled = feed.poll(from, now, 100_000, |item| {
            parcels.push(Parcel::of(item));
            parcels[parcels.len() - 1].bytes()
        });
        for parcel in &parcels {
            intake.take(to, &parcel.item(), &Seen::new(), now).expect("the heap has room");
        }
        if polled == Polled::Drained {
            return;
        }
    }
}

#[test]
fn evicting_here_deletes_nothing_elsewhere_and_what_was_evicted_can_come_back() {
    let store = |id: u8| {
        let peers = vec![region(3 - id)];
        Store::new(&StoreOptions { origin: origin(id, 0), peers, ..options(2, 16) })
    };
    let (here, there) = (store(1), store(2));
    let keys: Vec<_> = (0..200).map(name).collect();
    keys.iter().for_each(|key| _ = write(&here, key, b"value", None, at_ms(0)));
    let resume = |seen| Feed::resume(&here, Scope::Everything, there.origin(), seen);
    drain(resume(SeenTable::new(SlotRange::ALL)), &here, &there, at_ms(1));
    here.settings().set_policy(EvictionPolicy::AllKeysRandom);
    here.settings().set_max_memory(1);
    assert_eq!(here.make_room(at_ms(2).wall), Err(OutOfMemory), "markers stay");
    here.settings().set_max_memory(0);
    assert!(keys.iter().all(|key| held(&here, key).is_none()));
    // By the log, by a scan of what it lacks, and by a scan of everything.
    drain(resume(there.seen_table(at_ms(3))), &here, &there, at_ms(3));
    drain(resume(SeenTable::new(SlotRange::ALL)), &here, &there, at_ms(4));
    drain(Feed::clone_all(&here, Scope::Everything, there.origin()), &here, &there, at_ms(5));
    assert!(keys.iter().all(|key| held(&there, key).is_some()));
    // A feed spares its consumer what that stamped itself; to somebody else, the values go, and beat the markers.
    drain(Feed::clone_all(&there, Scope::Everything, origin(9, 0)), &there, &here, at_ms(6));
    assert!(keys.iter().all(|key| held(&here, key) == held(&there, key)));
}

#[test]
fn a_sweep_finds_all_that_has_ended_and_looks_at_no_more_than_it_may() {
    let mut random = Pcg64Mcg::seed_from_u64(14);
    let ends: Vec<Option<u64>> =
        (0..KEYS).map(|_| random.random_ratio(2, 3).then(|| random.random_range(1..10_000))).collect();
    // Half of the keys share a slot, which a sweep must be able to leave in the middle.
    let key =
        |number: usize| if number.is_multiple_of(2) { name(number) } else { format!("{{x}}{number}").into_bytes() };
    let store = Store::new(&options(2, 16));
    for (number, end) in ends.iter().enumerate() {
        write(&store, &key(number), b"v", end.and_then(in_ms), at_ms(0));
    }
    let (mut late, mut now_ms) = (Vec::new(), 0);
    while now_ms < 9_000 {
        now_ms += 1_000;
        for index in 0..store.stripes() {
            let mut calls = 0;
            loop {
                let swept = store.lock(index).sweep(at_ms(now_ms).wall, 100);
                assert!(swept.visited <= 100);
                calls += 1;
                // Written while the sweep pauses, ends with the next round.
                let extra = format!("{{x}}late:{now_ms}:{calls}").into_bytes();
                write(&store, &extra, b"v", in_ms(now_ms + 500), at_ms(now_ms));
                late.push((extra, now_ms + 500));
                if swept.complete {
                    break;
                }
                assert!(calls < 200, "the sweep does not end");
            }
        }
        let left = (0..KEYS).filter(|number| held(&store, &key(*number)).is_some());
        let expected = (0..KEYS).filter(|number| ends[*number].is_none_or(|end| end >= now_ms));
        assert_eq!(left.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        assert!(late.iter().all(|(key, end)| held(&store, key).is_some() == (*end >= now_ms)));
    }
}

#[test]
fn a_sweep_of_what_has_not_ended_looks_at_nothing() {
    let store = filled(EvictionPolicy::NoEviction, |_| in_ms(60_000));
    for index in 0..store.stripes() {
        let swept = store.lock(index).sweep(at_ms(59_999).wall, 1);
        assert_eq!((swept.visited, swept.complete), (0, true));
    }
}

#[test]
fn a_value_is_a_miss_once_the_millisecond_in_which_it_ends_is_over() {
    let store = filled(EvictionPolicy::NoEviction, |_| in_ms(60_000));
    let key = name(7);
    let at = store.address(&key);
    let mut stripe = store.lock(store.stripe_of(at.slot));
    assert!(stripe.peek(at, &key, at_ms(60_000).wall).is_some());
    assert!(stripe.peek(at, &key, at_ms(60_001).wall).is_none());
    assert_eq!(stripe.counters().expired, 1);
}
