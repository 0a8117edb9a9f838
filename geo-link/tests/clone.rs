//! A region refills while its link comes and goes.

mod common;

use common::{Lab, log, wait_until};

#[test]
fn a_clone_that_was_cut_off_does_not_start_over() {
    const KEYS: u64 = 200_000;
    const CUT_AFTER: usize = 1 << 20;
    let lab = Lab::new(["porto", "faro"]);
    let porto = lab.start("porto");
    for number in 0..KEYS {
        porto.set(&format!("key:{number}"), "value");
    }
    lab.cable("porto", "faro").cut_after(CUT_AFTER);
    let faro = lab.start("faro");
    wait_until("both have noticed the cut", || !porto.out("faro").up && faro.incoming("porto").last_error.is_some());
    let before = faro.incoming("porto").applied;
    assert!((KEYS / 10..KEYS).contains(&before), "{before} records came before the cut");
    lab.cable("porto", "faro").mend();
    faro.wait_complete();
    let after = faro.incoming("porto");
    assert_eq!(after.applied, KEYS);
    // The slots that were being walked when the cut came, one per stripe, may come twice.
    assert!(after.stale < KEYS / 100, "{} of {before} records came twice", after.stale);
    let said = log()
        .lines()
        .rfind(|line| line.contains("to=\"faro\"") && line.contains("what the peer lacks"))
        .map(str::to_owned);
    let slots = said.as_ref().and_then(|line| line.split("slots=").nth(1)?.split(' ').next()?.parse::<u64>().ok());
    assert!(slots.is_some_and(|slots| (1..16_384 * 7 / 8).contains(&slots)), "{said:?}");
}
