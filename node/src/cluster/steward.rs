//! The steward: a node's own part. It reports to the leader, takes leases, follows the map, and does what others ask of it.
//! How it hands over stands in `hand_over`, when it does so of its own accord in `step_aside`, how slots leave it in `moves`, how they
//! come to it in `takes`, how other regions come and go in `regions`. What a map makes of the node, and from when until when it may act as that, is decided by [`Assignment`] and [`Tenure`]; here it is carried out.
//!
//! # Following the map
//! Each new map is carried out in this order, so that at no moment two nodes believe the same of themselves:
//! 1. The routing changes: clients are sent where they belong from here on. This does not wait for what an earlier map has
//!    left to do, since clients may be waiting for it.
//! 2. If this node is a primary no more, its lease is let go of, and every turn of a client that began before that is waited
//!    for. From then on nobody writes here.
//! 3. Replication is given the new assignment; the store changes its life.
//! 4. A lease counts once the store stamps under the incarnation that it is for.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use clock::{Incarnation, Time};
use node_core::{
    cluster::{
        Assignment, ClusterMap, Founder, Holding, MapCommand, NodeId, Refused, Report, Standing, Tenure,
        control::{Introduction, Request, Response},
        foreign,
    },
    slot::SlotSet,
};
use tokio::{
    sync::{Notify, futures::Notified, mpsc, oneshot},
    task::yield_now,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Cluster, Hold,
    bus::{Bus, Channel},
    gateways::Gateways,
    gossip::Suspects,
    government::Reported,
    raft::{ControlPlane, FoundError, ProposeError},
    replication::{Followers, Handle, Progress, Shared},
};
use crate::{
    limits::{CHANGE_MAX, REPORTS_WAITING, SUCCESSION_MAX},
    server::Server,
};

/// What a steward is made of.
pub(crate) struct Parts {
    pub(crate) server: Arc<Server>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) plane: Arc<ControlPlane>,
    pub(crate) bus: Bus,
    pub(crate) founder: Founder,
    pub(crate) suspects: Arc<Suspects>,
    pub(crate) replication: Handle,
    pub(crate) shared: Arc<Shared>,
    pub(crate) gateways: Arc<Gateways>,
    pub(crate) reports: mpsc::Sender<Reported>,
}

/// See the head of this file.
pub(crate) struct Steward {
    pub(super) parts: Parts,
    tenure: Mutex<Tenure>,
    waiting: Mutex<Waiting>,
    number: AtomicU64,
    /// A report is due at once.
    pub(super) hurry: Notify,
    /// Clients are routed by another map.
    followed: Notify,
    /// There is something to tell the map of slots that change hands.
    pub(super) settled: Notify,
    /// A client wants this replica to take over.
    pub(super) wish: Arc<Notify>,
}

/// Slots whose clients wait here for what the map or the leader will say.
#[derive(Debug, Default)]
struct Waiting {
    /// Until this new primary has its first lease.
    first_lease: Option<Hold>,
    /// Until the map says that this heir is the primary, and since when.
    succession: Option<(Hold, Duration)>,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDone {
    #[error("this node is not the primary of that replica")]
    NotPrimary,
    #[error("the replica is not connected")]
    NotConnected,
    #[error("the replica did not catch up in time")]
    NotCaughtUp,
    #[error("the replica cannot be told: {0}")]
    NotTold(String),
    #[error("the change was not agreed on in time")]
    NotAgreed,
    #[error("a hand-over is under way already, or slots are just arriving")]
    Busy,
    #[error("the target has refused them")]
    NotTaken,
    #[error("{0}")]
    Refused(#[from] Refused),
    #[error("{0}")]
    Undecided(#[from] ProposeError),
    #[error("{0}")]
    Found(#[from] FoundError),
}

impl Steward {
    pub(crate) fn new(parts: Parts) -> Self {
        let tenure = Tenure::new(parts.founder.id, parts.founder.run, parts.server.config.cluster.lease);
        Self {
            parts,
            tenure: Mutex::new(tenure),
            waiting: Mutex::default(),
            number: AtomicU64::new(0),
            hurry: Notify::new(),
            followed: Notify::new(),
            settled: Notify::new(),
            wish: Arc::new(Notify::new()),
        }
    }

    /// Reports until `shutdown`.
    pub(crate) async fn report_on(&self, shutdown: &CancellationToken) {
        let mut due = interval(self.parts.server.config.cluster.report_every);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = due.tick() => {}
                () = self.hurry.notified() => {}
            }
            self.look_after();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.report() => {}
            }
        }
    }

    /// Routes clients by each new map until `shutdown`.
    pub(crate) async fn route(&self, shutdown: &CancellationToken) {
        let mut maps = self.parts.plane.map();
        loop {
            let map = maps.borrow_and_update().clone();
            self.route_by(map);
            self.follow_regions();
            self.followed.notify_waiters();
            self.end_succession();
            // Who waits for replicas may have waited for the map.
            self.followers().look_again();
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = maps.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Routes clients by a map, unless they are routed by it, or by a later one, already. A new primary holds its slots before
    /// that: nobody may see that it is the primary and that it has neither a lease nor a reason to wait for one.
    fn route_by(&self, map: Arc<ClusterMap>) {
        // Until the end: what a map and a standing lead to is carried out in the order in which they came.
        let mut tenure = self.tenure();
        if map.epoch() <= self.map().epoch() {
            return;
        }
        let holding = tenure.handle_map(&map, self.serving());
        self.carry_out_holding(&holding);
        self.parts.cluster.set_map(map);
        let store = &self.parts.server.store;
        self.parts.cluster.custody(|custody, map| store.narrow_owned(&custody.own(map)));
    }

    /// Call it under the lock of the tenure that it comes from.
    fn carry_out_holding(&self, Holding { hold, let_go }: &Holding) {
        if hold.is_empty() && let_go.is_empty() {
            return;
        }
        let hold = (!hold.is_empty()).then(|| self.hold(hold));
        let former = std::mem::replace(&mut self.waiting().first_lease, hold);
        former.into_iter().for_each(|former| self.let_go(former));
    }

    /// Lets clients wait for this heir until the map says that it is the primary: the former one may hear of that first, and
    /// would be sent back what it sends here.
    fn await_succession(&self) {
        let map = self.map();
        let hold = map.shard_of(self.me()).map(|(id, _)| self.hold(&map.slots(id)));
        let former = std::mem::replace(&mut self.waiting().succession, hold.map(|hold| (hold, self.now())));
        former.into_iter().for_each(|(former, _)| self.let_go(former));
    }

    /// Lets go of what an heir holds, once it is the primary or if it does not become it.
    fn end_succession(&self) {
        let is_primary = self.map().shard_of(self.me()).is_some_and(|(_, shard)| shard.primary == self.me());
        let now = self.now();
        let ended = self.waiting().succession.take_if(|(_, since)| is_primary || now > *since + SUCCESSION_MAX);
        ended.into_iter().for_each(|(hold, _)| self.let_go(hold));
    }

    /// Carries out each new map until `shutdown`.
    pub(crate) async fn follow(&self, shutdown: &CancellationToken) {
        let mut maps = self.parts.plane.map();
        let mut former = Arc::new(ClusterMap::new());
        loop {
            let map = maps.borrow_and_update().clone();
            self.carry_out(&former, &map).await;
            former = map;
            self.hurry.notify_one();
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = maps.changed() => if changed.is_err() { return },
            }
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.parts.server.clock.now().monotonic
    }

    pub(super) fn me(&self) -> NodeId {
        self.parts.founder.id
    }

    pub(super) fn map(&self) -> Arc<ClusterMap> {
        self.parts.cluster.map()
    }

    pub(super) fn movers(&self) -> &Followers {
        &self.parts.shared.movers
    }

    /// The incarnation under which this node's writes can be stamped.
    pub(super) fn serving(&self) -> Option<Incarnation> {
        self.progress().serving()
    }

    /// Notices each map that clients are routed by from this call on.
    pub(super) fn map_followed(&self) -> Notified<'_> {
        self.followed.notified()
    }

    /// Lets requests for these slots wait.
    pub(super) fn hold(&self, slots: &SlotSet) -> Hold {
        self.parts.cluster.hold(slots)
    }

    /// Lets requests for these slots go on.
    pub(super) fn let_go(&self, hold: Hold) {
        self.parts.cluster.let_go(hold);
    }

    /// Waits until all requests that began before have ended, and returns when that was.
    pub(super) async fn until_nobody_writes(&self) -> Duration {
        self.parts.server.until_turns_passed().await;
        self.now()
    }

    /// Waits until clients are routed by a map of which this is true.
    pub(super) async fn until_map(&self, is_true: impl Fn() -> bool) {
        loop {
            let followed = self.map_followed();
            if is_true() {
                return;
            }
            followed.await;
        }
    }

    /// Has a change of the map decided on.
    pub(super) async fn agree_on(&self, command: &MapCommand, patience: Duration) -> Result<(), NotDone> {
        match self.parts.plane.propose(command, patience).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refused)) => Err(NotDone::Refused(refused)),
            Err(error) => Err(NotDone::Undecided(error)),
        }
    }

    pub(super) fn followers(&self) -> &Followers {
        &self.parts.shared.followers
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.parts.shared.progress
    }

    /// What has to be kept up to date while nothing happens.
    fn look_after(&self) {
        self.end_succession();
        let Parts { server, cluster, .. } = &self.parts;
        let (config, now) = (&server.config.cluster, self.now());
        let online = self.followers().online(now, config.min_replicas_max_lag);
        cluster.set_enough_replicas(online >= config.min_replicas_to_write as usize);
        let limit = self.followers().least().unwrap_or(Time::MAX);
        server.store.settings().set_frontier_limit(limit);
    }

    /// Reports once, and takes in the answer.
    async fn report(&self) {
        let asked = self.now();
        let report = self.make_report();
        let patience = self.parts.server.config.cluster.lease / 2;
        if let Ok(Some(standing)) = timeout(patience, self.ask_leader(report)).await {
            self.take(asked, standing);
        }
    }

    fn make_report(&self) -> Report {
        let Parts { cluster, founder, suspects, shared, .. } = &self.parts;
        let map = cluster.map();
        let tenure = self.tenure();
        Report {
            node: founder.clone(),
            number: self.number.fetch_add(1, Relaxed),
            epoch: map.epoch(),
            after: tenure.moment(),
            held: shared.held(),
            suspects: suspects.now(),
            resigns_to: tenure.resigns_to(),
        }
    }

    /// Sends a report to whoever leads; none if nobody does, or does not answer.
    async fn ask_leader(&self, report: Report) -> Option<Standing> {
        if self.parts.plane.leadership().borrow().is_mine {
            return self.govern(report).await;
        }
        let address = self.leader_address()?;
        let patience = self.parts.server.config.cluster.lease / 2;
        let request = Request::Report(report);
        match self.parts.bus.peer(address).call(Channel::Control, &request, patience).await {
            Ok(Response::Standing(standing)) => Some(standing),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(%error, "the leader does not answer");
                None
            }
        }
    }

    /// Where the leader is, as far as this node knows.
    fn leader_address(&self) -> Option<String> {
        self.parts.plane.leadership().borrow().leader.as_ref().map(|leader| leader.bus.clone())
    }

    /// Hands a report to this node's own government.
    async fn govern(&self, report: Report) -> Option<Standing> {
        let (answer, answered) = oneshot::channel();
        // One more than the government can look at in a round is not answered, and comes again.
        self.parts.reports.try_send(Reported { report, answer }).ok()?;
        answered.await.ok()
    }

    fn take(&self, asked: Duration, standing: Standing) {
        let mut tenure = self.tenure();
        let before = tenure.lease_until();
        let holding = tenure.handle_standing(asked, &standing, self.serving());
        // Under the lock: who gives the lease up meanwhile must have the last word.
        if tenure.lease_until() != before {
            self.parts.cluster.set_lease(tenure.lease_until());
        }
        self.carry_out_holding(&holding);
    }

    async fn carry_out(&self, former: &ClusterMap, map: &Arc<ClusterMap>) {
        let Parts { server, cluster, replication, .. } = &self.parts;
        let assignment = Assignment::of(map, self.me(), cluster.run, server.config.clock.max_drift);
        self.route_by(map.clone());
        let serves = self.serving();
        if serves.is_some() && serves != assignment.incarnation() {
            self.change_tenure(|tenure, now| tenure.give_up(now));
            server.until_turns_passed().await;
            self.tenure().end();
        }
        let drops = &self.parts.shared.drops;
        if map.is_founded() {
            self.take_back().await;
            let foreign = foreign(former, map, self.me());
            // Feeds that are under way end here, and begin anew once this map is carried out.
            let dropping = (!foreign.is_empty()).then(|| drops.begin());
            self.note_own();
            self.drop_foreign(&foreign).await;
            drops.note_carried(map.epoch());
            drop(dropping);
        }
        replication.assignments.send_if_modified(|current| {
            let is_news = *current != assignment;
            *current = assignment;
            is_news
        });
    }

    /// Tells the store which slots are this node's own: under the lock of custody, or the store would not know any more of what is taken
    /// meanwhile.
    pub(super) fn note_own(&self) {
        let store = &self.parts.server.store;
        self.parts.cluster.custody(|custody, map| store.set_owned(custody.own(map), map.epoch().0));
    }

    /// Drops what is here of these slots.
    async fn drop_foreign(&self, slots: &SlotSet) {
        if !slots.is_empty() {
            self.parts.server.until_turns_passed().await;
            for slot in slots.iter() {
                // A slot may hold many keys, and this thread has leases to keep.
                self.parts.server.store.clear_slots(&[slot].into_iter().collect());
                yield_now().await;
            }
        }
    }

    /// Changes the tenure in a way that may end the lease.
    pub(super) fn change_tenure(&self, change: impl FnOnce(&mut Tenure, Duration)) {
        let mut tenure = self.tenure();
        change(&mut tenure, self.now());
        self.parts.cluster.set_lease(tenure.lease_until());
    }

    /// Answers a request of another node or of an operator.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        match request {
            Request::Report(report) => match self.govern(report).await {
                Some(standing) => Response::Standing(standing),
                None => Response::NotHere(self.leader_address()),
            },
            Request::HandOver { to } => done(self.hand_over(to).await),
            Request::Succeed => {
                self.await_succession();
                Response::Done
            }
            Request::Attach(attach) => self.parts.gateways.attach(attach, &self.map()),
            Request::Prepared { at } => done(self.await_prepared(at).await),
            Request::Give(offer) => Response::Given(self.take_slots(&offer)),
            Request::Time => {
                let received = self.parts.server.clock.now().wall;
                Response::Time { received, answered: self.parts.server.clock.now().wall }
            }
            Request::Introduce => Response::Introduction(self.introduce()),
            Request::Map => Response::Map(Box::new(ClusterMap::clone(&self.map()))),
            Request::Change(command) => self.change(command).await,
            Request::FailOver { node } => self.fail_over(node).await,
        }
    }

    fn introduce(&self) -> Introduction {
        let Parts { server, founder, .. } = &self.parts;
        let region = &server.config.region;
        Introduction {
            node: founder.clone(),
            region: region.name.to_string(),
            region_id: region.id.number(),
            is_founded: self.map().is_founded(),
            keys: server.store.census().values as u64,
        }
    }

    async fn change(&self, command: MapCommand) -> Response {
        match self.carry_through(&command).await {
            Ok(()) => Response::Done,
            Err(NotDone::Refused(refused)) => Response::Refused(refused),
            Err(error) => Response::Failed(error.to_string()),
        }
    }

    async fn carry_through(&self, command: &MapCommand) -> Result<(), NotDone> {
        match command {
            MapCommand::Found { .. } => Ok(self.parts.plane.found(command, CHANGE_MAX).await?.map(drop)?),
            _ => self.agree_on(command, CHANGE_MAX).await,
        }
    }

    pub(super) fn tenure(&self) -> MutexGuard<'_, Tenure> {
        self.tenure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn done(outcome: Result<(), NotDone>) -> Response {
    match outcome {
        Ok(()) => Response::Done,
        Err(error) => Response::Failed(error.to_string()),
    }
}

/// The way of reports to this node's government.
pub(crate) fn reports() -> (mpsc::Sender<Reported>, mpsc::Receiver<Reported>) {
    mpsc::channel(REPORTS_WAITING)
}
