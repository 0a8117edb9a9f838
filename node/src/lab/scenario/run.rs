//! What all parts of a run share: the lab, the time, and what was seen so far.
//!
//! A run lives in one task, so what its parts share needs no locks: cells, which nobody holds across an await.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use scenario::{
    Scenario,
    history::{History, Loss, Operation, Place, Skew},
    limits::OPERATIONS_MAX,
};
use tokio::time::Instant;

use super::super::{cluster::Cluster, plan::Plan};
use crate::terminal::{Line, Screen, Style};

/// One run of a scenario.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) plan: &'a Plan,
    pub(super) clusters: &'a [Option<Cluster>],
    pub(super) seed: u64,
    /// When the load began.
    started: Instant,
    pub(super) history: RefCell<History>,
    /// The processes that do not run, or are stopped.
    pub(super) down: RefCell<BTreeSet<String>>,
    /// The processes that are cut off or slow.
    pub(super) hampered: RefCell<BTreeSet<String>>,
    /// What was lost, and is not made up for yet, by its place in the history; and since when it can be.
    pub(super) open_losses: RefCell<Vec<(usize, Duration)>>,
    pub(super) samples: RefCell<Vec<Sample>>,
    /// What happened when, for the trace.
    pub(super) events: RefCell<Vec<(Duration, String)>>,
    /// The claims of the timeline.
    pub(super) claims: RefCell<Vec<scenario::verdict::Claim>>,
    /// The alerts that have fired.
    pub(super) fired: RefCell<BTreeSet<String>>,
    /// Whether the load has ended.
    pub(super) is_over: Cell<bool>,
    screen: RefCell<Option<Screen>>,
}

/// The state of the links at one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) at: Duration,
    /// The lag of each link by the places of its regions, in seconds; none if nobody knows it.
    pub(super) lags: BTreeMap<(Place, Place), Option<f64>>,
}

impl<'a> Run<'a> {
    /// A run that begins now.
    pub(super) fn new(scenario: &'a Scenario, plan: &'a Plan, clusters: &'a [Option<Cluster>], seed: u64) -> Self {
        let skews = scenario.regions.iter().map(|region| {
            let ms = region.clock.map_or(0, |offset| offset.as_nanos() / 1_000_000);
            Skew { least_ms: ms.min(0), most_ms: ms.max(0), back_ms: 0 }
        });
        let judged = scenario.judged();
        let places = (0..).map(Place).zip(&plan.regions);
        let is_judged = |name: &str| judged.iter().any(|judged| judged.as_str() == name);
        let history = History {
            regions: plan.regions.iter().map(|region| region.name.clone()).collect(),
            judged: places.filter(|(_, region)| is_judged(&region.name)).map(|(place, _)| place).collect(),
            skews: skews.collect(),
            max_drift: max_drift(scenario),
            ..History::default()
        };
        Self {
            scenario,
            plan,
            clusters,
            seed,
            started: Instant::now(),
            history: RefCell::new(history),
            down: RefCell::default(),
            hampered: RefCell::default(),
            open_losses: RefCell::default(),
            samples: RefCell::default(),
            events: RefCell::default(),
            claims: RefCell::default(),
            fired: RefCell::default(),
            is_over: Cell::new(false),
            screen: RefCell::default(),
        }
    }

    /// Shows what happens, here.
    pub(super) fn show_on(&self, screen: Option<Screen>) {
        *self.screen.borrow_mut() = screen;
    }

    /// The time of the run.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The moment at this time of the run.
    pub(super) fn moment(&self, time: Duration) -> Instant {
        self.started + time
    }

    /// Writes an operation down. When there is no more room the load ends.
    pub(super) fn note(&self, operation: Operation) {
        let operations = &mut self.history.borrow_mut().operations;
        operations.push(operation);
        if operations.len() >= OPERATIONS_MAX && !self.is_over.replace(true) {
            self.say(Style::Warn, "the load ends early: there is no room for more operations");
        }
    }

    /// Whether a process runs, at full speed, and is reached by the others.
    pub(super) fn is_fit(&self, name: &str) -> bool {
        !self.down.borrow().contains(name) && !self.hampered.borrow().contains(name)
    }

    /// The place of a region.
    pub(super) fn place(&self, name: &str) -> Option<Place> {
        let index = self.plan.regions.iter().position(|region| region.name == name)?;
        u8::try_from(index).ok().map(Place)
    }

    /// The places of all regions.
    pub(super) fn places(&self) -> Vec<Place> {
        (0..).map(Place).take(self.plan.regions.len()).collect()
    }

    /// Says something with its time, and remembers it.
    pub(super) fn say(&self, style: Style, text: impl Into<String>) {
        let (now, text) = (self.now(), text.into());
        if let Some(screen) = self.screen.borrow_mut().as_mut() {
            let time = format!("{:>7.1} s  ", now.as_secs_f64());
            // A terminal that is gone ends no run.
            let _ = screen.say(&[Line::default().with(Style::Dim, time).with(style, text.clone())]);
        }
        self.events.borrow_mut().push((now, text));
    }

    /// Notes that a region may have lost what it acknowledged since a time, until it is well again.
    pub(super) fn open_loss(&self, region: Place, from: Duration, whole: bool) {
        let losses = &mut self.history.borrow_mut().losses;
        losses.push(Loss { region, from, until: Duration::MAX, whole });
        self.open_losses.borrow_mut().push((losses.len() - 1, Duration::MAX));
    }

    /// Says that what costs all losses so far has happened. A look that began before may have seen what was about to die.
    pub(super) fn seal_losses(&self) {
        let now = self.now();
        self.open_losses.borrow_mut().iter_mut().for_each(|(_, since)| *since = now.min(*since));
    }

    /// The greatest lag of the links that leave a region, as of the last look; none if one is not known.
    pub(super) fn lag_out_of(&self, region: Place) -> Option<Duration> {
        let samples = self.samples.borrow();
        let last = samples.last()?;
        let out = last.lags.iter().filter(|((from, _), _)| *from == region);
        let lags: Option<Vec<f64>> = out.map(|(_, lag)| *lag).collect();
        let age = self.now().saturating_sub(last.at);
        Some(Duration::from_secs_f64(lags?.into_iter().fold(0.0, f64::max).max(0.0)) + age)
    }
}

/// How far regions follow clocks ahead of their own: as their files say.
fn max_drift(scenario: &Scenario) -> Duration {
    let ordinary = config::Clock::default().max_drift;
    let set = scenario.regions.iter().filter_map(|region| region.set.get("clock.max_drift")?.as_str());
    set.filter_map(|text| config::values::duration::parse(text).ok()).fold(ordinary, Duration::max)
}
