//! Who is in the group, and who of them votes. Only the leader can change that.
//!
//! The map says who is in the region, and the group follows it: [`ControlPlane::settle`] takes the next step towards what
//! the map says, one at a time, each of which is safe by itself. A step that fails is taken again at the next call.

use std::collections::{BTreeMap, BTreeSet};

use node_core::cluster::{NodeId, choose_voters};
use openraft::{
    ChangeMembers,
    error::{ClientWriteError, RaftError},
    raft::ClientWriteResponse,
};
use tokio::time::timeout;

use super::{
    ControlPlane,
    limits::{ENTRIES_KEPT, PROPOSAL_MAX},
    types::{Member, Number, Types},
};

/// Why the group's members were not changed, or may not have been.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// Another node leads, or none.
    #[error("this node does not lead")]
    NotLeader,
    /// It cannot be: another change is under way, or a voter is not a member.
    #[error("{0}")]
    Refused(String),
    /// It was not decided in time, and may yet be.
    #[error("it was not decided in time, and may yet be")]
    Undecided,
    /// This node takes no part any more.
    #[error("this node's part in the group has ended")]
    Stopped,
}

impl ControlPlane {
    /// The members and the voters among them, as this node knows them.
    pub(crate) fn members(&self) -> (BTreeSet<NodeId>, BTreeSet<NodeId>) {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<Number> = membership.voter_ids().collect();
        let members = || membership.nodes().map(|(number, member)| (*number, member.id));
        let of_voters = members().filter(|(number, _)| voters.contains(number));
        (members().map(|(_, id)| id).collect(), of_voters.map(|(_, id)| id).collect())
    }

    /// Brings the group one step nearer to what the map says: takes in a node, lets others vote, or removes a node. Returns
    /// whether there was something to do. For the leader to call now and then, and when the map has changed.
    ///
    /// # Errors
    /// [`ChangeError`]
    pub(crate) async fn settle(&self) -> Result<bool, ChangeError> {
        let map = self.map.borrow().clone();
        if !map.is_founded() {
            return Ok(false);
        }
        let (members, voters) = self.members();
        if let Some((id, node)) = map.nodes().find(|(id, _)| !members.contains(id)) {
            self.add_learner(id, node.addresses.bus()).await?;
            return Ok(true);
        }
        let chosen = choose_voters(&map, &voters, &self.ready());
        if chosen != voters && !chosen.is_empty() {
            self.set_voters(&chosen).await?;
            return Ok(true);
        }
        let left = members.difference(&voters).find(|id| map.node(**id).is_none());
        if let Some(id) = left {
            self.remove(*id).await?;
        }
        Ok(left.is_some())
    }

    /// The members that have the log, or nearly, as the leader knows them.
    fn ready(&self) -> BTreeSet<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let wanted = metrics.last_log_index.unwrap_or_default().saturating_sub(ENTRIES_KEPT);
        let reached = |number| metrics.replication.as_ref()?.get(number)?.as_ref().map(|reached| reached.index);
        let members = metrics.membership_config.membership();
        let ready = members.nodes().filter(|(number, _)| reached(number).is_some_and(|reached| reached >= wanted));
        ready.map(|(_, member)| member.id).collect()
    }

    /// Takes a node in, as one that learns. One that is in already stays what it is.
    ///
    /// # Errors
    /// [`ChangeError`]
    pub(crate) async fn add_learner(&self, id: NodeId, bus: String) -> Result<(), ChangeError> {
        let nodes = BTreeMap::from([(id.raft_number(), Member { id, bus })]);
        self.change(ChangeMembers::AddNodes(nodes)).await
    }

    /// Lets these members vote, and no others; who voted before learns from now on.
    ///
    /// # Errors
    /// [`ChangeError`]
    pub(crate) async fn set_voters(&self, voters: &BTreeSet<NodeId>) -> Result<(), ChangeError> {
        let numbers = voters.iter().map(|id| id.raft_number()).collect();
        self.change(ChangeMembers::ReplaceAllVoters(numbers)).await
    }

    /// Removes a member. A voter must be let go as one before.
    ///
    /// # Errors
    /// [`ChangeError`]
    pub(crate) async fn remove(&self, id: NodeId) -> Result<(), ChangeError> {
        self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id.raft_number()]))).await
    }

    async fn change(&self, change: ChangeMembers<Number, Member>) -> Result<(), ChangeError> {
        match timeout(PROPOSAL_MAX, self.raft.change_membership(change, true)).await {
            Err(_) => Err(ChangeError::Undecided),
            Ok(changed) => outcome(changed),
        }
    }
}

fn outcome(
    changed: Result<ClientWriteResponse<Types>, RaftError<Number, ClientWriteError<Number, Member>>>,
) -> Result<(), ChangeError> {
    match changed {
        Ok(_) => Ok(()),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(ChangeError::NotLeader),
        Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
            Err(ChangeError::Refused(error.to_string()))
        }
        Err(RaftError::Fatal(_)) => Err(ChangeError::Stopped),
    }
}
