//! What must hold at any time, beside what clients can see: one invariant in each file, with the promise that it is of.
//!
//! Oracles judge what clients saw, which is what a user would meet. Invariants look behind it, at what no client sees: that what is
//! said of `seen` is true, that stamps increase. They are looked at while the world goes on, so what is wrong is told when
//! it happens and not by what comes of it.
//!
//! | invariant | the promise of the design |
//! |---|---|
//! | [`seen`] | the word `seen`: what is claimed to have arrived is there |
//! | [`primaries`] | rule 9: a region never has two primaries for a slot |
//! | [`stamps`] | rule 3, and the clock: stamps increase over failovers and clocks that are set back |
//! | [`lag`] | the word `lag`: nothing that is missing is older than what is told |
//! | [`bounds`] | rule 10: everything has a bound |
//! | [`frontier`] | the word `frontier`: who is there, and nobody else, holds it back |
//! | [`greatest`] | rule 3: at rest the greatest stamp stands, everywhere |

mod bounds;
mod frontier;
mod greatest;
mod lag;
mod primaries;
mod seen;
mod stamps;

pub(super) use bounds::{BATCH_BYTES, WINDOW_BYTES};
use clock::Stamp;
use node_core::{slot::Slot, store::Address};

use super::World;
use crate::region::{Process, Written};

/// What invariants remember.
#[derive(Debug, Default)]
pub(super) struct Invariants {
    pub(super) seen: seen::Claims,
    pub(super) stamps: stamps::Stamps,
    pub(super) lag: lag::Missing,
    pub(super) greatest: greatest::Greatest,
}

impl World {
    /// Takes note of what was stamped since this was asked last.
    pub(super) fn note_written(&mut self, region: usize, written: Vec<Written>) -> Result<(), String> {
        for one in written {
            self.invariants.seen.note(&one);
            self.invariants.lag.note(region, &one);
            self.invariants.greatest.note(region, &one);
            let broken = self.invariants.stamps.note(&self.regions[region], region, &one);
            self.asks("stamps", || broken)?;
        }
        Ok(())
    }

    /// What must hold at any time.
    pub(super) fn check_invariants(&mut self) -> Result<(), String> {
        self.asks("seen", || self.check_seen())?;
        self.asks("bounds", || self.check_bounds())?;
        let lag = self.check_lag();
        self.asks("lag", || lag)
    }

    /// What must hold whenever a node has answered a client.
    pub(super) fn check_answered(&self, region: usize, index: usize, slot: Slot) -> Result<(), String> {
        self.asks("primaries", || self.check_primaries(region, index, slot))
    }

    /// What must hold at rest.
    pub(super) fn check_at_rest(&self) -> Result<(), String> {
        self.asks("frontier", || self.check_frontier())?;
        self.asks("greatest", || self.check_greatest())
    }

    /// Whether an invariant or oracle of this name is asked at all, and what it says then.
    pub(super) fn asks(&self, name: &str, check: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        if self.options.only.is_some_and(|only| only != name) {
            return Ok(());
        }
        check().map_err(|wrong| format!("{name}: {wrong}"))
    }
}

/// The greatest stamp that a node has, or knows as forgotten, at a key: what is at or under it is no news there.
fn held(process: &Process, name: &[u8]) -> Option<Stamp> {
    held_at(process, process.store.address(name), name)
}

/// As [`held`], where the key's address is known.
fn held_at(process: &Process, at: Address, name: &[u8]) -> Option<Stamp> {
    let store = &process.store;
    let stripe = store.lock(store.stripe_of(at.slot));
    let (record, floor) = (stripe.record(at, name).map(|record| record.stamp), stripe.floor(at.slot));
    record.max(Some(floor))
}
