//! Refill: how a region that starts empty comes by what the others hold.
//!
//! Memory is all that a region has, so every start is an empty one. Were it to ask every peer for everything, each
//! record would cross the ocean once per peer. So it lets *one* peer send a clone; the others wait. When the clone is
//! through, `seen` says what the cloned peer had seen of everyone, and the others send what is missing to that.
//!
//! # Whom to clone
//! Rather a peer that is complete than one that is being refilled itself. But at a cold start none is, and all would
//! wait for each other: if nobody is complete once all peers have greeted, or after some patience, the first is taken.
//! A clone of a peer that is not complete does no harm: what arrives with it is what that peer had *seen*, and
//! whatever it lacked the others send. If the link of the clone dies, another is chosen, and nothing was lost by it:
//! slots that were through are `seen`, whoever sent them, and whoever is chosen next is told so and sends the rest.
//!
//! # Complete
//! The region is *complete* when the clone is through and every connected link has delivered a watermark since: then
//! it has all that was anywhere when it started, but for regions that cannot be reached. It stays complete. It serves
//! clients from the beginning; being incomplete costs misses, and is reported.

use std::{collections::BTreeMap, time::Duration};

use clock::RegionId;

use crate::admission::LinkId;

/// How a region refills.
#[derive(Clone, Copy, Debug)]
pub struct RefillOptions {
    /// How long after the first greeting a complete peer is waited for.
    pub patience: Duration,
}

impl Default for RefillOptions {
    fn default() -> Self {
        Self { patience: Duration::from_secs(2) }
    }
}

/// What is wanted of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Everything, but for what a clone that was cut off has brought.
    Clone,
    /// What is not seen yet.
    Resume,
    /// Nothing yet.
    Later,
}

/// The refill of one region; one per process.
#[derive(Clone, Debug)]
pub struct Refill {
    stage: Stage,
    /// Links that are up.
    links: BTreeMap<RegionId, Link>,
    /// How many regions there are beside this one.
    peers: usize,
    options: RefillOptions,
    /// When the first peer greeted, in monotonic time.
    first_greeting: Option<Duration>,
    is_complete: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody was chosen, or whoever was is gone.
    Empty,
    /// A clone is on its way.
    Cloning(LinkId),
    /// The clone is through.
    Through,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    id: LinkId,
    is_complete: bool,
    wish: Wish,
    /// A watermark came on it.
    is_settled: bool,
}

impl Refill {
    /// Begins empty, with this many peers. Without any the region is complete at once.
    pub const fn new(peers: usize, options: RefillOptions) -> Self {
        let stage = if peers == 0 { Stage::Through } else { Stage::Empty };
        Self { stage, links: BTreeMap::new(), peers, options, first_greeting: None, is_complete: peers == 0 }
    }

    /// Whether the region has all that the others had.
    pub const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The link that sends a clone now.
    pub const fn cloning(&self) -> Option<LinkId> {
        if let Stage::Cloning(id) = self.stage { Some(id) } else { None }
    }

    /// A peer has greeted, and takes the place of whatever link its region had. Says what to want of it;
    /// if that is [`Wish::Later`], [`poll_wish`](Self::poll_wish) will say more.
    pub fn greeted(&mut self, id: LinkId, is_complete: bool, now: Duration) -> Wish {
        if let Some(old) = self.links.get(&id.region()).map(|link| link.id) {
            self.lost(old);
        }
        self.first_greeting.get_or_insert(now);
        self.links.insert(id.region(), Link { id, is_complete, wish: Wish::Later, is_settled: false });
        self.choose(now);
        let wish = self.wish_now(id);
        if let Some(link) = self.links.get_mut(&id.region()) {
            link.wish = wish;
        }
        wish
    }

    /// A link is gone. One that was replaced before is not missed.
    pub fn lost(&mut self, id: LinkId) {
        if self.links.get(&id.region()).is_some_and(|link| link.id == id) {
            self.links.remove(&id.region());
            if self.stage == Stage::Cloning(id) {
                self.stage = Stage::Empty;
            }
            self.check_complete();
        }
    }

    /// A watermark came: the link has sent all that was wanted of it.
    pub fn watermark(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id.region()).filter(|link| link.id == id) else { return };
        link.is_settled = true;
        if self.stage == Stage::Cloning(id) {
            self.stage = Stage::Through;
        }
        self.check_complete();
    }

    /// What is wanted now of a link that was told [`Wish::Later`], if that has changed.
    pub fn poll_wish(&mut self, id: LinkId, now: Duration) -> Option<Wish> {
        self.choose(now);
        let wish = self.wish_now(id);
        let link = self.links.get_mut(&id.region()).filter(|link| link.id == id && link.wish == Wish::Later)?;
        link.wish = wish;
        (wish != Wish::Later).then_some(wish)
    }

    /// When to ask [`poll_wish`](Self::poll_wish) again if nothing happens before, in monotonic time.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.stage != Stage::Empty || self.links.is_empty() {
            return None;
        }
        self.first_greeting.map(|first| first + self.options.patience)
    }

    fn choose(&mut self, now: Duration) {
        if self.stage != Stage::Empty {
            return;
        }
        let impatient = self.links.len() >= self.peers || self.poll_timeout().is_some_and(|at| at <= now);
        let complete = self.links.values().find(|link| link.is_complete);
        let any = self.links.values().next().filter(|_| impatient);
        if let Some(link) = complete.or(any) {
            self.stage = Stage::Cloning(link.id);
        }
    }

    fn wish_now(&self, id: LinkId) -> Wish {
        match self.stage {
            Stage::Through => Wish::Resume,
            Stage::Cloning(chosen) if chosen == id => Wish::Clone,
            Stage::Cloning(_) | Stage::Empty => Wish::Later,
        }
    }

    fn check_complete(&mut self) {
        self.is_complete |= self.stage == Stage::Through && self.links.values().all(|link| link.is_settled);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clock::{Incarnation, Origin, RegionId};

    use super::{Refill, RefillOptions, Wish};
    use crate::admission::LinkId;

    const NOW: Duration = Duration::from_secs(100);

    fn link(region: u8, epoch: u64) -> LinkId {
        LinkId { origin: Origin::new(RegionId::new(region).unwrap(), Incarnation::FIRST), epoch }
    }

    fn refill(peers: usize) -> Refill {
        Refill::new(peers, RefillOptions::default())
    }

    #[test]
    fn alone_a_region_is_complete_at_once() {
        assert!(refill(0).is_complete());
        assert!(!refill(1).is_complete());
    }

    #[test]
    fn one_peer_sends_a_clone_and_the_others_what_is_missing_to_it() {
        let mut refill = refill(2);
        assert_eq!(refill.greeted(link(2, 1), true, NOW), Wish::Clone);
        assert_eq!(refill.greeted(link(3, 1), true, NOW), Wish::Later);
        assert_eq!(refill.poll_wish(link(3, 1), NOW), None);
        refill.watermark(link(2, 1));
        assert!(!refill.is_complete());
        assert_eq!(refill.poll_wish(link(3, 1), NOW), Some(Wish::Resume));
        assert_eq!(refill.poll_wish(link(3, 1), NOW), None);
        refill.watermark(link(3, 1));
        assert!(refill.is_complete());
        assert_eq!(refill.greeted(link(3, 2), true, NOW), Wish::Resume);
        assert!(refill.is_complete());
    }

    #[test]
    fn a_complete_peer_is_waited_for_but_not_for_ever() {
        let mut refill = refill(2);
        assert_eq!(refill.greeted(link(2, 1), false, NOW), Wish::Later);
        assert_eq!(refill.poll_wish(link(2, 1), NOW), None);
        let patience = refill.poll_timeout().unwrap();
        assert_eq!(refill.poll_wish(link(2, 1), patience), Some(Wish::Clone));
        assert_eq!(refill.poll_timeout(), None);
    }

    #[test]
    fn a_complete_peer_that_comes_in_time_is_preferred() {
        let mut refill = refill(3);
        assert_eq!(refill.greeted(link(2, 1), false, NOW), Wish::Later);
        assert_eq!(refill.greeted(link(3, 1), true, NOW), Wish::Clone);
    }

    #[test]
    fn at_a_cold_start_nobody_waits_once_all_have_greeted() {
        let mut refill = refill(2);
        assert_eq!(refill.greeted(link(3, 1), false, NOW), Wish::Later);
        assert_eq!(refill.greeted(link(2, 1), false, NOW), Wish::Clone);
        assert_eq!(refill.poll_wish(link(3, 1), NOW), None);
    }

    #[test]
    fn when_the_link_of_the_clone_dies_another_is_cloned() {
        let mut refill = refill(2);
        refill.greeted(link(2, 1), true, NOW);
        refill.greeted(link(3, 1), true, NOW);
        refill.lost(link(2, 1));
        assert!(!refill.is_complete());
        assert_eq!(refill.poll_wish(link(3, 1), NOW), Some(Wish::Clone));
        assert_eq!(refill.greeted(link(2, 2), true, NOW), Wish::Later);
        refill.watermark(link(3, 1));
        assert_eq!(refill.poll_wish(link(2, 2), NOW), Some(Wish::Resume));
    }

    #[test]
    fn a_replaced_connection_is_not_missed() {
        let mut refill = refill(1);
        assert_eq!(refill.greeted(link(2, 1), true, NOW), Wish::Clone);
        assert_eq!(refill.greeted(link(2, 2), true, NOW), Wish::Clone);
        refill.lost(link(2, 1));
        refill.watermark(link(2, 1));
        assert!(!refill.is_complete());
        refill.watermark(link(2, 2));
        assert!(refill.is_complete());
    }

    #[test]
    fn a_link_that_dies_after_the_clone_holds_nobody_back() {
        let mut refill = refill(2);
        refill.greeted(link(2, 1), true, NOW);
        refill.greeted(link(3, 1), true, NOW);
        refill.watermark(link(2, 1));
        refill.lost(link(3, 1));
        assert!(refill.is_complete());
    }
}
