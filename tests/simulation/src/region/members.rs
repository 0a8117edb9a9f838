//! Which other regions there are, as an operator has said and nodes have heard.
//!
//! As in the shell: what is said stands in the map, goes over what was configured, and each node follows it as it hears of the map.
//! Who is told that its life is over has the map give it a younger one.

use clock::{Incarnation, RegionId};
use node_core::cluster::{MapCommand, Peer, RegionChange, Regions};

use super::{Event, Process, Region, raft::Proposer};
use crate::Broken;

/// A region as files name it.
fn peer(id: RegionId) -> Peer {
    Peer { name: id.to_string(), id, addrs: Vec::new(), retired: None }
}

/// The other regions, where these are configured.
pub(crate) fn peers(configured: &[RegionId], said: &Regions) -> Vec<Peer> {
    said.over(&configured.iter().copied().map(peer).collect::<Vec<_>>())
}

impl Process {
    /// Takes from the map which other regions there are. Returns whether there are others than before.
    pub(super) fn follow_regions(&mut self, configured: &[RegionId]) -> bool {
        let peers = peers(configured, self.map.regions());
        if peers == self.peers {
            return false;
        }
        let is_gone = |former: &&Peer| peers.iter().all(|peer| peer.id != former.id);
        let gone = self.peers.iter().filter(is_gone).filter(|_| self.broken != Some(Broken::WaitsForTheRemoved));
        self.store.update_matrix(|matrix| {
            gone.for_each(|peer| matrix.set_member(peer.id, false));
            for peer in &peers {
                matrix.set_member(peer.id, true);
                peer.retired.into_iter().for_each(|last| matrix.retire(peer.id, last));
            }
        });
        self.peers = peers;
        true
    }
}

impl Region {
    /// Whether another region is there, by the newest map.
    pub(crate) fn knows(&self, other: RegionId) -> bool {
        peers(&self.make.peers, self.raft.map().regions()).iter().any(|peer| peer.id == other)
    }

    /// An operator says whether another region is there from here on. He is to look whether that has come about.
    pub(crate) fn set_member(&mut self, other: RegionId, is_member: bool) {
        let mut primaries = self.processes.iter().filter(|process| process.is_up && process.speaks.is_some());
        let Some(asked) = primaries.next() else { return };
        let change = if is_member {
            RegionChange::Add(peer(other))
        } else {
            RegionChange::Remove { region: other, last: asked.store.matrix().youngest(other) }
        };
        self.append(None, MapCommand::SetRegion(change));
    }

    /// A primary is told that another region knows this one in a younger life, or saw the end of its own.
    pub(crate) fn superseded(&mut self, index: usize, last: Incarnation) {
        if self.make.is_single {
            return self.outlive_alone(last);
        }
        let process = &self.processes[index];
        let Some((shard, known)) = process.map.shard_of(process.node.id) else { return };
        if known.primary != process.node.id || known.incarnation.is_after(last) {
            return;
        }
        note!(self, "{index} hears that its life is over: {last:?}");
        let command = MapCommand::Outlive { shard, incarnation: known.incarnation, last };
        self.after_ms(10, Event::Append(Some(Proposer::Settler((index, process.node.run))), command));
    }
}
