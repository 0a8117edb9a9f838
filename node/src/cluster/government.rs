//! The leader's loop: reports in, answers and commands out. Every node runs it; only the leader's has anything to do.
//!
//! Answers go out in rounds. A round takes all reports that have come, makes sure once that this node still leads, and
//! answers them: so a region of a hundred nodes costs a round trip to a majority every [`ROUND_INTERVAL`], not one for each
//! report.

use std::{sync::Arc, time::Duration};

use clock::OsClock;
use node_core::cluster::{Governor, MapCommand, NodeId, Report, Run, Standing, Term};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::raft::{ControlPlane, Proposed};
use crate::limits::{ROUND_INTERVAL, SETTLE_INTERVAL};

/// A report, and where its answer goes.
pub(crate) struct Reported {
    pub(crate) report: Report,
    pub(crate) answer: oneshot::Sender<Standing>,
}

/// See the head of this file.
pub(crate) struct Government {
    pub(crate) governor: Governor,
    pub(crate) plane: Arc<ControlPlane>,
    pub(crate) clock: Arc<OsClock>,
    pub(crate) reports: mpsc::Receiver<Reported>,
}

/// Somebody who waits for an answer.
type Waiting = (Term, NodeId, Run, oneshot::Sender<Standing>);

impl Government {
    /// Governs while this node leads, until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut waiting: Vec<Waiting> = Vec::new();
        let (mut proposals, mut settling) = (JoinSet::new(), JoinSet::new());
        let (mut maps, mut leadership) = (self.plane.map(), self.plane.leadership());
        let mut settlements = interval(SETTLE_INTERVAL);
        let mut rounds = interval(ROUND_INTERVAL);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(reported) = self.reports.recv() => waiting.extend(self.take(reported)),
                changed = leadership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = leadership.borrow_and_update().clone();
                    self.lead(now.is_mine.then_some(Term(now.term)));
                    waiting.retain(|_| now.is_mine);
                }
                changed = maps.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.governor.handle_map(&maps.borrow_and_update());
                }
                Some(Ok((term, outcome))) = proposals.join_next() => self.proposed(term, outcome),
                Some(_) = settling.join_next() => {}
                _ = settlements.tick() => self.settle(&mut settling),
                _ = rounds.tick() => self.round(&mut waiting).await,
            }
            self.propose(&mut proposals);
        }
    }

    fn now(&self) -> Duration {
        self.clock.now().monotonic
    }

    fn lead(&mut self, term: Option<Term>) {
        match term {
            Some(term) => tracing::info!(term = term.0, "this node leads the region's control plane"),
            None => tracing::debug!("this node does not lead"),
        }
        self.governor.handle_leadership(self.now(), term);
        self.governor.handle_map(&self.plane.map().borrow());
    }

    fn take(&mut self, Reported { report, answer }: Reported) -> Option<Waiting> {
        let (node, run) = (report.node.id, report.node.run);
        // A node that has moved is known to nobody else yet.
        self.plane.hear_of(node, report.node.addresses.bus());
        self.governor.handle_report(self.now(), report);
        self.governor.term().map(|term| (term, node, run, answer))
    }

    /// Answers all who wait, if this node still leads; else they ask again, perhaps somebody else.
    async fn round(&mut self, waiting: &mut Vec<Waiting>) {
        if self.governor.term().is_none() {
            return;
        }
        if !waiting.is_empty() && self.plane.confirm_leadership().await.is_ok() {
            self.governor.handle_map(&self.plane.map().borrow());
            let now = self.now();
            for (term, node, run, answer) in waiting.drain(..) {
                if let Some(standing) = self.governor.answer(now, term, node, run) {
                    // Who has given up waiting asks again.
                    let _ = answer.send(standing);
                }
            }
        }
        waiting.clear();
    }

    /// Brings the members of the Raft group nearer to the map, one step at a time.
    fn settle(&self, settling: &mut JoinSet<bool>) {
        if self.governor.term().is_some() && settling.is_empty() {
            let plane = self.plane.clone();
            settling.spawn(async move {
                let outcome = plane.settle().await;
                outcome.inspect_err(|error| tracing::debug!(%error, "the group's members are not changed yet")).is_ok()
            });
        }
    }

    fn propose(&mut self, proposals: &mut JoinSet<(Term, Proposed)>) {
        let Some(term) = self.governor.term() else { return };
        let now = self.clock.now();
        if let Some(command) = self.governor.poll_command(now.monotonic, now.wall) {
            tell(&command);
            let plane = self.plane.clone();
            proposals.spawn(async move { (term, plane.propose_in(term, command).await) });
        }
    }

    fn proposed(&mut self, term: Term, outcome: Proposed) {
        match outcome {
            Proposed::Applied(event) => tracing::info!(?event, "the map has changed"),
            Proposed::Refused(refused) => tracing::info!(%refused, "a change of the map was refused"),
            Proposed::Never => {}
            // It may yet be applied, so it stays pending until the term is over.
            Proposed::Unknown => return tracing::warn!("nobody knows what became of a change of the map"),
        }
        self.governor.handle_outcome(term, &self.plane.map().borrow());
    }
}

fn tell(command: &MapCommand) {
    match command {
        MapCommand::Failed { node, .. } => tracing::warn!(%node, "a majority suspects this node: it has failed"),
        MapCommand::Promote { shard, node, former, .. } => {
            tracing::warn!(%shard, %node, former = %former.0, "promoting a node in the place of its primary");
        }
        MapCommand::Started { node } => tracing::info!(node = %node.id, "a node has started"),
        MapCommand::Recovered { node, .. } => tracing::info!(%node, "a node that had failed is back"),
        _ => {}
    }
}
