//! The shell around [`node_core::cluster::gossip`]: packets in and out by the bus, and whom this node suspects, for the
//! steward to report.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clock::OsClock;
use node_core::cluster::{
    ClusterMap, NodeId, Run,
    gossip::{Gossip, Liveness},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::{bytes::Bytes, sync::CancellationToken};

use super::{Cluster, bus::Bus};
use crate::limits::GOSSIP_IDLE;

/// Whom this node suspects now.
#[derive(Debug, Default)]
pub(crate) struct Suspects(Mutex<Vec<(NodeId, Run)>>);

impl Suspects {
    /// Whom this node suspects now.
    pub(crate) fn now(&self) -> Vec<(NodeId, Run)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, suspects: Vec<(NodeId, Run)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = suspects;
    }
}

/// The task that gossips.
pub(crate) struct Gossiping {
    pub(crate) gossip: Gossip,
    pub(crate) bus: Bus,
    pub(crate) clock: Arc<OsClock>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) suspects: Arc<Suspects>,
    pub(crate) maps: watch::Receiver<Arc<ClusterMap>>,
    /// Packets that have come. Whoever fills this loses what does not fit: it will be told again.
    pub(crate) packets: mpsc::Receiver<Bytes>,
}

impl Gossiping {
    /// Gossips until `shutdown`, and then says that this node leaves.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let map = self.maps.borrow_and_update().clone();
        self.gossip.set_members(self.now(), &map);
        loop {
            self.transmit();
            self.publish();
            let now = self.now();
            let due = self.gossip.poll_timeout().map_or(GOSSIP_IDLE, |due| due.saturating_sub(now));
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(packet) = self.packets.recv() => self.take(&packet),
                changed = self.maps.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let map = self.maps.borrow_and_update().clone();
                    self.gossip.set_members(self.now(), &map);
                }
                () = sleep_until(Instant::now() + due) => {
                    let now = self.now();
                    self.gossip.handle_timeout(now);
                }
            }
        }
        self.gossip.leave(self.now());
        self.transmit();
    }

    fn now(&self) -> Duration {
        self.clock.now().monotonic
    }

    fn take(&mut self, packet: &[u8]) {
        self.cluster.count_messages(0, 1);
        let now = self.now();
        if let Err(error) = self.gossip.handle_message(now, packet) {
            tracing::debug!(%error, "a packet of gossip is not taken in");
        }
    }

    fn transmit(&mut self) {
        while let Some(transmit) = self.gossip.poll_transmit() {
            self.cluster.count_messages(1, 0);
            self.bus.peer(transmit.bus).post(transmit.packet);
        }
    }

    fn publish(&self) {
        let suspects = self.gossip.suspects();
        for (node, _, liveness) in self.gossip.members() {
            let suspected = suspects.iter().any(|(suspect, _)| *suspect == node);
            self.cluster.observe(node, |observed| {
                observed.suspected = suspected;
                observed.connected = liveness != Liveness::Down;
            });
        }
        self.suspects.set(suspects);
    }
}
