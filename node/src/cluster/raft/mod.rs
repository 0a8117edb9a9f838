//! The control plane: the one truth about the region's topology, as a log that a majority of voters has agreed on.
//!
//! openraft does the agreeing. [`ControlPlane`] is all that the rest of the node sees of it: it proposes commands, from
//! whatever node, it watches the map that they lead to, and it knows who leads. What only the leader may do (to decide,
//! to grant leases) it does after [`ControlPlane::confirm_leadership`]: a leader that was cut off does not know it yet.
//!
//! ```text
//! propose ─> leader ─> log of a majority, on disk ─> applied everywhere ─> map()
//! ```
//! # Who is in the group
//! Every node of the region. Up to five vote ([`choose_voters`](node_core::cluster::choose_voters)), the others learn. A
//! node becomes a member as a learner and may be made a voter then; who leaves the map is removed.
//!
//! # Once or twice
//! A proposal of which it is not known what came of it is not repeated here ([`ProposeError::Undecided`]). One that a
//! leader took and lost its office over may be: it can be carried out twice, and the second time it is refused, since a
//! command names what it supposes. So after a change of leader [`Refused`](node_core::cluster::Refused) may mean that it
//! is done; the map tells.
//!
//! # Tasks
//! openraft spawns on the runtime that [`ControlPlane::start`] is called in, and holds what it spawns;
//! [`ControlPlane::shutdown`] ends it and waits until the file is closed.

mod founding;
mod leadership;
pub(crate) mod limits;
mod membership;
mod network;
mod store;
#[cfg(test)]
mod tests;
mod types;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use node_core::cluster::{ClusterMap, MapCommand, MapEvent, NodeId, Refused, Term};
use openraft::{
    Config, Raft, SnapshotPolicy,
    error::{CheckIsLeaderError, ClientWriteError, Fatal, RaftError},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::{bytes::Bytes, sync::CancellationToken};

#[expect(unused_imports, reason = "the parts that use them follow")]
pub(crate) use self::{
    founding::FoundError,
    leadership::{Leader, Leadership},
    membership::ChangeError,
    network::Addresses,
    store::StoreError,
    types::Outcome,
};
use self::{
    limits::{
        CLOSE_MAX, COMMAND_BYTES_MAX, CONFIRMATION_MAX, ELECTION, ENTRIES_BEHIND_MAX, ENTRIES_KEPT,
        ENTRIES_PER_MESSAGE, ENTRIES_PER_SNAPSHOT, HEARTBEAT, LEADER_PAUSE, PROPOSAL_MAX, SNAPSHOT_MAX,
    },
    network::{Answer, Failure, Message, Network, Request},
    store::{Disk, LogStore, MapMachine},
    types::{Member, Number, Proposal, Snapshot, StorageError, Types},
};
use super::bus::{Bus, Malformed};

/// This node's part in the region's Raft group.
pub(crate) struct ControlPlane {
    me: NodeId,
    raft: Raft<Types>,
    network: Network,
    map: watch::Receiver<Arc<ClusterMap>>,
    leadership: watch::Receiver<Leadership>,
    /// The task that keeps `leadership` up to date, until it is waited for.
    following: Mutex<Option<JoinHandle<()>>>,
    /// Cancelled when the file is closed.
    closed: CancellationToken,
}

/// Why the control plane cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The file.
    #[error("cannot use the file of the cluster's map: {0}")]
    Store(#[from] StoreError),
    /// What is in the file.
    #[error("cannot read the cluster's map: {0}")]
    Map(#[from] StorageError),
    /// openraft.
    #[error("cannot go on with the cluster's log: {0}")]
    Raft(#[from] Fatal<Number>),
}

/// Why it is not known what came of a proposal, or nothing has.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProposeError {
    /// Nobody leads, or nobody who does was reached. Nothing was changed.
    #[error("no leader was reached in time")]
    NoLeader,
    /// It was taken, and may yet be carried out.
    #[error("it was not decided in time, and may yet be")]
    Undecided,
    /// It is longer than commands may be.
    #[error("a command of {0} bytes is too long")]
    TooLong(usize),
    /// This node takes no part any more.
    #[error("this node's part in the group has ended")]
    Stopped,
}

/// This node does not lead, or cannot prove that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node does not lead")]
pub(crate) struct NotLeader;

/// What a leader's own command has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Proposed {
    /// The map has changed.
    Applied(MapEvent),
    /// The map is as it was.
    Refused(Refused),
    /// It was not taken, and never will be.
    Never,
    /// It was taken, and may yet be carried out.
    Unknown,
}

/// What an attempt to propose has come to.
enum Attempt {
    Done(Outcome),
    /// It was certainly not taken.
    NotTaken,
    Failed(ProposeError),
}

impl ControlPlane {
    /// Goes on from what is in the state directory, or begins as a node that is in no cluster yet. Each write to the directory
    /// takes longer by `delay`.
    ///
    /// # Errors
    /// [`StartError`]
    pub(crate) async fn start(dir: &Path, delay: Duration, me: NodeId, bus: Bus) -> Result<Self, StartError> {
        let closed = CancellationToken::new();
        let disk = Disk::open(dir, delay, me, closed.clone()).await?;
        Self::start_on(disk, closed, me, bus).await
    }

    async fn start_on(disk: Disk, closed: CancellationToken, me: NodeId, bus: Bus) -> Result<Self, StartError> {
        let (publish, map) = watch::channel(Arc::new(ClusterMap::new()));
        let machine = MapMachine::open(disk.clone(), publish).await?;
        let network = Network { bus, addresses: Arc::new(Addresses::new(map.clone())) };
        let raft = Raft::new(me.raft_number(), config(), network.clone(), LogStore::new(disk), machine).await?;
        let (publish, leadership) = watch::channel(Leadership::default());
        let following = tokio::spawn(leadership::follow(me, raft.server_metrics(), network.addresses.clone(), publish));
        Ok(Self { me, raft, network, map, leadership, following: Mutex::new(Some(following)), closed })
    }

    /// The map, as this node has it; it changes with every command that is applied.
    pub(crate) fn map(&self) -> watch::Receiver<Arc<ClusterMap>> {
        self.map.clone()
    }

    /// Who leads, as far as this node knows.
    pub(crate) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Takes note of where the bus of a node is now: of a node that has moved nobody else may know.
    pub(crate) fn hear_of(&self, node: NodeId, bus: String) {
        self.network.addresses.hear(node, bus);
    }

    /// Makes sure that this node led at some moment after this was called: a majority has said so.
    ///
    /// # Errors
    /// [`NotLeader`] if it does not, or if that cannot be had soon.
    pub(crate) async fn confirm_leadership(&self) -> Result<(), NotLeader> {
        match timeout(CONFIRMATION_MAX, self.raft.ensure_linearizable()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(
                CheckIsLeaderError::ForwardToLeader(_) | CheckIsLeaderError::QuorumNotEnough(_),
            ))) => Err(NotLeader),
            Ok(Err(RaftError::Fatal(_))) | Err(_) => Err(NotLeader),
        }
    }

    /// Has a command decided on, whoever leads. Takes no longer than `patience`.
    ///
    /// # Errors
    /// [`ProposeError`]
    pub(crate) async fn propose(&self, command: &MapCommand, patience: Duration) -> Result<Outcome, ProposeError> {
        let until = Instant::now() + patience;
        let length = rmp_serde::to_vec(command).map_or(usize::MAX, |bytes| bytes.len());
        if length > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLong(length));
        }
        let mut leadership = self.leadership();
        loop {
            let leader = leadership.borrow_and_update().leader.clone();
            match self.attempt(leader, command, until).await {
                Attempt::Done(outcome) => return Ok(outcome),
                Attempt::Failed(error) => return Err(error),
                Attempt::NotTaken if Instant::now() >= until => return Err(ProposeError::NoLeader),
                Attempt::NotTaken => {}
            }
            tokio::select! {
                changed = leadership.changed() => changed.map_err(|_| ProposeError::Stopped)?,
                () = sleep_until(until.min(Instant::now() + LEADER_PAUSE)) => {}
            }
        }
    }

    /// Has a command decided on that this node gives out as the leader of a term: in that term or never.
    pub(crate) async fn propose_in(&self, Term(term): Term, command: MapCommand) -> Proposed {
        match self.decide(command, Some(term), Instant::now() + PROPOSAL_MAX).await {
            Attempt::Done(Ok(event)) => Proposed::Applied(event),
            Attempt::Done(Err(refused)) => Proposed::Refused(refused),
            Attempt::NotTaken => Proposed::Never,
            Attempt::Failed(_) => Proposed::Unknown,
        }
    }

    async fn attempt(&self, leader: Option<Leader>, command: &MapCommand, until: Instant) -> Attempt {
        match leader {
            None => Attempt::NotTaken,
            Some(leader) if leader.id == self.me => self.decide(command.clone(), None, until).await,
            Some(leader) => self.forward(leader, command.clone(), until).await,
        }
    }

    /// Has it decided on as the leader.
    async fn decide(&self, command: MapCommand, term: Option<u64>, until: Instant) -> Attempt {
        let written = timeout_at(until, self.raft.client_write(Proposal { command, term })).await;
        if matches!(written, Ok(Ok(_))) {
            // The others learn what is decided with the next message of the leader. Without this that would be the next
            // heartbeat, and whoever waits for the change would wait for it. If it fails, the next heartbeat is in time.
            _ = self.raft.trigger().heartbeat().await;
        }
        match written {
            // Every command has an outcome; only Raft's own entries have none.
            Ok(Ok(response)) => response.data.map_or(Attempt::Failed(ProposeError::Undecided), Attempt::Done),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Attempt::NotTaken,
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(_)))) => Attempt::NotTaken,
            Ok(Err(RaftError::Fatal(_))) => Attempt::Failed(ProposeError::Stopped),
            Err(_) => Attempt::Failed(ProposeError::Undecided),
        }
    }

    async fn forward(&self, leader: Leader, command: MapCommand, until: Instant) -> Attempt {
        let patience = until.saturating_duration_since(Instant::now());
        let leader = Member { id: leader.id, bus: leader.bus };
        match self.network.ask(&leader, Request::Propose(command), patience).await {
            Ok(Answer::Proposed(outcome)) => Attempt::Done(outcome),
            Ok(Answer::NotLeader) | Err(Failure::Stopped | Failure::Misdirected) => Attempt::NotTaken,
            Err(Failure::Call(error)) if !error.was_sent() => Attempt::NotTaken,
            Ok(_) | Err(_) => Attempt::Failed(ProposeError::Undecided),
        }
    }

    /// Answers what another member says: [`Handlers::raft`](super::bus::Handlers::raft).
    ///
    /// # Errors
    /// [`Malformed`] if it cannot be read.
    pub(crate) async fn answer(&self, message: Bytes) -> Result<Vec<u8>, Malformed> {
        let Message { to, request } = rmp_serde::from_slice(&message)?;
        if let Request::Snapshot { map, .. } = &request {
            // A map that cannot be read is the sender's fault; inside of Raft it would pass for a failure of our disk.
            rmp_serde::from_slice::<ClusterMap>(map)?;
        }
        let answer = if to == self.me { self.carry_out(request).await } else { Answer::Misdirected };
        rmp_serde::to_vec(&answer).map_err(|_| Malformed)
    }

    async fn carry_out(&self, request: Request) -> Answer {
        match request {
            Request::Append(request) => self.raft.append_entries(request).await.map_or(Answer::Stopped, Answer::Append),
            Request::Vote(request) => self.raft.vote(request).await.map_or(Answer::Stopped, Answer::Vote),
            Request::Snapshot { vote, meta, map } => {
                let snapshot = Snapshot { meta, snapshot: Box::new(map) };
                let installed = self.raft.install_full_snapshot(vote, snapshot).await;
                installed.map_or(Answer::Stopped, |response| Answer::Snapshot(response.vote))
            }
            Request::Propose(command) => match self.decide(command, None, Instant::now() + PROPOSAL_MAX).await {
                Attempt::Done(outcome) => Answer::Proposed(outcome),
                Attempt::NotTaken => Answer::NotLeader,
                Attempt::Failed(ProposeError::Stopped) => Answer::Stopped,
                Attempt::Failed(_) => Answer::Undecided,
            },
        }
    }

    /// Returns when this node's part in the group has ended, and says why: the disk has failed, most likely. The process
    /// should stop then. After [`shutdown`](Self::shutdown) it returns as well.
    pub(crate) async fn failure(&self) -> Fatal<Number> {
        let mut metrics = self.raft.metrics();
        let ended = metrics.wait_for(|metrics| metrics.running_state.is_err()).await;
        // If nobody is left to say why, it has ended without having been told to.
        ended.ok().and_then(|metrics| metrics.running_state.clone().err()).unwrap_or(Fatal::Panicked)
    }

    /// Ends this node's part in the group, and waits until the file is closed.
    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "the control plane panicked");
        }
        let following = self.following.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(following) = following {
            // It ends with openraft's core, whose metrics it follows.
            _ = following.await;
        }
        if timeout(CLOSE_MAX, self.closed.cancelled()).await.is_err() {
            tracing::warn!("the file of the cluster's map is still open");
        }
    }
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlPlane").field("me", &self.me).finish_non_exhaustive()
    }
}

fn config() -> Arc<Config> {
    let milliseconds = |duration: Duration| duration.as_millis() as u64;
    Arc::new(Config {
        cluster_name: "region".to_owned(),
        heartbeat_interval: milliseconds(HEARTBEAT),
        election_timeout_min: milliseconds(ELECTION.0),
        election_timeout_max: milliseconds(ELECTION.1),
        install_snapshot_timeout: milliseconds(SNAPSHOT_MAX),
        max_payload_entries: ENTRIES_PER_MESSAGE,
        replication_lag_threshold: ENTRIES_BEHIND_MAX,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(ENTRIES_PER_SNAPSHOT),
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        ..Config::default()
    })
}
