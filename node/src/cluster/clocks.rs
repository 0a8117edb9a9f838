//! Asks the other nodes for their time, and stops this one's writes while its clock is the one that is wrong: the shell
//! around [`node_core::cluster::Clocks`].

use std::time::Duration;

use clock::Exchange;
use node_core::cluster::{
    Clocks, NodeId,
    control::{Request, Response},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{bus::Channel, steward::Steward};
use crate::limits::{CLOCK_ASK_INTERVAL, CLOCK_ASK_MAX};

impl Steward {
    /// Compares clocks until `shutdown`.
    pub(crate) async fn compare_clocks(&self, shutdown: &CancellationToken) {
        let mut clocks = Clocks::default();
        let mut due = interval(CLOCK_ASK_INTERVAL);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = due.tick() => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.ask_all(&mut clocks) => {}
            }
            self.judge(&clocks);
        }
    }

    /// Asks all others at once.
    async fn ask_all(&self, clocks: &mut Clocks) {
        let map = self.map();
        clocks.keep(&map);
        let mut asking = JoinSet::new();
        for (id, node) in map.nodes().filter(|(id, _)| *id != self.me()) {
            let (peer, clock) = (self.parts.bus.peer(node.addresses.bus()), self.parts.server.clock.clone());
            asking.spawn(async move {
                let asked = clock.now().wall;
                let answer = peer.call(Channel::Control, &Request::Time, CLOCK_ASK_MAX).await;
                let now = clock.now();
                let Ok(Response::Time { received, answered }) = answer else { return None };
                Some((id, Exchange { asked, received, answered, returned: now.wall }, now.monotonic))
            });
        }
        while let Some(answered) = asking.join_next().await {
            let Ok(Some((node, exchange, at))) = answered else { continue };
            if let Err(error) = clocks.handle_exchange(node, exchange, at) {
                tracing::debug!(%error, %node, "an exchange of times says nothing");
            }
        }
    }

    fn judge(&self, clocks: &Clocks) {
        let (cluster, now) = (&self.parts.cluster, self.now());
        let max_drift = self.parts.server.config.clock.max_drift;
        let is_outvoted = clocks.is_outvoted(now, max_drift);
        let offsets: Vec<(NodeId, f64)> =
            clocks.estimates(now).map(|(node, estimate)| (node, estimate.offset.seconds())).collect();
        match (cluster.is_outvoted(), is_outvoted) {
            (false, true) => tracing::warn!(
                ?max_drift,
                offsets = ?offsets,
                "this clock disagrees with most of the region: this node takes no writes"
            ),
            (true, false) => tracing::info!("this clock agrees with the region again: this node takes writes"),
            _ => {}
        }
        cluster.set_clocks(is_outvoted, offsets);
    }
}

// What was measured must count for longer than it takes until it is measured again.
const _: () = assert!(
    node_core::limits::CLOCK_OFFSET_FRESH.as_millis()
        > 2 * (CLOCK_ASK_INTERVAL.as_millis() + CLOCK_ASK_MAX.as_millis())
);

/// The error that a write gets meanwhile.
pub(crate) fn outvoted(max_drift: Duration) -> String {
    format!(
        "CLUSTERDOWN The clock of this node disagrees with most of its region by more than max_drift ({max_drift:?})"
    )
}
