//! Moves: how slots leave this node while they are written to.
//!
//! The map says which slots move where; replication feeds them to the primary that takes them, for as long as that takes. The
//! mover waits until the target has caught up, and then makes the change of hands as short as it can be:
//! 1. It is *rehearsed*: does the target have within a few milliseconds what was written just now? If not, nobody needs to wait
//!    to find out.
//! 2. The map says that the slots are *prepared*, and the target knows it. That takes disk syncs, but nobody waits for them.
//! 3. Requests for the slots are held, and those under way are waited for: nobody writes to them now.
//! 4. The target acknowledges what was written last. That is a round trip.
//! 5. The slots are given: one message. With its answer, clients are sent to the target, which serves. The map follows
//!    (`takes`, beside this), and what is left here of the slots is dropped.
//!
//! # Who owns them
//! Until the fifth step this node, whatever happens to anybody; what can happen then is the matter of [`Custody`].
//!
//! # How long writes wait
//! For no longer than [`HOLD_BUDGET`] until the message is sent: if the target does not have everything by then, requests go on
//! here, and the mover tries again after a rest. It does so [`MOVE_TRIES`] times; then it has undone what was prepared, so that an
//! operator may stop the move, says so, and begins anew. A bound of this kind holds as far as the threads of both nodes
//! get to run: nobody can let go of a hold while the machine gives the time to others.
//!
//! Where two nodes have so much to do that the target is never there so soon, slots would not move, and there most of all
//! they should. So each time that all tries were in vain the budget doubles, up to [`HOLD_BUDGET_MAX`], which the log says; the
//! next slots begin with the short one.
//!
//! [`Custody`]: node_core::cluster::Custody

use std::time::Duration;

use metrics::histogram;
use node_core::cluster::{
    Answer, Cargo, ClusterMap, Epoch, Keeping, MapCommand, NodeId, Offer,
    control::{Request, Response},
    leaving,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Hold,
    bus::Channel,
    steward::{NotDone, Steward},
};
use crate::{
    admin::metrics::names,
    limits::{CHANGE_MAX, GIVE_MAX, GIVE_PAUSE, HOLD_BUDGET, HOLD_BUDGET_MAX, MOVE_PAUSE, MOVE_REST, MOVE_TRIES},
};

impl Steward {
    /// Hands over the slots that move away from this node, as their targets catch up, until `shutdown`.
    pub(crate) async fn move_slots(&self, shutdown: &CancellationToken) {
        let mut budget = HOLD_BUDGET;
        loop {
            let (followed, acknowledged) = (self.map_followed(), self.movers().changed());
            let ready = self.ready_to_move();
            if let Some((target, cargo)) = ready {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    next = self.move_to(target, &cargo, budget) => budget = next,
                }
                continue;
            }
            budget = HOLD_BUDGET;
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
        // What has changed hands already moves until the map says that it has.
        let is_here = |cargo: &Cargo| {
            let first = cargo.slots.iter().next();
            first.is_some_and(|slot| self.parts.cluster.custody(|custody, _| custody.keeping(slot)) != Keeping::Gone)
        };
        let mut leaving = leaving(&map, id).into_iter();
        leaving.find(|(target, cargo)| self.movers().is_fed(*target, cargo.since) && is_here(cargo))
    }

    /// Hands over what moves to a target, if that can be; returns for how long slots may be held the next time.
    async fn move_to(&self, target: NodeId, cargo: &Cargo, budget: Duration) -> Duration {
        let began = self.now();
        let error = match self.change_hands(target, cargo, budget).await {
            Ok(held) => {
                let took = self.now().saturating_sub(began);
                tracing::info!(%target, slots = cargo.slots.len(), ?held, ?took, "slots have moved");
                return HOLD_BUDGET;
            }
            Err(error) => error,
        };
        let is_late = matches!(error, NotDone::NotCaughtUp);
        let next = if is_late { (budget * 2).min(HOLD_BUDGET_MAX) } else { budget };
        tracing::warn!(%error, %target, slots = cargo.slots.len(), hold_at_most = ?next, "slots could not be handed over yet");
        sleep(MOVE_PAUSE).await;
        next
    }

    /// Hands over what moves to a target, and returns for how long requests were held.
    async fn change_hands(&self, target: NodeId, cargo: &Cargo, budget: Duration) -> Result<Duration, NotDone> {
        let first = cargo.slots.iter().next().ok_or(NotDone::NotPrimary)?;
        let prepared = || self.map().moving(first).and_then(|moving| moving.prepared);
        if prepared().is_none() {
            self.rehearse_often(target, cargo.since, budget).await?;
            let command = prepare(&self.map(), self.me(), target, cargo).ok_or(NotDone::NotPrimary)?;
            self.agree_on(&command, CHANGE_MAX).await?;
            timeout(CHANGE_MAX, self.until_map(|| prepared().is_some())).await.map_err(|_| NotDone::NotAgreed)?;
        }
        let at = prepared().ok_or(NotDone::NotPrimary)?;
        if self.parts.cluster.custody(|custody, _| custody.has_given(at)) {
            // An attempt before this one was not answered.
            self.give(target, at, None).await?;
            return Ok(Duration::ZERO);
        }
        let handed = self.hand(target, cargo, at, budget).await;
        if handed.is_err() && self.parts.cluster.custody(|custody, _| custody.withdraw(at)) {
            self.settled.notify_one();
            _ = timeout(CHANGE_MAX, self.until_map(|| prepared() != Some(at))).await;
        }
        handed
    }

    /// Waits until the target keeps up well enough that slots can be held.
    async fn rehearse_often(&self, target: NodeId, since: Epoch, budget: Duration) -> Result<(), NotDone> {
        for rest in rests() {
            if self.rehearse(target, since, budget).await {
                return Ok(());
            }
            sleep(rest).await;
        }
        Err(NotDone::NotCaughtUp)
    }

    /// Whether the target has what was written just now as soon as it must.
    async fn rehearse(&self, target: NodeId, since: Epoch, budget: Duration) -> bool {
        timeout(budget, self.movers().until_as_of(target, since, self.now())).await.is_ok()
    }

    /// Hands over what is prepared, at a moment at which that is quick.
    async fn hand(&self, target: NodeId, cargo: &Cargo, at: Epoch, budget: Duration) -> Result<Duration, NotDone> {
        let since = cargo.since;
        self.tell(target, &Request::Prepared { at }, CHANGE_MAX).await?;
        for rest in rests() {
            if self.rehearse(target, since, budget).await {
                let began = self.now();
                let hold = self.hold(&cargo.slots);
                if let Some(hold) = self.catch_up((target, since), began, budget, hold).await {
                    let given = self.give(target, at, Some(hold)).await;
                    let held = self.note_held(began);
                    return given.map(|()| held);
                }
            }
            sleep(rest).await;
        }
        Err(NotDone::NotCaughtUp)
    }

    /// Waits until the target has all that was written to slots that are held, and goes on holding them. If that takes too
    /// long, they are let go.
    async fn catch_up(
        &self,
        (target, since): (NodeId, Epoch),
        began: Duration,
        budget: Duration,
        hold: Hold,
    ) -> Option<Hold> {
        let catching_up = async {
            let moment = self.until_nobody_writes().await;
            self.movers().until_as_of(target, since, moment).await;
            moment
        };
        let caught_up = timeout(budget, catching_up).await;
        let now = self.now();
        if let Ok(moment) = caught_up
            && now.saturating_sub(began) <= budget
        {
            let spent = [moment - began, now - moment];
            tracing::debug!(?spent, "turns ended, target caught up");
            return Some(hold);
        }
        self.let_go(hold);
        let held = self.note_held(began);
        tracing::debug!(?held, "the target does not catch up soon enough, so requests go on here");
        None
    }

    fn note_held(&self, began: Duration) -> Duration {
        let held = self.now().saturating_sub(began);
        histogram!(names::SLOTS_HELD_SECONDS).record(held.as_secs_f64());
        held
    }

    /// Gives what is prepared, and says so to the target until it has answered, or the map has. Until then the slots are held,
    /// if not by `hold`.
    async fn give(&self, target: NodeId, at: Epoch, mut hold: Option<Hold>) -> Result<(), NotDone> {
        let given = self.parts.cluster.custody(|custody, map| custody.give(map, at));
        let Ok(offer) = given else {
            hold.into_iter().for_each(|hold| self.let_go(hold));
            return Err(NotDone::NotPrimary);
        };
        while self.parts.cluster.custody(|custody, _| custody.has_given(at)) {
            let answer = self.offer(target, &offer).await;
            let answered = self.parts.cluster.change_hands(hold.take(), |custody, map| {
                // What was said may not reach us, and what the map says holds.
                answer.into_iter().for_each(|answer| custody.answered(at, answer));
                self.parts.server.store.set_owned(custody.own(map), map.epoch().0);
                answer
            });
            match answered {
                Some(Answer::Taken) => return Ok(()),
                Some(Answer::Refused) => {
                    self.settled.notify_one();
                    return Err(NotDone::NotTaken);
                }
                Some(Answer::AskTheMap) | None => sleep(GIVE_PAUSE).await,
            }
        }
        hold.into_iter().for_each(|hold| self.let_go(hold));
        Ok(())
    }

    async fn offer(&self, target: NodeId, offer: &Offer) -> Option<Answer> {
        match self.tell(target, &Request::Give(*offer), GIVE_MAX).await {
            Ok(Response::Given(answer)) => Some(answer),
            Ok(other) => {
                tracing::warn!(answer = ?other, %target, "a target does not say whether it has taken slots");
                None
            }
            Err(error) => {
                tracing::warn!(%error, %target, "a target cannot be asked whether it has taken slots");
                None
            }
        }
    }

    /// Says something to a target.
    async fn tell(&self, target: NodeId, request: &Request, patience: Duration) -> Result<Response, NotDone> {
        let address = self.map().node(target).map(|node| node.addresses.bus()).ok_or(NotDone::NotPrimary)?;
        let told = self.parts.bus.peer(address).call(Channel::Control, request, patience).await;
        told.map_err(|error| NotDone::NotTold(error.to_string()))
    }
}

/// The rests between one attempt and the next, as many as there may be.
fn rests() -> impl Iterator<Item = Duration> {
    let (first, last) = MOVE_REST;
    std::iter::successors(Some(first), move |rest| Some((*rest * 2).min(last))).take(MOVE_TRIES)
}

fn prepare(map: &ClusterMap, from: NodeId, to: NodeId, cargo: &Cargo) -> Option<MapCommand> {
    let shard_of = |node| map.shard_of(node).filter(|(_, shard)| shard.primary == node).map(|(id, _)| id);
    let Cargo { slots, since } = cargo.clone();
    Some(MapCommand::Prepare { slots, from: shard_of(from)?, to: shard_of(to)?, since })
}
