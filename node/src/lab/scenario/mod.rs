//! `meridian lab --scenario FILE`: a scenario that is lived through by real processes, and judged.
//!
//! What a scenario is, what its clients ask for and whether what they saw can have been is decided by the crate `scenario`. Here it
//! is done: the lab is started as always, clients ask, the director does what the timeline says, somebody watches; when all
//! is over and quiet every key is read in every region, and the verdict is said. The exit code is 0 if all claims held, 1 if
//! not, 2 if the file is wrong.
//!
//! A run that failed leaves its folder: the trace, the logs, the scenario and the command that runs it again ([`trace`]).
//!
//! # Where what is
//! `run` what all share; `load` and `client` the clients; `director` the deeds, `targets` whom they are done to, `wan`,
//! `operator`, `slowness` and `flush` how, `losses` what they may cost; `watch` lag and health; [`prometheus`](super::prometheus) what an operator would be told; `settle` the quiet at the end; `claims` the expectations;
//! `trace` what is left.

mod claims;
mod client;
mod director;
mod flush;
mod limits;
mod load;
mod losses;
mod operator;
mod run;
mod settle;
mod slowness;
mod targets;
mod trace;
mod wan;
mod watch;

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use config::RegionName;
use director::Director;
use run::Run;
use scenario::{
    Deed, Expectation, Scenario,
    verdict::{Claim, Verdict},
};
use tokio::runtime;

use super::{
    Folder, Interrupted, USAGE,
    args::{ClockOffset, LabArgs, NodeSetting},
    cluster::Cluster,
    description::Pids,
    machines::{self, Machines},
    plan::Plan,
    processes::Processes,
    prometheus::{self, Prometheus},
    start, until_ready,
};
use crate::terminal::{Line, Screen, Style};

/// Lives through a scenario.
///
/// # Errors
/// If the lab does not become ready. A deed that cannot be done is a claim that does not hold.
pub(super) fn run(args: &LabArgs, file: &Path) -> anyhow::Result<ExitCode> {
    let mut scenario = match Scenario::load(file) {
        Ok(scenario) => scenario,
        Err(report) => {
            report.eprint()?;
            return Ok(ExitCode::from(USAGE));
        }
    };
    if scenario.needs_machines() && !args.inside_namespaces {
        match machines::enter()? {}
    }
    scenario.speed = args.speed.unwrap_or(scenario.speed);
    if expects_alerts(&scenario) {
        prometheus::check_installed()?;
    }
    let seed = args.seed.or(scenario.seed).unwrap_or_else(|| rand::random_range(0..1_000_000));
    let mut folder = Folder::open(args.dir.as_deref())?;
    let plan = match lab_of(args, &scenario).map(|lab| Plan::new(&lab, folder.path())) {
        Ok(Ok(plan)) => plan,
        Ok(Err(error)) => return usage(error),
        Err(error) => return usage(error),
    };
    let mut stage = Stage { file, args, scenario, seed, plan, screen: Screen::new() };
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let verdict = runtime.block_on(async {
        let mut interrupted = Interrupted::new()?;
        let mut processes = Processes::new()?;
        let has_full_disks = stage.scenario.timeline.iter().any(|event| matches!(event.deed, Deed::Fill(_)));
        processes.survive_full_disks(has_full_disks);
        let verdict = tokio::select! {
            verdict = stage.play(&mut processes) => verdict,
            () = interrupted.wait() => Err(anyhow::anyhow!("interrupted")),
        };
        processes.stop().await;
        verdict
    });
    let passed = verdict.as_ref().is_ok_and(Verdict::passed);
    if !passed {
        folder.keep();
        stage.say_what_is_left();
    }
    verdict.map(|_| if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn expects_alerts(scenario: &Scenario) -> bool {
    scenario.expect.iter().any(|expectation| matches!(expectation, Expectation::Alert { .. }))
}

fn usage(error: impl std::fmt::Display) -> anyhow::Result<ExitCode> {
    eprintln!("error: {error}");
    Ok(ExitCode::from(USAGE))
}

/// The lab that a scenario asks for.
fn lab_of(args: &LabArgs, scenario: &Scenario) -> Result<LabArgs, String> {
    let mut node_set = Vec::new();
    for region in &scenario.regions {
        for (path, value) in &region.set {
            let (section, key) =
                path.split_once('.').ok_or_else(|| format!("`{path}`: write SECTION.KEY, such as memory.maxmemory"))?;
            let (section, key) = (section.to_owned(), key.to_owned());
            node_set.push(NodeSetting { region: Some(region.name().clone()), section, key, value: value.clone() });
        }
    }
    let offset = |(name, offset): (&RegionName, _)| ClockOffset { region: name.clone(), offset };
    let clocks = scenario.regions.iter().filter_map(|region| Some((region.name(), region.clock?)));
    Ok(LabArgs {
        regions: scenario.regions.iter().map(|region| region.name().clone()).collect(),
        primaries: scenario.lab.primaries,
        replicas: scenario.lab.replicas,
        gateways: scenario.lab.gateways,
        wan: scenario.lab.wan.clone(),
        node_set,
        clock_offset: clocks.map(offset).collect(),
        prometheus: expects_alerts(scenario).then_some(limits::ALERTS_FASTER),
        ..args.clone()
    })
}

/// Everything of a run that is there before its first process.
struct Stage<'a> {
    file: &'a Path,
    args: &'a LabArgs,
    scenario: Scenario,
    seed: u64,
    plan: Plan,
    screen: Screen,
}

impl Stage<'_> {
    async fn play(&mut self, processes: &mut Processes) -> anyhow::Result<Verdict> {
        self.say(Style::Bold, format!("Scenario {}: {}", self.file.display(), self.scenario.about.trim()));
        let (nodes, gateways) = (self.plan.nodes().count(), self.plan.gateways().count());
        self.say(Style::Dim, format!("seed {}; starting {nodes} nodes and {gateways} gateways", self.seed));
        if self.scenario.needs_machines() {
            processes.start_on(Machines::lay(&self.plan).await?);
        }
        let pids = start(&self.plan, processes)?;
        let mut clusters = Cluster::all(&self.plan)?;
        until_ready(&self.plan, processes, &mut clusters).await?;
        let alerts = Prometheus::start(&self.plan)?;
        let run = Run::new(&self.scenario, &self.plan, &clusters, self.seed);
        run.show_on((!self.args.json).then(Screen::new));
        let lived = live(&run, processes, names(&self.plan, &pids), alerts.as_ref()).await;
        if let Err(error) = &lived {
            run.say(Style::Bad, format!("{error:#}"));
            run.claims.borrow_mut().push(Claim::new("the timeline can be carried out", false, format!("{error:#}")));
        }
        let settled = settle::settle(&run).await;
        watch::look(&run).await;
        let verified = verified(&run).await?;
        run.say(
            Style::Dim,
            match settled.after {
                Some(after) => format!("the regions agree after {:.1} s", after.as_secs_f64()),
                None => "the regions do not agree".to_owned(),
            },
        );
        let mut verdict = Verdict::of(&run.history.borrow());
        verdict.expected = claims::all(&run, &settled, verified.as_ref(), &verdict);
        if !verdict.passed() || self.args.dir.is_some() {
            trace::write(&run, self.file, &verdict, &self.replay())?;
        }
        drop(run);
        if let Some(alerts) = alerts {
            alerts.stop().await;
        }
        self.tell(&verdict)?;
        Ok(verdict)
    }

    /// The verdict, for people or as one line of JSON.
    fn tell(&mut self, verdict: &Verdict) -> anyhow::Result<()> {
        if self.args.json {
            let passed = verdict.passed();
            println!("{}", serde_json::json!({ "passed": passed, "seed": self.seed, "verdict": verdict }));
            return Ok(());
        }
        let style = |line: &str| if line.trim_start().starts_with("FAILED") { Style::Bad } else { Style::Plain };
        let text = verdict.to_string();
        let lines: Vec<_> = text.lines().map(|line| Line::default().with(style(line), line)).collect();
        self.screen.say(&lines)?;
        let (style, word) = if verdict.passed() { (Style::Good, "PASSED") } else { (Style::Bad, "FAILED") };
        self.say(style, format!("{word}: {}", self.file.display()));
        Ok(())
    }

    fn say_what_is_left(&mut self) {
        let (dir, replay) = (self.plan.dir.display().to_string(), self.replay());
        let lines = [format!("trace and logs: {dir}"), format!("replay: {replay}")];
        if self.args.json {
            lines.iter().for_each(|line| eprintln!("{line}"));
        } else {
            lines.into_iter().for_each(|line| self.say(Style::Plain, line));
        }
    }

    /// The command that runs the same again.
    fn replay(&self) -> String {
        let speed = self.args.speed.map(|speed| format!(" --speed {speed}")).unwrap_or_default();
        format!("meridian lab --scenario {} --seed {}{speed}", self.file.display(), self.seed)
    }

    fn say(&mut self, style: Style, text: String) {
        if !self.args.json {
            // A terminal that is gone ends no run.
            let _ = self.screen.say(&[Line::default().with(style, text)]);
        }
    }
}

/// The load, the timeline and the watch, until the first two are over.
async fn live(
    run: &Run<'_>,
    processes: &mut Processes,
    pids: BTreeMap<String, u32>,
    alerts: Option<&Prometheus>,
) -> anyhow::Result<()> {
    let mut director = Director::new(run, processes, pids);
    let acted = async {
        let (directed, ()) = tokio::join!(
            async {
                let directed = director.direct().await;
                run.is_over.set(true);
                directed
            },
            load::drive(run)
        );
        directed
    };
    tokio::select! {
        acted = acted => acted,
        () = watch::watch(run, alerts) => Ok(()),
    }
}

/// What the operator's comparison says of the regions that are judged, if anything is expected of it.
async fn verified(run: &Run<'_>) -> anyhow::Result<Option<operator::Said>> {
    if !run.scenario.expect.contains(&Expectation::Verified) {
        return Ok(None);
    }
    let judged = run.history.borrow().judged.clone();
    let nodes = judged.iter().map(|place| run.plan.regions[usize::from(place.0)].nodes[0].redis.to_string());
    operator::verify(&nodes.collect::<Vec<_>>()).await.map(Some)
}

/// The process ids by the names of the processes.
fn names(plan: &Plan, pids: &Pids) -> BTreeMap<String, u32> {
    let nodes = plan.nodes().map(|node| &node.name).zip(&pids.nodes);
    let gateways = plan.gateways().map(|gateway| &gateway.name).zip(&pids.gateways);
    nodes.chain(gateways).map(|(name, pid)| (name.clone(), *pid)).collect()
}
