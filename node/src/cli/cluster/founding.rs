//! The founding of a cluster: nodes that are in none yet become one.
//!
//! Three steps, each of which can fail without harm: all nodes are asked who they are and whether they may take part; the
//! layout is made of that; and one command founds it all, at one of them. It may be done again when it failed half-way. `meridian cluster create` does this for an
//! operator, and `meridian lab` for itself.

use std::collections::BTreeSet;

use clock::{OsClock, RegionId};
use futures_util::future::join_all;
use node_core::cluster::{
    ClusterMap, FoundShard, Founder, Id, MapCommand, Refused,
    control::{Introduction, Request, Response},
};

use super::{
    connection::{Caller, OperateError, unexpected},
    layout::{self, LayoutError},
};

/// A cluster that is to be founded.
#[derive(Debug)]
pub(crate) struct Founding {
    /// The buses of the nodes, as they were named.
    addresses: Vec<String>,
    /// The node that founds it. Always the same of the same nodes: were it asked of two of them, when the first attempt failed
    /// half-way, there might be two clusters.
    first: String,
    region: RegionId,
    /// The name of the region.
    pub(super) region_name: String,
    /// Its shards, in the order of their numbers.
    pub(super) shards: Vec<FoundShard>,
}

/// Why a cluster is not founded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FoundingError {
    /// A node cannot be asked, or refuses.
    #[error(transparent)]
    Operate(#[from] OperateError),
    /// The numbers do not fit.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A node is in a cluster.
    #[error("{0} is in a cluster already")]
    Founded(String),
    /// A node has keys, which would be lost or in the wrong place.
    #[error("{address} holds {keys} keys; a cluster is founded of empty nodes: flush it, or start it anew")]
    NotEmpty {
        /// Where.
        address: String,
        /// How many keys.
        keys: u64,
    },
    /// Nodes of several regions.
    #[error("{address} is of region {region}, but {first_address} of {first}")]
    Regions {
        /// Where.
        address: String,
        /// Its region.
        region: String,
        /// Another node.
        first_address: String,
        /// And its region.
        first: String,
    },
    /// A region number that cannot be.
    #[error("{0} is of a region with a number that cannot be")]
    RegionId(String),
    /// One node under two addresses.
    #[error("{0} and {1} are the same node")]
    Twice(String, String),
}

impl Founding {
    /// Asks the nodes at these addresses, and makes the layout: each primary with `replicas` replicas.
    ///
    /// # Errors
    /// [`FoundingError`]; nothing was changed.
    pub(crate) async fn plan(
        caller: &Caller,
        addresses: &[String],
        replicas: usize,
        weights: &[u16],
    ) -> Result<Self, FoundingError> {
        let introductions = join_all(addresses.iter().map(|address| caller.introduction(address))).await;
        let nodes = introductions.into_iter().collect::<Result<Vec<_>, _>>()?;
        let (region, region_name) = check(addresses, &nodes)?;
        let first = addresses.iter().zip(&nodes).min_by_key(|(_, node)| node.node.id);
        let first = first.map(|(address, _)| address.clone()).unwrap_or_default();
        let founders: Vec<Founder> = nodes.into_iter().map(|introduction| introduction.node).collect();
        let shards = layout::shards(founders, replicas, weights, new_label)?;
        Ok(Self { addresses: addresses.to_vec(), first, region, region_name, shards })
    }

    /// The region's number.
    pub(super) fn region(&self) -> RegionId {
        self.region
    }

    /// Founds it, and waits until every node knows. `told` hears how many do.
    ///
    /// # Errors
    /// [`FoundingError::Operate`]
    pub(crate) async fn carry_out(&self, caller: &Caller, told: impl FnMut(usize, usize)) -> Result<(), FoundingError> {
        let at = OsClock::new().now().wall;
        let found = MapCommand::Found { region: self.region, shards: self.shards.clone(), at };
        match caller.ask(&self.first, &Request::Change(found)).await {
            Ok(Response::Done) => {}
            // Whether it was by this attempt or one before: all the nodes will say so, or one of them will not.
            Err(OperateError::Unknown { .. }) | Ok(Response::Refused(Refused::Exists(_))) => {}
            Ok(other) => return Err(unexpected(&self.first, other).into()),
            Err(error) => return Err(error.into()),
        }
        let nodes: BTreeSet<_> = self.shards.iter().flat_map(|shard| &shard.nodes).map(|node| node.id).collect();
        let is_this = |map: &ClusterMap| map.is_founded() && map.nodes().map(|(id, _)| id).eq(nodes.iter().copied());
        Ok(caller.until_known(&self.addresses, is_this, told).await?)
    }
}

/// A name that nothing else has.
pub(super) fn new_label() -> Id {
    Id::from_bytes(rand::random())
}

/// Whether these nodes can found a cluster, and of which region.
fn check(addresses: &[String], nodes: &[Introduction]) -> Result<(RegionId, String), FoundingError> {
    for (index, (address, node)) in addresses.iter().zip(nodes).enumerate() {
        if let Some(same) = nodes[..index].iter().position(|other| other.node.id == node.node.id) {
            return Err(FoundingError::Twice(addresses[same].clone(), address.clone()));
        }
        check_region(address, node, (&addresses[0], &nodes[0]))?;
        check_free(address, node)?;
    }
    let first = nodes.first().ok_or(LayoutError::Uneven { nodes: 0, size: 1 })?;
    let region = RegionId::new(first.region_id).map_err(|_| FoundingError::RegionId(addresses[0].clone()))?;
    Ok((region, first.region.clone()))
}

/// Whether a node is of the same region as another.
pub(super) fn check_region(
    address: &str,
    node: &Introduction,
    (first_address, first): (&str, &Introduction),
) -> Result<(), FoundingError> {
    if (&node.region, node.region_id) == (&first.region, first.region_id) {
        return Ok(());
    }
    let [region, first] = [node, first].map(|node| format!("{} ({})", node.region, node.region_id));
    Err(FoundingError::Regions { address: address.to_owned(), region, first_address: first_address.to_owned(), first })
}

/// Whether a node can come into a cluster.
pub(super) fn check_free(address: &str, node: &Introduction) -> Result<(), FoundingError> {
    let address = address.to_owned();
    match node {
        Introduction { is_founded: true, .. } => Err(FoundingError::Founded(address)),
        Introduction { keys: 1.., .. } => Err(FoundingError::NotEmpty { address, keys: node.keys }),
        _ => Ok(()),
    }
}
