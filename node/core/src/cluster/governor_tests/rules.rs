//! Single rules of the governor, each in the smallest case that shows it.

use std::time::Duration;

use clock::{Incarnation, Time};

use super::{
    super::{Governor, GovernorOptions, Held, Moment, Report},
    world::{founded, founder},
};
use crate::cluster::{ClusterMap, Lease, MapCommand, NodeId, Run, ShardId, Term};

const OPTIONS: GovernorOptions = GovernorOptions {
    lease: Duration::from_secs(1),
    fresh: Duration::from_millis(600),
    patience: Duration::from_secs(5),
};
const TERM: Term = Term(7);

/// A leader and what it is told. Each node is in run 1 at first; those of a shard follow one another.
struct Region {
    governor: Governor,
    map: ClusterMap,
    now: Duration,
    reports: u64,
}

impl Region {
    fn new(shards: u16, replicas: u16) -> Self {
        let nodes: Vec<_> = (0..shards * (replicas + 1)).map(|index| founder(index, Run(1))).collect();
        let map = founded(&nodes, shards, replicas);
        let mut region = Self { governor: Governor::new(OPTIONS), map, now: Duration::from_secs(100), reports: 0 };
        region.governor.handle_map(&region.map);
        region.governor.handle_leadership(region.now, Some(TERM));
        region
    }

    fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    /// A node's report, made just now.
    fn report(&mut self, index: u16, run: u64) -> Report {
        self.reports += 1;
        Report {
            node: founder(index, Run(run)),
            number: self.reports,
            epoch: self.map.epoch(),
            after: Some(Moment { term: TERM, at: self.now }),
            held: None,
            suspects: Vec::new(),
            resigns_to: None,
        }
    }

    fn says(&mut self, report: Report) {
        self.governor.handle_report(self.now, report);
    }

    /// A node that holds this much of what was written under an incarnation.
    fn holds(&mut self, index: u16, incarnation: u16, until: u64) {
        let held = Held { incarnation: Incarnation::new(incarnation), until: Time::from_ntp64(until) };
        let report = Report { held: Some(held), ..self.report(index, 1) };
        self.says(report);
    }

    fn poll(&mut self) -> Option<MapCommand> {
        self.governor.poll_command(self.now, Time::ZERO)
    }

    /// Applies what the governor wants, which is this.
    #[track_caller]
    fn applies(&mut self, wanted: &MapCommand) {
        assert_eq!(self.poll().as_ref(), Some(wanted));
        self.apply(wanted);
        self.governor.handle_outcome(TERM, &self.map);
    }

    fn apply(&mut self, command: &MapCommand) {
        self.map.apply(command).expect("the map takes it");
        self.governor.handle_map(&self.map);
    }

    fn grants(&mut self, index: u16, run: u64) -> bool {
        self.governor.answer(self.now, TERM, node(index), Run(run)).is_some_and(|standing| standing.lease.is_some())
    }
}

fn node(index: u16) -> NodeId {
    founder(index, Run(1)).id
}

fn failed(index: u16) -> MapCommand {
    MapCommand::Failed { node: node(index), run: Run(1) }
}

fn promote(to: (u16, u64), former: (u16, u64)) -> MapCommand {
    let former = (node(former.0), Run(former.1));
    let (node, run) = (node(to.0), Run(to.1));
    MapCommand::Promote { shard: ShardId(0), node, run, former, has_all: false, at: Time::ZERO }
}

/// The same after a resignation.
fn succeed(to: (u16, u64), former: (u16, u64)) -> MapCommand {
    let MapCommand::Promote { shard, node, run, former, at, .. } = promote(to, former) else { unreachable!() };
    MapCommand::Promote { shard, node, run, former, has_all: true, at }
}

#[test]
fn nobody_but_the_primary_in_its_run_gets_a_lease_and_only_from_a_leader() {
    let mut region = Region::new(1, 1);
    assert!(region.grants(0, 1) && !region.grants(0, 2) && !region.grants(1, 1));
    region.governor.handle_leadership(region.now, None);
    assert_eq!(region.governor.answer(region.now, TERM, node(0), Run(1)), None);
}

#[test]
fn a_failed_primary_is_replaced_when_its_lease_is_over_and_its_replica_has_reported_since() {
    let mut region = Region::new(1, 1);
    region.wait(300);
    assert!(region.grants(0, 1));
    region.apply(&failed(0));
    assert!(!region.grants(0, 1));
    region.wait(Lease::waits(OPTIONS.lease).as_millis() as u64 - 1);
    region.holds(1, 0, 9);
    region.wait(1);
    assert_eq!(region.poll(), None);
    region.holds(1, 0, 9);
    region.applies(&promote((1, 1), (0, 1)));
}

#[test]
fn a_report_that_was_on_its_way_for_long_does_not_count_as_made_since() {
    let mut region = Region::new(1, 1);
    region.apply(&failed(0));
    let early = region.report(1, 1);
    region.wait(1_100);
    region.says(Report { held: Some(Held { incarnation: Incarnation::FIRST, until: Time::ZERO }), ..early });
    assert_eq!(region.poll(), None);
}

#[test]
fn a_primary_that_started_again_is_replaced_by_what_replicas_report_since() {
    let mut region = Region::new(1, 2);
    region.holds(1, 0, 5);
    region.wait(100);
    let report = region.report(0, 2);
    region.says(report);
    region.applies(&MapCommand::Started { node: founder(0, Run(2)) });
    region.holds(2, 0, 4);
    assert_eq!(region.poll(), None);
    region.wait(100);
    region.holds(1, 0, 6);
    let report = region.report(0, 2);
    region.says(report);
    region.applies(&promote((1, 1), (0, 1)));
}

#[test]
fn a_late_report_of_a_run_that_is_gone_says_nothing() {
    let mut region = Region::new(1, 1);
    let (late, current) = (region.report(0, 1), region.report(0, 2));
    region.says(current);
    region.says(late.clone());
    region.applies(&MapCommand::Started { node: founder(0, Run(2)) });
    region.governor.handle_leadership(region.now, Some(Term(8)));
    region.says(late);
    assert_eq!(region.poll(), None);
}

#[test]
fn who_followed_the_later_primary_goes_before_who_has_the_greater_time() {
    let mut region = Region::new(1, 3);
    region.apply(&promote((1, 1), (0, 1)));
    region.apply(&failed(1));
    region.apply(&failed(0));
    region.wait(1_100);
    region.holds(2, 0, 1_000);
    // The one that was promoted in between.
    let incarnation = region.map.shards().next().map(|(_, shard)| shard.incarnation.number()).expect("a shard");
    region.holds(3, incarnation, 10);
    region.applies(&promote((3, 1), (1, 1)));
}

#[test]
fn a_primary_that_is_back_goes_on_if_it_followed_its_predecessor_further_than_any_replica() {
    let mut region = Region::new(1, 2);
    let report = region.report(1, 2);
    region.says(report);
    region.apply(&promote((1, 1), (0, 1)));
    region.applies(&MapCommand::Started { node: founder(1, Run(2)) });
    region.apply(&failed(0));
    region.holds(2, 0, 5);
    let held = Some(Held { incarnation: Incarnation::FIRST, until: Time::from_ntp64(6) });
    let report = Report { held, ..region.report(1, 2) };
    region.says(report);
    region.applies(&promote((1, 2), (1, 1)));
}

#[test]
fn an_empty_shard_waits_for_who_is_silent_but_not_for_ever() {
    let mut region = Region::new(1, 1);
    region.apply(&failed(1));
    let report = region.report(0, 2);
    region.says(report);
    region.applies(&MapCommand::Started { node: founder(0, Run(2)) });
    for waited in [0, 4_999] {
        region.wait(waited);
        let report = region.report(0, 2);
        region.says(report);
        assert_eq!(region.poll(), None);
    }
    region.wait(1);
    region.applies(&promote((0, 2), (0, 1)));
}

#[test]
fn an_empty_shard_that_waits_for_nobody_goes_on_at_once() {
    let mut region = Region::new(1, 1);
    for index in [0, 1] {
        let report = region.report(index, 2);
        region.says(report);
        region.applies(&MapCommand::Started { node: founder(index, Run(2)) });
    }
    region.applies(&promote((0, 2), (0, 1)));
}

#[test]
fn who_resigned_gets_no_lease_until_it_takes_that_back() {
    let mut region = Region::new(1, 1);
    let resigns = Report { resigns_to: Some((node(1), Run(2))), ..region.report(0, 1) };
    region.says(resigns);
    assert!(!region.grants(0, 1));
    // Not in the run that has all.
    assert_eq!(region.poll(), None);
    let stays = region.report(0, 1);
    region.says(stays);
    assert!(region.grants(0, 1));
    let resigns = Report { resigns_to: Some((node(1), Run(1))), ..region.report(0, 1) };
    region.says(resigns);
    region.applies(&succeed((1, 1), (0, 1)));
}

#[test]
fn a_resignation_to_a_former_leader_says_nothing() {
    let mut region = Region::new(1, 1);
    let after = Some(Moment { term: Term(6), at: Duration::MAX });
    let resigns = Report { after, resigns_to: Some((node(1), Run(1))), ..region.report(0, 1) };
    region.says(resigns);
    assert_eq!(region.poll(), None);
    assert!(region.grants(0, 1));
}

#[test]
fn a_promotion_on_its_way_keeps_the_lease_back_whatever_else_changes() {
    let mut region = Region::new(1, 1);
    let resigns = Report { resigns_to: Some((node(1), Run(1))), ..region.report(0, 1) };
    region.says(resigns);
    assert_eq!(region.poll(), Some(succeed((1, 1), (0, 1))));
    let stays = region.report(0, 1);
    region.says(stays);
    region.apply(&failed(1));
    assert!(!region.grants(0, 1));
    region.governor.handle_outcome(TERM, &region.map);
    assert!(region.grants(0, 1));
}

#[test]
fn a_leader_that_was_elected_again_does_not_answer_what_came_before() {
    let mut region = Region::new(1, 1);
    let resigns = Report { resigns_to: Some((node(1), Run(1))), ..region.report(0, 1) };
    region.says(resigns);
    assert_eq!(region.poll(), Some(succeed((1, 1), (0, 1))));
    let stays = region.report(0, 1);
    region.says(stays);
    // The promotion is still in the log, and may be applied.
    region.governor.handle_leadership(region.now, Some(Term(8)));
    assert!(!region.grants(0, 1));
}

#[test]
fn a_leader_that_was_deposed_meanwhile_waits_as_a_new_one() {
    let mut region = Region::new(1, 1);
    region.apply(&failed(0));
    region.wait(1_000);
    region.governor.handle_leadership(region.now, Some(Term(8)));
    region.wait(500);
    let after = Some(Moment { term: Term(8), at: region.now });
    let report = Report { after, ..region.report(1, 1) };
    region.says(report);
    assert_eq!(region.poll(), None);
}

#[test]
fn a_region_of_which_half_the_primaries_are_gone_still_finds_out() {
    let mut region = Region::new(2, 1);
    region.wait(600);
    for index in [1, 3] {
        let suspects = vec![(node(0), Run(1)), (node(2), Run(1))];
        let report = Report { suspects, ..region.report(index, 1) };
        region.says(report);
    }
    region.applies(&failed(0));
    region.applies(&failed(2));
}

#[test]
fn one_shard_of_two_is_no_majority() {
    let mut region = Region::new(2, 1);
    for index in 0..4 {
        let suspects = if index == 0 { vec![(node(2), Run(1))] } else { Vec::new() };
        let report = Report { suspects, ..region.report(index, 1) };
        region.says(report);
    }
    assert_eq!(region.poll(), None);
}

#[test]
fn who_failed_recovers_when_it_answers_and_nobody_suspects_it() {
    let mut region = Region::new(1, 1);
    region.apply(&failed(1));
    let suspects = Report { suspects: vec![(node(1), Run(1))], ..region.report(0, 1) };
    region.says(suspects);
    let report = region.report(1, 1);
    region.says(report);
    assert_eq!(region.poll(), None);
    let trusts = region.report(0, 1);
    region.says(trusts);
    region.applies(&MapCommand::Recovered { node: node(1), run: Run(1) });
}
