//! Replication inside a region: feeds from a primary to its replicas, and home again.
//!
//! Whoever has something dials whoever lacks it, and what flows is a [`Feed`](node_core::store::Feed) into an
//! [`Intake`](node_core::store::Intake), over the very state machines that links between regions use
//! ([`geo_link_core::Sender`] and [`geo_link_core::Receiver`]). What a connection is for stands in its first frame:
//!
//! - [`Purpose::Follow`]: a primary feeds a replica everything, for as long as both are what they are, and begins anew whenever either
//!   drops slots (`drops`).
//! - [`Purpose::Return`]: who follows a new primary first sends it what it lacks of origins that speak no more. What a
//!   former primary had acknowledged and its heir had not received comes home so. Of the slots in which something
//!   returned, the replica then says that it has seen nothing: the primary may have refused a record as being under its
//!   floor, and then it must go here as well.
//! - [`Purpose::Move`]: a primary feeds another shard's the slots that move there. It serves them until it gives them
//!   (`moves`, beside this), and feeds on until the map says that they have moved. A feed that begins, or begins again,
//!   clears what had arrived; so none begins for what was taken ([`Custody`]).
//!
//! A primary has streams to and from other regions as well (`streams`, beside this), as long as it is that.
//!
//! # Lives
//! What this node is to be is an [`Assignment`], worked out by the steward from the map. [`Replication`] carries it out in
//! an order that never leaves two at it: the connections of the former one end, the store begins its new life, the new
//! connections begin. [`Progress`] says when that is done; until then no lease is of any use.
//!
//! A life may begin by restamping what lies in the future. Then the store does that in the place of beginning a life, once nobody writes
//! and no connection brings anything; and a replica returns nothing: what it holds of the future gives way to what that primary feeds it, and the rest is dropped once it has a full
//! copy.
//!
//! # A thread of its own
//! A replica that starts from nothing keeps a core busy for seconds. Raft's heartbeats and the lease must not wait for it,
//! so all this runs on a thread beside the cluster's.

mod drops;
mod followers;
mod progress;
mod sink;
mod source;
mod streams;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use clock::{Now, Origin, OsClock, Time};
use node_core::{
    cluster::{Assignment, Cargo, Custody, Entrance, Epoch, Held, Life, NodeId, Opening, Purpose},
    slot::SlotSet,
    store::{Ahead, Restamping, Seen, Store},
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::{Id, JoinSet},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    drops::Drops,
    followers::{Follower, Followers},
    progress::Progress,
    streams::Links,
};
use super::bus::{Arrival, Bus, BusStream};
use crate::{limits::FEEDS_WAITING, mark::Mark};

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) me: NodeId,
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<OsClock>,
    pub(crate) mark: Arc<Mark>,
    pub(crate) bus: Bus,
    /// What the replicas have acknowledged.
    pub(crate) followers: Followers,
    /// What the targets of slots that move have acknowledged.
    pub(crate) movers: Followers,
    /// How far this node is in what it is to be.
    pub(crate) progress: Progress,
    /// What is dropped while feeds flow.
    pub(crate) drops: Drops,
    /// Slots that were given or taken.
    pub(crate) custody: Arc<Mutex<Custody>>,
    /// The log has news.
    news: Arc<Notify>,
    /// A replica may be fed now that could not before.
    returned: Notify,
    /// The ends of links, if there are other regions, and the way there.
    links: Option<Links>,
    /// Slots in which something was returned, until the primary has sent them whole.
    unsure: Mutex<SlotSet>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Shared {
    fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) fn custody(&self) -> MutexGuard<'_, Custody> {
        self.custody.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many replicas have everything up to a time. None counts while this node has slots that the map does not give
    /// it yet: its replicas would not be asked for them if it failed.
    pub(crate) fn replicated(&self, until: Time) -> usize {
        if self.custody().is_unconfirmed() { 0 } else { self.followers.count(until) }
    }

    fn unsure(&self) -> MutexGuard<'_, SlotSet> {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_unsure(&self) {
        *self.unsure() = SlotSet::new();
    }

    fn note_returned(&self, slots: SlotSet) {
        self.unsure().extend(slots.iter());
        self.progress.lock().has_returned();
        self.returned.notify_waiters();
    }

    /// The store stamps as a new life from here on.
    fn begin_life(&self, life: Life, start: Time) {
        if !life.is_restamped || self.store.origin() == life.origin {
            return self.store.begin_life(life.origin, life.birth, start);
        }
        let restamping = Restamping { life: life.origin, birth: life.birth };
        let Ahead { records, slots, .. } = self.store.restamp(restamping, start.max(life.birth));
        self.mark.begin_anew();
        tracing::warn!(records, slots, origin = %life.origin, "what lay in the future was restamped");
    }

    /// Makes ready for what a restamped primary sends, unless this node has that already. Returns how that life began, if it is to be gone by.
    fn follow_restamped(&self, life: Life) -> Option<Restamping> {
        if !self.progress.lock().is_outdated() {
            return None;
        }
        let restamping = Restamping { life: life.origin, birth: life.birth };
        let Ahead { records, slots, .. } = self.store.follow_restamped(restamping);
        tracing::warn!(records, slots, "what lies in the future gives way to what it has become");
        Some(restamping)
    }

    /// What a replica holds, for the leader to choose by.
    pub(crate) fn held(&self) -> Option<Held> {
        let incarnation = self.progress.holding()?;
        let until = self.store.seen_minima(self.now()).at(Origin::new(self.store.origin().region(), incarnation));
        Some(Held { incarnation, until })
    }

    /// What a primary tells its replicas of what every region has seen.
    fn frontier(&self) -> Seen {
        [(self.store.origin(), self.store.settings().frontier())].into_iter().collect()
    }
}

/// The ends that the rest of the node holds.
#[derive(Clone)]
pub(crate) struct Handle {
    /// What this node is to be.
    pub(crate) assignments: watch::Sender<Assignment>,
    /// Connections that were accepted. One more than there is room for is closed.
    pub(crate) arrivals: mpsc::Sender<Arrival>,
}

/// See the head of this file.
pub(crate) struct Replication {
    shared: Arc<Shared>,
    assignments: watch::Receiver<Assignment>,
    arrivals: mpsc::Receiver<Arrival>,
    current: Assignment,
    connections: JoinSet<()>,
    /// Ends all connections of the current assignment.
    ending: CancellationToken,
    /// The connections to replicas and to targets of moves, which may come and go within one assignment.
    sources: Vec<(Target, CancellationToken)>,
}

impl Replication {
    /// Idle.
    pub(crate) fn new(
        me: NodeId,
        store: Arc<Store>,
        clock: Arc<OsClock>,
        mark: Arc<Mark>,
        bus: Bus,
        custody: Arc<Mutex<Custody>>,
        links: Option<Links>,
    ) -> (Self, Handle) {
        let news = Arc::new(Notify::new());
        let wake = news.clone();
        store.on_news(move || wake.notify_waiters());
        let shared = Arc::new(Shared {
            me,
            store,
            clock,
            mark,
            bus,
            followers: Followers::default(),
            movers: Followers::default(),
            progress: Progress::default(),
            drops: Drops::default(),
            custody,
            news,
            returned: Notify::new(),
            links,
            unsure: Mutex::default(),
        });
        let (assigned, assignments) = watch::channel(Assignment::Idle);
        let (arrived, arrivals) = mpsc::channel(FEEDS_WAITING);
        let replication = Self {
            shared,
            assignments,
            arrivals,
            current: Assignment::Idle,
            connections: JoinSet::new(),
            ending: CancellationToken::new(),
            sources: Vec::new(),
        };
        (replication, Handle { assignments: assigned, arrivals: arrived })
    }

    /// What this node's connections share, for who must know of it.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Carries out assignments until `shutdown`, and then ends all connections.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = self.assignments.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let next = self.assignments.borrow_and_update().clone();
                    // A life may have to wait for the mark, which nobody moves any more once the node stops.
                    if shutdown.run_until_cancelled(self.assign(next)).await.is_none() {
                        break;
                    }
                }
                Some(arrival) = self.arrivals.recv() => self.accept(arrival),
                Some(ended) = self.connections.join_next_with_id() => note_end(ended),
            }
        }
        self.end_all().await;
    }

    async fn assign(&mut self, next: Assignment) {
        match (&self.current, &next) {
            (Assignment::Primary { life: before, .. }, Assignment::Primary { life, .. }) if before == life => {}
            (Assignment::Replica { life: before, primary: former, .. }, Assignment::Replica { life, primary, .. })
                if (before, former) == (life, primary) =>
            {
                return;
            }
            (before, next) if before == next => return,
            _ => {
                self.end_all().await;
                self.begin(&next).await;
            }
        }
        if let Assignment::Primary { replicas, leaving, .. } = &next {
            let replicas = replicas.iter().map(|(node, address)| Target::replica(*node, address));
            let movers = leaving.iter().map(|(node, (address, cargo))| Target::mover(*node, address, cargo));
            self.feed(replicas.chain(movers).collect());
        }
        self.current = next;
    }

    /// The store begins the life that goes with an assignment.
    async fn begin(&mut self, next: &Assignment) {
        let shared = &self.shared;
        match next {
            Assignment::Idle => shared.progress.lock().idle(),
            Assignment::Primary { life, start, .. } => {
                let now = shared.now().wall;
                let start = start.at(now);
                // No stamp may be issued above the persisted mark, which is asked for first: it would not go there so soon.
                shared.mark.covers_or_moves(start);
                shared.mark.until_covers(start).await;
                shared.begin_life(*life, start);
                shared.progress.lock().serves(life.origin.incarnation());
                if let Some(links) = &shared.links {
                    links.begin_life(&self.ending, &mut self.connections);
                }
                tracing::info!(origin = %life.origin, "this node is the primary of its shard");
            }
            Assignment::Replica { life, primary, address } => {
                let former = shared.store.origin();
                shared.store.follow(life.origin, life.birth);
                shared.store.settings().set_frontier_limit(Time::MAX);
                shared.progress.lock().follows(former.incarnation());
                tracing::info!(%primary, origin = %life.origin, "this node follows a primary");
                if life.is_restamped {
                    return shared.progress.lock().follows_restamped(life.origin.incarnation());
                }
                let (shared, ending) = (shared.clone(), self.ending.clone());
                let target = Target { purpose: Purpose::Return, node: *primary, address: address.clone() };
                self.connections.spawn(async move { source::give_back(&shared, &target, &ending).await });
            }
        }
    }

    /// Feeds these and no others.
    fn feed(&mut self, targets: Vec<Target>) {
        let shared = &self.shared;
        self.sources.retain(|(target, ending)| {
            let stays = targets.contains(target);
            if !stays {
                ending.cancel();
                target.acknowledgements(shared).into_iter().for_each(|known| known.remove(target.node));
            }
            stays
        });
        for target in targets {
            if self.sources.iter().any(|(fed, _)| *fed == target) {
                continue;
            }
            target.acknowledgements(shared).into_iter().for_each(|known| known.expect(target.node, target.since()));
            let ending = self.ending.child_token();
            self.sources.push((target.clone(), ending.clone()));
            let shared = self.shared.clone();
            self.connections.spawn(async move { _ = source::serve(&shared, &target, &ending).await });
        }
    }

    fn accept(&mut self, Arrival { from, stream, first }: Arrival) {
        let (dialled_by, purpose) = match rmp_serde::from_slice(&first) {
            Ok(Opening::Feed { from, purpose }) => (from, purpose),
            Ok(Opening::Stream(entrance)) => return self.let_in(entrance, stream),
            Err(error) => {
                tracing::warn!(%from, %error, "a connection for a feed does not say what it is for");
                return;
            }
        };
        let Some(expected) = sink::Expected::of(&self.current, dialled_by, &purpose) else {
            tracing::debug!(from = %dialled_by, ?purpose, "nobody waits for this feed now");
            return;
        };
        let (shared, ending) = (self.shared.clone(), self.ending.clone());
        self.connections.spawn(async move { sink::run(&shared, stream, expected, &ending).await });
    }

    /// A gateway brings a stream of another region, which is for the primary.
    fn let_in(&mut self, entrance: Entrance, stream: BusStream) {
        let is_primary = matches!(self.current, Assignment::Primary { .. });
        match &self.shared.links {
            Some(links) if is_primary => links.let_in(entrance, stream, &self.ending, &mut self.connections),
            _ => tracing::debug!(from = entrance.region, "a stream of another region finds no primary here"),
        }
    }

    async fn end_all(&mut self) {
        self.ending.cancel();
        while let Some(ended) = self.connections.join_next_with_id().await {
            note_end(ended);
        }
        self.ending = CancellationToken::new();
        self.sources.clear();
        self.shared.followers.clear();
        self.shared.movers.clear();
        self.shared.links.iter().for_each(Links::end_life);
        self.shared.progress.lock().idle();
    }
}

/// Whom a connection feeds, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    purpose: Purpose,
    node: NodeId,
    address: Arc<str>,
}

impl Target {
    fn replica(node: NodeId, address: &Arc<str>) -> Self {
        Self { purpose: Purpose::Follow, node, address: address.clone() }
    }

    fn mover(node: NodeId, address: &Arc<str>, cargo: &Cargo) -> Self {
        Self { purpose: Purpose::Move(cargo.clone()), node, address: address.clone() }
    }

    /// Since when what it is fed has been moving; nothing of what does not move.
    fn since(&self) -> Epoch {
        match &self.purpose {
            Purpose::Move(cargo) => cargo.since,
            Purpose::Follow | Purpose::Return => Epoch::default(),
        }
    }

    /// Where it is noted what the other end has; nowhere for what is returned.
    fn acknowledgements<'a>(&self, shared: &'a Shared) -> Option<&'a Followers> {
        match self.purpose {
            Purpose::Follow => Some(&shared.followers),
            Purpose::Move(_) => Some(&shared.movers),
            Purpose::Return => None,
        }
    }
}

fn note_end(ended: Result<(Id, ()), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection between nodes panicked");
    }
}
