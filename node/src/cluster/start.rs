//! The assembly of a node's part in its cluster, and its end.
//!
//! # Threads
//! One for what must answer in time (the bus, Raft, gossip, the steward, the government), and one for replication, which may
//! keep a core busy.
//!
//! # The order of the end
//! 1. `stopping` is cancelled: the listener, the steward, the government and gossip end. Gossip says that this node leaves.
//! 2. Replication ends, so that what the last writes left in the log had its chance.
//! 3. Raft closes its file, and the bus its connections.
//!
//! A disk that fails ends the node: without its vote written down a node must not vote.

use std::{
    net::{self, SocketAddr},
    path::Path,
    sync::{Arc, mpsc as blocking},
    thread::{self, JoinHandle},
};

use anyhow::Context as _;
use config::Cluster as Config;
use geo_link::tls::Credentials;
use node_core::cluster::{
    Addresses, Founder, Governor, GovernorOptions,
    control::Request,
    gossip::{Gossip, GossipOptions},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::{bytes::Bytes, sync::CancellationToken};

use super::{
    Cluster,
    bus::{self, Arrival, Bus, Handlers, Malformed},
    gateways::Gateways,
    gossip::{Gossiping, Suspects},
    government::Government,
    raft::ControlPlane,
    replication::{Handle, Links, Replication},
    steward::{self, Parts, Steward},
};
use crate::{
    limits::{EMPTY_AFTER, GOSSIP_WAITING},
    server::Server,
};

/// The parts that run.
pub(crate) struct Running {
    thread: JoinHandle<()>,
}

impl Running {
    /// Waits for the end, which comes when the server stops.
    pub(crate) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the cluster's thread panicked");
        }
    }
}

/// Where this node tells others to reach it: `redis` and `tls` for clients, `bus` for nodes.
pub(crate) fn addresses(
    config: &Config,
    redis: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    bus: SocketAddr,
) -> Addresses {
    let port = |address: Option<SocketAddr>| address.map_or(0, |address| address.port());
    let host = config.host().unwrap_or_else(|| bus.ip().to_string());
    Addresses { host, port: port(redis), tls_port: port(tls), bus_port: bus.port() }
}

/// Starts a node's part in its cluster. When this returns it is reached by others.
///
/// # Errors
/// Whatever stands in the way: certificates, the map's file, threads.
pub(crate) fn start(
    server: &Arc<Server>,
    dir: &Path,
    socket: net::TcpListener,
    credentials: Option<Arc<Credentials>>,
    founder: Founder,
) -> anyhow::Result<Running> {
    let cluster = server.cluster.clone().context("this node is in no cluster")?;
    let (server, path) = (server.clone(), dir.to_owned());
    let (started, has_started) = blocking::sync_channel(1);
    let body = move || {
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error.into()))),
        };
        let stopping = server.stopping.clone();
        runtime.block_on(async {
            let assembled = assemble(&server, &cluster, &path, credentials, founder).await;
            match assembled {
                Err(error) => drop(started.send(Err(error))),
                Ok(assembly) => {
                    // The other end waits for this, so it is there.
                    let _ = started.send(Ok(()));
                    assembly.run(&server, socket, stopping).await;
                }
            }
        });
    };
    let thread = thread::Builder::new().name("cluster".to_owned()).spawn(body).context("cannot start a thread")?;
    has_started.recv().context("the cluster's thread ended at once")??;
    Ok(Running { thread })
}

/// All that there is, before it runs.
struct Assembly {
    bus: Bus,
    credentials: Option<Arc<Credentials>>,
    plane: Arc<ControlPlane>,
    steward: Arc<Steward>,
    government: Government,
    gossiping: Gossiping,
    packets: mpsc::Sender<Bytes>,
    replication: Replication,
    feeds: Handle,
}

async fn assemble(
    server: &Arc<Server>,
    cluster: &Arc<Cluster>,
    dir: &Path,
    credentials: Option<Arc<Credentials>>,
    founder: Founder,
) -> anyhow::Result<Assembly> {
    let config = &server.config.cluster;
    let bus = Bus::new(credentials.clone());
    let plane = Arc::new(ControlPlane::start(dir, server.config.node.disk_delay, founder.id, bus.clone()).await?);
    let (store, clock, mark) = (server.store.clone(), server.clock.clone(), server.mark.clone());
    let gateways = Arc::new(Gateways::new(founder.id, server.config.region.id, bus.clone(), clock.clone()));
    let links = server.links.streams().map(|streams| Links::new(streams, gateways.clone()));
    let custody = cluster.share_custody();
    let (replication, feeds) = Replication::new(founder.id, store, clock, mark, bus.clone(), custody, links);
    let (packets, arrived) = mpsc::channel(GOSSIP_WAITING);
    let (reports, reported) = steward::reports();
    let suspects = Arc::new(Suspects::default());
    let gossiping = Gossiping {
        gossip: Gossip::new(founder.id, founder.run, gossip_options(config), rand::random()),
        bus: bus.clone(),
        clock: server.clock.clone(),
        cluster: cluster.clone(),
        suspects: suspects.clone(),
        maps: plane.map(),
        packets: arrived,
    };
    let governor = Governor::new(governor_options(config));
    let government = Government { governor, plane: plane.clone(), clock: server.clock.clone(), reports: reported };
    let steward = Arc::new(Steward::new(Parts {
        server: server.clone(),
        cluster: cluster.clone(),
        plane: plane.clone(),
        bus: bus.clone(),
        founder,
        suspects,
        replication: feeds.clone(),
        shared: replication.shared(),
        gateways: gateways.clone(),
        reports,
    }));
    cluster.attach(replication.shared(), gateways, steward.wishes_to_lead());
    Ok(Assembly { bus, credentials, plane, steward, government, gossiping, packets, replication, feeds })
}

fn gossip_options(config: &Config) -> GossipOptions {
    let probe_period = config.gossip_every;
    GossipOptions { probe_period, probe_rtt: probe_period * 3 / 10, ..GossipOptions::default() }
}

fn governor_options(config: &Config) -> GovernorOptions {
    GovernorOptions { lease: config.lease, fresh: config.lease, patience: EMPTY_AFTER }
}

impl Assembly {
    /// Runs until `stopping`, and ends in the order that stands at the head of this file.
    async fn run(self, server: &Server, socket: net::TcpListener, stopping: CancellationToken) {
        let Self { bus, credentials, plane, steward, government, gossiping, packets, replication, feeds } = self;
        let replicating = CancellationToken::new();
        let thread = replicate(replication, replicating.clone());
        let handlers = Arc::new(Node { steward: steward.clone(), plane: plane.clone(), packets, feeds });
        let mut tasks = JoinSet::new();
        let until = || stopping.clone();
        let (listening, failed) = (until(), plane.clone());
        tasks.spawn(async move {
            if let Err(error) = bus::listen(socket, credentials, handlers, listening).await {
                tracing::error!(%error, "cannot listen to other nodes");
            }
        });
        let (reporting, until_reporting) = (steward.clone(), until());
        tasks.spawn(async move { reporting.report_on(&until_reporting).await });
        let (routing, until_routing) = (steward.clone(), until());
        tasks.spawn(async move { routing.route(&until_routing).await });
        let (following, until_following) = (steward.clone(), until());
        tasks.spawn(async move { following.follow(&until_following).await });
        let (moving, until_moving) = (steward.clone(), until());
        let (settling, until_settling) = (steward.clone(), until());
        let (comparing, until_comparing) = (steward.clone(), until());
        tasks.spawn(async move { comparing.compare_clocks(&until_comparing).await });
        let (aside, until_aside) = (steward.clone(), until());
        let (changing, until_changing) = (steward.clone(), until());
        tasks.spawn(async move { changing.change_regions(&until_changing).await });
        let (taking_over, until_taking_over) = (steward, until());
        tasks.spawn(async move { moving.move_slots(&until_moving).await });
        tasks.spawn(async move { settling.settle_moves(&until_settling).await });
        tasks.spawn(async move { aside.step_aside(&until_aside).await });
        tasks.spawn(async move { taking_over.take_over(&until_taking_over).await });
        tasks.spawn(government.run(until()));
        tasks.spawn(gossiping.run(until()));
        tokio::select! {
            () = stopping.cancelled() => {}
            reason = failed.failure() => {
                tracing::error!(%reason, "the control plane cannot go on");
                server.stopping.cancel();
            }
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the cluster panicked");
            }
        }
        replicating.cancel();
        if let Some(thread) = thread {
            // It ends within its last words; nothing else is left to do on this thread.
            _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        plane.shutdown().await;
        bus.shutdown().await;
    }
}

/// Runs replication on a thread of its own.
fn replicate(replication: Replication, until: CancellationToken) -> Option<JoinHandle<()>> {
    let body = move || match runtime() {
        Ok(runtime) => runtime.block_on(replication.run(until)),
        Err(error) => tracing::error!(%error, "cannot replicate"),
    };
    let thread = thread::Builder::new().name("replication".to_owned()).spawn(body);
    thread.inspect_err(|error| tracing::error!(%error, "cannot start the thread of replication")).ok()
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// This node, as others reach it.
struct Node {
    steward: Arc<Steward>,
    plane: Arc<ControlPlane>,
    packets: mpsc::Sender<Bytes>,
    feeds: Handle,
}

impl Handlers for Node {
    async fn raft(&self, request: Bytes) -> Result<Vec<u8>, Malformed> {
        self.plane.answer(request).await
    }

    async fn control(&self, request: Bytes) -> Result<Vec<u8>, Malformed> {
        let request: Request = rmp_serde::from_slice(&request)?;
        let response = self.steward.answer(request).await;
        rmp_serde::to_vec(&response).map_err(|_| Malformed)
    }

    fn gossip(&self, _from: SocketAddr, message: Bytes) {
        // What does not fit is told again.
        let _ = self.packets.try_send(message);
    }

    fn feed(&self, arrival: Arrival) {
        // One that does not fit is closed, and dialled again.
        let _ = self.feeds.arrivals.try_send(arrival);
    }
}
