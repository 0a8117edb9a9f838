//! The lag that is told is never less than what it is.
//!
//! DESIGN, `lag`: now minus `seen`, an upper bound of the age of the oldest write that is missing. It is told in stamps, and a new
//! primary's stamps begin up to `max_drift` ahead of clocks that are off themselves: so much less it may be.

use std::{collections::BTreeMap, time::Duration};

use clock::Time;

use super::{super::faults::AHEAD_MAX, World, held_at};
use crate::{
    Broken,
    region::{DRIFT_MAX, Written},
};

/// What was written and may not have arrived everywhere, with the region that wrote it.
#[derive(Debug, Default)]
pub(in crate::world) struct Missing(Vec<(usize, Written)>);

/// How much less may be told: clocks that are off, each way, and stamps that begin ahead of them.
const SLACK: Duration = Duration::from_millis(2 * 250 + 100).saturating_add(DRIFT_MAX);

impl Missing {
    pub(super) fn note(&mut self, region: usize, written: &Written) {
        self.0.push((region, *written));
    }
}

impl World {
    pub(super) fn check_lag(&mut self) -> Result<(), String> {
        let missing = std::mem::take(&mut self.invariants.lag.0);
        let is_open = |(from, written): &(usize, Written)| {
            let lost = self.regions[*from].may_have_lost(written.at);
            !lost && (0..self.regions.len()).any(|to| to != *from && self.lacks(to, written).is_some())
        };
        let missing: Vec<_> = missing.into_iter().filter(is_open).collect();
        let mut told = BTreeMap::new();
        let wrong = missing.iter().find_map(|(from, written)| {
            let others = (0..self.regions.len()).filter(|to| to != from);
            others.into_iter().find_map(|to| self.lag_too_small(*from, to, written, &mut told))
        });
        self.invariants.lag.0 = missing;
        wrong.map_or(Ok(()), Err)
    }

    /// The node that owns the key of something in a region, if that has not arrived there. Who has given a slot away tells nothing of it
    /// any more, and nobody does until it is taken.
    fn lacks(&self, to: usize, written: &Written) -> Option<usize> {
        let index = self.regions[to].owner_index(written.address.slot)?;
        let process = &self.regions[to].processes[index];
        let lacks = process.is_up
            && process.speaks.is_some()
            && process.store.owned().is_none_or(|owned| owned.contains(written.address.slot))
            && held_at(process, written.address, written.name) < Some(written.stamp);
        lacks.then_some(index)
    }

    /// `told` is what was told at this look, by whom and of which region.
    fn lag_too_small(
        &self,
        from: usize,
        to: usize,
        written: &Written,
        told: &mut BTreeMap<(usize, usize, usize), Duration>,
    ) -> Option<String> {
        if !self.are_peers(from, to) {
            return None;
        }
        let slack = if self.has_jumps { SLACK + AHEAD_MAX } else { SLACK };
        let age = self.now.saturating_sub(written.at);
        if age <= slack {
            return None;
        }
        let index = self.lacks(to, written)?;
        let (process, inbound) = (&self.regions[to].processes[index], self.inbound[to][index].as_ref()?);
        let (now, id) = (process.clock.at(self.now), self.regions[from].make.id);
        // Of a region of which nothing was ever seen there nothing is known: then it is told how old the process is.
        let seen = process.store.lock(process.store.stripe_of(written.address.slot)).seen().of(written.address.slot);
        let is_known = seen.iter().any(|(origin, time)| origin.region() == id && time > Time::ZERO);
        let age = if is_known { age } else { age.min(now.monotonic - process.started.monotonic) };
        let told = match self.options.broken {
            Some(Broken::LagOfNobody) => Duration::ZERO,
            _ => *told.entry((to, index, from)).or_insert_with(|| {
                let minima = process.store.seen_minima(now);
                inbound.links.lag(&process.store, &minima, id, process.started, now)
            }),
        };
        (told + slack < age)
            .then(|| format!("{index} of {to} tells {told:?}, and lacks what is {age:?} old: {written:?}"))
    }
}
