//! Takes: how slots come to this node, and how the map is told. The other end of `moves`.
//!
//! A slot is taken in the moment in which it is given: clients are served before the answer leaves. What is left to do takes
//! its time, since nobody waits for it: the replicas get what was taken, and the map is told. What else a node has to say of moves
//! that are prepared goes the same way, until the map shows it ([`Custody::settle`]).
//!
//! [`Custody::settle`]: node_core::cluster::Custody::settle

use node_core::cluster::{Answer, Epoch, MapCommand, Offer, Refused};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::steward::{NotDone, Parts, Steward};
use crate::limits::{CHANGE_MAX, CONFIRMED_MAX, REPLICAS_MAX};

impl Steward {
    /// Waits until this node knows of what was prepared.
    pub(super) async fn await_prepared(&self, at: Epoch) -> Result<(), NotDone> {
        let knows = self.until_map(|| self.map().epoch() >= at);
        timeout(CHANGE_MAX, knows).await.map_err(|_| NotDone::NotAgreed)
    }

    /// Takes what is offered, if it may, and serves it from here on.
    pub(super) fn take_slots(&self, offer: &Offer) -> Answer {
        let Parts { cluster, server, .. } = &self.parts;
        let answer = cluster.change_hands(None, |custody, map| {
            let answer = custody.take(map, offer);
            if answer == Answer::Taken {
                // The giver forgets nothing that is stamped above what it ever had, though its feed goes on until the map
                // says that it has given.
                server.store.stamp_above_slots(&map.prepared(offer.prepared));
            }
            server.store.set_owned(custody.own(map), map.epoch().0);
            answer
        });
        tracing::debug!(from = %offer.from, prepared = %offer.prepared, ?answer, "slots were offered");
        self.settled.notify_one();
        answer
    }

    /// Tells the map what this node knows of moves that are prepared, until `shutdown`.
    pub(crate) async fn settle_moves(&self, shutdown: &CancellationToken) {
        loop {
            let followed = self.map_followed();
            let commands = self.parts.cluster.custody(|custody, map| custody.settle(map));
            let is_idle = commands.is_empty();
            let settling = async {
                for command in &commands {
                    self.settle(command).await;
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = settling => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = followed => {}
                () = self.settled.notified() => {}
                () = sleep(CONFIRMED_MAX), if !is_idle => {}
            }
        }
    }

    async fn settle(&self, command: &MapCommand) {
        if matches!(command, MapCommand::Moved { .. }) {
            _ = timeout(REPLICAS_MAX, self.until_replicas_have_all()).await;
        }
        match self.agree_on(command, CHANGE_MAX).await {
            // It is said until the map shows it, so it may be said once more than needed.
            Ok(()) | Err(NotDone::Refused(Refused::Outdated)) => {}
            Err(error) => tracing::warn!(%error, ?command, "the map cannot be told what has become of slots"),
        }
    }

    async fn until_replicas_have_all(&self) {
        let now = self.now();
        for (replica, follower) in self.followers().all() {
            if follower.is_online {
                self.followers().until_as_of(replica, Epoch::default(), now).await;
            }
        }
    }

    /// Goes on with slots that were given and not taken, or that nobody knew about: first past all that another may have
    /// stamped.
    pub(super) async fn take_back(&self) {
        let Parts { cluster, server, .. } = &self.parts;
        let returning = cluster.custody(|custody, _| custody.returning().clone());
        if returning.is_empty() {
            return;
        }
        let start = server.clock.now().wall.after(server.config.clock.max_drift);
        server.mark.covers_or_moves(start);
        server.mark.until_covers(start).await;
        server.store.stamp_above(start);
        cluster.change_hands(None, |custody, _| custody.returned(&returning));
        tracing::info!(
            slots = returning.len(),
            "slots that were on their way to another primary are served here again"
        );
    }
}
