//! Links between regions: connected, cut, polled, and resumed over a third region.

use clock::{Now, Stamp};
use node_core::{
    slot::Slot,
    store::{Feed, FeedItem, Intake, Polled, Scope, Seen, Store},
};
use rand::RngExt;

use super::{KEYS, Link, Sent, WINDOW, World, introduce};
use crate::store_support::{parcel::Parcel, region};

impl World {
    pub(super) fn toggle_link(&mut self) {
        let pairs = self.pairs();
        let pair = pairs[self.random.random_range(0..pairs.len())];
        let up = !self.links[&pair].up;
        self.links.insert(pair, Link { up, ..Link::default() });
        self.note(format!("{pair:?} is {}", if up { "mended" } else { "cut" }));
    }

    /// A link that is up but not connected: both ends learn of each other, and the sender goes on where the receiver
    /// stands.
    pub(super) fn connect(&mut self, from: u8, to: u8) {
        let (source, sink) = (&self.regions[&from], &self.regions[&to]);
        introduce(source, sink);
        let seen = sink.store.seen_table(self.now(to));
        let feed = Feed::resume(&source.store, Scope::Region(region(from)), sink.store.origin(), seen);
        self.links.insert((from, to), Link { up: true, feed: Some(feed), ..Link::default() });
        self.note(format!("{from} connects to {to}"));
    }

    /// Takes what comes next out of a feed and into the queue. Returns whether the feed is drained.
    pub(super) fn poll(&mut self, from: u8, to: u8, bytes_max: usize) -> bool {
        if !self.links[&(from, to)].up {
            return false;
        }
        if self.links[&(from, to)].feed.is_none() {
            self.connect(from, to);
        }
        let (now, orphans) = (self.now(from), self.random.random_ratio(1, 6));
        let link = self.links.get_mut(&(from, to)).expect("links stay");
        if link.queue.len() > WINDOW {
            return false;
        }
        let store = &self.regions[&from].store;
        let feed = link.feed.as_mut().expect("it was just connected");
        if orphans {
            feed.queue_orphans(store);
        }
        let polled = feed.poll(store, now, bytes_max, |item| {
            let parcel = Parcel::of(item);
            let bytes = parcel.bytes();
            link.queue.push_back(Sent::Item(parcel));
            bytes
        });
        link.queue.push_back(Sent::Report(store.origin(), store.seen_minima(now)));
        polled == Polled::Drained
    }

    /// Hands up to `count` parcels of a link to its receiver.
    pub(super) fn deliver(&mut self, from: u8, to: u8, count: usize) {
        let now = self.now(to);
        let mut heard = Vec::new();
        let link = self.links.get_mut(&(from, to)).expect("links stay");
        let store = &self.regions[&to].store;
        for _ in 0..count {
            match link.queue.pop_front_if(|sent| !sent.is_too_far_ahead(now)) {
                Some(Sent::Item(parcel)) => {
                    take(store, &mut link.intake, &parcel, now, &mut heard);
                    if heard.last().is_some() {
                        self.trace.push(format!("{from} -> {to} {parcel:?}"));
                    }
                }
                Some(Sent::Report(origin, seen)) => store.update_matrix(|matrix| matrix.report(origin, &seen)),
                None => break,
            }
        }
        heard.into_iter().for_each(|(key, stamp)| self.knows(to, key, stamp));
    }

    /// `id` is fed once by another region, with whatever it lacks of anyone's.
    pub(super) fn resume_from_third(&mut self, id: u8) {
        let source = self.pick_other(id);
        introduce(&self.regions[&source], &self.regions[&id]);
        let seen = self.regions[&id].store.seen_table(self.now(id));
        let from = &self.regions[&source].store;
        let mut feed = Feed::resume(from, Scope::Everything, self.regions[&id].store.origin(), seen);
        feed.queue_orphans(from);
        let heard = drain(
            &mut feed,
            from,
            self.now(source),
            &self.regions[&id].store,
            &mut Intake::default(),
            self.now(id),
            usize::MAX,
        );
        self.note(format!("{id} resumes from {source}"));
        heard.into_iter().for_each(|(key, stamp)| self.knows(id, key, stamp));
    }
}

/// Runs a feed into another store, to its end, or until `parcels_max` were taken.
pub(super) fn drain(
    feed: &mut Feed,
    from: &Store,
    from_now: Now,
    to: &Store,
    intake: &mut Intake,
    to_now: Now,
    mut parcels_max: usize,
) -> Vec<(usize, Stamp)> {
    let mut heard = Vec::new();
    loop {
        let mut parcels = Vec::new();
        let polled = feed.poll(from, from_now, 10_000, |item| {
            parcels.push(Parcel::of(item));
            parcels[parcels.len() - 1].bytes()
        });
        parcels.truncate(parcels_max);
        parcels_max -= parcels.len();
        if let Some(held) = parcels.iter().position(|parcel| parcel.is_too_far_ahead(to_now)) {
            // It is given up there.
            parcels.truncate(held);
            parcels_max = 0;
        }
        parcels.iter().for_each(|parcel| take(to, intake, parcel, to_now, &mut heard));
        if parcels_max == 0 {
            return heard;
        }
        if polled == Polled::Drained {
            to.update_matrix(|matrix| matrix.report(from.origin(), &from.seen_minima(from_now)));
            return heard;
        }
    }
}

/// Takes in one parcel, and notes of which keys something newer is known now.
pub(super) fn take(store: &Store, intake: &mut Intake, parcel: &Parcel, now: Now, heard: &mut Vec<(usize, Stamp)>) {
    let before = intake.tally().applied;
    intake.take(store, &parcel.item(), &Seen::new(), now).expect("the heap has room");
    match parcel.item() {
        FeedItem::Record { record, .. } if intake.tally().applied > before => {
            let key = KEYS.iter().position(|name| *name == record.key).expect("no other keys are written");
            heard.push((key, record.stamp));
        }
        FeedItem::Flush { slots, stamp } => {
            let flushed = (0..KEYS.len()).filter(|key| slots.contains(Slot::of(KEYS[*key])));
            heard.extend(flushed.map(|key| (key, stamp)));
        }
        _ => {}
    }
}
