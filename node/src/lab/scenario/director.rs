//! The director: does what the timeline says, one deed after another, and notes what it may have cost.
//!
//! Whoever is about to lose a primary is noted before it is lost, with what may go with it: its last moments if somebody is left
//! who has the rest, and else all that had not left the region. What dies of itself is noted as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use config::{Offset, values::duration};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use scenario::{
    Deed, Event, Part, Target,
    history::Place,
    timeline::{Percent, Way, Weight},
};
use tokio::time;

use super::{
    super::{
        machines::Machines,
        obituary,
        processes::{Ended, Processes},
    },
    claims, flush, limits, losses, operator,
    run::Run,
    slowness::Slowed,
    targets::{self, Process},
    wan, watch,
};
use crate::{lab::look::Snapshot, terminal::Style};

/// See the head of this file.
pub(super) struct Director<'r, 'p> {
    run: &'r Run<'r>,
    processes: &'p mut Processes,
    /// Those that run, or are stopped, by their names.
    pids: BTreeMap<String, u32>,
    stopped: BTreeSet<String>,
    slowed: BTreeMap<String, Slowed>,
    cut: BTreeSet<String>,
    /// Whom a target named when they were killed, stopped, cut off or slowed down.
    held: BTreeMap<Target, Vec<String>>,
}

impl<'r, 'p> Director<'r, 'p> {
    /// A director of these processes.
    pub(super) fn new(run: &'r Run<'r>, processes: &'p mut Processes, pids: BTreeMap<String, u32>) -> Self {
        Self {
            run,
            processes,
            pids,
            stopped: BTreeSet::new(),
            slowed: BTreeMap::new(),
            cut: BTreeSet::new(),
            held: BTreeMap::new(),
        }
    }

    /// Does all that the timeline says, and returns when it is over and the load as well. Nobody is stopped, cut
    /// off or slow then.
    ///
    /// # Errors
    /// If something cannot be done.
    pub(super) async fn direct(&mut self) -> anyhow::Result<()> {
        let scenario = self.run.scenario;
        for event in &scenario.timeline {
            self.wait_until(scenario.real(event.at)).await;
            self.run.say(Style::Bold, event.deed.to_string());
            self.act(event).await.with_context(|| format!("cannot do `{event}`"))?;
            self.run.seal_losses();
        }
        self.wait_until(scenario.real(scenario.duration)).await;
        self.run.is_over.set(true);
        for name in std::mem::take(&mut self.stopped) {
            self.signal(&name, Signal::CONT)?;
            self.run.down.borrow_mut().remove(&name);
        }
        let hampered: Vec<_> = self.run.hampered.borrow().iter().cloned().collect();
        if hampered.is_empty() { Ok(()) } else { self.unhamper(&hampered).await }
    }

    async fn wait_until(&mut self, time: Duration) {
        let moment = self.run.moment(time);
        loop {
            tokio::select! {
                () = time::sleep_until(moment) => return,
                ended = self.processes.next_ended() => self.bury(ended).await,
            }
        }
    }

    async fn act(&mut self, event: &Event) -> anyhow::Result<()> {
        let run = self.run;
        match &event.deed {
            Deed::Kill(target) => self.kill(target).await,
            Deed::Stop(target) => self.stop(target).await,
            Deed::Continue(target) => self.go_on(target).await,
            Deed::Restart(target) => {
                let names = self.names(target).await?;
                self.held.remove(target);
                self.restart(&names).await
            }
            Deed::Roll(target) => self.roll(target).await,
            Deed::Cut(target, way) => self.cut(target, *way).await,
            Deed::Slow(target, share) => self.slow(target, *share).await,
            Deed::Mend(target) => {
                let names = self.names(target).await?;
                self.held.remove(target);
                self.unhamper(&names).await
            }
            Deed::Link(link, change) => wan::change(run.plan, link, *change).await,
            Deed::Isolate(region) => wan::isolate(run.plan, region).await,
            Deed::Heal => wan::heal(run.plan).await,
            Deed::Clock(target, offset) => self.set_clocks(target, *offset).await,
            Deed::Disk(target, delay) => {
                let mut names = self.names(target).await?;
                names.retain(|name| matches!(targets::process(self.run.plan, name), Process::Node(..)));
                ensure!(!names.is_empty(), "a gateway has no disk");
                self.configure(&names, ("node", "disk_delay"), &duration::display(*delay).to_string())?;
                self.restart(&names).await
            }
            Deed::Failover(target) => {
                let names = self.names(target).await?;
                let (Part::Replica(_) | Part::Node(_)) = target.part else { bail!("name one replica") };
                self.fail_over(&names[0]).await
            }
            Deed::Weigh(region, Weight { shard, percent }) => {
                let weight = format!("{shard}={percent}");
                self.operate(targets::index_of(run.plan, region.as_str())?, &["rebalance", "--weight", &weight]).await
            }
            Deed::Fill(target) => self.limit_files(target, Some(0)).await,
            Deed::Free(target) => self.limit_files(target, None).await,
            Deed::Flush(region) => flush::flush(run, region.as_str()).await,
            Deed::Expect(lag) => {
                watch::look(run).await;
                let claim = claims::of_lag_at(run, lag, &event.to_string());
                let style = if claim.held { Style::Good } else { Style::Bad };
                run.say(style, format!("{}: {}", claim.claim, claim.because));
                run.claims.borrow_mut().push(claim);
                Ok(())
            }
        }
    }

    /// Those whom a target named when they were killed, stopped, cut off or slowed down, or else those whom it names now.
    async fn names(&self, target: &Target) -> anyhow::Result<Vec<String>> {
        match self.held.get(target) {
            Some(names) => Ok(names.clone()),
            None => targets::resolve(self.run, target).await,
        }
    }

    async fn kill(&mut self, target: &Target) -> anyhow::Result<()> {
        let names = self.names(target).await?;
        self.bereave(&names).await?;
        let running: Vec<_> = names.iter().filter(|name| self.pids.contains_key(*name)).cloned().collect();
        for name in &running {
            self.run.down.borrow_mut().insert(name.clone());
            self.slowed.remove(name);
            self.signal(name, Signal::KILL)?;
        }
        for name in &running {
            self.until_gone(name).await?;
        }
        self.run.say(Style::Bad, format!("killed {}", running.join(", ")));
        self.held.insert(target.clone(), names);
        Ok(())
    }

    async fn stop(&mut self, target: &Target) -> anyhow::Result<()> {
        let names = self.names(target).await?;
        self.bereave(&names).await?;
        for name in &names {
            self.run.down.borrow_mut().insert(name.clone());
            self.slowed.remove(name);
            self.signal(name, Signal::STOP)?;
            self.stopped.insert(name.clone());
        }
        self.run.say(Style::Bad, format!("stopped {}", names.join(", ")));
        self.held.insert(target.clone(), names);
        Ok(())
    }

    async fn go_on(&mut self, target: &Target) -> anyhow::Result<()> {
        let names = self.names(target).await?;
        for name in &names {
            self.signal(name, Signal::CONT)?;
            self.stopped.remove(name);
            self.run.down.borrow_mut().remove(name);
        }
        self.held.remove(target);
        self.run.say(Style::Good, format!("{} goes on", names.join(", ")));
        Ok(())
    }

    /// Cuts processes off. Who is cut off may be replaced, and takes its last moments with it as if it hung.
    async fn cut(&mut self, target: &Target, way: Way) -> anyhow::Result<()> {
        let names = self.hamper(target).await?;
        for name in &names {
            self.machines()?.cut(name, way).await?;
            self.cut.insert(name.clone());
        }
        self.run.say(Style::Bad, format!("cut off {}", names.join(", ")));
        Ok(())
    }

    /// Lets processes have but a share of their time. Who is too slow may be replaced.
    async fn slow(&mut self, target: &Target, share: Percent) -> anyhow::Result<()> {
        for name in self.hamper(target).await? {
            let slowed = Slowed::new(self.pid(&name)?, share);
            self.slowed.insert(name, slowed);
        }
        Ok(())
    }

    /// Notes that something is about to hamper these processes.
    async fn hamper(&mut self, target: &Target) -> anyhow::Result<Vec<String>> {
        let names = self.names(target).await?;
        self.bereave(&names).await?;
        self.run.hampered.borrow_mut().extend(names.iter().cloned());
        self.held.insert(target.clone(), names.clone());
        Ok(names)
    }

    /// Gives processes their cables and their time back.
    async fn unhamper(&mut self, names: &[String]) -> anyhow::Result<()> {
        for name in names {
            self.slowed.remove(name);
            if self.cut.remove(name) {
                self.machines()?.mend(name).await?;
            }
            self.run.hampered.borrow_mut().remove(name);
        }
        self.run.say(Style::Good, format!("nothing hampers {}", names.join(", ")));
        Ok(())
    }

    fn machines(&mut self) -> anyhow::Result<&mut Machines> {
        self.processes.machines().context("the processes are no machines of their own")
    }

    /// Ends those that run, and starts all.
    async fn restart(&mut self, names: &[String]) -> anyhow::Result<()> {
        self.bereave(names).await?;
        let running: Vec<_> = names.iter().filter(|name| self.pids.contains_key(*name)).cloned().collect();
        for name in &running {
            self.run.down.borrow_mut().insert(name.clone());
            self.slowed.remove(name);
            if self.stopped.remove(name) {
                self.signal(name, Signal::CONT)?;
            }
            self.signal(name, Signal::TERM)?;
        }
        for name in &running {
            self.until_gone(name).await?;
        }
        for name in names {
            let subcommand = targets::process(self.run.plan, name).subcommand();
            let pid = self.processes.start_again(name, subcommand, &super::super::files_of(self.run.plan, name))?;
            self.pids.insert(name.clone(), pid);
            self.run.down.borrow_mut().remove(name);
        }
        self.run.seal_losses();
        self.run.say(Style::Good, format!("started {}", names.join(", ")));
        Ok(())
    }

    /// Restarts one after another; who is a primary and has a replica hands over first.
    async fn roll(&mut self, target: &Target) -> anyhow::Result<()> {
        for name in self.names(target).await? {
            if let Process::Node(region, _) = targets::process(self.run.plan, &name) {
                let shards = targets::shards(self.run, region).await?;
                let heir =
                    shards.iter().find(|(primary, _)| *primary == name).and_then(|(_, replicas)| replicas.first());
                if let Some(heir) = heir {
                    self.fail_over(heir).await?;
                }
            }
            self.restart(std::slice::from_ref(&name)).await?;
            let index = targets::index_of(self.run.plan, target.region.as_str())?;
            let well = time::timeout(limits::ROLL_MAX, self.until_well(index)).await;
            well.with_context(|| format!("{} is not well after the restart of {name}", target.region))?;
        }
        Ok(())
    }

    /// Waits until a region serves, its replicas follow, and its gateways are known.
    async fn until_well(&self, index: usize) {
        let (plan, clusters) = (self.run.plan, self.run.clusters);
        let region = &plan.regions[index];
        loop {
            time::sleep(limits::COMPARE_EVERY).await;
            let snapshot = Snapshot::take(plan, clusters).await;
            let missing = match &clusters[index] {
                Some(cluster) => cluster.missing(&region.nodes).await,
                None => Vec::new(),
            };
            let gateways = snapshot.gateways_of(plan, index).iter();
            let attached = gateways.map(|gateway| gateway.as_ref().map_or(0, |gateway| gateway.attached()));
            let are_known = attached.into_iter().all(|attached| attached == region.nodes.len());
            let place = u8::try_from(index).map(Place).expect("limits::REGIONS fits");
            if missing.is_empty() && are_known && watch::is_well(self.run, &snapshot, place) {
                return;
            }
        }
    }

    async fn fail_over(&self, replica: &str) -> anyhow::Result<()> {
        let Process::Node(region, node) = targets::process(self.run.plan, replica) else {
            bail!("{replica} is a gateway");
        };
        self.operate(region, &["failover", &node.redis.to_string()]).await?;
        self.run.say(Style::Plain, format!("{replica} is the primary"));
        Ok(())
    }

    /// Operates a region as a person does, at a node that runs.
    async fn operate(&self, region: usize, words: &[&str]) -> anyhow::Result<()> {
        let nodes = &self.run.plan.regions[region].nodes;
        let node = nodes.iter().find(|node| self.run.is_fit(&node.name)).context("no node of the region runs")?;
        operator::operate(&self.run.plan.file(&node.name, "toml"), words).await
    }

    async fn set_clocks(&mut self, target: &Target, offset: Offset) -> anyhow::Result<()> {
        let names = self.names(target).await?;
        self.configure(&names, ("clock", "offset"), &offset.to_string())?;
        let place = targets::index_of(self.run.plan, target.region.as_str())?;
        if let Some(skew) = self.run.history.borrow_mut().skews.get_mut(place) {
            let ms = offset.as_nanos() / 1_000_000;
            (skew.least_ms, skew.most_ms) = (skew.least_ms.min(ms), skew.most_ms.max(ms));
        }
        self.restart(&names).await
    }

    /// Sets a key in the files of these processes, which go by it when they start next.
    fn configure(&self, names: &[String], (section, key): (&str, &str), value: &str) -> anyhow::Result<()> {
        for name in names {
            let file = self.run.plan.file(name, "toml");
            let mut config: toml::Table = fs::read_to_string(&file)?.parse()?;
            let table = config.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            let table = table.as_table_mut().with_context(|| format!("`{section}` is no section"))?;
            table.insert(key.to_owned(), toml::Value::String(value.to_owned()));
            fs::write(&file, toml::to_string(&config)?)?;
        }
        Ok(())
    }

    /// Lets no file of these processes be written any more, or again. What they write then fails as on a disk that is full.
    async fn limit_files(&mut self, target: &Target, most: Option<u64>) -> anyhow::Result<()> {
        for name in self.names(target).await? {
            let limit = Rlimit { current: most, maximum: None };
            prlimit(Some(self.pid(&name)?), Resource::Fsize, limit).with_context(|| format!("limits of {name}"))?;
        }
        Ok(())
    }

    /// Notes what may go with these processes, as far as they run.
    async fn bereave(&self, names: &[String]) -> anyhow::Result<()> {
        let running: Vec<_> = names.iter().filter(|name| self.pids.contains_key(*name)).cloned().collect();
        losses::bereave(self.run, &running).await
    }

    async fn until_gone(&mut self, name: &str) -> anyhow::Result<()> {
        let Some(pid) = self.pids.remove(name) else { return Ok(()) };
        loop {
            let ended = match time::timeout(limits::END_MAX, self.processes.next_ended()).await {
                Ok(ended) => ended,
                Err(_) => {
                    self.run.say(Style::Warn, format!("{name} does not end, and is killed"));
                    kill_process(id(pid)?, Signal::KILL)?;
                    let ended = time::timeout(limits::END_MAX, self.processes.next_ended()).await;
                    ended.with_context(|| format!("{name} (pid {pid}) does not end"))?
                }
            };
            if ended.pid == pid {
                return Ok(());
            }
            self.bury(ended).await;
        }
    }

    /// Notes a death that nobody asked for, unless it is one that somebody else waits for.
    async fn bury(&mut self, ended: Ended) {
        if self.pids.get(&ended.name) != Some(&ended.pid) {
            return;
        }
        self.slowed.remove(&ended.name);
        let names = [ended.name.clone()];
        if !self.run.down.borrow_mut().insert(ended.name.clone()) {
            // It was killed along with others.
            self.pids.remove(&ended.name);
            return;
        }
        self.run.say(Style::Bad, obituary(&ended));
        // It may have been a primary until now.
        if let Err(error) = self.bereave(&names).await {
            self.run.say(Style::Warn, format!("what went with {} is not known: {error:#}", ended.name));
        }
        self.run.seal_losses();
        self.pids.remove(&ended.name);
    }

    fn signal(&self, name: &str, signal: Signal) -> anyhow::Result<()> {
        kill_process(self.pid(name)?, signal).with_context(|| format!("cannot send {signal:?} to {name}"))
    }

    fn pid(&self, name: &str) -> anyhow::Result<Pid> {
        let pid = self.pids.get(name).copied();
        id(pid.with_context(|| format!("{name} does not run"))?)
    }
}

fn id(pid: u32) -> anyhow::Result<Pid> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    ensure!(id.is_some(), "{pid} is no process id");
    Ok(id.expect("it was just checked"))
}
