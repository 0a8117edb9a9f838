//! Forgetting: how tombstones and markers leave, and what they leave behind.
//!
//! A tombstone, or the marker of an evicted or expired value, must stay until the frontier has passed its stamp:
//! until then an older value may still be on its way from some region. After that it is dropped at no cost. If the
//! budget for tombstones runs out before, the oldest are dropped all the same. Either way *the slot's floor rises to
//! the stamp*, so a record that might be what was deleted is refused for ever after. An early drop costs misses,
//! never a wrong answer, and memory for deletes is bounded, however long a link stays cut.
//!
//! The graveyard is a queue in the order of arrival, 16 bytes an item, naming keys by hash as the log does. That order
//! is nearly the order of stamps: local deletes are exactly so, and a marker whose value is older than the frontier
//! never enters. An item whose key has been written since is passed over when its turn comes.

use std::collections::VecDeque;

use clock::Stamp;

use super::{
    entry::Entry,
    heap::Handle,
    log::{Item, Subject},
    record::{Kind, Record, State},
    settings::Sabotage,
    stripe::{Address, Stripe},
};
use crate::slot::Slot;

/// What waits to be forgotten.
#[derive(Debug)]
pub(super) struct Graveyard {
    queue: VecDeque<Item>,
    /// Bytes in the blocks of tombstones and markers.
    pub(super) entry_bytes: usize,
}

impl Graveyard {
    pub(super) const fn new() -> Self {
        Self { queue: VecDeque::new(), entry_bytes: 0 }
    }

    /// Bytes that count against the budget.
    pub(super) fn bytes(&self) -> usize {
        self.entry_bytes + self.queue.len() * size_of::<Item>()
    }

    /// Takes in an entry whose bytes are counted already, as the newest.
    pub(super) fn take_in(&mut self, item: Item) {
        self.queue.push_back(item);
    }

    /// Lets go of what bears a stamp that is `gone`.
    pub(super) fn let_go(&mut self, gone: impl Fn(Stamp) -> bool) {
        self.queue.retain(|item| !gone(item.stamp()));
    }

    pub(super) fn queue_bytes(&self) -> usize {
        self.queue.len() * size_of::<Item>()
    }
}

impl Stripe {
    /// Forgets what the frontier has passed, and then the oldest while the budget is exceeded; looks at no more than
    /// `items_max` items. Returns whether there may be more to do.
    pub fn collect(&mut self, items_max: usize) -> bool {
        let frontier = self.settings.frontier();
        for _ in 0..items_max {
            let Some(item) = self.graveyard.queue.front() else { break };
            let passed = item.stamp().time <= frontier;
            if !passed && self.settings.tombstone_bytes() <= self.settings.tombstone_budget() {
                self.shrink_queue();
                return false;
            }
            self.forget_oldest();
            self.publish();
        }
        self.shrink_queue();
        !self.graveyard.queue.is_empty()
    }

    /// Takes in the entry at `handle`, a tombstone or marker that was just installed.
    pub(super) fn bury(&mut self, at: Address, handle: Handle) {
        let stamp = Entry::at(&self.heap, handle).stamp();
        if stamp.time <= self.settings.frontier() {
            self.forget(at.slot, handle);
            self.publish();
            return;
        }
        self.graveyard.queue.push_back(Item::key(at.slot, at.hash, stamp));
        self.publish();
        while self.settings.tombstone_bytes() > self.settings.tombstone_budget() && !self.graveyard.queue.is_empty() {
            self.forget_oldest();
            self.publish();
        }
    }

    /// Drops a value for this region's own reasons: leaves a marker, or nothing if the frontier has passed it.
    pub(super) fn drop_value(&mut self, at: Address, handle: Handle) {
        let held = Entry::at(&self.heap, handle);
        let stamp = held.stamp();
        if stamp.time <= self.settings.frontier() {
            self.forget(at.slot, handle);
            self.publish();
            return;
        }
        let key = held.key().to_vec();
        let marker = Record { key: &key, stamp, state: State::Evicted };
        self.become_marker(at, handle, &marker);
        self.publish();
    }

    /// Takes an entry out of its slot for good and raises the slot's floor over it.
    pub(super) fn forget(&mut self, slot: Slot, handle: Handle) {
        let stamp = Entry::at(&self.heap, handle).stamp();
        let hash = self.hash_of(handle);
        self.remove(slot, hash, handle);
        let early = stamp.time > self.settings.frontier();
        self.counters.forgotten_early += u64::from(early);
        self.table_mut(slot).is_thinned |= early;
        if !(early && self.settings.is_sabotaged(Sabotage::FreeForget)) {
            self.raise_floor(slot, stamp);
        }
    }

    pub(super) fn raise_floor(&mut self, slot: Slot, stamp: Stamp) {
        let table = self.table_mut(slot);
        table.floor = table.floor.max(stamp);
    }

    fn forget_oldest(&mut self) {
        let Some(item) = self.graveyard.queue.pop_front() else { return };
        let Subject::Key(slot, hash) = item.subject() else { return };
        let buried = self.table(slot).with_hash(hash).find(|handle| {
            let held = Entry::at(&self.heap, *handle);
            held.kind() != Kind::Value && held.stamp() == item.stamp()
        });
        if let Some(handle) = buried {
            self.forget(slot, handle);
        }
    }

    /// Gives memory back after a burst of deletes.
    fn shrink_queue(&mut self) {
        let queue = &mut self.graveyard.queue;
        if queue.capacity() > 64 && queue.len() < queue.capacity() / 4 {
            queue.shrink_to(queue.capacity() / 2);
        }
    }
}
