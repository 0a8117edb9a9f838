//! Who leads, as far as this node knows.

use std::sync::Arc;

use node_core::cluster::NodeId;
use openraft::{ServerState, metrics::RaftServerMetrics};
use tokio::sync::watch;

use super::{
    network::Addresses,
    types::{Member, Number},
};

/// Who leads, as this node knows it. It may be wrong about that for as long as an election takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leadership {
    /// Counts elections: of two that differ in it, the greater is the later.
    pub(crate) term: u64,
    /// The leader, if there is one.
    pub(crate) leader: Option<Leader>,
    /// Whether it is this node.
    pub(crate) is_mine: bool,
}

/// The node that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    /// Its name.
    pub(crate) id: NodeId,
    /// Where its bus is reached.
    pub(crate) bus: String,
}

impl Leadership {
    fn of(me: NodeId, metrics: &RaftServerMetrics<Number, Member>, addresses: &Addresses) -> Self {
        let members = metrics.membership_config.membership();
        let member = metrics.current_leader.and_then(|leader| members.get_node(&leader));
        let leader = member.map(|member| Leader { id: member.id, bus: addresses.of(member) });
        let is_mine = metrics.state == ServerState::Leader && leader.as_ref().is_some_and(|leader| leader.id == me);
        Self { term: metrics.vote.leader_id().get_term(), leader, is_mine }
    }
}

/// Publishes who leads until openraft's core has ended; then nobody does.
pub(super) async fn follow(
    me: NodeId,
    mut metrics: watch::Receiver<RaftServerMetrics<Number, Member>>,
    addresses: Arc<Addresses>,
    publish: watch::Sender<Leadership>,
) {
    loop {
        let now = Leadership::of(me, &metrics.borrow_and_update(), &addresses);
        set(&publish, now);
        if metrics.changed().await.is_err() {
            let term = publish.borrow().term;
            set(&publish, Leadership { term, ..Leadership::default() });
            return;
        }
    }
}

fn set(publish: &watch::Sender<Leadership>, now: Leadership) {
    publish.send_if_modified(|before| {
        if before.leader != now.leader {
            match &now.leader {
                Some(Leader { id, bus }) => tracing::info!(leader = %id, %bus, term = now.term, "region has a leader"),
                None => tracing::info!(term = now.term, "region has no leader"),
            }
        }
        std::mem::replace(before, now.clone()) != now
    });
}
