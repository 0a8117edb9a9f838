//! Hand-overs: how a replica takes the place of a primary that lives, without loss.
//!
//! A primary that is asked to hand over holds the requests of its slots, waits until nobody writes, lets its replica catch
//! up, tells it to let clients wait as well, lets go of the lease, and resigns in its next report. The next map sends clients
//! on, and says that the successor has all that was written.
//! If that map does not come in time, the primary takes the resignation back and goes on, under a new lease.
//!
//! A primary that has taken slots which the map does not give it yet does not hand over, nor does it take any while it does:
//! those slots would go back to where they came from, without what was written to them since.

use std::sync::Arc;

use node_core::{
    cluster::{
        ClusterMap, Epoch, NodeId, Role, Run, Tenure,
        control::{Request, Response},
    },
    slot::Slot,
};
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Hold,
    bus::Channel,
    steward::{NotDone, Steward, done},
};
use crate::limits::{FOLLOWER_MAX, HAND_OVER_MAX, SUCCESSION_MAX};

impl Steward {
    /// Wakes who has the primary hand over to this node.
    pub(crate) fn wishes_to_lead(&self) -> Arc<Notify> {
        self.wish.clone()
    }

    /// Has the primary hand over to this node whenever a client wishes it, until `shutdown`.
    pub(crate) async fn take_over(&self, shutdown: &CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wish.notified() => {}
            }
            match self.fail_over(self.me()).await {
                Response::Done => tracing::info!("the primary has handed over"),
                other => tracing::warn!(answer = ?other, "the primary does not hand over"),
            }
        }
    }

    /// Has the primary of a replica hand over to it.
    pub(crate) async fn fail_over(&self, replica: NodeId) -> Response {
        let map = self.parts.cluster.map();
        let Some((_, shard)) = map.shard_of(replica).filter(|(_, shard)| shard.primary != replica) else {
            return Response::Failed(format!("node {replica} is no replica"));
        };
        if shard.primary == self.me() {
            return done(self.hand_over(replica).await);
        }
        let Some(primary) = map.node(shard.primary) else { return Response::NotHere(None) };
        let request = Request::HandOver { to: replica };
        let peer = self.parts.bus.peer(primary.addresses.bus());
        // The replica is waited for twice: until it has everything, and until it has been told.
        match peer.call(Channel::Control, &request, FOLLOWER_MAX + 2 * HAND_OVER_MAX + SUCCESSION_MAX).await {
            Ok(Response::Done) => {
                // Whoever is told here that it is done, and looks at the map here, is to find it there. It is done without that, too.
                let is_known = || self.map().role(replica) == Some(Role::Primary);
                _ = timeout(SUCCESSION_MAX, self.until_map(is_known)).await;
                Response::Done
            }
            Ok(response) => response,
            Err(error) => Response::Failed(format!("the primary cannot be asked: {error}")),
        }
    }

    /// Lets a replica take the place of this primary, without loss.
    pub(super) async fn hand_over(&self, to: NodeId) -> Result<(), NotDone> {
        self.tenure().successor(&self.map(), to, self.serving()).ok_or(NotDone::NotPrimary)?;
        // One that has just become a replica, or has lost its connection, may be back in a moment.
        timeout(FOLLOWER_MAX, self.followers().until_online(to)).await.map_err(|_| NotDone::NotConnected)?;
        let map = self.map();
        let heir = self.tenure().successor(&map, to, self.serving()).ok_or(NotDone::NotPrimary)?;
        if self.tenure().resigns_to().is_some() {
            return Err(NotDone::Busy);
        }
        if !self.parts.cluster.custody(|custody, _| custody.resigns()) {
            return Err(NotDone::Busy);
        }
        // Also those that arrive meanwhile.
        let hold = self.hold(&Slot::all().collect());
        let outcome = self.resign(&map, to, (heir.run, heir.addresses.bus())).await;
        self.stay(hold);
        outcome
    }

    async fn resign(&self, map: &ClusterMap, to: NodeId, (run, address): (Run, String)) -> Result<(), NotDone> {
        let moment = self.until_nobody_writes().await;
        let caught_up = self.followers().until_as_of(to, Epoch::default(), moment);
        timeout(HAND_OVER_MAX, caught_up).await.map_err(|_| NotDone::NotCaughtUp)?;
        let request = Request::Succeed;
        match self.parts.bus.peer(address).call(Channel::Control, &request, HAND_OVER_MAX).await {
            Ok(Response::Done) => {}
            Ok(other) => return Err(NotDone::NotTold(format!("{other:?}"))),
            Err(error) => return Err(NotDone::NotTold(error.to_string())),
        }
        self.change_tenure(|tenure, now| tenure.resign(now, (to, run)));
        self.hurry.notify_one();
        let primary = |map: &ClusterMap| map.shard_of(self.me()).map(|(_, shard)| (shard.primary, shard.run));
        let is_succeeded = || primary(&self.map()) != primary(map);
        timeout(SUCCESSION_MAX, self.until_map(is_succeeded)).await.map_err(|_| NotDone::NotAgreed)
    }

    /// After a hand-over, whatever it came to: a resignation that was not acted on counts no more.
    fn stay(&self, hold: Hold) {
        if self.tenure().resigns_to().is_some() {
            self.change_tenure(Tenure::take_back);
        }
        self.parts.cluster.custody(|custody, _| custody.stays());
        self.let_go(hold);
        self.hurry.notify_one();
    }
}
