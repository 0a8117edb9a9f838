//! Finding what differs: from long runs of slots to single keys, and then again until nothing is merely on its way.
//!
//! ```text
//! digests of runs of slots       all of them, once; most agree, and nothing more is asked about those
//! digests of single slots        where a run differs, and again a few times, with pauses: what was on its way arrives
//! digests of buckets             of slots that are large
//! rows                           of what is left: which keys, and in what way (compare.rs)
//! rows again                     until each key has arrived, or is known not to be on its way, or patience ends
//! ```
//! All regions are asked about the same at the same time, as of one instant somewhat ahead of all their clocks ([`AHEAD`]). Nothing
//! is stopped or held meanwhile.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use node_core::{
    limits::DIGEST_BUCKETS_MAX,
    slot::{SLOTS, Slot, SlotRange},
    store::{Digest, Parts, bucket_of},
};
use tokio::time::{Duration, Instant, sleep};

use super::compare::{Difference, Pending};
use crate::cli::{
    cluster::output::Output,
    region::{
        connection::AskError,
        contact::{Region, now},
        limits::{AHEAD, BUCKET_KEYS, CHUNK_SLOTS, DIFFERENCES_MAX, LOOK_PAUSE, LOOKS, SPAN},
        replies::SlotRows,
    },
};

/// What a comparison has found.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// How many keys each region held that were compared.
    pub(super) keys: Vec<u64>,
    pub(super) differences: Vec<Difference>,
    /// Whether there were more differences than are kept.
    pub(super) is_cut: bool,
}

impl Findings {
    /// Whether nothing differs.
    pub(super) fn agree(&self) -> bool {
        self.differences.is_empty()
    }

    /// In how many slots something differs.
    pub(super) fn slots(&self) -> usize {
        let mut slots: Vec<_> = self.differences.iter().map(|found| found.slot).collect();
        slots.dedup();
        slots.len()
    }
}

/// Slots that differ, and how many keys each holds where it holds most.
type Suspects = BTreeMap<Slot, u32>;

/// A slot of which keys are judged.
struct Case {
    pending: Pending,
    buckets: u16,
}

/// See the head of this file.
pub(super) struct Looker<'r> {
    pub(super) regions: &'r mut [Region],
    /// How long what is on its way is waited for.
    pub(super) patience: Duration,
}

impl Looker<'_> {
    /// Compares everything.
    ///
    /// # Errors
    /// Those of a region that cannot be asked; those of standard output.
    pub(super) async fn look(&mut self, output: &mut Output) -> anyhow::Result<Findings> {
        let mut findings = Findings { keys: vec![0; self.regions.len()], ..Findings::default() };
        let mut suspects = Suspects::new();
        for first in (0..SLOTS).step_by(usize::from(CHUNK_SLOTS)) {
            let end = (first + CHUNK_SLOTS).min(SLOTS);
            let chunk = SlotRange::new(first..end).expect("chunks share out the slots");
            let digests = self.digests(&chunk, Parts::Slots(SPAN)).await?;
            for (keys, digests) in findings.keys.iter_mut().zip(&digests) {
                *keys += digests.iter().map(|digest| u64::from(digest.count())).sum::<u64>();
            }
            let runs = differing(&digests).map(|(run, _)| first + run as u16 * SPAN);
            if let Some(slots) = hull(runs.map(|run| (run, (run + SPAN).min(end)))) {
                suspects.extend(self.suspects(&slots).await?);
            }
            output.progress("slots compared", end.into(), SLOTS.into())?;
        }
        for _ in 1..LOOKS {
            if !suspects.is_empty() {
                sleep(LOOK_PAUSE).await;
                suspects = self.look_again(suspects).await?;
            }
        }
        self.judge(suspects, &mut findings).await?;
        findings
            .differences
            .sort_by(|one, other| (one.slot, &one.key, one.region).cmp(&(other.slot, &other.key, other.region)));
        Ok(findings)
    }

    /// Those of some slots that differ.
    async fn suspects(&mut self, slots: &SlotRange) -> Result<Suspects, AskError> {
        let digests = self.digests(slots, Parts::Slots(1)).await?;
        let at = |index: usize| slots.at(index).expect("there is a digest for each slot");
        Ok(differing(&digests).map(|(index, keys)| (at(index), keys)).collect())
    }

    /// Those that still differ.
    async fn look_again(&mut self, suspects: Suspects) -> Result<Suspects, AskError> {
        let mut left = Suspects::new();
        let numbers: Vec<u16> = suspects.keys().map(|slot| slot.number()).collect();
        for chunk in numbers.chunk_by(|one, other| one / CHUNK_SLOTS == other / CHUNK_SLOTS) {
            let Some(slots) = hull(chunk.iter().map(|slot| (*slot, slot + 1))) else { continue };
            left.extend(self.suspects(&slots).await?.into_iter().filter(|(slot, _)| suspects.contains_key(slot)));
        }
        Ok(left)
    }

    /// Finds the keys that differ in these slots, and waits for what is on its way.
    async fn judge(&mut self, suspects: Suspects, findings: &mut Findings) -> Result<(), AskError> {
        let (mut cases, mut keys) = (Vec::new(), 0);
        for (slot, count) in suspects {
            let case = self.open(slot, count).await?;
            keys += case.pending.keys().count();
            cases.push(case);
            if keys > DIFFERENCES_MAX {
                findings.is_cut = true;
                break;
            }
        }
        let deadline = Instant::now() + self.patience;
        loop {
            for case in &mut cases {
                let mut wanted: Vec<u16> = case.pending.keys().map(|key| bucket_of(key, case.buckets)).collect();
                wanted.sort_unstable();
                wanted.dedup();
                if !wanted.is_empty() {
                    let (rows, at_ms) = self.rows(case.pending.slot(), case.buckets, &wanted).await?;
                    findings.differences.extend(case.pending.judge(&rows, at_ms));
                }
            }
            cases.retain(|case| !case.pending.is_done());
            if cases.is_empty() || Instant::now() >= deadline {
                break;
            }
            sleep(LOOK_PAUSE).await;
        }
        findings.differences.extend(cases.into_iter().flat_map(|case| case.pending.into_unsettled()));
        Ok(())
    }

    /// Takes a first look at the keys of a slot.
    async fn open(&mut self, slot: Slot, keys: u32) -> Result<Case, AskError> {
        let buckets = (keys / BUCKET_KEYS).clamp(1, DIGEST_BUCKETS_MAX.into()) as u16;
        let wanted: Vec<u16> = if buckets == 1 {
            vec![0]
        } else {
            let digests = self.digests(&SlotRange { first: slot, last: slot }, Parts::Buckets(buckets)).await?;
            differing(&digests).map(|(bucket, _)| bucket as u16).collect()
        };
        let (rows, at_ms) = self.rows(slot, buckets, &wanted).await?;
        Ok(Case { pending: Pending::new(slot, &rows, at_ms), buckets })
    }

    async fn digests(&mut self, slots: &SlotRange, parts: Parts) -> Result<Vec<Vec<Digest>>, AskError> {
        let at_ms = self.at_ms();
        try_join_all(self.regions.iter_mut().map(|region| region.digests(slots, parts, at_ms))).await
    }

    /// Rows of all regions, and the instant by which to compare them.
    async fn rows(&mut self, slot: Slot, buckets: u16, wanted: &[u16]) -> Result<(Vec<SlotRows>, u64), AskError> {
        if wanted.is_empty() {
            // No bucket differs any more.
            return Ok((Vec::new(), 0));
        }
        let at_ms = self.at_ms();
        let rows = try_join_all(self.regions.iter_mut().map(|region| region.rows(slot, buckets, wanted))).await?;
        Ok((rows, at_ms))
    }

    fn at_ms(&self) -> u64 {
        let ahead = self.regions.iter().map(Region::ahead).max().unwrap_or_default();
        (now() + ahead + AHEAD).as_millis() as u64
    }
}

/// The parts in which regions differ, and how many keys each holds where it holds most.
fn differing(digests: &[Vec<Digest>]) -> impl Iterator<Item = (usize, u32)> {
    let parts = digests.first().map_or(0, Vec::len);
    (0..parts).filter(|part| digests.iter().any(|region| region[*part] != digests[0][*part])).map(|part| {
        let keys = digests.iter().map(|region| region[part].count()).max();
        (part, keys.unwrap_or_default())
    })
}

/// The slots from the first to the last of several runs, each without its end; `None` if there is none.
fn hull(runs: impl Iterator<Item = (u16, u16)>) -> Option<SlotRange> {
    let (first, end) = runs.reduce(|(first, _), (_, end)| (first, end))?;
    SlotRange::new(first..end)
}

#[cfg(test)]
mod tests {
    use node_core::store::{Digest, Record, State};

    use super::{differing, hull};

    #[test]
    fn parts_differ_where_not_all_regions_have_the_same() {
        let record = |key| Record { key, stamp: clock::Stamp::ZERO, state: State::Value { bytes: b"v", expiry: None } };
        let [one, other] = [&b"1"[..], b"2"].map(|key| Digest::of(&record(key), 0));
        let none = Digest::default();
        let regions = [vec![none, one, one, none], vec![none, one, other, none], vec![none, one, one, one]];
        assert_eq!(differing(&regions).collect::<Vec<_>>(), [(2, 1), (3, 1)]);
        assert_eq!(differing(&[]).count(), 0);
    }

    #[test]
    fn a_hull_reaches_from_the_first_slot_to_the_last() {
        assert_eq!(hull([].into_iter()), None);
        let hull = hull([(16, 32), (64, 80)].into_iter()).unwrap();
        assert_eq!((hull.first.number(), hull.last.number()), (16, 79));
    }
}
