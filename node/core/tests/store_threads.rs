//! The store under threads: writers and a reader of the log that sleeps when there is nothing to read.

mod store_support;

use std::{
    sync::{
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use node_core::{
    slot::SlotRange,
    store::{EvictionPolicy, Feed, Intake, Polled, Scope, Seen, SeenTable, Store, StoreOptions},
};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use store_support::{at_ms, delete, held, options, origin, parcel::Parcel, region, write};

const KEYS: usize = 300;
const WRITERS: usize = 3;
const WRITES: u64 = 5_000;
/// A reader that sleeps so long while others write was not woken.
const LOST_WAKE: Duration = Duration::from_secs(20);

fn name(number: usize) -> Vec<u8> {
    format!("key:{number}").into_bytes()
}

#[test]
fn a_reader_that_sleeps_is_woken_and_ends_with_what_the_writers_left() {
    let source = Store::new(&options(8, 256));
    source.settings().set_policy(EvictionPolicy::AllKeysRandom);
    let sink = Store::new(&StoreOptions { origin: origin(2, 0), peers: vec![region(1)], ..options(2, 64) });
    let writing = AtomicUsize::new(WRITERS);
    let (wake, woken) = mpsc::channel();
    source.on_news(move || wake.send(()).expect("the reader outlives the store"));
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (source, writing) = (&source, &writing);
            scope.spawn(move || {
                let mut random = Pcg64Mcg::seed_from_u64(writer as u64);
                for turn in 1..=WRITES {
                    let (key, now) = (name(random.random_range(0..KEYS)), at_ms(turn / 100));
                    if random.random_ratio(1, 4) {
                        delete(source, &key, now);
                    } else {
                        write(source, &key, &turn.to_le_bytes(), None, now);
                    }
                }
                writing.fetch_sub(1, SeqCst);
                // The last word, for a reader that went to sleep before it could see that all is done.
                write(source, b"done", b"", None, at_ms(WRITES));
            });
        }
        let mut feed = Feed::resume(&source, Scope::Region(region(1)), sink.origin(), SeenTable::new(SlotRange::ALL));
        let mut intake = Intake::default();
        loop {
            // Read before the poll: then nothing is written after a poll that is drained.
            let finished = writing.load(SeqCst) == 0;
            if poll(&source, &mut feed, &sink, &mut intake) == Polled::More {
                continue;
            }
            if finished && !feed.has_news(&source) {
                break;
            }
            source.await_news();
            if !feed.has_news(&source) && writing.load(SeqCst) > 0 {
                // A wake that was meant for an earlier sleep does no harm.
                woken.recv_timeout(LOST_WAKE).expect("a reader with news to read is woken");
            }
        }
    });
    let mut feed = Feed::resume(&source, Scope::Region(region(1)), sink.origin(), sink.seen_table(at_ms(WRITES)));
    while poll(&source, &mut feed, &sink, &mut Intake::default()) == Polled::More {}
    for number in 0..KEYS {
        assert_eq!(held(&sink, &name(number)), held(&source, &name(number)));
    }
}

fn poll(source: &Store, feed: &mut Feed, sink: &Store, intake: &mut Intake) -> Polled {
    let mut parcels = Vec::new();
    let polled = feed.poll(source, at_ms(WRITES), 10_000, |item| {
        parcels.push(Parcel::of(item));
        parcels[parcels.len() - 1].bytes()
    });
    for parcel in &parcels {
        intake.take(sink, &parcel.item(), &Seen::new(), at_ms(WRITES)).expect("the heap has room");
    }
    polled
}
