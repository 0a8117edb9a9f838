//! What the ends of all streams at one store share, for as long as the store has one life: which streams arrive, who refills
//! the store, which regions are heard, how far their clocks are ahead, and what is seen here.
//!
//! An end tells what happens to it and asks what to do. What that means to other ends stands in the answer where it concerns one of
//! them ([`Displaced`]), and is an event where it may concern each ([`LinksEvent`]); the shell carries it there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use clock::{Estimate, Now, Origin, RegionId};
use node_core::store::{Claim, Seen, Store};

use crate::{
    admission::{Admission, LinkId},
    frame::{Hello, Refusal},
    hearing::Hearing,
    lag::{certainly_ahead, lag},
    refill::{Refill, RefillOptions, Wish},
};

/// What the shell carries to the other ends, or to whoever wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinksEvent {
    /// What is wanted of a stream that waits may have changed.
    WishesChanged,
    /// The store has come to have all that the other regions had when its life began.
    Complete,
}

/// A stream that was let in.
#[derive(Debug)]
pub struct Welcomed<E> {
    /// Which one it is.
    pub id: LinkId,
    /// What is wanted of it.
    pub wish: Wish,
    /// The streams that are to end for it.
    pub displaced: Vec<Displaced<E>>,
}

/// A stream whose place another has taken, or whose origin's life is over.
#[derive(Debug)]
pub struct Displaced<E> {
    /// Which one it was.
    pub id: LinkId,
    /// Its end, as it was handed in.
    pub end: E,
    /// What its sender is told.
    pub why: Refusal,
}

/// See the head of this file. `E` is whatever the shell needs to end a stream that arrives.
#[derive(Debug)]
pub struct Links<E> {
    admission: Admission,
    refill: Refill,
    /// The streams that arrive, by who stamps what they bring.
    streams: BTreeMap<Origin, (LinkId, E)>,
    peers: BTreeMap<RegionId, Peer>,
    /// The store was complete when that was last told.
    told_complete: bool,
    wishes_changed: bool,
    /// What was seen in all slots, and when that was looked up, in monotonic time.
    row: Option<(Duration, Seen)>,
    heartbeat: Duration,
}

/// What is known of another region.
#[derive(Clone, Copy, Debug)]
struct Peer {
    hearing: Hearing,
    /// How far its clock is certainly ahead of ours.
    ahead: Duration,
}

impl<E> Links<E> {
    /// Those of a store that has just begun a life, to these other regions. The store says what there is to refill.
    pub fn new(
        store: &Store,
        peers: impl IntoIterator<Item = RegionId>,
        refill: RefillOptions,
        heartbeat: Duration,
        now: Now,
    ) -> Self {
        let peers: BTreeMap<_, _> = peers.into_iter().map(|region| (region, Peer::new(now))).collect();
        let refill = Refill::of_store(store, now, peers.len(), refill);
        Self {
            admission: Admission::new(),
            told_complete: refill.is_complete(),
            refill,
            streams: BTreeMap::new(),
            peers,
            wishes_changed: false,
            row: None,
            heartbeat,
        }
    }

    /// From here on these are the other regions.
    pub fn set_peers(&mut self, peers: impl IntoIterator<Item = RegionId>, now: Now) {
        let known = std::mem::take(&mut self.peers);
        let peer = |region| (region, known.get(&region).copied().unwrap_or_else(|| Peer::new(now)));
        self.peers = peers.into_iter().map(peer).collect();
        self.refill.set_peers(self.peers.len());
        self.wishes_changed = true;
    }

    /// Whether the store has all that the other regions had when its life began; at once, without peers.
    pub const fn is_complete(&self) -> bool {
        self.refill.is_complete()
    }

    /// Whether this stream sends a clone.
    pub fn is_cloning(&self, id: LinkId) -> bool {
        self.refill.cloning() == Some(id.region())
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<LinksEvent> {
        if std::mem::take(&mut self.wishes_changed) {
            return Some(LinksEvent::WishesChanged);
        }
        let has_completed = self.is_complete() && !self.told_complete;
        self.told_complete |= has_completed;
        has_completed.then_some(LinksEvent::Complete)
    }

    /// The clock of a peer and the way to it were measured.
    pub fn measured(&mut self, peer: RegionId, estimate: Estimate) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.ahead = certainly_ahead(estimate);
        }
        self.refill.set_distance(peer, estimate.rtt);
    }

    /// Somebody greets who is `peer` by name and certificate. Whoever is let in takes the place of whichever connection was the
    /// stream of its origin before.
    ///
    /// # Errors
    /// The [`Refusal`] to send. Nothing has changed.
    pub fn admit(
        &mut self,
        store: &Store,
        peer: (&str, RegionId),
        hello: &Hello,
        end: E,
        now: Now,
    ) -> Result<Welcomed<E>, Refusal> {
        let id = store.update_matrix(|matrix| self.admission.admit(matrix, peer, hello))?;
        let matrix = store.matrix();
        let former = self.streams.insert(id.origin, (id, end));
        let former = former.map(|(id, end)| Displaced { id, end, why: Refusal::Replaced });
        let is_over = |origin: &Origin, _: &mut (LinkId, E)| {
            *origin != id.origin && origin.region() == id.region() && self.admission.is_over(&matrix, *origin)
        };
        let over = self.streams.extract_if(.., is_over);
        let over = over.map(|(_, (former, end))| Displaced { id: former, end, why: Refusal::Superseded(id.origin) });
        let displaced = former.into_iter().chain(over).collect();
        let (slots, owned) = (&hello.claim.slots, store.owned());
        let wish = self.refill.greeted(id, hello.complete, slots, owned.as_deref(), now.monotonic);
        self.wishes_changed = true;
        Ok(Welcomed { id, wish, displaced })
    }

    /// The sender of a stream speaks for this from here on.
    pub fn claimed(&mut self, store: &Store, id: LinkId, claim: &Claim) {
        store.update_matrix(|matrix| self.admission.claimed(matrix, id.origin, claim));
        self.refill.claimed(id, &claim.slots);
    }

    /// A watermark came on a stream: it has sent all that was wanted of it.
    pub fn watermark(&mut self, store: &Store, id: LinkId) {
        let was_cloning = self.refill.cloning();
        self.refill.watermark(id, store.owned().as_deref());
        self.wishes_changed |= was_cloning != self.refill.cloning();
    }

    /// What comes on a stream may not be applied for now, or may again.
    pub fn held(&mut self, id: LinkId, is_held: bool) {
        self.refill.held(id, is_held);
        self.wishes_changed = true;
    }

    /// A stream has ended.
    pub fn lost(&mut self, id: LinkId) {
        self.refill.lost(id);
        self.wishes_changed = true;
        if self.streams.get(&id.origin).is_some_and(|(current, _)| *current == id) {
            self.streams.remove(&id.origin);
        }
    }

    /// What is wanted of a stream that asks: a clone that is through is not wanted again.
    pub fn wish(&mut self, id: LinkId) -> Wish {
        self.refill.wish(id)
    }

    /// What is wanted now of a stream that waits, if that has changed.
    pub fn poll_wish(&mut self, store: &Store, id: LinkId, now: Now) -> Option<Wish> {
        self.refill.poll_wish(id, store.owned().as_deref(), now.monotonic)
    }

    /// When to ask again for what is wanted of a stream that waits, in monotonic time.
    pub fn wish_timeout(&self) -> Option<Duration> {
        self.refill.poll_timeout()
    }

    /// A stream of a region was last heard at `at`, in monotonic time.
    pub fn hear(&mut self, region: RegionId, at: Duration) {
        if let Some(peer) = self.peers.get_mut(&region) {
            peer.hearing.hear(at);
        }
    }

    /// The regions from which nothing arrives.
    pub fn deaf(&self, now: Now) -> BTreeSet<RegionId> {
        self.peers.iter().filter(|(_, peer)| peer.hearing.is_deaf(now)).map(|(region, _)| *region).collect()
    }

    /// What the store has seen in all its slots, as of half a heartbeat ago at most.
    pub fn row(&mut self, store: &Store, now: Now) -> Seen {
        if let Some((at, row)) = &self.row
            && now.monotonic < *at + self.heartbeat / 2
        {
            return row.clone();
        }
        let row = store.seen_minima(now);
        self.row = Some((now.monotonic, row.clone()));
        row
    }

    /// How often a row is sent on each stream.
    pub const fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// How old what is missing here of a region's writes may be, by what was `seen` in all slots, as a process tells that was
    /// started then.
    pub fn lag(&self, store: &Store, seen: &Seen, from: RegionId, started: Now, now: Now) -> Duration {
        let ahead = self.peers.get(&from).map_or(Duration::ZERO, |peer| peer.ahead);
        lag(store.seen_of(from, seen, started.wall), ahead, now.wall)
    }
}

impl Peer {
    const fn new(now: Now) -> Self {
        Self { hearing: Hearing::new(now), ahead: Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use clock::{Incarnation, Now, Origin, RegionId, Time};
    use node_core::store::{Claim, Store, StoreOptions};

    use super::{Links, LinksEvent};
    use crate::{
        admission::LinkId,
        frame::{Hello, Refusal},
        limits::{DEAF_AFTER, FRAME_BYTES_MAX, PROTOCOL_VERSION},
        refill::{RefillOptions, Wish},
    };

    const HEARTBEAT: Duration = Duration::from_millis(50);

    fn region(id: u8) -> RegionId {
        RegionId::new(id).unwrap()
    }

    fn now(since: Duration) -> Now {
        Now { wall: Time::from_unix_ms(1_800_000_000_000).after(since), monotonic: since }
    }

    fn store() -> Store {
        let (origin, peers) = (Origin::new(region(1), Incarnation::FIRST), vec![region(2), region(3)]);
        Store::new(&StoreOptions { origin, start: Time::ZERO, peers, stripes: 1, log_records: 16, hash_seed: 1 })
    }

    fn links(store: &Store) -> Links<&'static str> {
        Links::new(store, [2, 3].map(region), RefillOptions::default(), HEARTBEAT, now(Duration::ZERO))
    }

    fn hello(id: u8, life: u16, epoch: u64) -> Hello {
        Hello {
            version: PROTOCOL_VERSION,
            name: "peer".into(),
            origin: Origin::new(region(id), Incarnation::new(life)),
            birth: Time::from_ntp64(u64::from(life)),
            epoch,
            claim: Claim::all(),
            complete: true,
            frame_bytes_max: FRAME_BYTES_MAX,
        }
    }

    /// Lets one in at the beginning of time. Returns which stream it is, what is wanted of it, and who ends for it and why.
    fn admit(
        links: &mut Links<&'static str>,
        store: &Store,
        hello: &Hello,
        end: &'static str,
    ) -> (LinkId, Wish, Vec<(&'static str, Refusal)>) {
        let peer = ("peer", hello.origin.region());
        let welcomed = links.admit(store, peer, hello, end, now(Duration::ZERO)).expect("nothing speaks against it");
        let displaced = welcomed.displaced.into_iter().map(|former| (former.end, former.why)).collect();
        (welcomed.id, welcomed.wish, displaced)
    }

    fn events(links: &mut Links<&'static str>) -> Vec<LinksEvent> {
        std::iter::from_fn(|| links.poll_event()).collect()
    }

    #[test]
    fn a_newer_connection_or_life_ends_the_older_one_of_its_region_and_no_other() {
        let store = store();
        let mut links = links(&store);
        let (first, _, displaced) = admit(&mut links, &store, &hello(2, 1, 1), "first");
        assert_eq!(displaced, []);
        assert_eq!(admit(&mut links, &store, &hello(3, 1, 1), "other").2, []);
        let (second, _, displaced) = admit(&mut links, &store, &hello(2, 1, 2), "second");
        assert_eq!(displaced, [("first", Refusal::Replaced)]);
        // What the first leaves behind is not the second's.
        links.lost(first);
        let (third, _, displaced) = admit(&mut links, &store, &hello(2, 2, 1), "third");
        assert_eq!(displaced, [("second", Refusal::Superseded(third.origin))]);
        links.lost(second);
        links.lost(third);
        assert_eq!(admit(&mut links, &store, &hello(2, 2, 2), "fourth").2, []);
    }

    #[test]
    fn who_waits_is_told_of_each_change_and_the_host_once_that_the_store_is_complete() {
        let store = store();
        let mut links = links(&store);
        let (one, wish, _) = admit(&mut links, &store, &hello(2, 1, 1), "one");
        let (other, later, _) = admit(&mut links, &store, &hello(3, 1, 1), "other");
        assert_eq!((wish, later, events(&mut links)), (Wish::Clone, Wish::Later, vec![LinksEvent::WishesChanged]));
        links.watermark(&store, one);
        assert_eq!(events(&mut links), [LinksEvent::WishesChanged]);
        assert_eq!(links.poll_wish(&store, other, now(Duration::ZERO)), Some(Wish::Resume));
        links.watermark(&store, other);
        assert_eq!((links.is_complete(), events(&mut links)), (true, vec![LinksEvent::Complete]));
        links.watermark(&store, one);
        assert_eq!(events(&mut links), []);
    }

    #[test]
    fn a_region_is_deaf_to_those_that_are_silent_and_waits_for_new_ones_first() {
        let store = store();
        let mut links = links(&store);
        links.hear(region(2), DEAF_AFTER / 2);
        links.hear(region(9), DEAF_AFTER / 2);
        assert_eq!(links.deaf(now(DEAF_AFTER / 2)), BTreeSet::new());
        assert_eq!(links.deaf(now(DEAF_AFTER)), BTreeSet::from([region(3)]));
        links.set_peers([2, 4].map(region), now(DEAF_AFTER));
        assert_eq!(links.deaf(now(DEAF_AFTER)), BTreeSet::new());
        assert_eq!(links.deaf(now(2 * DEAF_AFTER)), BTreeSet::from([2, 4].map(region)));
    }

    #[test]
    fn a_row_is_looked_up_twice_in_a_heartbeat() {
        let store = store();
        let mut links = links(&store);
        let own = |links: &mut Links<_>, since| links.row(&store, now(since)).at(store.origin());
        let first = own(&mut links, HEARTBEAT);
        assert_eq!(own(&mut links, HEARTBEAT * 5 / 4), first);
        assert!(own(&mut links, HEARTBEAT * 3 / 2) > first);
    }
}
