//! Moves: how slots change hands while they are written to.
//!
//! The map says which slots move where; replication feeds them to the primary that takes them, for as long as that takes. The
//! mover waits until the target has caught up, and then makes the change of hands as short as it can be:
//! 1. Requests for the slots are held, and those under way are waited for: nobody writes to them now.
//! 2. The target acknowledges what was written last. That is a round trip.
//! 3. The map changes. Whoever waits is sent to the new owner, and what is left here of the slots is dropped.
//!
//! Until the third step this node owns the slots, whatever happens to anybody; from then on the other does, and has
//! everything. If any step fails the requests go on here, and the mover tries again.

use std::collections::BTreeMap;

use metrics::histogram;
use node_core::{
    cluster::{ClusterMap, Epoch, MapCommand, Moving, NodeId, ShardId},
    slot::SlotSet,
};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::steward::{NotDone, Steward};
use crate::{
    admin::metrics::names,
    limits::{CHANGE_MAX, HAND_OVER_MAX, MOVE_PAUSE},
};

/// Slots that move together: from one shard to another, since the same change of the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cargo {
    /// Which.
    pub(crate) slots: SlotSet,
    /// Since when.
    pub(crate) since: Epoch,
}

/// The slots that move away from a shard, by the primaries that take them: to each, those that began to move first.
pub(super) fn leaving(map: &ClusterMap, from: ShardId) -> BTreeMap<NodeId, Cargo> {
    cargoes(map, |owner, to| (owner == from).then_some(to))
}

/// The slots that arrive at a shard, by the primaries that send them: from each, those that began to move first.
pub(super) fn arriving(map: &ClusterMap, at: ShardId) -> BTreeMap<NodeId, Cargo> {
    cargoes(map, |owner, to| (to == at).then_some(owner))
}

/// The moves that have to do with a shard, by the primary at the other end.
fn cargoes(map: &ClusterMap, other_end: impl Fn(ShardId, ShardId) -> Option<ShardId>) -> BTreeMap<NodeId, Cargo> {
    let mut cargoes: BTreeMap<NodeId, Cargo> = BTreeMap::new();
    for (slot, to) in map.moves() {
        let Some(Moving { since, .. }) = map.moving(slot) else { continue };
        let other = map.owner(slot).and_then(|owner| other_end(owner, to)).and_then(|other| map.shard(other));
        let Some(primary) = other.map(|shard| shard.primary) else { continue };
        let cargo = cargoes.entry(primary).or_insert_with(|| Cargo { slots: SlotSet::new(), since });
        if since < cargo.since {
            *cargo = Cargo { slots: SlotSet::new(), since };
        }
        if since == cargo.since {
            cargo.slots.insert(slot);
        }
    }
    cargoes
}

impl Steward {
    /// Hands over the slots that move away from this node, as their targets catch up, until `shutdown`.
    pub(crate) async fn move_slots(&self, shutdown: &CancellationToken) {
        loop {
            let (followed, acknowledged) = (self.map_followed(), self.movers().changed());
            let ready = self.ready_to_move();
            if let Some((target, cargo)) = ready {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = self.move_to(target, &cargo) => {}
                }
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = followed => {}
                () = acknowledged => {}
            }
        }
    }

    /// Slots whose target has all that there was when it connected.
    fn ready_to_move(&self) -> Option<(NodeId, Cargo)> {
        let map = self.map();
        let (id, shard) = map.shard_of(self.me())?;
        if shard.primary != self.me() || self.serving() != Some(shard.incarnation) {
            return None;
        }
        leaving(&map, id).into_iter().find(|(target, _)| self.movers().is_online(*target))
    }

    async fn move_to(&self, target: NodeId, cargo: &Cargo) {
        let slots = &cargo.slots;
        let began = self.now();
        self.hold(slots);
        let outcome = self.change_hands(target, cargo).await;
        self.let_go(slots);
        let held = self.now().saturating_sub(began);
        histogram!(names::SLOTS_HELD_SECONDS).record(held.as_secs_f64());
        match outcome {
            Ok(()) => tracing::info!(%target, slots = slots.len(), ?held, "slots have moved"),
            Err(error) => {
                tracing::warn!(%error, %target, slots = slots.len(), ?held, "slots could not be handed over yet");
                sleep(MOVE_PAUSE).await;
            }
        }
    }

    async fn change_hands(&self, target: NodeId, cargo: &Cargo) -> Result<(), NotDone> {
        let map = self.map();
        let began = self.now();
        let moment = self.until_nobody_writes().await;
        let quiet = self.now();
        timeout(HAND_OVER_MAX, self.movers().until_as_of(target, moment)).await.map_err(|_| NotDone::NotCaughtUp)?;
        let command = moved(&map, self.me(), target, cargo).ok_or(NotDone::NotPrimary)?;
        let caught_up = self.now();
        self.agree_on(&command, CHANGE_MAX).await?;
        let agreed = self.now();
        let has_moved = || cargo.slots.iter().next().is_none_or(|slot| self.map().target(slot).is_none());
        timeout(CHANGE_MAX, self.until_map(has_moved)).await.map_err(|_| NotDone::NotAgreed)?;
        let spent = [quiet - began, caught_up - quiet, agreed - caught_up, self.now() - agreed];
        tracing::debug!(?spent, "turns ended, target caught up, agreed on, map followed");
        Ok(())
    }
}

fn moved(map: &ClusterMap, from: NodeId, to: NodeId, cargo: &Cargo) -> Option<MapCommand> {
    let shard_of = |node| map.shard_of(node).filter(|(_, shard)| shard.primary == node).map(|(id, _)| id);
    let Cargo { slots, since } = cargo.clone();
    Some(MapCommand::Moved { slots, from: shard_of(from)?, to: shard_of(to)?, since })
}
