//! A node: the assembly of the process, and its end.
//!
//! # Threads
//! N workers with the connections of clients, one acceptor, one admin server, one for housekeeping, one gateway with all
//! links. Each ends when `stopping` is cancelled, and each is joined.
//!
//! # The order of the end
//! 1. `stopping` is cancelled: /health/ready says 503, nothing is accepted any more, the links say goodbye.
//! 2. Each connection finishes the turn that it is at, and its replies are written; who does not read them in
//!    [`DRAIN_MAX`](crate::limits::DRAIN_MAX) is cut.
//! 3. The workers end, then housekeeping, which persisted the mark as long as anybody could write.
//! 4. The admin server answered until here; it goes last.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, bail};
use clock::{Incarnation, Offset, Origin, OsClock, Time};
use config::{Listen, NodeConfig};
use geo_link::tls::Credentials;
use metrics_exporter_prometheus::PrometheusHandle;
use node_core::{
    cluster::{Founder, Id, NodeId, Regions, Run},
    store::{Store, StoreOptions},
};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin,
    certificates::Certificates,
    cluster::{Cluster, bus, start},
    housekeeping::Housekeeping,
    limits::{ACCEPT_QUEUE, FILES_BESIDE_CLIENTS},
    links::{self, Links},
    mark::Mark,
    parameters::Parameters,
    process,
    regions::OtherRegions,
    server::{
        Server, ServerParts,
        acceptor::{self, Door},
        tls,
        worker::Worker,
    },
    state::StateDir,
};

/// A node that runs.
pub struct Node {
    server: Arc<Server>,
    addresses: Addresses,
    acceptor: JoinHandle<()>,
    workers: Vec<JoinHandle<()>>,
    housekeeping: JoinHandle<()>,
    cluster: Option<start::Running>,
    admin: Option<(JoinHandle<()>, CancellationToken)>,
}

/// Where a node listens; ports that were left to the system are known here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Clients in plain text.
    pub redis: Option<SocketAddr>,
    /// Clients over TLS.
    pub tls: Option<SocketAddr>,
    /// Clients that know nothing of clusters.
    pub proxy: Option<SocketAddr>,
    /// Metrics, health and status.
    pub admin: Option<SocketAddr>,
    /// Links of other regions.
    pub gateway: Option<SocketAddr>,
}

/// Starts a node, waits until it is told to stop, and stops it.
///
/// # Errors
/// Whatever keeps it from starting, or breaks it.
pub fn run(config: NodeConfig, config_file: Option<String>) -> anyhow::Result<()> {
    let (files, clients) = (process::raise_file_limit(), u64::from(config.limits.maxclients));
    if files.is_some_and(|files| files < clients + FILES_BESIDE_CLIENTS) {
        tracing::warn!(?files, clients, "fewer files may be open than clients may connect");
    }
    let runtime = Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        // From the first moment on, so that a signal that comes while the node starts ends it in order as well.
        let signals = StopSignals::install()?;
        let node = Node::start(config, config_file)?;
        let stopping = node.server.stopping.clone();
        tokio::select! {
            () = signals.told() => {}
            // SHUTDOWN, or a part that cannot go on.
            () = stopping.cancelled() => {}
        }
        tracing::info!("stopping");
        node.stop()?;
        tracing::info!("stopped");
        Ok(())
    })
}

/// SIGTERM and SIGINT, which both mean: stop in order.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes the signals from now on; needs a runtime.
    ///
    /// # Errors
    /// If the system does not let it.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one of them.
    pub(crate) async fn told(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Node {
    /// Assembles a node from what is configured and starts it; when this returns it serves clients.
    ///
    /// # Errors
    /// Whatever stands in the way: the state directory, an address in use, certificates, threads.
    pub fn start(config: NodeConfig, config_file: Option<String>) -> anyhow::Result<Self> {
        let clock = Arc::new(OsClock::with_offset(Offset::from_nanos(config.clock.offset.as_nanos())));
        let dir = config.node.dir.as_deref().map(|dir| StateDir::open(dir, config.node.disk_delay)).transpose()?;
        // In a cluster the map says what was said of other regions.
        let said = match (&dir, config.cluster.listen) {
            (Some(dir), Listen::Off) => dir.regions()?,
            _ => Regions::new(),
        };
        let regions = OtherRegions::new(links::peers(&config.peers), &said);
        let store = Arc::new(build_store(&config, &regions, dir.as_ref(), clock.now().wall));
        let membership = Membership::of(&config, dir.as_ref())?;
        let recorder = admin::install_recorder()?;
        let (doors, mut addresses) = open_doors(&config)?;
        let admin = open_admin(&config)?;
        addresses.admin = admin.as_ref().map(TcpListener::local_addr).transpose()?;

        let mark = Arc::new(Mark::new(dir.as_ref().map_or(Time::MAX, |dir| dir.state().mark)));
        let parameters = Parameters::new(&config, config.auth.password().context("cannot read the password file")?);
        let address = addresses.redis.or(addresses.tls);
        let workers = config.node.worker_count();
        let cluster = membership.as_ref().map(Membership::cluster);
        let parts = ServerParts { config, config_file, store, clock, cluster, mark, parameters, regions, address };
        let server = Arc::new(Server::new(parts));
        let path = dir.as_ref().map(|dir| dir.path().to_owned());

        let admin = admin.map(|listener| start_admin(&server, recorder, listener)).transpose()?;
        let credentials = bus::credentials(&server.config)?;
        let certificates = certificates(&server, credentials.clone(), doors.iter().find_map(|door| door.tls.clone()));
        let housekeeping = Housekeeping::new(server.clone(), dir, said, certificates);
        let housekeeping = spawn("housekeeping", move || housekeeping.run())?;
        server.mark.kept_by(housekeeping.thread().clone());
        let (queues, workers) = start_workers(&server, workers)?;
        addresses.gateway = Links::start(&server)?;
        let cluster =
            membership.zip(path).map(|(own, path)| own.start(&server, &path, credentials, &addresses)).transpose()?;
        let acceptor = start_acceptor(&server, doors, queues)?;

        server.ready.store(true, Relaxed);
        let region = &server.config.region;
        tracing::info!(region = %region.name, id = %region.id, origin = ?server.store.origin(), ?addresses, "node is up");
        Ok(Self { server, addresses, acceptor, workers, housekeeping, cluster, admin })
    }

    /// Where it listens.
    pub const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Stops it, in the order that stands at the head of this file, and waits for the end.
    ///
    /// # Errors
    /// If it stops because it must not go on: another life of this region was seen.
    pub fn stop(self) -> anyhow::Result<()> {
        self.server.stopping.cancel();
        join(self.acceptor);
        self.server.links.stop();
        self.server.clients.close_all();
        self.workers.into_iter().for_each(join);
        if let Some(cluster) = self.cluster {
            cluster.join();
        }
        self.housekeeping.thread().unpark();
        join(self.housekeeping);
        if let Some((admin, end)) = self.admin {
            end.cancel();
            join(admin);
        }
        match self.server.links.superseded_by() {
            None => Ok(()),
            Some(by) => bail!(
                "a peer knows a younger life of this region, {by}: the state directory was lost or restored, or another \
                 process runs as this region; start it again, and it goes on as a new life"
            ),
        }
    }
}

/// What makes this node one of a cluster.
struct Membership {
    id: NodeId,
    run: Run,
    socket: TcpListener,
}

impl Membership {
    /// The membership that is configured, if one is; the socket listens, and nobody is answered yet.
    fn of(config: &NodeConfig, dir: Option<&StateDir>) -> anyhow::Result<Option<Self>> {
        let (Listen::At(listen), Some(dir)) = (config.cluster.listen, dir) else { return Ok(None) };
        let (id, run) = (dir.node_id(|| Id::from_bytes(rand::random()))?, dir.next_run()?);
        let socket = acceptor::bind(listen).with_context(|| format!("cannot listen at {listen}"))?;
        Ok(Some(Self { id, run, socket }))
    }

    fn cluster(&self) -> Arc<Cluster> {
        Arc::new(Cluster::new(self.id, self.run))
    }

    fn start(
        self,
        server: &Arc<Server>,
        dir: &Path,
        credentials: Option<Arc<Credentials>>,
        addresses: &Addresses,
    ) -> anyhow::Result<start::Running> {
        let bus = self.socket.local_addr()?;
        let addresses = start::addresses(&server.config.cluster, addresses.redis, addresses.tls, bus);
        let founder = Founder { id: self.id, run: self.run, addresses };
        start::start(server, dir, self.socket, credentials, founder)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// The files of certificates that this node looks after, and what takes them.
fn certificates(
    server: &Arc<Server>,
    bus: Option<Arc<Credentials>>,
    clients: Option<Arc<tls::Handshakes>>,
) -> Certificates {
    let (mut certificates, config) = (Certificates::default(), &server.config);
    if let (Some(files), false) = (config.gateway.files(), config.cluster.listen.is_on()) {
        let server = Arc::downgrade(server);
        certificates.watch("links", files, move |files| {
            let Some(server) = server.upgrade() else { return Ok(()) };
            Ok(server.links.reload_tls(&links::material(files)?)?)
        });
    }
    if let (Some(files), Some(credentials)) = (config.cluster.files(), bus) {
        certificates.watch("bus", files, move |files| Ok(credentials.reload(&links::material(files)?)?));
    }
    if let (Some(files), Some(clients)) = (config.tls.files(), clients) {
        certificates.watch("clients", files, move |files| Ok(clients.reload(files)?));
    }
    certificates
}

/// A life is born now, or at the mark that the one before it left if that lies ahead: a birth that is not true would let
/// two lives of a region pass for one.
fn build_store(config: &NodeConfig, regions: &OtherRegions, dir: Option<&StateDir>, now: Time) -> Store {
    let state = dir.map(StateDir::state);
    let incarnation = match config.cluster.listen {
        // In a cluster the map says who stamps, and under what.
        Listen::At(_) => Incarnation::UNBORN,
        Listen::Off => state.map_or(Incarnation::FIRST, |state| state.incarnation),
    };
    let store = Store::new(&StoreOptions {
        origin: Origin::new(config.region.id, incarnation),
        start: state.map_or(now, |state| state.mark.max(now)),
        peers: regions.all().iter().map(|peer| peer.id).collect(),
        stripes: config.memory.stripes as usize,
        log_records: config.memory.log_records as usize,
        hash_seed: rand::random(),
    });
    let (settings, memory) = (store.settings(), &config.memory);
    settings.set_max_memory(memory.maxmemory.as_usize());
    settings.set_policy(policy(memory.maxmemory_policy));
    settings.set_samples(memory.maxmemory_samples as usize);
    settings.set_lfu_log_factor(memory.lfu_log_factor);
    settings.set_lfu_decay_minutes((memory.lfu_decay_time.as_secs() / 60) as u32);
    settings.set_tombstone_budget(memory.tombstone_budget.as_usize());
    store
}

/// The policy of the store; both lists are Redis's, by the same names.
fn policy(configured: config::MaxmemoryPolicy) -> node_core::store::EvictionPolicy {
    let name = configured.to_string();
    node_core::store::EvictionPolicy::from_name(&name).expect("both lists have the names of Redis's policies")
}

/// Binds the sockets for clients, before any thread is started: an address in use is found out at once.
fn open_doors(config: &NodeConfig) -> anyhow::Result<(Vec<Door>, Addresses)> {
    let (mut doors, mut addresses) = (Vec::new(), Addresses::default());
    let bind = |listen: SocketAddr| acceptor::bind(listen).with_context(|| format!("cannot listen at {listen}"));
    if let Listen::At(listen) = config.node.listen {
        let listener = bind(listen)?;
        addresses.redis = Some(listener.local_addr()?);
        doors.push(Door { listener, tls: None, proxied: false });
    }
    if let (Listen::At(listen), Some(files)) = (config.tls.listen, config.tls.files()) {
        let tls = Some(Arc::new(tls::Handshakes::new(files)?));
        let listener = bind(listen)?;
        addresses.tls = Some(listener.local_addr()?);
        doors.push(Door { listener, tls, proxied: false });
    }
    if let Listen::At(listen) = config.cluster.proxy {
        let listener = bind(listen)?;
        addresses.proxy = Some(listener.local_addr()?);
        doors.push(Door { listener, tls: None, proxied: true });
    }
    Ok((doors, addresses))
}

fn open_admin(config: &NodeConfig) -> anyhow::Result<Option<TcpListener>> {
    let Listen::At(listen) = config.node.admin else { return Ok(None) };
    Ok(Some(acceptor::bind(listen).with_context(|| format!("cannot listen at {listen}"))?))
}

fn start_admin(
    server: &Arc<Server>,
    recorder: PrometheusHandle,
    listener: TcpListener,
) -> anyhow::Result<(JoinHandle<()>, CancellationToken)> {
    let (server, closing) = (server.clone(), CancellationToken::new());
    let until = closing.clone();
    let thread = spawn("admin", move || {
        let run = || {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(admin::run(server.clone(), recorder, listener, until))
        };
        or_stop(&server, "admin", run());
    })?;
    Ok((thread, closing))
}

type Workers = (Vec<mpsc::Sender<acceptor::Arrival>>, Vec<JoinHandle<()>>);

fn start_workers(server: &Arc<Server>, count: usize) -> anyhow::Result<Workers> {
    let (mut queues, mut threads) = (Vec::new(), Vec::new());
    for index in 0..count {
        let (queue, arrivals) = mpsc::channel(ACCEPT_QUEUE);
        let worker_server = server.clone();
        queues.push(queue);
        threads.push(spawn(&format!("worker-{index}"), move || {
            or_stop(&worker_server.clone(), "worker", Worker::run(worker_server, index, arrivals));
        })?);
    }
    Ok((queues, threads))
}

fn start_acceptor(
    server: &Arc<Server>,
    doors: Vec<Door>,
    queues: Vec<mpsc::Sender<acceptor::Arrival>>,
) -> anyhow::Result<JoinHandle<()>> {
    let server = server.clone();
    spawn("acceptor", move || {
        let run = || {
            Builder::new_current_thread().enable_all().build()?.block_on(acceptor::run(server.clone(), doors, queues))
        };
        or_stop(&server, "acceptor", run());
    })
}

/// A part of the node that cannot go on stops all of it: half a node helps nobody.
fn or_stop(server: &Server, part: &str, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        tracing::error!(%error, part, "cannot go on");
        server.stopping.cancel();
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> anyhow::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run).with_context(|| format!("cannot start thread {name}"))
}

fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    if thread.join().is_err() {
        tracing::error!(thread = name, "thread panicked");
    }
}
