//! Whether what was expected came true.

use scenario::{
    expectation::{Expectation, Lag, When},
    history::Place,
    verdict::{Claim, Verdict},
};

use super::{
    operator::Said,
    run::{Run, Sample},
    settle::Settled,
};

/// The claims of all expectations, those of the timeline first.
pub(super) fn all(run: &Run<'_>, settled: &Settled, verified: Option<&Said>, judged: &Verdict) -> Vec<Claim> {
    let mut claims = run.claims.borrow().clone();
    claims.extend(run.scenario.expect.iter().map(|expectation| of(run, expectation, settled, verified, judged)));
    claims
}

fn of(run: &Run<'_>, expectation: &Expectation, settled: &Settled, verified: Option<&Said>, judged: &Verdict) -> Claim {
    match expectation {
        Expectation::Converged { within, .. } => match settled.after {
            Some(after) => Claim::new(expectation, after <= *within, format!("after {:.1} s", after.as_secs_f64())),
            None => Claim::new(expectation, false, &settled.differ),
        },
        Expectation::Verified => match verified {
            Some(said) if said.is_success => Claim::new(expectation, true, "the comparison found nothing"),
            Some(said) => Claim::new(expectation, false, &said.text),
            None => Claim::new(expectation, false, "nobody has compared them"),
        },
        Expectation::NoStaleRead => oracles(expectation, judged, true),
        Expectation::NoLostWrite => oracles(expectation, judged, false),
        Expectation::Lag(lag) => match lag.when {
            When::Then => of_lag_at(run, lag, &expectation.to_string()),
            When::Always | When::Once => of_lag_ever(run, lag, &expectation.to_string()),
        },
        Expectation::Serves { percent, region } => {
            let place = region.as_ref().and_then(|region| run.place(region.as_str()));
            let history = run.history.borrow();
            let asked =
                history.operations.iter().filter(|operation| place.is_none_or(|place| operation.region == place));
            let (mut all, mut done) = (0u64, 0u64);
            asked.for_each(|operation| {
                all += 1;
                done += u64::from(operation.is_done());
            });
            let held = all > 0 && done * 100 >= all * u64::from(*percent);
            Claim::new(expectation, held, format!("{done} of {all} operations were done"))
        }
        Expectation::NoPause { above, region } => {
            let history = run.history.borrow();
            let end = run.scenario.real(run.scenario.duration);
            let is_meant = |name: &str| match region {
                Some(region) => region.as_str() == name,
                None => run.scenario.load.has_clients(name),
            };
            let places = run.places().into_iter().filter(|place| is_meant(history.name(*place)));
            let longest = places.map(|place| (history.longest_pause(place, end), place)).max();
            let Some((pause, place)) = longest else { return Claim::new(expectation, false, "nobody asked") };
            let because = format!("the longest was {} ms, in {}", pause.as_millis(), history.name(place));
            Claim::new(expectation, pause <= *above, because)
        }
        Expectation::Alert { name, fires } => {
            let fired = run.fired.borrow();
            let names: Vec<_> = fired.iter().map(String::as_str).collect();
            let because =
                if names.is_empty() { "none fired".to_owned() } else { format!("fired: {}", names.join(", ")) };
            Claim::new(expectation, fired.contains(name) == *fires, because)
        }
    }
}

fn oracles(expectation: &Expectation, judged: &Verdict, of_reads: bool) -> Claim {
    let (held, because) = judged.oracles_held(of_reads);
    Claim::new(expectation, held, because)
}

/// Whether a bound of lag holds as of the last look.
pub(super) fn of_lag_at(run: &Run<'_>, lag: &Lag, claim: &str) -> Claim {
    let samples = run.samples.borrow();
    let links = links(run, lag);
    let Some(last) = samples.last() else { return Claim::new(claim, false, "nobody has looked") };
    Claim::new(claim, holds(last, lag, &links), extreme(last, lag, &links))
}

/// Whether a bound of lag held at all looks, or at one.
fn of_lag_ever(run: &Run<'_>, lag: &Lag, claim: &str) -> Claim {
    let samples = run.samples.borrow();
    let links = links(run, lag);
    let is_known = |sample: &&Sample| links.iter().any(|link| sample.lags.get(link).is_some_and(Option::is_some));
    let looks: Vec<_> = samples.iter().filter(is_known).collect();
    let held = looks.iter().filter(|sample| holds(sample, lag, &links)).count();
    let is_enough = if lag.when == When::Always { held == looks.len() } else { held > 0 };
    Claim::new(claim, is_enough && held > 0, format!("at {held} of {} looks", looks.len()))
}

/// The links that a bound is about: those that are named, or those between regions that are judged.
fn links(run: &Run<'_>, lag: &Lag) -> Vec<(Place, Place)> {
    match &lag.on {
        Some(link) => {
            let place = |name: &config::RegionName| run.place(name.as_str());
            link.pairs().into_iter().filter_map(|(from, to)| Some((place(from)?, place(to)?))).collect()
        }
        None => {
            let judged = run.history.borrow().judged.clone();
            let others =
                |from: Place| judged.clone().into_iter().filter(move |to| *to != from).map(move |to| (from, to));
            judged.iter().flat_map(|from| others(*from)).collect()
        }
    }
}

/// A link of which nobody knows how far behind it is is not below anything, nor above.
fn holds(sample: &Sample, lag: &Lag, links: &[(Place, Place)]) -> bool {
    let bound = lag.bound.as_secs_f64();
    let one = |link| match sample.lags.get(link).copied().flatten() {
        Some(seconds) if lag.below => seconds < bound,
        Some(seconds) => seconds > bound,
        None => false,
    };
    !links.is_empty() && links.iter().all(one)
}

/// The lag that decides.
fn extreme(sample: &Sample, lag: &Lag, links: &[(Place, Place)]) -> String {
    let known: Vec<_> = links.iter().map(|link| sample.lags.get(link).copied().flatten()).collect();
    let decisive = if lag.below { f64::max } else { f64::min };
    match known.into_iter().collect::<Option<Vec<_>>>().and_then(|lags| lags.into_iter().reduce(decisive)) {
        Some(seconds) => format!("{:.0} ms", seconds * 1e3),
        None => "of a link nobody knows it".to_owned(),
    }
}
