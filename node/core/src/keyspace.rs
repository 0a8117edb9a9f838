//! How a command reaches the stripes: locks in order, held no longer than the command.
//!
//! A command on one key locks one stripe for as long as its closure runs. A command on several keys first *holds*
//! their stripes, which locks them in ascending order, so that it is atomic and nobody can deadlock. A transaction holds
//! the stripes of all its commands before the first one runs; what those then hold themselves is held already.

use clock::{Now, Stamp};

use crate::{
    limits::PREFETCHES_PER_HOLD,
    slot::Slot,
    store::{Address, Store, Stripe, StripeGuard},
};

/// The way to the store of one command or one transaction. Lets go of what it holds when dropped, so it must not outlive
/// that.
#[derive(Debug)]
pub struct Keyspace<'s> {
    store: &'s Store,
    now: Now,
    /// Stripes that are locked, in ascending order; `None` if there are none, which costs nothing to drop.
    held: Option<Vec<(usize, StripeGuard<'s>)>>,
}

impl<'s> Keyspace<'s> {
    /// Holds nothing yet. All that happens through it happens at `now`.
    pub const fn new(store: &'s Store, now: Now) -> Self {
        Self { store, now, held: None }
    }

    /// When this happens.
    pub const fn now(&self) -> Now {
        self.now
    }

    /// The store, for what concerns all of it. Do not lock through it while stripes are held.
    pub const fn store(&self) -> &'s Store {
        self.store
    }

    /// Does something to the stripe of a key.
    #[inline]
    pub fn on<T>(&mut self, key: &[u8], act: impl FnOnce(&mut Stripe, Address) -> T) -> T {
        let at = self.store.address(key);
        self.on_stripe(self.store.stripe_of(at.slot), |stripe| act(stripe, at))
    }

    /// Does something to a stripe.
    #[inline]
    pub fn on_stripe<T>(&mut self, index: usize, act: impl FnOnce(&mut Stripe) -> T) -> T {
        let mut locked;
        let stripe = match &mut self.held {
            None => {
                locked = self.store.lock(index);
                &mut *locked
            }
            Some(held) => held_stripe(held, index),
        };
        // The one call, so that it is inlined.
        act(stripe)
    }

    /// Locks the stripes of all these keys, so that what follows is atomic, once it has brought the first of the keys into the cache. Does nothing if some
    /// are held already: then a transaction holds them all.
    pub fn hold<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]> + Clone) {
        if self.held.is_none() {
            let mut ahead = keys.clone();
            for _ in 0..PREFETCHES_PER_HOLD {
                if self.store.prefetch(ahead.by_ref()) == 0 {
                    break;
                }
            }
            let stripes = keys.map(|key| self.store.stripe_of(Slot::of(key)));
            let wanted = stripes.fold(0_u64, |wanted, index| wanted | 1 << index);
            self.hold_stripes(wanted);
        }
    }

    /// Locks all stripes.
    pub fn hold_all(&mut self) {
        if self.held.is_none() {
            self.hold_stripes(u64::MAX);
        }
    }

    /// Does something to every stripe, in their order. Unless they are held, each is locked for its turn alone.
    pub fn on_every_stripe(&mut self, mut act: impl FnMut(&mut Stripe)) {
        for index in 0..self.store.stripes() {
            self.on_stripe(index, &mut act);
        }
    }

    /// Drops everything, here and in every region. Holds all stripes from here on.
    pub fn flush(&mut self) -> Stamp {
        self.hold_all();
        let held = self.held.as_deref_mut().unwrap_or_default();
        assert_eq!(held.len(), self.store.stripes(), "a transaction with a flush in it holds all stripes");
        self.store.flush_held(held.iter_mut().map(|(_, stripe)| &mut **stripe), self.now.wall)
    }

    fn hold_stripes(&mut self, wanted: u64) {
        let indexes = (0..self.store.stripes()).filter(|index| wanted & 1 << index != 0);
        self.held = Some(indexes.map(|index| (index, self.store.lock(index))).collect())
            .filter(|held: &Vec<_>| !held.is_empty());
    }
}

/// A stripe among those that are held.
#[cold]
fn held_stripe<'h>(held: &'h mut [(usize, StripeGuard<'_>)], index: usize) -> &'h mut Stripe {
    match held.binary_search_by_key(&index, |(held, _)| *held) {
        Ok(position) => &mut held[position].1,
        // To lock it now might be out of order; whoever holds some must hold all that it touches.
        Err(_) => unreachable!("a command that holds stripes holds all of those that it touches"),
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use clock::{Incarnation, Now, Origin, RegionId, Time};

    use super::Keyspace;
    use crate::store::{Store, StoreOptions};

    const NOW: Now = Now { wall: Time::from_unix_ms(1_700_000_000_000), monotonic: Duration::ZERO };

    fn store() -> Store {
        Store::new(&StoreOptions {
            origin: Origin::new(RegionId::MIN, Incarnation::FIRST),
            start: Time::ZERO,
            peers: vec![],
            stripes: 64,
            log_records: 1024,
            hash_seed: 1,
        })
    }

    fn value(keyspace: &mut Keyspace<'_>, key: &[u8]) -> Option<Vec<u8>> {
        keyspace.on(key, |stripe, at| stripe.read(at, key, NOW.wall).map(|found| found.value.to_vec()))
    }

    fn write(keyspace: &mut Keyspace<'_>, key: &[u8], value: &[u8]) {
        keyspace.on(key, |stripe, at| stripe.write(at, key, value, None, NOW.wall)).unwrap();
    }

    #[test]
    fn what_is_held_changes_at_once_in_whatever_order_it_is_named() {
        let keys: Vec<Vec<u8>> = (0..20_u8).map(|key| vec![key]).collect();
        let store = store();
        thread::scope(|scope| {
            for worker in 0..4_u8 {
                let (store, mut keys) = (&store, keys.clone());
                scope.spawn(move || {
                    for round in 0..500 {
                        keys.rotate_left(usize::from(worker) + 1);
                        let mut keyspace = Keyspace::new(store, NOW);
                        keyspace.hold(keys.iter().map(Vec::as_slice));
                        let first = value(&mut keyspace, &keys[0]);
                        assert!(keys.iter().all(|key| value(&mut keyspace, key) == first));
                        let new = format!("{worker}:{round}");
                        keys.iter().for_each(|key| write(&mut keyspace, key, new.as_bytes()));
                        if round % 100 == 0 {
                            drop(keyspace);
                            Keyspace::new(store, NOW).flush();
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn what_is_held_is_let_go_in_the_end() {
        let store = store();
        let mut keyspace = Keyspace::new(&store, NOW);
        keyspace.flush();
        write(&mut keyspace, b"a", b"1");
        keyspace.hold([&b"a"[..], b"b"].into_iter());
        drop(keyspace);
        let mut keyspace = Keyspace::new(&store, NOW);
        assert_eq!(value(&mut keyspace, b"a").as_deref(), Some(&b"1"[..]));
        assert_eq!(value(&mut keyspace, b"b"), None);
    }

    #[test]
    #[should_panic(expected = "holds all of those that it touches")]
    fn what_is_not_held_beside_what_is_held_is_out_of_reach() {
        let store = store();
        let mut keyspace = Keyspace::new(&store, NOW);
        keyspace.hold([&b"a"[..]].into_iter());
        value(&mut keyspace, b"b");
    }
}
