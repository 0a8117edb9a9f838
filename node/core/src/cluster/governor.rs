//! The governor: what the Raft leader decides, and what it promises.
//!
//! Every node reports to the leader several times in the length of a lease: who it is, what it holds, whom it suspects.
//! The governor turns reports into map commands, one at a time, and into answers, some of which are leases. It has no
//! authority of its own: a command counts when Raft has applied it, and an answer may leave only after the leader has made
//! sure that it still leads.
//!
//! # When anybody is promoted
//! The place of a primary is taken if a majority has found it to have failed, if it has started again and so lost its
//! memory, or if it resigned. Then:
//! 1. No more leases for it. What it was granted runs out, and so does what a former leader may have granted. (A run that
//!    was followed by another of the same node is over, and so is its lease: the state directory has one process at a
//!    time. Who resigns has let go of it.)
//! 2. Every node of the shard that has not failed reports *after that*: whatever the primary acknowledged under `WAIT`
//!    had arrived at a replica by then, so it is in the report.
//! 3. The one that has most of the primary's records is promoted. (Also a primary that is back may have some: it may have
//!    followed its predecessor before it knew of its role.) If none has any, whoever is silent is waited for, since what
//!    it holds may yet come back; but not longer than [`GovernorOptions::patience`]. Then the primary goes on empty if it
//!    is back, or else a replica does.
//!
//! # What "after" means
//! A report may have been on its way for long, so when it arrives says nothing about when it was made. Each answer bears
//! a [`Moment`], and each report the latest moment that its maker had heard of: it was made after that. A resignation
//! counts only if it was made in this leader's term. Else one that was taken back meanwhile, before a former leader who
//! then granted a lease, could turn up late.
//!
//! # Who has failed
//! A node fails when a majority of the shards says so. A shard speaks through its primary; if that is the node in question
//! or is silent itself, through any of its replicas. (Primaries alone could never agree on anything in a region of two,
//! nor once half of them are gone.)
//!
//! # What the shell owes
//! - A command is appended to the log in the [`term`](Governor::term) in which it was given out, or never.
//! - [`handle_outcome`](Governor::handle_outcome) is for commands whose fate is known. One that might still be applied
//!   stays pending until the term is over, and so keeps its shard without a lease.
//! - An answer is made only after this node has made sure that it led when the report had come, and after the governor
//!   has been given all of the map that was committed then. The term is noted before: of a promotion that is on its way a
//!   later one knows nothing, until a confirmation of its own has waited for it.
//!
//! # Methods
//! `handle_*` for what happened; [`answer`](Governor::answer) and [`poll_command`](Governor::poll_command) for what is to be
//! done. All times are the leader's monotonic time.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use clock::{Incarnation, Time};
use serde::{Deserialize, Serialize};

use super::{
    command::{Founder, MapCommand},
    id::{Epoch, NodeId, Run, ShardId, Term},
    lease::Lease,
    map::{ClusterMap, Health, Node, Shard},
};

/// How a region is governed.
#[derive(Clone, Copy, Debug)]
pub struct GovernorOptions {
    /// How long a lease is.
    pub lease: Duration,
    /// How long a report counts.
    pub fresh: Duration,
    /// How long a shard of which nothing is left waits for those of its nodes that have failed, before it goes on empty.
    pub patience: Duration,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who it is.
    pub node: Founder,
    /// Counts the reports of a run: one that was overtaken on its way says nothing any more.
    pub number: u64,
    /// The map that it goes by.
    pub epoch: Epoch,
    /// The latest moment of a leader that it has heard of: the report was made after that.
    pub after: Option<Moment>,
    /// What it holds of its shard: a replica once it has all that its primary had when it began, a primary always.
    pub held: Option<Held>,
    /// Whom it suspects.
    pub suspects: Vec<(NodeId, Run)>,
    /// A primary that lets go of its role: who is to take it. It has given up its lease, and that run has all it had.
    pub resigns_to: Option<(NodeId, Run)>,
}

/// A moment of a leader. The leader alone can tell when that was; to others it is a token, of which the greater is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment {
    term: Term,
    /// In its monotonic time.
    at: Duration,
}

#[cfg(test)]
impl Moment {
    /// A moment that a test makes up.
    pub(super) const fn for_tests(term: u64, at: Duration) -> Self {
        Self { term: Term(term), at }
    }
}

/// How far a replica has followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Whose writes.
    pub incarnation: Incarnation,
    /// All of them up to here are there.
    pub until: Time,
}

/// What the leader says to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The leader's map.
    pub epoch: Epoch,
    /// The incarnation under which the node may write; none if it may not. Counts from when it sent the report.
    pub lease: Option<Incarnation>,
    /// When it says so. The node's next report bears it.
    pub moment: Moment,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Governor {
    options: GovernorOptions,
    map: ClusterMap,
    leads: Option<Leads>,
    reports: BTreeMap<NodeId, Received>,
    /// When a lease was last granted to the primary of a shard.
    granted: BTreeMap<ShardId, Grant>,
    /// A command that was given out and not applied yet.
    pending: Option<MapCommand>,
}

#[derive(Clone, Copy, Debug)]
struct Leads {
    term: Term,
    /// When this node learned of it.
    since: Duration,
}

#[derive(Debug)]
struct Received {
    at: Duration,
    /// When the first report of its run came.
    run_since: Duration,
    report: Report,
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    at: Duration,
    to: Run,
}

impl Governor {
    /// Does not lead.
    pub fn new(options: GovernorOptions) -> Self {
        let (reports, granted) = (BTreeMap::new(), BTreeMap::new());
        Self { options, map: ClusterMap::new(), leads: None, reports, granted, pending: None }
    }

    /// This node has begun to lead in this term, or leads no more. Whatever a former leader may have granted counts as
    /// granted now.
    pub fn handle_leadership(&mut self, now: Duration, term: Option<Term>) {
        if term != self.term() {
            self.leads = term.map(|term| Leads { term, since: now });
            self.reports.clear();
            self.granted.clear();
            self.pending = None;
        }
    }

    /// The map has changed.
    pub fn handle_map(&mut self, map: &ClusterMap) {
        if map.epoch() > self.map.epoch() {
            self.map.clone_from(map);
            self.reports.retain(|node, _| map.node(*node).is_some());
        }
    }

    /// The command that was given out in this term has been applied or refused, or certainly never will be; `map` is the
    /// map after it.
    pub fn handle_outcome(&mut self, term: Term, map: &ClusterMap) {
        self.handle_map(map);
        if self.term() == Some(term) {
            self.pending = None;
        }
    }

    /// A node has reported.
    pub fn handle_report(&mut self, now: Duration, report: Report) {
        let (id, run) = (report.node.id, report.node.run);
        let last = self.reports.get(&id);
        let is_overtaken = last.is_some_and(|last| (last.report.node.run, last.report.number) >= (run, report.number));
        let is_known = self.map.node(id).is_some_and(|node| node.run <= run);
        if self.leads.is_some() && is_known && !is_overtaken {
            let run_since = last.filter(|last| last.report.node.run == run).map_or(now, |last| last.run_since);
            self.reports.insert(id, Received { at: now, run_since, report });
        }
    }

    /// Answers the report of a node in this run, if this node still leads in the term in which the report had come. See
    /// the head of this file for when.
    pub fn answer(&mut self, now: Duration, term: Term, node: NodeId, run: Run) -> Option<Standing> {
        self.leads.filter(|leads| leads.term == term)?;
        let moment = Moment { term, at: now };
        let lease = self.grant(now, node, run);
        Some(Standing { epoch: self.map.epoch(), lease, moment })
    }

    /// The next change of the map, if one is due; `wall` is when. One at a time: the next comes after
    /// [`handle_outcome`](Self::handle_outcome).
    pub fn poll_command(&mut self, now: Duration, wall: Time) -> Option<MapCommand> {
        let leads = self.leads.filter(|_| self.pending.is_none())?;
        self.pending = self.started().or_else(|| self.health(now, leads)).or_else(|| self.succession(now, leads, wall));
        self.pending.clone()
    }

    /// The term in which this node leads, if it does.
    pub fn term(&self) -> Option<Term> {
        self.leads.map(|leads| leads.term)
    }

    fn grant(&mut self, now: Duration, node: NodeId, run: Run) -> Option<Incarnation> {
        let (id, shard) = self.map.shard_of(node)?;
        if (shard.primary, shard.run) != (node, run) || self.must_be_replaced(shard) || self.is_pending(id) {
            return None;
        }
        self.granted.insert(id, Grant { at: now, to: run });
        Some(shard.incarnation)
    }

    /// Whether the primary of a shard may not go on.
    fn must_be_replaced(&self, shard: &Shard) -> bool {
        let primary = self.map.node(shard.primary);
        primary.is_none_or(|primary| primary.run != shard.run || primary.health == Health::Failed)
            || self.successor(shard).is_some()
    }

    /// To whom the primary of a shard has resigned.
    fn successor(&self, shard: &Shard) -> Option<(NodeId, Run)> {
        let received = self.reports.get(&shard.primary).filter(|received| received.report.node.run == shard.run)?;
        self.made_after(received).and(received.report.resigns_to)
    }

    fn is_pending(&self, id: ShardId) -> bool {
        matches!(&self.pending, Some(MapCommand::Promote { shard, .. }) if *shard == id)
    }

    /// A node that has started again, or moved.
    fn started(&self) -> Option<MapCommand> {
        let news = |(id, received): (&NodeId, &Received)| {
            let (known, says) = (self.map.node(*id)?, &received.report.node);
            let is_news = (known.run, &known.addresses) != (says.run, &says.addresses);
            is_news.then(|| MapCommand::Started { node: says.clone() })
        };
        self.reports.iter().find_map(news)
    }

    /// A node that has failed, or is back.
    fn health(&self, now: Duration, leads: Leads) -> Option<MapCommand> {
        self.map.nodes().find_map(|(id, node)| {
            let says = |shard: &(ShardId, &Shard)| self.suspects(now, leads, *shard, (id, node.run));
            let votes = self.map.shards().filter(says).count();
            let answers = || self.fresh(now, id).is_some_and(|report| report.node.run == node.run);
            match node.health {
                Health::Up if votes > self.map.shards().len() / 2 => {
                    Some(MapCommand::Failed { node: id, run: node.run })
                }
                Health::Failed if votes == 0 && answers() => Some(MapCommand::Recovered { node: id, run: node.run }),
                _ => None,
            }
        })
    }

    /// Whether a shard suspects a run of a node.
    fn suspects(&self, now: Duration, leads: Leads, (id, shard): (ShardId, &Shard), suspect: (NodeId, Run)) -> bool {
        let says = |id| self.fresh(now, id).is_some_and(|report| report.suspects.contains(&suspect));
        let is_silent = || now >= leads.since + self.options.fresh && self.fresh(now, shard.primary).is_none();
        if shard.primary == suspect.0 || is_silent() {
            self.map.replicas(id).any(|(id, _)| says(id))
        } else {
            says(shard.primary)
        }
    }

    /// Who takes the place of a primary that may not go on.
    fn succession(&self, now: Duration, leads: Leads, wall: Time) -> Option<MapCommand> {
        self.map.shards().filter(|(_, shard)| self.must_be_replaced(shard)).find_map(|(id, shard)| {
            let successor = self.successor(shard);
            let (node, run) = match successor {
                Some(successor) => self.eligible(id, successor)?,
                None => self.heir(now, self.lease_is_over_at(leads, id, shard), id, shard)?,
            };
            let (former, has_all) = ((shard.primary, shard.run), successor.is_some());
            Some(MapCommand::Promote { shard: id, node, run, former, has_all, at: wall })
        })
    }

    /// Who was named as a successor, if that run can take over.
    fn eligible(&self, id: ShardId, (node, run): (NodeId, Run)) -> Option<(NodeId, Run)> {
        let is_eligible = |known: &&Node| known.shard == id && known.run == run && known.health == Health::Up;
        self.map.node(node).filter(is_eligible).map(|_| (node, run))
    }

    /// From when on nobody can hold a lease for the shard's primary in the run that was promoted.
    fn lease_is_over_at(&self, leads: Leads, id: ShardId, shard: &Shard) -> Duration {
        let has_started_again = self.map.node(shard.primary).is_none_or(|node| node.run != shard.run);
        if has_started_again {
            // Either its new run has reported to this leader, or a former leader knew of it.
            return self.reports.get(&shard.primary).map_or(leads.since, |received| received.run_since);
        }
        let granted = self.granted.get(&id).filter(|grant| grant.to == shard.run).map_or(leads.since, |grant| grant.at);
        granted + Lease::waits(self.options.lease)
    }

    /// Who goes on as the primary, once everybody who might has reported since `over`.
    fn heir(&self, now: Duration, over: Duration, id: ShardId, shard: &Shard) -> Option<(NodeId, Run)> {
        let (mut full, mut empty) = (None, None);
        for (member, node) in self.map.nodes().filter(|(_, node)| node.shard == id && node.health == Health::Up) {
            let received = self.reports.get(&member).filter(|received| received.report.node.run == node.run)?;
            self.made_after(received).filter(|made| *made >= over)?;
            match self.fresh(now, member)?.held {
                Some(held) => full = full.max(Some((rank(shard, held), member, node.run))),
                None if member == shard.primary => empty = Some((member, node.run)),
                None => empty = empty.or(Some((member, node.run))),
            }
        }
        // What a silent node holds may yet come back.
        let is_waited_for = |(_, node): (NodeId, &Node)| node.shard == id && node.health == Health::Failed;
        let is_patient = now < over + self.options.patience && self.map.nodes().any(is_waited_for);
        full.map(|(_, member, run)| (member, run)).or(empty.filter(|_| now >= over && !is_patient))
    }

    /// When the report was made, at the earliest: if in this term at all.
    fn made_after(&self, received: &Received) -> Option<Duration> {
        received.report.after.filter(|moment| Some(moment.term) == self.term()).map(|moment| moment.at)
    }

    /// What a node reported, if that still counts.
    fn fresh(&self, now: Duration, node: NodeId) -> Option<&Report> {
        let received = self.reports.get(&node)?;
        (now < received.at + self.options.fresh).then_some(&received.report)
    }
}

/// The greater has more: first who followed the later primary, then who followed it further.
fn rank(shard: &Shard, held: Held) -> (Reverse<u16>, Time) {
    let age = shard.incarnation.number().wrapping_sub(held.incarnation.number()) % Incarnation::COUNT;
    (Reverse(age), held.until)
}

#[cfg(test)]
#[path = "governor_tests.rs"]
mod tests;
