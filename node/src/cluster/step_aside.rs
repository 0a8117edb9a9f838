//! Stepping aside: a primary that cannot write its state directory hands over to a replica that can.
//!
//! A node may not stamp beyond the mark of its clock that it has on disk, or a later life of it might stamp the same again. So
//! with a disk that is full, or gone, writes wait here: reads are served, and nobody takes the place of a node that answers. It is
//! this node that knows, and it does not keep its slots. Where there is no replica writes go on waiting until there is room.
//!
//! A leader of the control plane whose disk fails takes no further part in it, ends, and is succeeded as any node is that dies.

use node_core::cluster::NodeId;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::steward::Steward;
use crate::limits::{MARK_LOOK, MARK_OVERDUE};

impl Steward {
    /// Hands over whenever the mark of the clock cannot be kept, until `shutdown`.
    pub(crate) async fn step_aside(&self, shutdown: &CancellationToken) {
        let mut looks = interval(MARK_LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut overdue_since = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = looks.tick() => {}
            }
            let server = &self.parts.server;
            let (now, is_kept) = (self.now(), server.mark.covers(server.clock.now().wall));
            let since = *overdue_since.get_or_insert(now);
            if is_kept {
                overdue_since = None;
            } else if now.saturating_sub(since) >= MARK_OVERDUE
                && let Some(heir) = self.best_replica()
            {
                tracing::error!(%heir, "the state directory cannot be written: this node hands over, since it takes no writes");
                if let Err(error) = self.hand_over(heir).await {
                    tracing::warn!(%error, %heir, "cannot hand over yet");
                }
            }
        }
    }

    /// The replica that has most of what this primary has, if one is connected.
    fn best_replica(&self) -> Option<NodeId> {
        self.serving()?;
        let replicas = self.followers().all().into_iter().filter(|(_, follower)| follower.is_online);
        replicas.max_by_key(|(_, follower)| follower.until).map(|(replica, _)| replica)
    }
}
