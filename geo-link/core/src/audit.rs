//! The audit: whether another region holds the same, looked at in the background all the time.
//!
//! Links bring every write and `seen` says what has arrived; that both do what they should is what this makes sure of, at the price
//! of eight bytes a slot, now and then. Each primary sums what it holds of each of its slots ([`Audit`]) as of an *instant* that
//! all regions derive from their clocks alike, and tells every other region. There the primary of each slot compares that with its
//! own sums of the same instant ([`Auditor`]).
//!
//! # Still pictures
//! Two sums of a slot that is written to differ, since they were not taken at the same moment, and no link is without delay. So one difference
//! says nothing. But if in the next round *both* are what they were, then nobody has written to the slot for a whole interval,
//! on either side, and nothing has arrived. If moreover each side has heard the other within half an interval, then nothing is on its
//! way either: the two differ, and will. That is what is counted. A slot that is never still is never judged; a person who wants to
//! know of that one as well asks `meridian region verify`, which looks at keys.
//!
//! # Instants
//! They are multiples of the interval by wall clock, so regions with the same interval have the same. What is summed is what does not
//! end until the one after next: that lies ahead of all clocks, so nothing ends differently early on two sides.
//!
//! # What is not a fault
//! A region that evicts lacks what it has evicted, and what was forgotten above the frontier may be a miss in one region and not in
//! another. That shows here too, and an alert on it has to know whether a region evicts.
//!
//! # What a hostile peer can do here
//! Claim to differ. A frame is bounded by the slots that there are, and of each region one sum a slot is kept.

use std::{collections::BTreeMap, time::Duration};

use clock::{RegionId, Time};
use node_core::{
    slot::{Slot, SlotSet},
    store::Digest,
};
use serde::{Deserialize, Serialize};

use crate::{
    frame::{FrameKind, Malformed, put_frame, put_payload, read_payload},
    limits::AUDIT_SLOTS_MAX,
};

/// What a node holds of some slots, as of an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The instant: what ends before it is left out.
    pub at: Time,
    /// Whether who holds it has heard, not long ago, all that the region had to say for which this is.
    pub is_current: bool,
    sums: BTreeMap<Slot, u64>,
}

/// Beginning of a digest that is told of a slot.
fn shortened(digest: Digest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = digest.to_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[derive(Serialize, Deserialize)]
struct AuditWire(u64, bool, SlotSet, #[serde(with = "serde_bytes")] Vec<u8>);

impl Audit {
    /// Of these digests of slots.
    pub fn new(at: Time, digests: impl IntoIterator<Item = (Slot, Digest)>) -> Self {
        let sums = digests.into_iter().map(|(slot, digest)| (slot, shortened(digest))).collect();
        Self { at, is_current: false, sums }
    }

    /// How many slots it is about.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Whether it is about no slot.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// The part of it that is about these slots.
    #[must_use]
    pub fn of(&self, slots: &SlotSet) -> Self {
        let sums = self.sums.iter().filter(|(slot, _)| slots.contains(**slot)).map(|(slot, sum)| (*slot, *sum));
        Self { at: self.at, is_current: self.is_current, sums: sums.collect() }
    }

    /// Appends it, as frames of at most [`AUDIT_SLOTS_MAX`] slots.
    pub fn put(&self, out: &mut Vec<u8>) {
        let sums: Vec<_> = self.sums.iter().collect();
        for part in sums.chunks(AUDIT_SLOTS_MAX) {
            let slots = part.iter().map(|(slot, _)| **slot).collect();
            let bytes = part.iter().flat_map(|(_, sum)| sum.to_le_bytes()).collect();
            let wire = AuditWire(self.at.ntp64(), self.is_current, slots, bytes);
            put_frame(out, FrameKind::Audit, |out| put_payload(out, &wire));
        }
    }

    /// Reads the payload of one frame.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let AuditWire(at, is_current, slots, bytes) = read_payload("audit", payload)?;
        let (sums, rest) = bytes.as_chunks();
        if sums.len() != slots.len() || !rest.is_empty() {
            return Err(Malformed::Payload("audit", format!("{} slots, {} bytes of sums", slots.len(), bytes.len())));
        }
        let sums = slots.iter().zip(sums.iter().map(|sum| u64::from_le_bytes(*sum))).collect();
        Ok(Self { at: Time::from_ntp64(at), is_current, sums })
    }
}

/// How long it is until the slots are summed next, and as of when.
pub fn next_audit(wall: Time, interval: Duration) -> (Duration, Time) {
    let interval = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
    let now = wall.unix_ms();
    let next = (now / interval + 1).saturating_mul(interval);
    (Duration::from_millis(next - now), Time::from_unix_ms(next.saturating_add(interval.saturating_mul(2))))
}

/// Whether a region behind which one lags by so much can be compared with: nothing that it had written an interval ago is on its way.
pub fn audit_is_conclusive(lag: Duration, interval: Duration) -> bool {
    lag <= interval / 2
}

/// Compares what this node holds with what other regions say they hold.
#[derive(Debug, Default)]
pub struct Auditor {
    ours: Option<Audit>,
    peers: BTreeMap<RegionId, Compared>,
}

/// What is known of another region.
#[derive(Debug, Default)]
struct Compared {
    /// What it has said of slots of which ours is not known as of that instant yet.
    told: BTreeMap<Slot, (Time, u64)>,
    /// The slots in which the two differed when they were compared last.
    pairs: BTreeMap<Slot, Pair>,
    compared: u64,
}

/// Two sums of a slot that differ.
#[derive(Clone, Copy, Debug)]
struct Pair {
    at: Time,
    theirs: u64,
    ours: u64,
    /// They have done so before, and were the same then.
    is_settled: bool,
}

impl Auditor {
    /// This node has summed all its slots. `is_current` says of a region whether its writes have arrived here, but for those of less
    /// than half an interval.
    pub fn took(&mut self, ours: Audit, is_current: impl Fn(RegionId) -> bool) {
        for (from, peer) in &mut self.peers {
            peer.pairs.retain(|slot, _| ours.sums.contains_key(slot));
            let told = std::mem::take(&mut peer.told);
            if is_current(*from) {
                told.iter().for_each(|(slot, (at, sum))| peer.compare(*slot, *at, *sum, &ours));
            }
            // What they took later than we did will be compared when we have as well.
            peer.told =
                told.into_iter().filter(|(slot, (at, _))| *at > ours.at && ours.sums.contains_key(slot)).collect();
        }
        self.ours = Some(ours);
    }

    /// Another region says what it holds. What it says of slots that are not this node's is let fall.
    pub fn heard(&mut self, from: RegionId, theirs: &Audit, is_current: bool) {
        let Some(ours) = self.ours.as_ref().filter(|_| theirs.is_current) else { return };
        let peer = self.peers.entry(from).or_default();
        for (slot, sum) in theirs.sums.iter().filter(|(slot, _)| ours.sums.contains_key(slot)) {
            if theirs.at > ours.at {
                peer.told.insert(*slot, (theirs.at, *sum));
            } else if is_current {
                peer.compare(*slot, theirs.at, *sum, ours);
            }
        }
    }

    /// There is no such region any more.
    pub fn forget(&mut self, region: RegionId) {
        self.peers.remove(&region);
    }

    /// The slots in which that region and this node differ, and have for an interval in which neither changed.
    pub fn differing(&self, from: RegionId) -> impl Iterator<Item = Slot> {
        let pairs = self.peers.get(&from).into_iter().flat_map(|peer| &peer.pairs);
        pairs.filter(|(_, pair)| pair.is_settled).map(|(slot, _)| *slot)
    }

    /// How many slots were compared with what that region holds, each round anew.
    pub fn compared(&self, from: RegionId) -> u64 {
        self.peers.get(&from).map_or(0, |peer| peer.compared)
    }
}

impl Compared {
    fn compare(&mut self, slot: Slot, at: Time, theirs: u64, ours: &Audit) {
        let Some(ours) = ours.sums.get(&slot).copied().filter(|_| ours.at == at) else { return };
        self.compared += 1;
        if theirs == ours {
            self.pairs.remove(&slot);
            return;
        }
        let former = self.pairs.get(&slot).filter(|pair| (pair.theirs, pair.ours) == (theirs, ours));
        let is_settled = former.is_some_and(|pair| pair.is_settled || pair.at < at);
        let since = former.map_or(at, |pair| pair.at);
        self.pairs.insert(slot, Pair { at: since, theirs, ours, is_settled });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clock::{Incarnation, Origin, RegionId, Stamp, Time};
    use node_core::{
        slot::{Slot, SlotSet},
        store::{Digest, Record, State},
    };

    use super::{Audit, Auditor, next_audit};
    use crate::{FrameKind, Inbox, limits::SMALL_FRAME_BYTES_MAX};

    const PEER: RegionId = RegionId::MIN;

    fn at(round: u64) -> Time {
        Time::from_unix_ms(1_800_000_000_000 + round * 60_000)
    }

    /// The digest of one record with this value.
    fn digest(value: u8) -> Digest {
        let stamp = Stamp { time: at(0), origin: Origin::new(PEER, Incarnation::new(1)) };
        Digest::of(&Record { key: b"key", stamp, state: State::Value { bytes: &[value], expiry: None } }, 0)
    }

    /// An audit of a round: slots and the values in them.
    fn audit(round: u64, slots: &[(u16, u8)]) -> Audit {
        let slots = slots.iter().map(|(slot, value)| (Slot::new(*slot).unwrap(), digest(*value)));
        Audit { is_current: true, ..Audit::new(at(round), slots) }
    }

    fn differing(auditor: &Auditor) -> Vec<u16> {
        auditor.differing(PEER).map(Slot::number).collect()
    }

    /// A round of both: ours, theirs.
    fn round(auditor: &mut Auditor, number: u64, ours: &[(u16, u8)], theirs: &[(u16, u8)]) {
        auditor.took(audit(number, ours), |_| true);
        auditor.heard(PEER, &audit(number, theirs), true);
    }

    #[test]
    fn regions_sum_as_of_the_same_instants() {
        let interval = Duration::from_secs(60);
        for (now, pause) in [(59_999, 1), (60_000, 60_000), (60_001, 59_999), (119_000, 1_000)] {
            let (until, at) = next_audit(Time::from_unix_ms(now), interval);
            assert_eq!(until, Duration::from_millis(pause));
            let next = if now < 60_000 { 60_000 } else { 120_000 };
            assert_eq!(at, Time::from_unix_ms(next + 120_000));
        }
        assert_eq!(next_audit(Time::from_unix_ms(5), Duration::MAX).1, Time::from_unix_ms(u64::MAX));
    }

    #[test]
    fn what_differs_twice_and_has_not_changed_differs() {
        let mut auditor = Auditor::default();
        round(&mut auditor, 1, &[(1, 1), (2, 2), (3, 3)], &[(1, 1), (2, 9), (3, 9)]);
        assert_eq!(differing(&auditor), []);
        // The third is still written to.
        round(&mut auditor, 2, &[(1, 1), (2, 2), (3, 3)], &[(1, 1), (2, 9), (3, 8)]);
        assert_eq!((differing(&auditor), auditor.compared(PEER)), (vec![2], 6));
        round(&mut auditor, 3, &[(1, 1), (2, 9), (3, 8)], &[(1, 1), (2, 9), (3, 8)]);
        assert_eq!(differing(&auditor), []);
    }

    #[test]
    fn it_does_not_matter_who_is_done_first() {
        let mut auditor = Auditor::default();
        auditor.took(audit(0, &[(1, 1)]), |_| true);
        for number in 1..3 {
            auditor.heard(PEER, &audit(number, &[(1, 2), (7, 7)]), true);
            auditor.took(audit(number, &[(1, 1)]), |_| true);
        }
        assert_eq!((differing(&auditor), auditor.compared(PEER)), (vec![1], 2));
    }

    #[test]
    fn a_round_that_is_told_twice_is_one() {
        let mut auditor = Auditor::default();
        for _ in 0..3 {
            round(&mut auditor, 1, &[(1, 1)], &[(1, 2)]);
        }
        assert_eq!(differing(&auditor), []);
    }

    #[test]
    fn nothing_is_judged_while_either_side_has_not_heard_the_other() {
        let mut auditor = Auditor::default();
        for number in 1..4 {
            auditor.took(audit(number, &[(1, 1)]), |_| false);
            auditor.heard(PEER, &audit(number, &[(1, 2)]), false);
            auditor.heard(PEER, &Audit { is_current: false, ..audit(number, &[(1, 2)]) }, true);
        }
        assert_eq!((differing(&auditor), auditor.compared(PEER)), (vec![], 0));
    }

    #[test]
    fn slots_that_have_moved_away_are_forgotten_and_so_is_a_region() {
        let mut auditor = Auditor::default();
        (1..3).for_each(|number| round(&mut auditor, number, &[(1, 1), (2, 1)], &[(1, 2), (2, 2)]));
        assert_eq!(differing(&auditor), [1, 2]);
        auditor.took(audit(3, &[(2, 1)]), |_| true);
        assert_eq!(differing(&auditor), [2]);
        auditor.forget(PEER);
        assert_eq!(differing(&auditor), []);
    }

    #[test]
    fn all_slots_go_over_the_wire_in_frames_of_bounded_length() {
        let all = Audit {
            is_current: true,
            ..Audit::new(at(1), Slot::all().map(|slot| (slot, digest(slot.number() as u8))))
        };
        let (mut inbox, mut slots) = (Inbox::new(SMALL_FRAME_BYTES_MAX), SlotSet::new());
        all.put(inbox.buffer());
        while let Some((kind, payload)) = inbox.next_frame().unwrap() {
            let part = Audit::read(payload).unwrap();
            assert_eq!((kind, part.at, part.is_current), (FrameKind::Audit, all.at, true));
            let of = part.sums.keys().copied().collect();
            assert_eq!(all.of(&of), part);
            slots.add(&of);
        }
        assert_eq!(slots, SlotSet::all());
    }

    #[test]
    fn sums_that_do_not_fit_their_slots_are_malformed() {
        let mut bytes = Vec::new();
        audit(1, &[(1, 1), (2, 2)]).put(&mut bytes);
        let payload = bytes.split_off(5);
        assert!(Audit::read(&payload).is_ok());
        // One run of slots, sixteen bytes of sums: the run is made longer by one slot.
        let mut longer = payload.clone();
        let end = longer.len() - 16 - 2 - 1;
        longer[end] += 1;
        assert!(Audit::read(&longer).is_err());
        assert!(Audit::read(&payload[..payload.len() - 1]).is_err());
    }
}
