//! The laws of a line, for any traffic: order, delay, conservation, determinism, rate and bounds; and what a cut, a
//! loss and a reset look like.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

use super::{Bounds, ConnectionId, Line, LineEvent, OpenError, Room, SendError, charge};
use crate::{
    limits,
    model::settings::{Delay, LineChange, LineSettings, Loss, Rate, State},
};

const CONNECTIONS: u64 = 3;

/// What a chunk says of itself, to be checked when it comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    number: u64,
    at: Duration,
}

/// One chunk to be sent, some time after the one before.
#[derive(Clone, Debug)]
struct Traffic {
    after: Duration,
    connection: u64,
    size: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Arrival {
    at: Duration,
    connection: ConnectionId,
    size: usize,
    sent: Sent,
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn delay(ms: u32) -> Delay {
    Delay::from_ms(f64::from(ms)).unwrap()
}

fn id(number: u64) -> ConnectionId {
    ConnectionId::new(number)
}

fn line<T>(settings: LineSettings) -> Line<T> {
    let mut line = Line::new(settings, Bounds::default(), 1, 0);
    for connection in 0..CONNECTIONS {
        line.open(id(connection)).unwrap();
    }
    line
}

/// Takes out everything up to `until`, each thing at the time at which it came.
fn drain(line: &mut Line<Sent>, until: Duration, arrivals: &mut Vec<Arrival>) {
    while let Some(at) = line.poll_timeout().filter(|&at| at <= until) {
        while let Some(event) = line.poll(at) {
            let LineEvent::Delivered { connection, size, payload } = event else { panic!("timed out: {event:?}") };
            line.release(connection, size);
            arrivals.push(Arrival { at, connection, size, sent: payload });
        }
    }
}

/// Sends all that finds room, and drains the line. Returns what was accepted and what arrived.
fn run(line: &mut Line<Sent>, traffic: &[Traffic]) -> (Vec<(ConnectionId, usize)>, Vec<Arrival>) {
    let (mut accepted, mut arrivals) = (Vec::new(), Vec::new());
    let mut now = Duration::ZERO;
    for (number, Traffic { after, connection, size }) in (0..).zip(traffic) {
        now += *after;
        drain(line, now, &mut arrivals);
        if line.send(now, id(*connection), *size, Sent { number, at: now }).is_ok() {
            accepted.push((id(*connection), *size));
        }
    }
    drain(line, Duration::MAX, &mut arrivals);
    (accepted, arrivals)
}

fn traffic() -> impl Strategy<Value = Vec<Traffic>> {
    let one = (0_u64..20_000, 0..CONNECTIONS, 0_usize..limits::CHUNK_MAX).prop_map(|(us, connection, size)| Traffic {
        after: Duration::from_micros(us),
        connection,
        size,
    });
    prop::collection::vec(one, 1..120)
}

fn settings() -> impl Strategy<Value = LineSettings> {
    let rate = prop::option::of((1.0..2_000.0).prop_map(|mbit| Rate::from_mbit(mbit).unwrap()));
    let loss = prop::sample::select(vec![0.0, 0.0, 0.001, 0.05]);
    (0_u32..300, 0_u32..100, rate, loss).prop_map(|(delay_ms, jitter_ms, rate, loss)| LineSettings {
        delay: delay(delay_ms),
        jitter: delay(jitter_ms),
        rate,
        loss: Loss::new(loss).unwrap(),
        state: State::Up,
    })
}

proptest! {
    #[test]
    fn order_is_kept_within_a_connection(settings in settings(), traffic in traffic()) {
        let (_, arrivals) = run(&mut line(settings), &traffic);
        let mut last = BTreeMap::new();
        for Arrival { connection, sent, .. } in arrivals {
            let before = last.insert(connection, sent.number);
            prop_assert!(before < Some(sent.number));
        }
    }

    #[test]
    fn nothing_arrives_before_its_delay(settings in settings(), traffic in traffic()) {
        let (_, arrivals) = run(&mut line(settings), &traffic);
        for Arrival { at, size, sent, .. } in arrivals {
            let transmission = settings.rate.map_or(Duration::ZERO, |rate| rate.time_for(size));
            prop_assert!(at >= sent.at + settings.delay.duration() + transmission);
        }
    }

    #[test]
    fn without_loss_nothing_arrives_later_than_queue_delay_and_jitter(settings in settings(), traffic in traffic()) {
        let settings = LineSettings { loss: Loss::NONE, rate: None, ..settings };
        let (_, arrivals) = run(&mut line(settings), &traffic);
        let mut latest = BTreeMap::new();
        for Arrival { at, connection, sent, .. } in arrivals {
            // Jitter of an earlier chunk may hold up a later one, never beyond what that one was itself allowed.
            let bound = sent.at + settings.delay.duration() + settings.jitter.duration();
            let bound = latest.insert(connection, bound).unwrap_or(bound).max(bound);
            prop_assert!(at <= bound);
        }
    }

    #[test]
    fn what_was_accepted_arrives_once_and_leaves_nothing_behind(settings in settings(), traffic in traffic()) {
        let mut line = line(settings);
        let (mut accepted, arrivals) = run(&mut line, &traffic);
        let mut arrived: Vec<_> = arrivals.iter().map(|arrival| (arrival.connection, arrival.size)).collect();
        accepted.sort_unstable();
        arrived.sort_unstable();
        prop_assert_eq!(&accepted, &arrived);
        let stats = line.stats();
        prop_assert_eq!(stats.bytes, accepted.iter().map(|(_, size)| *size as u64).sum::<u64>());
        prop_assert_eq!((stats.queued_bytes, stats.queued_chunks, stats.stalled), (0, 0, 0));
        prop_assert_eq!(stats.drops, stats.retransmissions);
    }

    #[test]
    fn the_seed_and_the_calls_decide_everything(settings in settings(), traffic in traffic(), seed in any::<u64>()) {
        let trace = || {
            let mut line = Line::new(settings, Bounds::default(), seed, 3);
            (0..CONNECTIONS).for_each(|connection| line.open(id(connection)).unwrap());
            (run(&mut line, &traffic), line.stats())
        };
        prop_assert_eq!(trace(), trace());
    }

    #[test]
    fn a_late_poll_finds_what_prompt_ones_found(settings in settings(), traffic in traffic()) {
        let [mut prompt, mut late] = [line(settings), line(settings)];
        for (number, Traffic { connection, size, .. }) in (0..).zip(&traffic) {
            let sent = Sent { number, at: Duration::ZERO };
            let both = [&mut prompt, &mut late].map(|line| line.send(sent.at, id(*connection), *size, sent.clone()));
            prop_assert_eq!(&both[0], &both[1]);
        }
        let mut arrivals = Vec::new();
        drain(&mut prompt, Duration::MAX, &mut arrivals);
        for arrival in arrivals {
            let event = late.poll(Duration::from_secs(1 << 30));
            let Some(LineEvent::Delivered { connection, payload, .. }) = event else { panic!("{event:?}") };
            prop_assert_eq!((connection, payload), (arrival.connection, arrival.sent));
        }
    }

    #[test]
    fn the_rate_is_never_exceeded(settings in settings(), traffic in traffic(), mbit in 1.0..200.0) {
        let rate = Rate::from_mbit(mbit).unwrap();
        let (_, arrivals) = run(&mut line(LineSettings { rate: Some(rate), ..settings }), &traffic);
        let mut bytes = 0;
        for Arrival { at, size, .. } in arrivals {
            bytes += size;
            prop_assert!(rate.time_for(bytes) <= at - settings.delay.duration());
        }
    }

    #[test]
    fn a_line_never_holds_more_than_its_bounds_and_a_chunk(settings in settings(), traffic in traffic()) {
        let bounds = Bounds { window: 200_000, total: 450_000, ..Bounds::default() };
        let mut line = Line::new(settings, bounds, 1, 0);
        (0..CONNECTIONS).for_each(|connection| line.open(id(connection)).unwrap());
        let mut held = 0;
        for Traffic { connection, size, .. } in &traffic {
            // Nothing is taken out: the receivers have stopped reading.
            let room = line.room(Duration::ZERO, id(*connection));
            let sent = line.send(Duration::ZERO, id(*connection), *size, *size);
            match sent {
                Ok(()) => held += charge(*size),
                Err(error) => prop_assert_eq!(error, SendError::Full(*size)),
            }
            prop_assert_eq!(sent.is_ok(), *size == 0 || matches!(room, Room::Now(_)));
            prop_assert_eq!(line.stats().queued_bytes, held);
            prop_assert!(held <= bounds.total + limits::CONTROL_ALLOWANCE * CONNECTIONS as usize);
        }
    }

    #[test]
    fn a_cut_lets_nothing_out_and_loses_nothing(
        settings in settings(),
        traffic in traffic(),
        cut_ms in 0_u64..500,
        length_ms in 0_u64..20_000,
    ) {
        let mut line = line(settings);
        let (mut accepted, mut arrivals) = (0, Vec::new());
        let mut now = Duration::ZERO;
        let (cut, healed) = (ms(cut_ms), ms(cut_ms + length_ms));
        let mut changes = vec![(healed, State::Up), (cut, State::Blackhole)];
        for (number, Traffic { after, connection, size }) in (0..).zip(&traffic) {
            now += *after;
            while let Some((at, state)) = changes.pop_if(|(at, _)| *at <= now) {
                // Up to the moment before: what falls due at the very moment of a cut is cut.
                drain(&mut line, at.saturating_sub(Duration::from_nanos(1)), &mut arrivals);
                prop_assert_eq!(line.change(&LineChange::state(state)), []);
            }
            drain(&mut line, now, &mut arrivals);
            accepted += usize::from(line.send(now, id(*connection), *size, Sent { number, at: now }).is_ok());
        }
        while let Some((at, state)) = changes.pop() {
            drain(&mut line, at.saturating_sub(Duration::from_nanos(1)), &mut arrivals);
            prop_assert_eq!(line.change(&LineChange::state(state)), []);
        }
        drain(&mut line, Duration::MAX, &mut arrivals);
        prop_assert_eq!(arrivals.len(), accepted);
        prop_assert!(arrivals.iter().all(|arrival| arrival.at < cut || arrival.at >= healed));
    }
}

#[test]
fn another_seed_draws_another_jitter() {
    let jittery = LineSettings { jitter: delay(50), ..LineSettings::default() };
    let due = |seed, stream| {
        let mut line = Line::new(jittery, Bounds::default(), seed, stream);
        line.open(id(0)).unwrap();
        line.send(Duration::ZERO, id(0), 1, ()).unwrap();
        line.poll_timeout().unwrap()
    };
    assert_eq!(due(1, 0), due(1, 0));
    assert_ne!(due(1, 0), due(2, 0));
    assert_ne!(due(1, 0), due(1, 1));
}

#[test]
fn a_loss_holds_up_its_own_connection_alone() {
    let mut line = line(LineSettings { loss: Loss::new(1.0).unwrap(), ..LineSettings::with_delay(delay(50)) });
    line.send(Duration::ZERO, id(0), 1, "lost").unwrap();
    assert_eq!(line.poll(ms(50)), None);
    assert_eq!((line.stats().drops, line.stats().stalled), (1, 1));
    let lossless = LineChange { loss: Some(Loss::NONE), ..LineChange::default() };
    assert_eq!(line.change(&lossless), []);
    line.send(ms(60), id(0), 1, "behind it").unwrap();
    line.send(ms(60), id(1), 1, "beside it").unwrap();
    let delivered = |connection, payload| Some(LineEvent::Delivered { connection: id(connection), size: 1, payload });
    assert_eq!(line.poll(ms(110)), delivered(1, "beside it"));
    assert_eq!(line.poll(ms(110)), None);
    // Lost at 50 ms; told by the timer a way back and the least wait later; there again after one more way.
    let again = ms(50 + 50 + 50) + limits::RETRANSMIT_WAIT_MIN;
    assert_eq!(line.poll(again - Duration::from_nanos(1)), None);
    assert_eq!(line.poll(again), delivered(0, "lost"));
    assert_eq!(line.poll(again), delivered(0, "behind it"));
    assert_eq!((line.stats().drops, line.stats().retransmissions, line.stats().stalled), (1, 1, 0));
}

#[test]
fn a_loss_within_a_stream_costs_one_round_trip() {
    let mut line = line(LineSettings::with_delay(delay(50)));
    line.send(Duration::ZERO, id(0), 1, 1).unwrap();
    line.send(ms(2), id(0), 1, 2).unwrap();
    assert_eq!(line.change(&LineChange::state(State::Blackhole)), []);
    assert_eq!(line.poll(ms(51)), None);
    assert_eq!(line.change(&LineChange::state(State::Up)), []);
    assert_eq!(line.poll(ms(149)), None);
    assert!(matches!(line.poll(ms(150)), Some(LineEvent::Delivered { payload: 1, .. })));
    assert!(matches!(line.poll(ms(150)), Some(LineEvent::Delivered { payload: 2, .. })));
}

#[test]
fn large_chunks_come_through_a_bad_line_in_a_few_round_trips() {
    let mut line = line(LineSettings { loss: Loss::new(0.05).unwrap(), ..LineSettings::with_delay(delay(50)) });
    for number in 0..100 {
        line.send(Duration::ZERO, id(0), limits::CHUNK_MAX, number).unwrap();
    }
    // Nine in ten lose a segment; only that is sent again, so one in twenty of those is lost a second time.
    let arrived = std::iter::from_fn(|| line.poll(ms(1_000))).count();
    assert_eq!(arrived, 100);
    assert!(line.stats().drops > 80 && line.stats().retransmissions < 110);
}

#[test]
fn after_a_long_cut_data_flows_within_the_longest_wait_and_a_round_trip() {
    let mut line = line(LineSettings::with_delay(delay(50)));
    assert_eq!(line.change(&LineChange::state(State::Blackhole)), []);
    for number in 0..100 {
        line.send(Duration::ZERO, id(0), 1, number).unwrap();
    }
    let healed = Duration::from_secs(100);
    assert_eq!(line.poll(healed), None);
    assert_eq!(line.change(&LineChange::state(State::Up)), []);
    let first_by = healed + limits::RETRANSMIT_WAIT_MAX + ms(100);
    assert!(matches!(line.poll(first_by), Some(LineEvent::Delivered { payload: 0, .. })));
    let rest_by = first_by + ms(100);
    assert_eq!(std::iter::from_fn(|| line.poll(rest_by)).count(), 99);
}

#[test]
fn a_connection_is_given_up_when_nothing_gets_through_for_too_long() {
    let mut line = line(LineSettings::with_delay(delay(50)));
    // Connection 0 is established, 1 is opening, 2 says nothing.
    line.send(Duration::ZERO, id(0), 0, ()).unwrap();
    assert!(line.poll(ms(50)).is_some());
    assert_eq!(line.change(&LineChange::state(State::Blackhole)), []);
    line.send(ms(50), id(0), 0, ()).unwrap();
    line.send(ms(50), id(1), 0, ()).unwrap();
    assert_eq!(line.poll(limits::HANDSHAKE_GIVE_UP), None);
    let opening = line.poll(limits::HANDSHAKE_GIVE_UP + Duration::from_secs(2));
    assert_eq!(opening, Some(LineEvent::TimedOut { connection: id(1) }));
    assert_eq!(line.poll(limits::GIVE_UP), None);
    let established = line.poll(limits::GIVE_UP + Duration::from_secs(2));
    assert_eq!(established, Some(LineEvent::TimedOut { connection: id(0) }));
    assert_eq!(line.poll_timeout(), None);
    assert_eq!(line.stats().connections, 1);
}

#[test]
fn a_rate_is_shared_and_its_queue_bounded_in_time() {
    let mut line = line(LineSettings { rate: Some(Rate::from_mbit(8.0).unwrap()), ..LineSettings::default() });
    // 8 Mbit/s is a byte per microsecond.
    line.send(Duration::ZERO, id(0), 60_000, ()).unwrap();
    assert!(matches!(line.room(Duration::ZERO, id(1)), Room::Now(limits::SEGMENT)));
    line.send(Duration::ZERO, id(1), 60_000, ()).unwrap();
    assert_eq!(line.room(Duration::ZERO, id(2)), Room::At(ms(20)));
    assert_eq!(line.send(Duration::ZERO, id(2), 1, ()), Err(SendError::Full(())));
    assert_eq!(line.poll_timeout(), Some(ms(60)));
    assert!(line.poll(ms(60)).is_some());
    assert_eq!(line.poll_timeout(), Some(ms(120)));
}

#[test]
fn what_the_receiver_has_not_taken_stays_charged() {
    let bounds = Bounds { window: 1_000, ..Bounds::default() };
    let mut line = Line::new(LineSettings::default(), bounds, 1, 0);
    line.open(id(0)).unwrap();
    line.send(Duration::ZERO, id(0), 1_000, ()).unwrap();
    assert!(line.poll(Duration::ZERO).is_some());
    assert_eq!(line.room(Duration::ZERO, id(0)), Room::AfterRelease);
    line.send(Duration::ZERO, id(0), 0, ()).expect("an end of stream finds room");
    line.release(id(0), 1_000);
    assert!(matches!(line.room(Duration::ZERO, id(0)), Room::Now(_)));
}

#[test]
fn a_reset_line_names_its_connections_and_takes_no_new_ones() {
    let mut line = line::<()>(LineSettings::default());
    assert_eq!(line.change(&LineChange::state(State::Reset)), [id(0), id(1), id(2)]);
    assert_eq!(line.open(id(9)), Err(OpenError::Reset));
    assert_eq!(line.stats().connections_reset, 4);
}

#[test]
fn a_closed_connection_leaves_nothing_on_the_line() {
    let mut line = line(LineSettings::with_delay(delay(50)));
    line.send(Duration::ZERO, id(0), 10, ()).unwrap();
    line.send(Duration::ZERO, id(1), 10, ()).unwrap();
    line.close(id(0));
    assert_eq!(line.room(Duration::ZERO, id(0)), Room::Closed);
    assert_eq!(line.send(Duration::ZERO, id(0), 10, ()), Err(SendError::Closed(())));
    assert_eq!(line.stats().queued_bytes, charge(10));
    assert!(matches!(line.poll(ms(50)), Some(LineEvent::Delivered { connection, .. }) if connection == id(1)));
    assert_eq!(line.poll_timeout(), None);
}

#[test]
fn a_line_has_only_so_many_connections() {
    let mut line = Line::<()>::new(LineSettings::default(), Bounds { connections: 1, ..Bounds::default() }, 1, 0);
    line.open(id(0)).unwrap();
    assert_eq!(line.open(id(1)), Err(OpenError::TooMany));
    line.close(id(0));
    line.open(id(1)).unwrap();
}
