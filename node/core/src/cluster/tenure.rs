//! The tenure: from when until when a node may act as the primary that its map makes of it.
//!
//! Being the primary in the map is not enough. A node may serve while three things are true at once, and each ends at a
//! moment of its own:
//! - its map names it, in its run ([`Assignment`](super::Assignment));
//! - its store stamps under the incarnation that the map gave to that (the shell says which, as `serving`);
//! - the leader has granted a [`Lease`] for that very incarnation, and it has not run out.
//!
//! # The first lease
//! A new primary is sent clients at once, by every map that names it, and has no lease yet: a report has to go to the
//! leader and back. Rather than refuse them it lets them wait: its slots are held from the map that promotes it until its
//! first lease. The leader has made sure by then that nobody else has one.
//!
//! # Letting go
//! Whoever resigns asks for no more leases and lets go of what it has, *before* its report says so: the leader may promote
//! the successor the moment that it reads the report, and waits for nothing. Until its next map the node serves nobody: not
//! what it served before, nor slots that come to it meanwhile. If
//! the leader does not act on it, the resignation is taken back, and then what was granted in between must not count
//! either: the leader may have acted on the resignation after granting it.
//!
//! # Methods
//! `handle_*` for what happened, each returning which slots are to be held and which to be let go; commands `resign`,
//! `take_back` and `give_up`; the rest only look. All times are the node's monotonic time.

use std::time::Duration;

use clock::Incarnation;

use super::{
    governor::{Moment, Standing},
    id::{NodeId, Run},
    lease::Lease,
    map::{ClusterMap, Node},
};
use crate::slot::SlotSet;

/// See the head of this file.
#[derive(Debug)]
pub struct Tenure {
    me: NodeId,
    run: Run,
    lease: Lease,
    /// The latest moment of a leader that was heard of.
    moment: Option<Moment>,
    /// Whom this primary has resigned to.
    resigns_to: Option<(NodeId, Run)>,
    /// Slots that are held until the first lease of a new tenure.
    awaiting_lease: Option<SlotSet>,
}

/// What follows for requests.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Requests for these slots are to wait.
    pub hold: SlotSet,
    /// Requests for these slots wait no longer.
    pub let_go: SlotSet,
}

impl Tenure {
    /// Of a node in this run, whose leases are this long. It has none yet.
    pub const fn new(me: NodeId, run: Run, lease: Duration) -> Self {
        Self { me, run, lease: Lease::new(lease), moment: None, resigns_to: None, awaiting_lease: None }
    }

    /// Clients are about to be routed by this map. `serving` is the incarnation under which the store stamps.
    pub fn handle_map(&mut self, map: &ClusterMap, serving: Option<Incarnation>) -> Holding {
        let has_waited = self.awaiting_lease.is_some();
        let own = map.shard_of(self.me).filter(|(_, shard)| (shard.primary, shard.run) == (self.me, self.run));
        let new = own.filter(|(_, shard)| has_waited || serving != Some(shard.incarnation));
        let slots = new.map(|(id, _)| map.slots(id));
        let hold = slots.clone().unwrap_or_default();
        let mut let_go = std::mem::replace(&mut self.awaiting_lease, slots).unwrap_or_default();
        let_go.subtract(&hold);
        Holding { hold, let_go }
    }

    /// The leader has answered a report that was sent at `asked`. Whether the lease has changed shows in
    /// [`lease_until`](Self::lease_until).
    pub fn handle_standing(&mut self, asked: Duration, standing: &Standing, serving: Option<Incarnation>) -> Holding {
        self.moment = self.moment.max(Some(standing.moment));
        if standing.lease.is_none() || standing.lease != serving {
            return Holding::default();
        }
        self.lease.granted(asked);
        Holding { let_go: self.awaiting_lease.take().unwrap_or_default(), ..Holding::default() }
    }

    /// This node has another part by now, or will have: nothing that it was granted counts any more.
    pub fn give_up(&mut self, now: Duration) {
        self.lease.give_up(now);
    }

    /// The assignment has changed, and nobody writes any more: a resignation has come to its end.
    pub const fn end(&mut self) {
        self.resigns_to = None;
    }

    /// Lets go of the lease in favour of a replica that has everything. Call it only when nobody writes.
    pub fn resign(&mut self, now: Duration, to: (NodeId, Run)) {
        self.give_up(now);
        self.resigns_to = Some(to);
    }

    /// Goes on after all, under a new lease.
    pub fn take_back(&mut self, now: Duration) {
        if self.resigns_to.take().is_some() {
            self.give_up(now);
        }
    }

    /// Until when the lease runs; zero if there is none.
    pub const fn lease_until(&self) -> Duration {
        self.lease.until()
    }

    /// The latest moment of a leader that was heard of: what a report bears.
    pub const fn moment(&self) -> Option<Moment> {
        self.moment
    }

    /// Whom this primary has resigned to: what a report bears.
    pub const fn resigns_to(&self) -> Option<(NodeId, Run)> {
        self.resigns_to
    }

    /// The replica that this node may hand over to, if it can at all.
    pub fn successor<'m>(&self, map: &'m ClusterMap, to: NodeId, serving: Option<Incarnation>) -> Option<&'m Node> {
        let (id, shard) = map.shard_of(self.me)?;
        let heir = map.node(to).filter(|node| node.shard == id && to != self.me)?;
        let is_primary = (shard.primary, shard.run) == (self.me, self.run) && serving == Some(shard.incarnation);
        is_primary.then_some(heir)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clock::{Incarnation, RegionId, Time};

    use super::{Holding, Tenure};
    use crate::{
        cluster::{
            Addresses, ClusterMap, Epoch, FoundShard, Founder, Id, MapCommand, Moment, NodeId, Run, ShardId, Standing,
        },
        slot::{Slot, SlotSet},
    };

    const LEASE: Duration = Duration::from_secs(1);
    const RUN: Run = Run(1);

    fn node(number: u8) -> NodeId {
        NodeId(Id::from_bytes([number; Id::BYTES]))
    }

    /// One shard: node 0 is its primary, node 1 its replica.
    fn map() -> ClusterMap {
        let addresses = Addresses { host: "node".into(), port: 1, tls_port: 0, bus_port: 2 };
        let founder = |number| Founder { id: node(number), run: RUN, addresses: addresses.clone() };
        let nodes = vec![founder(0), founder(1)];
        let shards = vec![FoundShard { label: Id::from_bytes([9; Id::BYTES]), nodes, slots: all(), weight: 100 }];
        let mut map = ClusterMap::new();
        map.apply(&MapCommand::Found { region: RegionId::MIN, shards, at: Time::ZERO }).expect("it can be founded");
        map
    }

    fn promoted(mut map: ClusterMap) -> ClusterMap {
        let former = (node(0), RUN);
        let promote =
            MapCommand::Promote { shard: ShardId(0), node: node(1), run: RUN, former, has_all: true, at: Time::ZERO };
        map.apply(&promote).expect("it can be promoted");
        map
    }

    fn all() -> SlotSet {
        Slot::all().collect()
    }

    fn incarnation(map: &ClusterMap) -> Option<Incarnation> {
        map.shard(ShardId(0)).map(|shard| shard.incarnation)
    }

    fn standing(map: &ClusterMap, at: u64) -> Standing {
        let moment = Moment::for_tests(7, Duration::from_secs(at));
        Standing { epoch: Epoch::default(), lease: incarnation(map), moment }
    }

    #[test]
    fn new_primary_lets_clients_wait_until_its_first_lease_and_not_again() {
        let (before, after) = (map(), promoted(map()));
        let mut heir = Tenure::new(node(1), RUN, LEASE);
        assert_eq!(heir.handle_map(&before, None), Holding::default());
        assert_eq!(heir.handle_map(&after, None), Holding { hold: all(), let_go: SlotSet::new() });
        // The store is ready before the lease is there, and a map that changes something else comes in between.
        assert_eq!(heir.handle_map(&after, incarnation(&after)), Holding { hold: all(), let_go: SlotSet::new() });
        let granted = heir.handle_standing(Duration::from_secs(5), &standing(&after, 1), incarnation(&after));
        assert_eq!((granted.let_go, heir.lease_until()), (all(), Duration::from_secs(6)));
        assert_eq!(heir.handle_map(&after, incarnation(&after)), Holding::default());
    }

    #[test]
    fn lease_for_another_incarnation_than_the_store_stamps_under_does_not_count() {
        let (before, after) = (map(), promoted(map()));
        let mut heir = Tenure::new(node(1), RUN, LEASE);
        heir.handle_map(&after, None);
        for serving in [None, incarnation(&before)] {
            assert_eq!(heir.handle_standing(Duration::from_secs(5), &standing(&after, 1), serving), Holding::default());
        }
        assert_eq!(heir.lease_until(), Duration::ZERO);
        assert_eq!(heir.moment(), Some(Moment::for_tests(7, Duration::from_secs(1))));
    }

    #[test]
    fn whoever_is_no_primary_any_more_lets_those_go_who_waited() {
        let (before, after) = (map(), promoted(map()));
        let mut former = Tenure::new(node(0), RUN, LEASE);
        former.handle_map(&before, None);
        assert_eq!(former.handle_map(&after, None), Holding { hold: SlotSet::new(), let_go: all() });
    }

    #[test]
    fn primary_that_has_started_again_holds_nothing_and_hands_nothing_over() {
        let map = map();
        let mut again = Tenure::new(node(0), Run(2), LEASE);
        assert_eq!(again.handle_map(&map, None), Holding::default());
        assert!(again.successor(&map, node(1), incarnation(&map)).is_none());
    }

    #[test]
    fn resignation_lets_go_of_the_lease_and_so_does_taking_it_back() {
        let map = map();
        let mut primary = Tenure::new(node(0), RUN, LEASE);
        let (serving, seconds) = (incarnation(&map), Duration::from_secs);
        primary.handle_standing(seconds(5), &standing(&map, 1), serving);
        primary.resign(seconds(5), (node(1), RUN));
        assert_eq!((primary.lease_until(), primary.resigns_to()), (Duration::ZERO, Some((node(1), RUN))));
        primary.take_back(seconds(7));
        primary.handle_standing(seconds(6), &standing(&map, 2), serving);
        assert_eq!((primary.lease_until(), primary.resigns_to()), (Duration::ZERO, None));
        primary.handle_standing(seconds(8), &standing(&map, 3), serving);
        assert_eq!(primary.lease_until(), seconds(9));
    }

    #[test]
    fn only_a_primary_that_serves_hands_over_and_only_to_its_own_replica() {
        let map = map();
        let primary = Tenure::new(node(0), RUN, LEASE);
        assert!(primary.successor(&map, node(1), None).is_none());
        assert!(primary.successor(&map, node(0), incarnation(&map)).is_none());
        assert!(primary.successor(&map, node(2), incarnation(&map)).is_none());
        assert_eq!(primary.successor(&map, node(1), incarnation(&map)), map.node(node(1)));
        assert!(Tenure::new(node(1), RUN, LEASE).successor(&map, node(0), incarnation(&map)).is_none());
    }
}
