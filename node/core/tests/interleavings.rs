//! What is concurrent by hand, in every order in which threads may come: with loom in place of the standard library's atomics.
//!
//! That a model can fail is shown beside each: with its fence or its order taken away loom finds the run that breaks it.

/// What the modules below find as `crate::atomics`.
mod atomics {
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Acquire, Relaxed, Release, SeqCst},
        fence,
    };
}
#[path = "../src/store/news.rs"]
mod news;
#[expect(unreachable_pub, reason = "public in the library")]
#[path = "../src/turns.rs"]
mod turns;

use atomics::{Acquire, AtomicU64, Relaxed, Release};
use loom::{
    model,
    sync::{Arc, Mutex, Notify},
    thread,
};
use news::News;
use turns::Turns;

/// What turns go by, and what they write under it.
struct Node {
    turns: Turns,
    routing: AtomicU64,
    written: AtomicU64,
}

impl Node {
    fn new() -> Arc<Self> {
        Arc::new(Self { turns: Turns::new(1), routing: AtomicU64::new(0), written: AtomicU64::new(0) })
    }

    /// A turn that writes only by the first routing.
    fn turn(&self) {
        let _turn = self.turns.begin(0);
        if self.routing.load(Relaxed) == 0 {
            self.written.store(self.written.load(Relaxed) + 1, Relaxed);
        }
    }
}

#[test]
fn after_the_turns_have_passed_nothing_is_written_by_the_former_routing() {
    model(|| {
        let node = Node::new();
        let worker = node.clone();
        let worker = thread::spawn(move || (0..2).for_each(|_| worker.turn()));
        node.routing.store(1, Relaxed);
        let mut passing = node.turns.passing();
        while !passing.is_over() {
            thread::yield_now();
        }
        let written = node.written.load(Relaxed);
        drop(passing);
        worker.join().unwrap();
        assert_eq!(node.written.load(Relaxed), written, "written after the wait");
    });
}

#[test]
#[should_panic(expected = "written after the wait")]
fn without_a_fence_a_turn_goes_unnoticed() {
    model(|| {
        let (number, node) = (Arc::new(AtomicU64::new(0)), Node::new());
        let (worker, its_number) = (node.clone(), number.clone());
        let worker = thread::spawn(move || {
            its_number.store(1, Release);
            if worker.routing.load(Relaxed) == 0 {
                worker.written.store(1, Relaxed);
            }
            its_number.store(2, Release);
        });
        node.routing.store(1, Relaxed);
        while number.load(Acquire) == 1 {
            thread::yield_now();
        }
        let written = node.written.load(Relaxed);
        worker.join().unwrap();
        assert_eq!(node.written.load(Relaxed), written, "written after the wait");
    });
}

/// A log under its stripe's lock, and who waits for it.
struct Log {
    length: Mutex<u64>,
    news: News,
    wake: Notify,
}

impl Log {
    fn new() -> Arc<Self> {
        Arc::new(Self { length: Mutex::new(0), news: News::new(), wake: Notify::new() })
    }

    fn append(&self) {
        let mut length = self.length.lock().unwrap();
        *length += 1;
        let is_due = self.news.take();
        drop(length);
        if is_due {
            self.wake.notify();
        }
    }

    /// Reads until so much is there. A wake that was lost would have it wait for ever, which loom calls a deadlock.
    fn read(&self, until: u64, asks_first: bool) {
        loop {
            if asks_first {
                self.news.ask();
            }
            if *self.length.lock().unwrap() == until {
                return;
            }
            if !asks_first {
                self.news.ask();
            }
            self.wake.wait();
        }
    }
}

fn read_while_another_appends_twice(asks_first: bool) {
    model(move || {
        let log = Log::new();
        let writer = log.clone();
        let writer = thread::spawn(move || (0..2).for_each(|_| writer.append()));
        log.read(2, asks_first);
        writer.join().unwrap();
    });
}

#[test]
fn a_reader_that_asks_and_looks_again_misses_no_append() {
    read_while_another_appends_twice(true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_reader_that_looks_and_then_asks_sleeps_for_ever() {
    read_while_another_appends_twice(false);
}
