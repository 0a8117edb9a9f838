//! The founding of a cluster: the first voters, and the first command.
//!
//! It may be done again after it failed half-way: a group that has begun goes on, and a map that is founded refuses the
//! command. What it must never be is done on two nodes for one region with different voters; then there are two groups.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use node_core::cluster::{ClusterMap, MapCommand, choose_voters};
use openraft::error::{InitializeError, RaftError};

use super::{
    ControlPlane, ProposeError,
    types::{Member, Number, Outcome},
};

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FoundError {
    /// The group cannot begin, as when this node is not in it.
    #[error("the group cannot begin: {0}")]
    Group(String),
    /// The command was not decided.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

impl ControlPlane {
    /// Founds the cluster that `first`, a [`MapCommand::Found`], describes. Its nodes must run and be in no cluster yet, and
    /// this is one of those that will vote. The others are taken in when the leader [settles](Self::settle). Takes no longer
    /// than `patience`.
    ///
    /// # Errors
    /// [`FoundError`]
    pub(crate) async fn found(&self, first: &MapCommand, patience: Duration) -> Result<Outcome, FoundError> {
        let mut map = ClusterMap::new();
        if let Err(refused) = map.apply(first) {
            return Ok(Err(refused));
        }
        let all = map.nodes().map(|(id, _)| id).collect();
        // Who begins a group must be one of its voters.
        let voters = choose_voters(&map, &BTreeSet::from([self.me]), &all);
        let voters: BTreeMap<Number, Member> = map
            .nodes()
            .filter(|(id, _)| voters.contains(id))
            .map(|(id, node)| (id.raft_number(), Member { id, bus: node.addresses.bus() }))
            .collect();
        match self.raft.initialize(voters).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(FoundError::Group(error.to_string())),
        }
        Ok(self.propose(first, patience).await?)
    }
}
