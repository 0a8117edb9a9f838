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
//! 2. Every replica that has not failed reports *after that*: whatever the primary acknowledged under `WAIT` had arrived
//!    at a replica by then, so it is in the report.
//! 3. The replica that has most of the primary's records is promoted. If none has any, a primary that is back goes on
//!    empty; one that is only silent is waited for, since what it holds may yet come back.
//!
//! # Who has failed
//! A node fails when a majority of the shards says so. A shard speaks through its primary; if that is the node in question,
//! through any of its replicas. (Primaries alone could never agree on anything in a region of two.)
//!
//! # Methods
//! `handle_*` for what happened; [`answer`](Governor::answer) and [`poll_command`](Governor::poll_command) for what is to be
//! done; [`refused`](Governor::refused) says that a command came to nothing. All times are the leader's monotonic time.

use std::{collections::BTreeMap, time::Duration};

use clock::{Incarnation, Time};
use serde::{Deserialize, Serialize};

use super::{
    command::{Founder, MapCommand},
    id::{Epoch, NodeId, Run, ShardId},
    lease::Lease,
    map::{ClusterMap, Health, Shard},
};

/// How a region is governed.
#[derive(Clone, Copy, Debug)]
pub struct GovernorOptions {
    /// How long a lease is.
    pub lease: Duration,
    /// How long a report counts.
    pub fresh: Duration,
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
    /// What a replica holds, once it has all that its primary had when it began.
    pub held: Option<Held>,
    /// Whom it suspects.
    pub suspects: Vec<(NodeId, Run)>,
    /// A primary that lets go of its role: who is to take it. It has given up its lease, and that node has all it had.
    pub resigns_to: Option<NodeId>,
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
}

/// See the head of this file.
#[derive(Debug)]
pub struct Governor {
    options: GovernorOptions,
    map: ClusterMap,
    /// When this leader began, if it leads.
    leads_since: Option<Duration>,
    reports: BTreeMap<NodeId, Received>,
    /// When a lease was last granted to the primary of a shard.
    granted: BTreeMap<ShardId, Grant>,
    /// A command that was given out and not applied yet.
    pending: Option<MapCommand>,
}

#[derive(Debug)]
struct Received {
    at: Duration,
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
        Self { options, map: ClusterMap::new(), leads_since: None, reports, granted, pending: None }
    }

    /// This node has begun to lead, or leads no more. Whatever a former leader may have granted counts as granted now.
    pub fn handle_leadership(&mut self, now: Duration, leads: bool) {
        if leads != self.leads_since.is_some() {
            self.leads_since = leads.then_some(now);
            self.reports.clear();
            self.granted.clear();
            self.pending = None;
        }
    }

    /// The map has changed.
    pub fn handle_map(&mut self, map: &ClusterMap) {
        self.map.clone_from(map);
        self.pending = None;
        self.reports.retain(|node, _| map.node(*node).is_some());
    }

    /// A node has reported.
    pub fn handle_report(&mut self, now: Duration, report: Report) {
        let overtaken = self.reports.get(&report.node.id).is_some_and(|Received { report: last, .. }| {
            last.node.run == report.node.run && last.number >= report.number
        });
        if self.leads_since.is_some() && self.map.node(report.node.id).is_some() && !overtaken {
            self.reports.insert(report.node.id, Received { at: now, report });
        }
    }

    /// The command that was given out came to nothing.
    pub fn refused(&mut self) {
        self.pending = None;
    }

    /// Answers the report of a node in this run. Call it only if this node has made sure, after the report had come, that
    /// it leads.
    pub fn answer(&mut self, now: Duration, node: NodeId, run: Run) -> Standing {
        let lease = self.grant(now, node, run);
        Standing { epoch: self.map.epoch(), lease }
    }

    /// The next change of the map, if one is due; `wall` is when. One at a time: the next comes when the map has changed,
    /// or after [`refused`](Self::refused).
    pub fn poll_command(&mut self, now: Duration, wall: Time) -> Option<MapCommand> {
        if self.leads_since.is_none() || self.pending.is_some() {
            return None;
        }
        self.pending = self.started().or_else(|| self.health(now)).or_else(|| self.succession(now, wall));
        self.pending.clone()
    }

    fn grant(&mut self, now: Duration, node: NodeId, run: Run) -> Option<Incarnation> {
        self.leads_since?;
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
    fn successor(&self, shard: &Shard) -> Option<NodeId> {
        let Received { report, .. } = self.reports.get(&shard.primary)?;
        report.resigns_to.filter(|_| report.node.run == shard.run)
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
    fn health(&self, now: Duration) -> Option<MapCommand> {
        self.map.nodes().find_map(|(id, node)| {
            let votes = self.map.shards().filter(|(shard, _)| self.suspects(now, *shard, id, node.run)).count();
            let has_failed = votes > self.map.shards().len() / 2;
            match node.health {
                Health::Up if has_failed => Some(MapCommand::Failed { node: id, run: node.run }),
                Health::Failed
                    if votes == 0 && self.fresh(now, id).is_some_and(|report| report.node.run == node.run) =>
                {
                    Some(MapCommand::Recovered { node: id, run: node.run })
                }
                _ => None,
            }
        })
    }

    /// Whether a shard suspects a run of a node.
    fn suspects(&self, now: Duration, shard: ShardId, node: NodeId, run: Run) -> bool {
        let says = |id| self.fresh(now, id).is_some_and(|report| report.suspects.contains(&(node, run)));
        match self.map.shard(shard) {
            Some(shard) if shard.primary != node => says(shard.primary),
            _ => self.map.replicas(shard).any(|(id, _)| says(id)),
        }
    }

    /// Who takes the place of a primary that may not go on.
    fn succession(&self, now: Duration, wall: Time) -> Option<MapCommand> {
        self.map.shards().filter(|(_, shard)| self.must_be_replaced(shard)).find_map(|(id, shard)| {
            let over = self.lease_is_over_at(id, shard)?;
            if now < over {
                return None;
            }
            let (node, run) = self.heir(now, over, id, shard)?;
            Some(MapCommand::Promote { shard: id, node, run, former: (shard.primary, shard.run), at: wall })
        })
    }

    /// From when on nobody can hold a lease for the shard's primary in the run that was promoted.
    fn lease_is_over_at(&self, id: ShardId, shard: &Shard) -> Option<Duration> {
        let since = self.leads_since?;
        let runs_on = self.map.node(shard.primary).is_some_and(|node| node.run == shard.run);
        if !runs_on || self.successor(shard).is_some() {
            return Some(since);
        }
        let granted = self.granted.get(&id).filter(|grant| grant.to == shard.run).map_or(since, |grant| grant.at);
        Some(granted.max(since) + Lease::waits(self.options.lease))
    }

    /// Who goes on as the primary, once everybody who might has reported since `over`.
    fn heir(&self, now: Duration, over: Duration, id: ShardId, shard: &Shard) -> Option<(NodeId, Run)> {
        if let Some(successor) = self.successor(shard) {
            let node = self.map.node(successor).filter(|node| node.shard == id && node.health == Health::Up)?;
            return Some((successor, node.run));
        }
        let mut best: Option<((bool, Time), NodeId, Run)> = None;
        for (replica, node) in self.map.replicas(id).filter(|(_, node)| node.health == Health::Up) {
            self.reports.get(&replica).filter(|received| received.at >= over)?;
            let report = self.fresh(now, replica).filter(|report| report.node.run == node.run)?;
            let rank = report.held.map(|held| (held.incarnation == shard.incarnation, held.until));
            if let Some(rank) = rank.filter(|rank| best.is_none_or(|(most, ..)| *rank > most)) {
                best = Some((rank, replica, node.run));
            }
        }
        let is_back = self.map.node(shard.primary).filter(|node| node.run != shard.run && node.health == Health::Up);
        best.map(|(_, node, run)| (node, run)).or_else(|| is_back.map(|node| (shard.primary, node.run)))
    }

    /// What a node reported, if that still counts.
    fn fresh(&self, now: Duration, node: NodeId) -> Option<&Report> {
        let received = self.reports.get(&node)?;
        (now < received.at + self.options.fresh).then_some(&received.report)
    }
}

#[cfg(test)]
#[path = "governor_tests.rs"]
mod tests;
