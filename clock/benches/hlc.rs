//! What every write pays to the clock: one reading (shared by all writes of a turn) and one stamp each.

use clock::{Hlc, Incarnation, Origin, OsClock, RegionId, Stamp, Time};
use divan::Bencher;

fn main() {
    divan::main();
}

fn hlc() -> Hlc {
    Hlc::new(Origin::new(RegionId::MIN, Incarnation::FIRST), Time::ZERO)
}

/// One reading of the clocks.
#[divan::bench]
fn now(bencher: Bencher) {
    let clock = OsClock::new();
    bencher.bench_local(|| clock.now());
}

/// One reading while all cores read.
#[divan::bench(threads = 0)]
fn now_on_all_cores(bencher: Bencher) {
    let clock = OsClock::new();
    bencher.bench(|| clock.now());
}

/// Writes of one turn, to keys that were written before it.
#[divan::bench]
fn issue_within_a_turn(bencher: Bencher) {
    let (mut hlc, now) = (hlc(), OsClock::new().now().wall);
    bencher.bench_local(|| hlc.issue(divan::black_box(now), Stamp::ZERO.time));
}

/// One write a turn.
#[divan::bench]
fn read_the_clock_and_issue(bencher: Bencher) {
    let (mut hlc, clock) = (hlc(), OsClock::new());
    bencher.bench_local(|| hlc.issue(clock.now().wall, Stamp::ZERO.time));
}

/// A record of another region, later than all before.
#[divan::bench]
fn observe(bencher: Bencher) {
    let mut hlc = hlc();
    let mut time = OsClock::new().now().wall;
    bencher.bench_local(|| {
        time = time.next();
        hlc.observe(divan::black_box(time));
    });
}
