//! Single rules of custody, each in the smallest case that shows it. What they come to together stands in `governor_tests`.

use clock::{RegionId, Time};

use super::{Answer, Custody, Keeping, MayNotGive, Offer};
use crate::{
    cluster::{Addresses, ClusterMap, Epoch, FoundShard, Founder, Id, MapCommand, NodeId, Run, ShardId},
    slot::{SLOTS, Slot, SlotSet},
};

/// Two shards of two nodes each, and a slot that moves from the first to the second.
struct Region {
    map: ClusterMap,
    giver: Custody,
    taker: Custody,
    since: Epoch,
}

fn node(number: u8) -> NodeId {
    NodeId(Id::from_bytes([number; Id::BYTES]))
}

fn slot() -> Slot {
    Slot::new(1).expect("a slot")
}

fn slots() -> SlotSet {
    [slot()].into_iter().collect()
}

fn founded() -> ClusterMap {
    let addresses = Addresses { host: "host".into(), port: 1, tls_port: 0, bus_port: 2 };
    let founder = |number| Founder { id: node(number), run: Run(1), addresses: addresses.clone() };
    let shard = |first: u8, slots: SlotSet| FoundShard {
        label: node(first).0,
        nodes: vec![founder(first), founder(first + 1)],
        slots,
        weight: 100,
    };
    let half = |lower: bool| Slot::all().filter(|slot| (slot.number() < SLOTS / 2) == lower).collect();
    let mut map = ClusterMap::new();
    let shards = vec![shard(0, half(true)), shard(2, half(false))];
    map.apply(&MapCommand::Found { region: RegionId::MIN, shards, at: Time::ZERO }).expect("it can be founded");
    map
}

impl Region {
    /// In which the slot is prepared, and has arrived.
    fn prepared() -> (Self, Epoch) {
        let mut region = Self {
            map: founded(),
            giver: Custody::new(node(0), Run(1)),
            taker: Custody::new(node(2), Run(1)),
            since: Epoch(0),
        };
        region.apply(&MapCommand::Move { slots: slots(), to: ShardId(1) });
        region.since = region.map.epoch();
        region.arrives();
        let at = region.prepares();
        (region, at)
    }

    fn apply(&mut self, command: &MapCommand) {
        let former = self.map.clone();
        self.map.apply(command).expect("the map takes it");
        self.giver.follow(&former, &self.map);
        self.taker.follow(&former, &self.map);
    }

    fn arrives(&mut self) {
        let feed = self.taker.begins_to_arrive(node(0), self.since, &slots()).expect("nothing was taken");
        self.taker.has_arrived(node(0), self.since, feed);
    }

    fn prepares(&mut self) -> Epoch {
        let (from, to) = (ShardId(0), ShardId(1));
        self.apply(&MapCommand::Prepare { slots: slots(), from, to, since: self.since });
        self.map.epoch()
    }

    fn gives(&mut self, at: Epoch) -> Offer {
        self.giver.give(&self.map, at).expect("it may be given")
    }

    fn takes(&mut self, offer: &Offer) -> Answer {
        self.taker.take(&self.map, offer)
    }

    fn promotes(&mut self, shard: u16, to: u8, former: u8) {
        let former = (node(former), Run(1));
        self.apply(&MapCommand::Promote {
            shard: ShardId(shard),
            node: node(to),
            run: Run(1),
            former,
            has_all: false,
            at: Time::ZERO,
        });
    }

    fn keeping(&self) -> (Keeping, Keeping) {
        (self.giver.keeping(slot()), self.taker.keeping(slot()))
    }
}

#[test]
fn what_is_given_is_served_by_neither_until_it_is_taken_and_then_by_the_target() {
    let (mut region, at) = Region::prepared();
    assert_eq!(region.keeping(), (Keeping::Plain, Keeping::Plain));
    let offer = region.gives(at);
    assert_eq!(region.keeping(), (Keeping::Given, Keeping::Plain));
    assert_eq!(region.takes(&offer), Answer::Taken);
    assert!(region.taker.is_unconfirmed());
    region.giver.answered(at, Answer::Taken);
    assert_eq!(region.keeping(), (Keeping::Gone, Keeping::Taken));
    assert!(region.taker.own(&region.map).contains(slot()) && !region.giver.own(&region.map).contains(slot()));
    let report = region.taker.settle(&region.map);
    assert_eq!(report, [MapCommand::Moved { prepared: at }]);
    region.apply(&report[0]);
    assert_eq!((region.keeping(), region.taker.is_unconfirmed()), ((Keeping::Plain, Keeping::Plain), false));
    assert!(region.taker.settle(&region.map).is_empty());
}

#[test]
fn an_offer_may_come_twice_also_when_all_is_settled() {
    let (mut region, at) = Region::prepared();
    let offer = region.gives(at);
    assert_eq!([region.takes(&offer), region.takes(&offer)], [Answer::Taken; 2]);
    region.apply(&MapCommand::Moved { prepared: at });
    // No refusal: the giver would take back what is served elsewhere.
    assert_eq!(region.takes(&offer), Answer::AskTheMap);
}

#[test]
fn an_offer_to_a_process_that_is_gone_is_not_refused_by_the_next() {
    let (mut region, at) = Region::prepared();
    let offer = region.gives(at);
    let mut next = Custody::new(node(2), Run(2));
    assert_eq!(next.take(&region.map, &offer), Answer::AskTheMap);
}

#[test]
fn what_was_refused_is_never_taken_and_the_map_is_told() {
    let (mut region, at) = Region::prepared();
    // A feed begins again, and what had arrived is cleared.
    let feed = region.taker.begins_to_arrive(node(0), region.since, &slots()).expect("nothing was taken");
    let offer = region.gives(at);
    assert_eq!(region.takes(&offer), Answer::Refused);
    region.taker.has_arrived(node(0), region.since, feed);
    assert_eq!(region.takes(&offer), Answer::Refused);
    region.giver.answered(at, Answer::Refused);
    assert_eq!(region.keeping(), (Keeping::Plain, Keeping::Plain));
    assert_eq!(region.giver.give(&region.map, at), Err(MayNotGive));
    let report = [MapCommand::Unprepare { prepared: at }];
    assert_eq!(
        (region.giver.settle(&region.map), region.taker.settle(&region.map)),
        (report.to_vec(), report.to_vec())
    );
    region.apply(&report[0]);
    assert!(region.giver.returning().is_empty(), "nobody else has served it");
    let at = region.prepares();
    let offer = region.gives(at);
    assert_eq!(region.takes(&offer), Answer::Taken);
}

#[test]
fn what_was_given_cannot_be_withdrawn_and_what_was_withdrawn_cannot_be_given() {
    let (mut region, at) = Region::prepared();
    region.gives(at);
    assert!(!region.giver.withdraw(at) && region.giver.has_given(at));
    let (mut region, at) = Region::prepared();
    assert!(region.giver.withdraw(at));
    assert_eq!(region.giver.give(&region.map, at), Err(MayNotGive));
    assert_eq!(region.giver.settle(&region.map), [MapCommand::Unprepare { prepared: at }]);
}

#[test]
fn only_what_the_latest_feed_has_brought_in_full_is_taken() {
    let (mut region, at) = Region::prepared();
    let former = region.taker.begins_to_arrive(node(0), region.since, &slots()).expect("nothing was taken");
    region.taker.begins_to_arrive(node(0), region.since, &slots()).expect("nothing was taken");
    // The former connection says so late.
    region.taker.has_arrived(node(0), region.since, former);
    let offer = region.gives(at);
    assert_eq!(region.takes(&offer), Answer::Refused);
}

#[test]
fn what_one_feed_has_cleared_no_other_brings_any_more() {
    let (mut region, _) = Region::prepared();
    let (since, heir) = (region.since, node(1));
    let former = region.taker.begins_to_arrive(node(0), since, &slots()).expect("nothing was taken");
    region.taker.has_arrived(node(0), since, former);
    assert!(region.taker.brings(node(0), since, former));
    let anew = region.taker.begins_to_arrive(node(0), since, &slots()).expect("nothing was taken");
    assert!(!region.taker.brings(node(0), since, former) && region.taker.brings(node(0), since, anew));
    // The giver has an heir, who is connected before the giver is not.
    let some: SlotSet = slots().iter().take(1).collect();
    let later = Epoch(since.0 + 1);
    let by_heir = region.taker.begins_to_arrive(heir, later, &some).expect("nothing was taken");
    assert!(!region.taker.brings(node(0), since, anew) && region.taker.brings(heir, later, by_heir));
}

#[test]
fn no_feed_begins_over_what_was_taken() {
    let (mut region, at) = Region::prepared();
    let offer = region.gives(at);
    region.takes(&offer);
    assert_eq!(region.taker.begins_to_arrive(node(0), region.since, &slots()), None);
    // Who sends may not have heard of it, and connects once more.
    region.apply(&MapCommand::Moved { prepared: at });
    assert_eq!(region.taker.begins_to_arrive(node(0), region.since, &slots()), None);
}

#[test]
fn what_is_in_doubt_is_settled_by_the_target_whether_it_has_taken_it_or_not() {
    let (mut region, at) = Region::prepared();
    let offer = region.gives(at);
    assert_eq!(region.takes(&offer), Answer::Taken);
    region.promotes(0, 1, 0);
    assert_eq!(region.taker.settle(&region.map), [MapCommand::Moved { prepared: at }]);

    let (mut region, at) = Region::prepared();
    let offer = region.gives(at);
    let mut heir = Custody::new(node(1), Run(1));
    let former = region.map.clone();
    region.promotes(0, 1, 0);
    heir.follow(&former, &region.map);
    assert!(heir.settle(&region.map).is_empty() && heir.give(&region.map, at) == Err(MayNotGive));
    let report = region.taker.settle(&region.map);
    assert_eq!(report, [MapCommand::Unprepare { prepared: at }]);
    // The offer comes after all.
    assert_eq!(region.takes(&offer), Answer::Refused);
    let former = region.map.clone();
    region.apply(&report[0]);
    heir.follow(&former, &region.map);
    assert_eq!(heir.keeping(slot()), Keeping::Returning);
    heir.returned(&slots());
    assert_eq!(heir.keeping(slot()), Keeping::Plain);
}

#[test]
fn what_was_given_to_a_primary_that_was_replaced_comes_back_after_the_clock_has_been_moved() {
    let (mut region, at) = Region::prepared();
    let offer = region.gives(at);
    assert_eq!(region.takes(&offer), Answer::Taken);
    region.promotes(1, 3, 2);
    assert_eq!(region.keeping(), (Keeping::Returning, Keeping::Plain));
    region.giver.answered(at, Answer::Taken);
    assert_eq!(region.giver.returning(), &slots());
    region.giver.returned(&slots());
    assert_eq!(region.keeping(), (Keeping::Plain, Keeping::Plain));
}

#[test]
fn who_has_just_taken_slots_does_not_resign_and_who_resigns_takes_none() {
    let (mut region, at) = Region::prepared();
    let offer = region.gives(at);
    assert!(region.taker.resigns());
    assert_eq!(region.takes(&offer), Answer::Refused);
    region.taker.stays();

    let (mut region, at) = Region::prepared();
    let offer = region.gives(at);
    region.takes(&offer);
    assert!(!region.taker.resigns());
}
