//! What is to happen, in the order of time; at the same moment in the order in which it was put there.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

/// See the head of this file.
///
/// Events lie still where they were put; what moves about in the heap is no more than when they are due.
pub(crate) struct Agenda<E> {
    due: BinaryHeap<Reverse<(u64, u64, usize)>>,
    /// How many were ever put here.
    made: u64,
    events: Vec<Option<E>>,
    /// Places that are free.
    free: Vec<usize>,
}

impl<E> Agenda<E> {
    /// Nothing is to happen.
    pub(crate) const fn new() -> Self {
        Self { due: BinaryHeap::new(), made: 0, events: Vec::new(), free: Vec::new() }
    }

    /// Something is to happen at a time.
    pub(crate) fn add(&mut self, at: Duration, event: E) {
        self.made += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        let nanos = u64::try_from(at.as_nanos()).expect("a world is young");
        self.due.push(Reverse((nanos, self.made, place)));
    }

    /// When something happens next.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.due.peek().map(|Reverse((nanos, ..))| Duration::from_nanos(*nanos))
    }

    /// Takes what happens next, and when that is.
    pub(crate) fn pop(&mut self) -> Option<(Duration, E)> {
        let Reverse((nanos, _, place)) = self.due.pop()?;
        self.free.push(place);
        let event = self.events[place].take().expect("what is due was put here");
        Some((Duration::from_nanos(nanos), event))
    }
}
