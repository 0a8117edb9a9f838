//! An operator of a cluster: has its map, and gets changes to whoever can make them.
//!
//! Changes are made by the leader of the Raft group, and any node that is asked says who that is. So an operator may begin
//! at any node, follows where it is sent, and tries another node when one is gone, all of it a bounded number of times.
//!
//! A request is sent again only if it was not carried out for sure. What became of one whose answer was lost can be seen in
//! the map, and whoever asked knows what to look for there.

use node_core::cluster::{
    ClusterMap, Health, MapCommand, Node, NodeId,
    control::{Request, Response},
};
use tokio::time::{Instant, sleep};

use super::{
    connection::{Caller, OperateError, unexpected},
    limits,
};

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Operator {
    caller: Caller,
    /// Where the map is read: the node that answered last.
    node: String,
    /// Where changes go first: the leader, if it was found already.
    leader: Option<String>,
    map: ClusterMap,
    /// Nodes that are not asked any more.
    leaving: Vec<NodeId>,
}

impl Operator {
    /// Reads the map at a node.
    ///
    /// # Errors
    /// [`OperateError`]; among them that there is no cluster.
    pub(crate) async fn join(caller: Caller, node: String) -> Result<Self, OperateError> {
        let map = caller.map(&node).await?;
        if !map.is_founded() {
            return Err(OperateError::NotFounded(node));
        }
        Ok(Self { caller, node, leader: None, map, leaving: Vec::new() })
    }

    /// The map, as it was read last.
    pub(crate) fn map(&self) -> &ClusterMap {
        &self.map
    }

    /// Who asks.
    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Where the map is read.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// Reads the map again, at another node if the one from before does not answer. It never goes back: an older one is as
    /// good as none.
    ///
    /// # Errors
    /// [`OperateError`] of the node from before, if no node answers.
    pub(crate) async fn refresh(&mut self) -> Result<(), OperateError> {
        let mut failed = None;
        for address in self.addresses() {
            match self.caller.map(&address).await {
                Ok(map) => {
                    self.node = address;
                    if map.epoch() > self.map.epoch() {
                        self.map = map;
                    }
                    return Ok(());
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| OperateError::NotFounded(self.node.clone())))
    }

    /// Plans by the map; while all that stands in the way is a primary that has failed, again, for as long as a failover takes: it is
    /// replaced by then, or was suspected for a moment only, as a node that has just joined a busy region may be.
    ///
    /// # Errors
    /// Those of [`refresh`](Self::refresh); inside, those of the plan.
    pub(super) async fn plan<T, E>(
        &mut self,
        plan: impl Fn(&ClusterMap) -> Result<T, E>,
        has_failed: impl Fn(&E) -> bool,
    ) -> Result<Result<T, E>, OperateError> {
        let deadline = Instant::now() + limits::PRIMARY_MAX;
        loop {
            let planned = plan(&self.map);
            if !planned.as_ref().is_err_and(&has_failed) || Instant::now() > deadline {
                return Ok(planned);
            }
            sleep(limits::POLL).await;
            self.refresh().await?;
        }
    }

    /// Asks these nodes no more: they are about to leave, and one that has left never hears that it has.
    pub(super) fn turn_from(&mut self, nodes: &[NodeId]) {
        self.leaving.extend_from_slice(nodes);
        let other = self.staying().next().map(|(_, node)| node.addresses.bus());
        if let Some(other) = other.filter(|_| self.is_leaving(&self.node)) {
            self.node = other;
        }
    }

    /// Has the map changed.
    ///
    /// # Errors
    /// [`OperateError`]; only [`OperateError::Unknown`] leaves open whether it is changed.
    pub(crate) async fn change(&mut self, command: &MapCommand) -> Result<(), OperateError> {
        let first = self.leader.clone().unwrap_or_else(|| self.node.clone());
        let leader = self.send(first, &Request::Change(command.clone())).await?;
        self.leader = Some(leader);
        Ok(())
    }

    /// Has a replica made the primary of its shard, without loss. Returns when that has begun at least.
    ///
    /// # Errors
    /// As [`change`](Self::change).
    pub(crate) async fn fail_over(&mut self, replica: NodeId) -> Result<(), OperateError> {
        let address = self.map.node(replica).map_or_else(|| self.node.clone(), |node| node.addresses.bus());
        self.send(address, &Request::FailOver { node: replica }).await.map(drop)
    }

    /// Waits until all nodes that are up know a map that is as it should be, and takes it over.
    ///
    /// # Errors
    /// [`OperateError::NotKnown`], or those of [`refresh`](Self::refresh).
    pub(crate) async fn until_known(
        &mut self,
        is_known: impl Fn(&ClusterMap) -> bool,
        told: impl FnMut(usize, usize),
    ) -> Result<(), OperateError> {
        let up = self.staying().filter(|(_, node)| node.health == Health::Up);
        let addresses: Vec<_> = up.map(|(_, node)| node.addresses.bus()).collect();
        self.caller.until_known(&addresses, is_known, told).await?;
        self.refresh().await
    }

    /// Closes all connections.
    pub(crate) async fn hang_up(self) {
        self.caller.hang_up().await;
    }

    /// Sends a request to `first`, or wherever nodes say that it belongs. Returns who did it.
    async fn send(&self, first: String, request: &Request) -> Result<String, OperateError> {
        let others = self.addresses();
        let mut others = others.iter().cycle();
        let mut address = first;
        for _ in 0..limits::ATTEMPTS_MAX {
            let next = match self.caller.ask(&address, request).await {
                Ok(Response::Done) => return Ok(address),
                Ok(Response::NotHere(leader)) => leader,
                Ok(other) => return Err(unexpected(&address, other)),
                Err(OperateError::Unreachable { .. }) => None,
                Err(error) => return Err(error),
            };
            match next {
                Some(leader) if leader != address => address = leader,
                // Nobody leads, or who leads is gone: that passes, and perhaps another node knows more.
                _ => {
                    sleep(limits::ATTEMPT_PAUSE).await;
                    address = others.next().unwrap_or(&self.node).clone();
                }
            }
        }
        Err(OperateError::Leaderless(limits::ATTEMPTS_MAX))
    }

    /// All nodes, the one from before first.
    fn addresses(&self) -> Vec<String> {
        let others = self.staying().map(|(_, node)| node.addresses.bus()).filter(|address| *address != self.node);
        std::iter::once(self.node.clone()).chain(others).collect()
    }

    fn staying(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.map.nodes().filter(|(id, _)| !self.leaving.contains(id))
    }

    fn is_leaving(&self, address: &str) -> bool {
        let mut leaving = self.leaving.iter().filter_map(|id| self.map.node(*id));
        leaving.any(|node| node.addresses.bus() == address)
    }
}
