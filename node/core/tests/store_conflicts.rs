//! What is a conflict: two writes of one key whose writers did not know of each other, counted and told of once.

mod store_support;

use node_core::store::{FeedItem, Intake, Record, Seen, State, Store};
use store_support::{at_ms, options, origin, write};

/// A region that holds a write of its own, and the stamp of that.
fn holding() -> (Store, clock::Stamp) {
    let store = Store::new(&options(1, 100));
    let stamp = write(&store, b"key", b"ours", None, at_ms(10));
    (store, stamp)
}

/// A write of another region arrives, whose sender had seen that much.
fn arrive(store: &Store, ms: u64, sender_saw: &Seen) {
    let stamp = clock::Stamp { time: at_ms(ms).wall, origin: origin(2, 0) };
    let state = State::Value { bytes: b"theirs", expiry: None };
    let slot = store.address(b"key").slot;
    let item = FeedItem::Record { slot, record: Record { key: b"key", stamp, state } };
    Intake::default().take(store, &item, sender_saw, at_ms(1_000)).expect("it fits the heap");
}

#[test]
fn a_write_by_who_had_not_seen_ours_is_a_conflict_whichever_wins() {
    for (ms, ours_wins) in [(5, true), (20, false)] {
        let (store, ours) = holding();
        arrive(&store, ms, &Seen::new());
        assert_eq!(store.counters().conflicts, 1);
        let [conflict] = &store.ledger().latest(10)[..] else { panic!("one conflict") };
        assert_eq!(
            (&*conflict.key, conflict.winner == ours, conflict.loser == ours),
            (&b"key"[..], ours_wins, !ours_wins)
        );
    }
}

#[test]
fn a_write_by_who_had_seen_ours_is_an_overwrite() {
    let (store, ours) = holding();
    arrive(&store, 20, &[(ours.origin, ours.time)].into_iter().collect());
    assert_eq!(store.counters().conflicts, 0);
    assert!(store.ledger().latest(10).is_empty());
}

#[test]
fn what_has_arrived_before_is_not_counted_again() {
    let (store, _) = holding();
    arrive(&store, 5, &Seen::new());
    let watermark = FeedItem::Watermark { origin: origin(2, 0), time: at_ms(6).wall };
    Intake::default().take(&store, &watermark, &Seen::new(), at_ms(1_000)).expect("it takes no room");
    arrive(&store, 5, &Seen::new());
    assert_eq!(store.counters().conflicts, 1);
}
