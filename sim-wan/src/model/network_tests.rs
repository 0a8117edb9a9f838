//! Connections across two lines, cuts by region, timelines, and the order of events over all lines.

use std::time::Duration;

use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::{AddLineError, Change, CloseReason, Event, InvalidChange, LineId, Network, Way};
use crate::model::{Bounds, ConnectionId, Delay, LineChange, LineSettings, Loss, OpenError, Room, SendError, State};

const REGIONS: [&str; 3] = ["ap", "eu", "us"];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Three regions, each joined to each, 10 ms apart.
fn network<T>(seed: u64) -> Network<T> {
    let mut network = Network::new(seed, Bounds::default());
    for from in REGIONS {
        for to in REGIONS.into_iter().filter(|&to| to != from) {
            network.add_line(from, to, LineSettings::with_delay(Delay::from_ms(10.0).unwrap())).unwrap();
        }
    }
    network
}

fn open<T>(network: &mut Network<T>, from: &str, to: &str) -> Result<ConnectionId, OpenError> {
    let [there, back] = [network.line(from, to).unwrap(), network.line(to, from).unwrap()];
    network.open(there, back)
}

fn states<T>(network: &Network<T>) -> Vec<(&str, &str, State)> {
    network.links().map(|link| (link.from, link.to, link.detail.state)).filter(|link| link.2 != State::Up).collect()
}

fn change(from: &str, to: &str, change: LineChange) -> Change {
    Change::Line { from: from.to_owned(), to: to.to_owned(), change }
}

#[test]
fn each_way_crosses_its_own_line() {
    let mut network = network(1);
    let connection = open(&mut network, "us", "eu").unwrap();
    let slow = LineChange { delay: Some(Delay::from_ms(30.0).unwrap()), ..LineChange::default() };
    network.change(&change("eu", "us", slow)).unwrap();
    network.send(ms(0), connection, Way::Back, 1, "back").unwrap();
    network.send(ms(0), connection, Way::There, 1, "there").unwrap();
    let delivered = |way, payload| Some(Event::Delivered { connection, way, size: 1, payload });
    assert_eq!(network.poll_timeout(), Some(ms(10)));
    assert_eq!(network.poll(ms(30)), delivered(Way::There, "there"));
    assert_eq!(network.poll(ms(30)), delivered(Way::Back, "back"));
    assert_eq!(network.poll_timeout(), None);
}

#[test]
fn a_partition_cuts_both_ways_between_its_sides_and_nothing_else() {
    let mut network = network::<()>(1);
    network.change(&Change::Partition(vec!["us".to_owned()])).unwrap();
    let cut = State::Blackhole;
    assert_eq!(states(&network), [("ap", "us", cut), ("eu", "us", cut), ("us", "ap", cut), ("us", "eu", cut)]);
    network.change(&Change::Heal).unwrap();
    assert_eq!(states(&network), []);
}

#[test]
fn healing_keeps_delays() {
    let mut network = network::<()>(1);
    network.change(&change("us", "eu", LineChange::state(State::Reset))).unwrap();
    network.change(&Change::Heal).unwrap();
    assert!(network.links().all(|link| link.detail.delay.ms() == 10.0 && link.detail.state == State::Up));
}

#[test]
fn a_change_that_names_what_there_is_not_changes_nothing_and_says_what_there_is() {
    let mut network = network::<()>(1);
    let link = network.change(&change("us", "mars", LineChange::state(State::Reset))).unwrap_err();
    assert!(link.to_string().starts_with("there is no link us -> mars; the links are ap -> eu, ap -> us"), "{link}");
    let region = network.change(&Change::Partition(vec!["us".to_owned(), "mars".to_owned()])).unwrap_err();
    assert_eq!(region.to_string(), "there is no region mars; the regions are ap, eu, us");
    for side in [Vec::new(), REGIONS.map(str::to_owned).to_vec()] {
        assert!(matches!(network.change(&Change::Partition(side)), Err(InvalidChange::OneSided { .. })));
    }
    assert_eq!(states(&network), []);
}

#[test]
fn a_reset_of_one_line_takes_down_both_ways_of_its_connections() {
    let mut network = network(1);
    let [hit, other] = [open(&mut network, "us", "eu").unwrap(), open(&mut network, "us", "ap").unwrap()];
    network.send(ms(0), hit, Way::There, 1, ()).unwrap();
    network.change(&change("eu", "us", LineChange::state(State::Reset))).unwrap();
    assert_eq!(network.poll_timeout(), Some(Duration::ZERO));
    assert_eq!(network.poll(ms(0)), Some(Event::Closed { connection: hit, reason: CloseReason::Reset }));
    assert_eq!(network.poll(ms(100)), None);
    assert_eq!(network.send(ms(0), hit, Way::There, 1, ()), Err(SendError::Closed(())));
    assert_eq!(network.room(ms(0), hit, Way::Back), Room::Closed);
    assert!(matches!(network.room(ms(0), other, Way::There), Room::Now(_)));
    assert_eq!(open(&mut network, "us", "eu"), Err(OpenError::Reset));
    assert_eq!(open(&mut network, "eu", "us"), Err(OpenError::Reset));
    assert_eq!(network.stats().map(|link| link.detail.connections).sum::<usize>(), 2);
}

#[test]
fn a_timeline_is_carried_out_before_what_arrives_at_the_same_moment() {
    let mut network = network(1);
    let connection = open(&mut network, "us", "eu").unwrap();
    network.schedule(ms(10), &Change::Partition(vec!["us".to_owned()])).unwrap();
    network.schedule(ms(500), &Change::Heal).unwrap();
    network.send(ms(0), connection, Way::There, 1, ()).unwrap();
    assert_eq!(network.poll_timeout(), Some(ms(10)));
    assert_eq!(network.poll(ms(10)), None);
    assert_eq!(states(&network).len(), 4);
    // Lost at 10 ms, in vain again at 230 ms; the timer doubles, and the third attempt finds the line up.
    assert_eq!(network.poll(ms(649)), None);
    assert_eq!(states(&network), []);
    assert!(matches!(network.poll(ms(650)), Some(Event::Delivered { .. })));
}

#[test]
fn a_poll_after_a_jump_meets_each_change_at_its_own_time() {
    let [mut stepped, mut jumped] = [network(1), network(1)];
    let mut arrived = Vec::new();
    for network in [&mut stepped, &mut jumped] {
        let connection = open(network, "us", "eu").unwrap();
        network.schedule(ms(15), &change("us", "eu", LineChange::state(State::Blackhole))).unwrap();
        network.schedule(ms(25), &Change::Heal).unwrap();
        for at in [0, 10, 20] {
            network.send(ms(at), connection, Way::There, 1, at).unwrap();
        }
    }
    while let Some(now) = stepped.poll_timeout() {
        arrived.extend(std::iter::from_fn(|| stepped.poll(now)));
    }
    let late: Vec<_> = std::iter::from_fn(|| jumped.poll(ms(60_000))).collect();
    assert_eq!((late.len(), &late), (3, &arrived));
    assert_eq!(stepped.stats().collect::<Vec<_>>(), jumped.stats().collect::<Vec<_>>());
}

#[test]
fn lines_that_make_no_sense_are_refused() {
    let mut network = network::<()>(1);
    let settings = LineSettings::default();
    assert!(matches!(network.add_line("us", "us", settings), Err(AddLineError::Loop { .. })));
    assert!(matches!(network.add_line("us", "eu", settings), Err(AddLineError::Duplicate { .. })));
    assert_eq!(network.line("us", "eu"), Some(LineId::new(5)));
    assert_eq!(network.regions().into_iter().collect::<Vec<_>>(), REGIONS);
}

proptest! {
    #[test]
    fn a_network_repeats_itself_from_its_seed(
        seed in any::<u64>(),
        sends in prop::collection::vec((0_u64..50, 0_usize..6, any::<bool>(), 0_usize..5_000), 1..60),
    ) {
        let trace = || {
            let mut network = network(seed);
            let rough = LineChange {
                jitter: Some(Delay::from_ms(20.0).unwrap()),
                loss: Some(Loss::new(0.05).unwrap()),
                ..LineChange::default()
            };
            let pairs: Vec<_> = network.links().map(|link| (link.from.to_owned(), link.to.to_owned())).collect();
            let mut connections = Vec::new();
            for (from, to) in &pairs {
                network.change(&change(from, to, rough)).unwrap();
                connections.push(open(&mut network, from, to).unwrap());
            }
            network.schedule(ms(200), &Change::Partition(vec!["eu".to_owned()])).unwrap();
            network.schedule(ms(900), &Change::Heal).unwrap();
            let (mut now, mut events) = (Duration::ZERO, Vec::new());
            for (number, (after, connection, there, size)) in sends.iter().enumerate() {
                now += ms(*after);
                events.extend(std::iter::from_fn(|| network.poll(now)));
                let way = if *there { Way::There } else { Way::Back };
                network.send(now, connections[*connection], way, *size, number).unwrap();
            }
            while let Some(at) = network.poll_timeout() {
                events.extend(std::iter::from_fn(|| network.poll(at)));
            }
            (events, network.stats().map(|link| link.detail).collect::<Vec<_>>())
        };
        let first = trace();
        prop_assert_eq!(first.0.len(), sends.len());
        prop_assert_eq!(first, trace());
    }
}
