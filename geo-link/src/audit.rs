//! The shell of the audit: sums the slots at each instant, tells every peer, and says what differs. The rules stand in
//! [`geo_link_core::Auditor`].
//!
//! Summing costs some 200 ns for each entry, once in an interval, in steps between which links have their turn.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use clock::{Now, RegionId, Time};
use geo_link_core::{Audit, Auditor, audit_is_conclusive, next_audit};
use node_core::{
    slot::{Slot, SlotRange},
    store::{Digest, Digests, Parts, ScanPosition, Store},
};
use tokio::{
    sync::watch,
    task::yield_now,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{limits::SLOTS_NAMED_MAX, region::Region};

/// What this node holds, for all peers, and how it compares with what they hold.
pub(crate) struct Audits {
    auditor: Mutex<Auditor>,
    ours: watch::Sender<Option<Arc<Audit>>>,
}

impl Audits {
    pub(crate) fn new() -> Self {
        Self { auditor: Mutex::default(), ours: watch::Sender::new(None) }
    }

    /// What is told to peers, whenever there is something new.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<Audit>>> {
        self.ours.subscribe()
    }

    /// A peer is none any more.
    pub(crate) fn forget(&self, region: RegionId) {
        self.auditor().forget(region);
    }

    fn auditor(&self) -> MutexGuard<'_, Auditor> {
        self.auditor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Region {
    /// Whether so little of what a region has written is missing here that an audit says something.
    pub(crate) fn is_current(&self, from: RegionId, now: Now) -> bool {
        audit_is_conclusive(self.lag(from, now), self.options.audit_interval)
    }

    /// A peer says what it holds.
    pub(crate) fn audited(&self, from: RegionId, theirs: &Audit, now: Now) {
        let is_current = self.is_current(from, now);
        self.audits.auditor().heard(from, theirs, is_current);
        self.show_audit(from);
    }

    /// Takes note of what this node holds, and has it told.
    fn took(&self, ours: Audit, now: Now) {
        self.audits.ours.send_replace(Some(Arc::new(ours.clone())));
        self.audits.auditor().took(ours, |from| self.is_current(from, now));
        self.peers.all().iter().for_each(|peer| self.show_audit(peer.peer.id));
    }

    fn show_audit(&self, from: RegionId) {
        let Some(peer) = self.peers.of(from) else { return };
        let auditor = self.audits.auditor();
        let slots: Vec<_> = auditor.differing(from).collect();
        peer.metrics.r#in.audited(slots.len(), auditor.compared(from));
        drop(auditor);
        let mut before = 0;
        peer.update_in(|status| before = std::mem::replace(&mut status.slots_differing, slots.len()));
        if slots.len() > before {
            let some: Vec<_> = slots.iter().take(SLOTS_NAMED_MAX).map(|slot| slot.number()).collect();
            tracing::warn!(
                from = peer.peer.name,
                slots = slots.len(),
                ?some,
                "slots hold something else than there: see `meridian region verify`"
            );
        }
    }
}

/// Sums the slots of this node again and again, until `ending`. Without an interval nothing is audited.
pub(crate) async fn run(region: &Region, ending: &CancellationToken) {
    let interval = region.options.audit_interval;
    if interval.is_zero() {
        return ending.cancelled().await;
    }
    loop {
        let now = region.now();
        let (pause, at) = next_audit(now.wall, interval);
        tokio::select! {
            () = ending.cancelled() => return,
            () = sleep_until(Instant::now() + pause) => {}
        }
        tokio::select! {
            () = ending.cancelled() => return,
            ours = audit(&region.store, at) => region.took(ours, region.now()),
        }
    }
}

/// The sums of all slots that the node owns.
async fn audit(store: &Store, at: Time) -> Audit {
    let ranges = store.owned().map_or_else(|| vec![SlotRange::ALL], |owned| owned.ranges().to_vec());
    let mut sums: BTreeMap<Slot, Digest> = BTreeMap::new();
    for slots in ranges {
        let digests = Digests { slots: slots.clone(), parts: Parts::Slots(1), at };
        let mut next = Some((slots.first, ScanPosition::default()));
        while let Some(from) = next {
            let portion = digests.step(store, from);
            let parts = portion.digests.into_iter().zip(portion.first..);
            for (slot, digest) in parts.filter_map(|(digest, part)| Some((slots.at(part)?, digest))) {
                sums.entry(slot).or_default().add(digest);
            }
            next = portion.next;
            yield_now().await;
        }
    }
    Audit::new(at, sums)
}
