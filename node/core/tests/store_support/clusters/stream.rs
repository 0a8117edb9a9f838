//! Links: from each primary of a region a stream to each other region, split there by who owns the slots.
//!
//! A gateway holds nothing but streams. It asks the owners of its region what they have seen, and with the answers welcomes
//! the stream; from then on it passes to each owner what concerns it. What it had not passed on before a welcome it drops,
//! and what an owner had not taken in by then is dropped there. It welcomes a stream anew when it hears that slots or
//! primaries of its region have changed, when an owner that was cut off is back, and when the sender asks.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use clock::{Incarnation, Origin, RegionId, Time};
use node_core::{
    slot::{Slot, SlotRange, SlotSet},
    store::{Claim, Feed, Intake, Matrix, Polled, Scope, Seen, SeenTable},
};
use rand::RngExt;

use super::{Broken, KEYS, SLOTS, World, pump::take, region::Region};
use crate::store_support::{parcel::Parcel, region};

/// From the primary of which shard of which region, to which region.
pub(super) type StreamId = (u8, usize, u8);
/// Parcels under way beyond which the sender does not poll its feed.
const WINDOW: usize = 16;

#[derive(Default)]
pub(super) struct Stream {
    pub(super) is_up: bool,
    /// The number of the welcome that the gateway gave last.
    round: u64,
    /// On its way to the sender.
    welcome: Option<Welcome>,
    /// What the sender sends, by which welcome.
    feed: Option<(u64, Feed)>,
    has_asked: bool,
    /// On its way to the gateway, with the welcome that it goes by.
    queue: VecDeque<(u64, Sent)>,
    /// What the sender says of itself, as the gateway knows it.
    hello: Option<Hello>,
    /// What the gateway knew of its region when it gave the welcome.
    view: Option<View>,
    /// To the owners that were reached.
    hops: BTreeMap<usize, Hop>,
    /// Owners that the gateway cannot reach.
    cut: BTreeSet<usize>,
    /// The gateway should give another welcome.
    is_stale: bool,
}

#[derive(Clone)]
struct Welcome {
    round: u64,
    seen: SeenTable,
    /// Who the owners are and what they own: of what they stamp they lack nothing.
    owners: Vec<Hello>,
}

#[derive(Clone)]
struct Hello {
    origin: Origin,
    birth: Time,
    claim: Claim,
}

/// Who owns what in a region, and who the primaries are.
#[derive(PartialEq, Eq)]
struct View {
    owners: BTreeMap<Slot, usize>,
    primaries: Vec<Origin>,
}

/// From the gateway to one owner.
struct Hop {
    /// Who the owner was, and what it owned, when it was asked.
    origin: Origin,
    owned: Option<Arc<SlotSet>>,
    /// What is passed to it.
    slots: SlotSet,
    intake: Intake,
    queue: VecDeque<Sent>,
}

#[derive(Clone)]
enum Sent {
    Item(Parcel),
    Report(Origin, Seen),
    Claim(Hello),
    Ask,
}

impl View {
    fn of(region: &Region) -> Self {
        let primaries = (0..region.shards.len()).map(|shard| region.primary(shard).store.origin()).collect();
        Self { owners: region.owners.clone(), primaries }
    }
}

impl World {
    pub(super) fn link(&mut self) {
        for (from, founded) in &self.regions {
            for to in self.regions.keys().filter(|to| *to != from) {
                for shard in 0..founded.shards.len() {
                    self.streams.insert((*from, shard, *to), Stream { is_up: true, ..Stream::default() });
                }
            }
        }
    }

    pub(super) fn stream(&mut self, id: StreamId) -> &mut Stream {
        self.streams.get_mut(&id).expect("streams stay")
    }

    pub(super) fn any_stream(&mut self) -> StreamId {
        let index = self.random.random_range(0..self.streams.len());
        *self.streams.keys().nth(index).expect("so many streams")
    }

    /// Ends a stream at the sender and at the gateway. What the gateway has passed on is still under way.
    pub(super) fn end_stream(&mut self, id: StreamId) {
        let stream = self.stream(id);
        (stream.welcome, stream.feed, stream.hello, stream.view) = (None, None, None, None);
        stream.queue.clear();
    }

    /// The primary that sent them is none any more.
    pub(super) fn end_streams_of(&mut self, id: u8, shard: usize) {
        let ids: Vec<_> = self.streams.keys().filter(|(from, of, _)| (*from, *of) == (id, shard)).copied().collect();
        ids.into_iter().for_each(|id| self.end_stream(id));
    }

    /// Cuts or mends a stream, all streams of a link, or the way from a gateway to an owner.
    pub(super) fn cut_or_mend(&mut self) {
        let id = self.any_stream();
        match self.random.random_range(0..3) {
            0 => self.set_up(id, !self.streams[&id].is_up),
            1 => {
                let is_up = !self.streams[&id].is_up;
                let of_link = self.streams.keys().filter(|(from, _, to)| (*from, *to) == (id.0, id.2));
                let of_link: Vec<_> = of_link.copied().collect();
                of_link.into_iter().for_each(|id| self.set_up(id, is_up));
            }
            _ => {
                let owner = self.random.random_range(0..self.regions[&id.2].shards.len());
                let stream = self.stream(id);
                if stream.cut.remove(&owner) {
                    stream.is_stale = true;
                } else {
                    stream.cut.insert(owner);
                    stream.hops.remove(&owner);
                }
                let is_cut = stream.cut.contains(&owner);
                self.note(format!("{id:?} reaches {owner}: {}", !is_cut));
            }
        }
    }

    fn set_up(&mut self, id: StreamId, is_up: bool) {
        if self.streams[&id].is_up != is_up {
            self.end_stream(id);
            self.stream(id).is_up = is_up;
            self.note(format!("{id:?} is {}", if is_up { "mended" } else { "cut" }));
        }
    }

    /// Mends everything; some streams go on as they are.
    pub(super) fn mend_streams(&mut self) {
        let anew = self.random.random_ratio(1, 2);
        let ids: Vec<_> = self.streams.keys().copied().collect();
        for id in ids {
            self.set_up(id, true);
            if anew {
                self.end_stream(id);
            }
            let stream = self.stream(id);
            stream.is_stale |= !stream.cut.is_empty();
            stream.cut.clear();
        }
    }

    /// The gateway looks at its map, and welcomes the stream if it has reason to.
    pub(super) fn look(&mut self, id: StreamId) {
        let (from, shard, to) = id;
        let stream = self.streams.get_mut(&id).expect("streams stay");
        if !stream.is_up {
            return;
        }
        let (sender, receiver) = (&self.regions[&from], &self.regions[&to]);
        let hello = stream.hello.get_or_insert_with(|| {
            let store = &sender.primary(shard).store;
            let mut claim = store.claim();
            claim.slots = with_rest(&claim.slots, shard, receiver);
            Hello { origin: store.origin(), birth: sender.shards[shard].birth, claim }
        });
        let view = View::of(receiver);
        if !stream.is_stale && stream.view.as_ref() == Some(&view) {
            return;
        }
        stream.hops.clear();
        let mut seen = SeenTable::new(SlotRange::ALL);
        let (mut reached, mut owners) = (SlotSet::new(), Vec::new());
        for owner in (0..receiver.shards.len()).filter(|owner| !stream.cut.contains(owner)) {
            let node = receiver.primary(owner);
            let table = node.store.seen_table(node.now(self.wall));
            let slots: SlotSet = match &node.store.owned() {
                None => {
                    seen.join_table(&table);
                    SlotSet::all()
                }
                Some(owned) => owned.iter().filter(|slot| view.owners[slot] == owner).collect(),
            };
            if receiver.is_cluster {
                slots.iter().for_each(|slot| seen.join(slot, &table.of(slot)));
            }
            reached.add(&slots);
            let intake = match self.broken {
                Some(Broken::WatermarkOfAll) => Intake::default(),
                _ if receiver.is_cluster => Intake::of_slots(slots.clone()),
                _ => Intake::default(),
            };
            let (birth, mut claim) = (receiver.shards[owner].birth, node.store.claim());
            claim.slots = with_rest(&claim.slots, owner, sender);
            owners.push(Hello { origin: node.store.origin(), birth, claim });
            let queue = VecDeque::from([Sent::Claim(hello.clone())]);
            let (origin, owned) = (node.store.origin(), node.store.owned());
            stream.hops.insert(owner, Hop { origin, owned, slots, intake, queue });
        }
        // Of what nobody can take in now the sender need not send anything.
        let store = &sender.primary(shard).store;
        let origins: BTreeSet<Origin> =
            (0..store.stripes()).flat_map(|index| store.lock(index).seen().origins().collect::<Vec<_>>()).collect();
        let mut missed = SlotSet::all();
        missed.subtract(&reached);
        for slots in missed.ranges() {
            origins.iter().chain([&store.origin()]).for_each(|origin| seen.advance(slots, *origin, Time::MAX));
        }
        stream.round += 1;
        stream.welcome = Some(Welcome { round: stream.round, seen, owners });
        (stream.view, stream.is_stale) = (Some(view), false);
        let round = stream.round;
        let reached = reached.intersection(&SLOTS.iter().copied().collect());
        self.note(format!("{id:?} is welcomed, round {round}, {:?}", reached.ranges()));
    }

    /// The sender takes note of a welcome, and sends what comes next. Returns whether that was all.
    pub(super) fn send(&mut self, id: StreamId, bytes: usize) -> bool {
        let (from, shard, to) = id;
        let deaf = self.deaf(to);
        let (orphans, clones) = (self.random.random_ratio(1, 4), self.random.random_ratio(1, 8));
        let stream = self.streams.get_mut(&id).expect("streams stay");
        let (sender, receiver) = (&self.regions[&from], &self.regions[&to]);
        let node = sender.primary(shard);
        let (store, now) = (&node.store, node.now(self.wall));
        if let Some(Welcome { round, seen, owners }) = stream.welcome.take() {
            for owner in &owners {
                store.update_matrix(|matrix| announce(matrix, owner, self.broken));
            }
            let (scope, consumer) = (Scope::Region(region(from)), Origin::new(region(to), Incarnation::UNBORN));
            let clones = clones && (sender.is_cluster || receiver.is_cluster);
            let make = if clones { Feed::clone_rest } else { Feed::resume };
            stream.feed = Some((round, make(store, scope, consumer, seen)));
            stream.has_asked = false;
        }
        if stream.queue.len() > WINDOW {
            return false;
        }
        let Some((round, feed)) = &mut stream.feed else { return false };
        let relays = feed.relayed().clone();
        let lacks_regions = !feed.relay(store, &deaf);
        if (feed.lacks_slots(store) || lacks_regions) && !stream.has_asked {
            if self.broken == Some(Broken::AssumedSeen) {
                let (scope, consumer) = (Scope::Region(region(from)), Origin::new(region(to), Incarnation::UNBORN));
                *feed = Feed::resume(store, scope, consumer, store.seen_table(now));
            } else {
                stream.has_asked = true;
                stream.queue.push_back((*round, Sent::Ask));
            }
        }
        if *feed.relayed() != relays {
            self.trace.push(format!("{id:?} relays {deaf:?}"));
        }
        if orphans {
            feed.queue_orphans(store);
        }
        let polled = feed.poll(store, now, bytes, |item| {
            let parcel = Parcel::of(item);
            let bytes = parcel.bytes();
            stream.queue.push_back((*round, Sent::Item(parcel)));
            bytes
        });
        if orphans || polled == Polled::Drained {
            stream.queue.push_back((*round, Sent::Report(store.origin(), store.seen_minima(now))));
        }
        polled == Polled::Drained
    }

    /// Has the feed of a stream send what nobody else will, at rest.
    pub(super) fn queue_orphans(&mut self, id: StreamId) {
        let store = &self.regions[&id.0].primary(id.1).store;
        let stream = self.streams.get_mut(&id).expect("streams stay");
        if let Some((_, feed)) = &mut stream.feed {
            feed.queue_orphans(store);
        }
    }

    /// The regions of which a region hears nothing.
    fn deaf(&self, to: u8) -> BTreeSet<RegionId> {
        let is_heard = |from: u8| self.streams.iter().any(|(id, stream)| (id.0, id.2) == (from, to) && stream.is_up);
        self.regions.keys().filter(|from| **from != to && !is_heard(**from)).map(|from| region(*from)).collect()
    }

    /// The gateway passes on up to so many parcels.
    pub(super) fn pass_on(&mut self, id: StreamId, count: usize) {
        let stream = self.streams.get_mut(&id).expect("streams stay");
        for _ in 0..count {
            let Some((round, mut sent)) = stream.queue.pop_front() else { return };
            if round != stream.round && self.broken != Some(Broken::StaleItems) {
                continue;
            }
            match &mut sent {
                Sent::Ask => {
                    stream.is_stale = true;
                    continue;
                }
                Sent::Item(Parcel::Speaks { origin, epoch, slots }) => {
                    if let Some(hello) = stream.hello.as_mut().filter(|hello| hello.origin == *origin) {
                        *slots = with_rest(slots, id.1, &self.regions[&id.2]);
                        hello.claim = Claim { epoch: *epoch, slots: slots.clone() };
                    }
                }
                _ => {}
            }
            let slot = match &sent {
                Sent::Item(
                    Parcel::Record { slot, .. } | Parcel::SlotBegin { slot, .. } | Parcel::SlotEnd { slot, .. },
                ) => Some(*slot),
                _ => None,
            };
            for hop in stream.hops.values_mut().filter(|hop| slot.is_none_or(|slot| hop.slots.contains(slot))) {
                hop.queue.push_back(sent.clone());
                if let (Sent::Item(Parcel::Speaks { origin, .. }), Some(hello)) = (&sent, &stream.hello)
                    && hello.origin == *origin
                {
                    hop.queue.push_back(Sent::Claim(hello.clone()));
                }
            }
        }
    }

    /// An owner takes in up to so many parcels, if it is still who was asked.
    pub(super) fn take_in(&mut self, id: StreamId, owner: usize, count: usize) {
        let (stream, receiver) = (self.streams.get_mut(&id).expect("streams stay"), &self.regions[&id.2]);
        let Some(hop) = stream.hops.get_mut(&owner) else { return };
        let node = receiver.primary(owner);
        let (store, now) = (&node.store, node.now(self.wall));
        let is_same_owned = self.broken == Some(Broken::UncheckedOwner) || is_same(&hop.owned, &store.owned());
        if store.origin() != hop.origin || !is_same_owned {
            stream.hops.remove(&owner);
            stream.is_stale = true;
            return;
        }
        let mut heard = Vec::new();
        for _ in 0..count {
            let Some(sent) = hop.queue.pop_front() else { break };
            match sent {
                Sent::Item(parcel) => {
                    let before = heard.len();
                    take(store, &mut hop.intake, &parcel, now, &mut heard);
                    if heard.len() > before || !matches!(parcel, Parcel::Watermark { .. }) {
                        self.trace.push(format!("{id:?} -> {owner} {parcel:?}"));
                    }
                }
                Sent::Report(origin, seen) => store.update_matrix(|matrix| matrix.report(origin, &seen)),
                Sent::Claim(hello) => store.update_matrix(|matrix| announce(matrix, &hello, self.broken)),
                Sent::Ask => {}
            }
        }
        let is_owned = |key: &usize| receiver.serving(Slot::of(KEYS[*key])) == Some(owner);
        let heard: Vec<_> = heard.into_iter().filter(|(key, _)| is_owned(key)).collect();
        heard.into_iter().for_each(|(key, stamp)| self.knows(id.2, key, stamp));
    }
}

/// A cluster's nodes own no other slots than those that the keys are of, so that there are not too many. Who is in one node
/// knows of all slots; to it the first shard speaks for the rest as well.
fn with_rest(slots: &Arc<SlotSet>, shard: usize, hears: &Region) -> Arc<SlotSet> {
    if hears.is_cluster || shard != 0 {
        return slots.clone();
    }
    let mut rest = SlotSet::all();
    rest.subtract(&SLOTS.iter().copied().collect());
    rest.add(slots);
    Arc::new(rest)
}

fn announce(matrix: &mut Matrix, hello: &Hello, broken: Option<Broken>) {
    let mut claim = hello.claim.clone();
    if broken == Some(Broken::NobodyEnds) {
        let mut slots = (*claim.slots).clone();
        let spoken_for = matrix.speakers(hello.origin.region()).filter(|(origin, _)| *origin != hello.origin);
        spoken_for.for_each(|(_, spoken_for)| slots.subtract(spoken_for));
        claim.slots = Arc::new(slots);
    }
    matrix.announce(hello.origin, hello.birth, &claim);
}

/// Whether two sets of slots are one and the same.
fn is_same(one: &Option<Arc<SlotSet>>, other: &Option<Arc<SlotSet>>) -> bool {
    one.as_ref().map(Arc::as_ptr) == other.as_ref().map(Arc::as_ptr)
}
