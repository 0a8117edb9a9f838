//! What the group's members say to one another, over the bus.
//!
//! Each message names the member that it is for. A node that was set up anew listens where its predecessor did, and has
//! none of what that one promised: what is not for it must not reach its log.
//!
//! # Where a member is
//! An address changes when a node moves. [`Addresses`] knows, in this order: what gossip heard last, what the map says,
//! and what it was when the member joined. It is asked for each message.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use node_core::{
    cluster::{ClusterMap, MapCommand, NodeId},
    limits::NODES_MAX,
};
use openraft::{
    error::{
        Fatal, NetworkError, PayloadTooLarge, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
    },
    network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory},
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    limits::{SNAPSHOT_MAX, UNREACHABLE_PAUSE},
    types::{Member, Number, Outcome, Snapshot, SnapshotMeta, Types, Vote},
};
use crate::cluster::bus::{Bus, CallError, Channel};

/// A message, and whom it is for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) to: NodeId,
    pub(super) request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Number>),
    Snapshot {
        vote: Vote,
        meta: SnapshotMeta,
        #[serde(with = "serde_bytes")]
        map: Vec<u8>,
    },
    Propose(MapCommand),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Append(AppendEntriesResponse<Number>),
    Vote(VoteResponse<Number>),
    Snapshot(Vote),
    Proposed(Outcome),
    /// It does not lead, and has not taken the proposal.
    NotLeader,
    /// It does not know what has come of the proposal.
    Undecided,
    /// Its part in the group has ended.
    Stopped,
    /// It is another node.
    Misdirected,
}

/// Why a message has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("that node has left the group")]
    Stopped,
    #[error("another node listens there")]
    Misdirected,
    #[error("the answer is to another question")]
    Confused,
}

/// Where members are reached.
#[derive(Debug)]
pub(crate) struct Addresses {
    map: watch::Receiver<Arc<ClusterMap>>,
    heard: Mutex<BTreeMap<NodeId, String>>,
}

impl Addresses {
    pub(super) fn new(map: watch::Receiver<Arc<ClusterMap>>) -> Self {
        Self { map, heard: Mutex::default() }
    }

    /// Takes note of where a node is now. What is heard of more nodes than a region can have is not believed.
    pub(super) fn hear(&self, node: NodeId, bus: String) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() < NODES_MAX || heard.contains_key(&node) {
            heard.insert(node, bus);
        }
    }

    /// Where a member is reached.
    pub(super) fn of(&self, member: &Member) -> String {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner).get(&member.id).cloned();
        let mapped = || self.map.borrow().node(member.id).map(|node| node.addresses.bus());
        heard.or_else(mapped).unwrap_or_else(|| member.bus.clone())
    }
}

/// Makes the clients that openraft asks for.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) bus: Bus,
    pub(super) addresses: Arc<Addresses>,
}

impl Network {
    /// Asks a member.
    pub(super) async fn ask(&self, to: &Member, request: Request, patience: Duration) -> Result<Answer, Failure> {
        let peer = self.bus.peer(self.addresses.of(to));
        match peer.call(Channel::Raft, &Message { to: to.id, request }, patience).await? {
            Answer::Stopped => Err(Failure::Stopped),
            Answer::Misdirected => Err(Failure::Misdirected),
            answer => Ok(answer),
        }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, _: Number, member: &Member) -> Client {
        Client { network: self.clone(), member: member.clone() }
    }
}

/// A member, as openraft speaks to it.
#[derive(Debug)]
pub(super) struct Client {
    network: Network,
    member: Member,
}

type RpcError = RPCError<Number, Member, RaftError<Number>>;

impl RaftNetwork<Types> for Client {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Number>, RpcError> {
        let entries = request.entries.len() as u64;
        match self.network.ask(&self.member, Request::Append(request), option.hard_ttl()).await {
            Ok(Answer::Append(response)) => Ok(response),
            // Half as many will do: what is read from the log fits, and only what is held in memory may not.
            Err(Failure::Call(CallError::TooLong(_))) => {
                Err(PayloadTooLarge::new_entries_hint(entries.div_ceil(2)).into())
            }
            other => Err(rpc_error(other)),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Number>,
        option: RPCOption,
    ) -> Result<VoteResponse<Number>, RpcError> {
        match self.network.ask(&self.member, Request::Vote(request), option.hard_ttl()).await {
            Ok(Answer::Vote(response)) => Ok(response),
            other => Err(rpc_error(other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Number>, StreamingError<Types, Fatal<Number>>> {
        let request = Request::Snapshot { vote, meta: snapshot.meta, map: *snapshot.snapshot };
        let answer = tokio::select! {
            closed = cancel => return Err(closed.into()),
            answer = self.network.ask(&self.member, request, SNAPSHOT_MAX) => answer,
        };
        match answer {
            Ok(Answer::Snapshot(vote)) => Ok(SnapshotResponse::new(vote)),
            other => Err(Unreachable::new(&failure(other)).into()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}

/// Unreachable is left alone for a while; an answer that did not come is asked for again.
fn rpc_error(answer: Result<Answer, Failure>) -> RpcError {
    match failure(answer) {
        error @ Failure::Call(CallError::Timeout | CallError::Lost) => NetworkError::new(&error).into(),
        error => Unreachable::new(&error).into(),
    }
}

fn failure(answer: Result<Answer, Failure>) -> Failure {
    answer.err().unwrap_or(Failure::Confused)
}
