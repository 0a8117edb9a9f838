//! `meridian gateway`: the process that joins a region which is a cluster to the other regions.
//!
//! It holds nothing: no record, no cursor, no part in what its region agrees on. It may die at any moment, and any other of its
//! region carries on. What it does has two halves:
//! - *Sending*: primaries connect to it over the bus and get a tunnel to a gateway of another region ([`geo_link::tunnel`]).
//!   Which primary comes to which gateway the primaries decide, each for itself (`node_core::cluster::gateways`).
//! - *Receiving*: streams of other regions arrive, and each primary of the region is passed its part ([`geo_link::Splitter`]).
//!
//! ```text
//! attaching   says to every node of the region, several times a second, that this gateway is there; follows the map
//! reach       the primaries, by the map
//! peers       the other regions, by the map
//! status      what it says of itself over HTTP
//! ```
//!
//! # Threads
//! One for what must answer in time (the bus, attaching, HTTP), and one for all streams, which TLS may keep busy.
//!
//! # The order of the end
//! 1. `stopping` is cancelled: no node is called any more, nothing is accepted, /health/ready says 503, and each stream is
//!    closed at both ends. Primaries find the others within a call.
//! 2. The thread of the streams ends, then the bus closes what it dialled.
//! 3. The admin server answered until here; it goes last.

mod attaching;
mod peers;
mod reach;
mod status;
#[cfg(test)]
mod tests;

use std::{
    net::{self, SocketAddr},
    sync::Arc,
    thread,
};

use anyhow::Context as _;
use clock::{Offset, OsClock};
use config::{GatewayConfig, Listen};
use geo_link::{
    LinkOptions, Splitter, TlsMaterial,
    tls::{self, Credentials},
    tunnel::{TunnelOptions, Tunnels},
};
use node_core::cluster::{Addresses as Announced, gateways::Attachment};
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::interval,
};
use tokio_util::{
    bytes::Bytes,
    sync::{CancellationToken, DropGuard},
};

use self::{attaching::Attaching, reach::Reach, status::Looks};
use crate::{
    admin,
    certificates::Certificates,
    cluster::bus::{self, Arrival, Bus, Handlers, Malformed},
    limits::{CERTIFICATES_INTERVAL, FEEDS_WAITING},
    links, logging,
    node::StopSignals,
    process,
    server::acceptor,
};

/// A gateway that runs.
pub(crate) struct Gateway {
    addresses: Addresses,
    stopping: CancellationToken,
    tasks: JoinSet<()>,
    bus: Bus,
    tunnelling: oneshot::Receiver<()>,
    admin: Option<(JoinHandle<()>, CancellationToken)>,
    /// Whoever drops a gateway instead of stopping it leaves nothing behind either.
    _stopped_in_the_end: DropGuard,
}

/// Where a gateway listens; ports that were left to the system are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// Nodes of the region.
    pub(crate) bus: SocketAddr,
    /// Links of other regions.
    pub(crate) links: Option<SocketAddr>,
    /// Metrics, health and status.
    pub(crate) admin: Option<SocketAddr>,
}

/// Starts a gateway, waits until it is told to stop, and stops it.
///
/// # Errors
/// Whatever keeps it from starting, or breaks it.
pub(crate) fn run(config: &GatewayConfig) -> anyhow::Result<()> {
    logging::install(&config.log);
    process::raise_file_limit();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // From the first moment on, so that a signal that comes while the gateway starts ends it in order as well.
        let signals = StopSignals::install()?;
        let gateway = Gateway::start(config)?;
        let (region, name) = (&config.region.name, &config.gateway.name);
        tracing::info!(%region, %name, addresses = ?gateway.addresses(), "gateway is up");
        tokio::select! {
            () = signals.told() => {}
            // A part that cannot go on.
            () = gateway.stopping.cancelled() => {}
        }
        tracing::info!("stopping");
        gateway.stop().await;
        tracing::info!("stopped");
        Ok(())
    })
}

impl Gateway {
    /// Assembles a gateway from what is configured and starts it, on the runtime that this is called in.
    ///
    /// # Errors
    /// Whatever stands in the way: an address in use, certificates, threads.
    pub(crate) fn start(config: &GatewayConfig) -> anyhow::Result<Self> {
        let region = config.region.name.as_str();
        let recorder = admin::install_recorder()?;
        let credentials = config.cluster.files().map(|files| bus::credentials_of(region, files));
        let credentials = credentials.transpose().context("cannot use the certificates of the bus")?;
        let material = material(config)?;
        let peers = links::peers(&config.peers);
        let options = TunnelOptions { region: region.to_owned(), peers: peers.clone(), tls: material.clone() };
        let tunnels = Arc::new(Tunnels::new(&options).context("cannot use the certificates of links")?);
        let links = Credentials::new(region, tls::LINK, &material).context("cannot use the certificates of links")?;
        let door = bind(config.gateway.listen)?;
        let listener = bind(config.cluster.listen)?.context("no address for nodes to connect to")?;
        let admin = bind(config.admin.listen)?;
        let addresses = Addresses {
            bus: listener.local_addr()?,
            links: door.as_ref().map(net::TcpListener::local_addr).transpose()?,
            admin: admin.as_ref().map(net::TcpListener::local_addr).transpose()?,
        };
        let (stopping, bus) = (CancellationToken::new(), Bus::new(credentials.clone()));
        let (attaching, view) =
            Attaching::new(attachment(config, addresses.bus), &peers, &config.cluster.seeds, bus.clone());
        let (owners, owned) = watch::channel(Arc::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(reach::follow(view.maps.clone(), owners, stopping.clone()));
        let reach = Reach::new(&config.gateway.name.to_string(), bus.clone(), owned);
        let clock = Arc::new(OsClock::with_offset(Offset::from_nanos(config.clock.offset.as_nanos())));
        let options = LinkOptions { max_drift: config.clock.max_drift, ..LinkOptions::default() };
        let splitter = Splitter::new(region, config.region.id, &peers, options, clock, reach);
        let splitter = Arc::new(splitter);
        tasks.spawn(peers::follow(
            peers.clone(),
            view.maps.clone(),
            tunnels.clone(),
            splitter.clone(),
            stopping.clone(),
        ));
        let looks = Looks::new(config, addresses, stopping.clone(), view, tunnels.clone(), splitter.clone());
        let looks = Arc::new(looks);
        let (arrivals, arrived) = mpsc::channel(FEEDS_WAITING);
        let links = Arc::new(links);
        let certificates = certificates(config, (tunnels.clone(), links.clone()), credentials.clone());
        let receiving = door.map(|door| Receiving { splitter, credentials: links, door });
        let tunnelling = start_streams(tunnels, arrived, receiving, stopping.clone())?;
        let (until, broken) = (stopping.clone(), stopping.clone());
        tasks.spawn(async move {
            if let Err(error) = bus::listen(listener, credentials, Arc::new(Door { arrivals }), until).await {
                tracing::error!(%error, "cannot listen to nodes");
                broken.cancel();
            }
        });
        tasks.spawn(attaching.run(stopping.clone()));
        tasks.spawn(look_after(certificates, stopping.clone()));
        let admin = admin.map(|listener| {
            let (closing, looks, broken) = (CancellationToken::new(), looks, stopping.clone());
            let until = closing.clone();
            let serving = tokio::spawn(async move {
                if let Err(error) = admin::run(looks, recorder, listener, until).await {
                    tracing::error!(%error, "cannot serve metrics and status");
                    broken.cancel();
                }
            });
            (serving, closing)
        });
        let _stopped_in_the_end = stopping.clone().drop_guard();
        Ok(Self { addresses, stopping, tasks, bus, tunnelling, admin, _stopped_in_the_end })
    }

    /// Where it listens.
    pub(crate) const fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Stops it, in the order that stands at the head of this file, and waits for the end.
    pub(crate) async fn stop(mut self) {
        self.stopping.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the gateway panicked");
            }
        }
        // An error means that the thread has panicked, which was said.
        _ = self.tunnelling.await;
        self.bus.shutdown().await;
        if let Some((serving, closing)) = self.admin {
            closing.cancel();
            _ = serving.await;
        }
    }
}

fn bind(listen: Listen) -> anyhow::Result<Option<net::TcpListener>> {
    let Listen::At(listen) = listen else { return Ok(None) };
    Ok(Some(acceptor::bind(listen).with_context(|| format!("cannot listen at {listen}"))?))
}

/// The files of certificates that this gateway looks after, and what takes them.
fn certificates(
    config: &GatewayConfig,
    (tunnels, own): (Arc<Tunnels>, Arc<Credentials>),
    bus: Option<Arc<Credentials>>,
) -> Certificates {
    let mut certificates = Certificates::default();
    if let Some(files) = config.gateway.files() {
        certificates.watch("links", files, move |files| {
            let material = links::material(files)?;
            tunnels.reload_tls(&material)?;
            Ok(own.reload(&material)?)
        });
    }
    if let (Some(files), Some(credentials)) = (config.cluster.files(), bus) {
        certificates.watch("bus", files, move |files| Ok(credentials.reload(&links::material(files)?)?));
    }
    certificates
}

/// Has certificates that were renewed taken, until `stopping`.
async fn look_after(mut certificates: Certificates, stopping: CancellationToken) {
    let mut due = interval(CERTIFICATES_INTERVAL);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = due.tick() => certificates.look(),
        }
    }
}

/// What this gateway says of itself to nodes, which reach its bus here.
fn attachment(config: &GatewayConfig, bus: SocketAddr) -> Attachment {
    let announced = config.cluster.announce.as_ref();
    let host = announced.map_or_else(|| bus.ip().to_string(), ToString::to_string);
    Attachment {
        region: config.region.id,
        name: config.gateway.name.to_string(),
        instance: rand::random(),
        address: Announced { host, port: 0, tls_port: 0, bus_port: bus.port() }.bus(),
        peers: config.peers.iter().map(|peer| peer.id).collect(),
    }
}

fn material(config: &GatewayConfig) -> anyhow::Result<TlsMaterial> {
    links::material(config.gateway.files().context("the certificates of links are not named")?)
}

/// The half of a gateway at which links of other regions arrive.
struct Receiving {
    splitter: Arc<Splitter<Reach>>,
    credentials: Arc<Credentials>,
    door: net::TcpListener,
}

/// Passes on what nodes send, and takes in what other regions do, on a thread of its own, until `stopping`. What is returned is
/// told of its end.
fn start_streams(
    tunnels: Arc<Tunnels>,
    arrivals: mpsc::Receiver<Arrival>,
    receiving: Option<Receiving>,
    stopping: CancellationToken,
) -> anyhow::Result<oneshot::Receiver<()>> {
    let (ended, has_ended) = oneshot::channel();
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    let body = move || {
        runtime.block_on(async {
            tokio::join!(serve_tunnels(tunnels, arrivals, stopping.clone()), receive_all(receiving, stopping));
        });
        // A look-up of a name may hang for longer than anybody wants to wait.
        runtime.shutdown_timeout(geo_link::limits::FAREWELL);
        // Nobody may wait for it.
        let _ = ended.send(());
    };
    thread::Builder::new().name("streams".to_owned()).spawn(body).context("cannot start a thread")?;
    Ok(has_ended)
}

async fn receive_all(receiving: Option<Receiving>, stopping: CancellationToken) {
    let Some(Receiving { splitter, credentials, door }) = receiving else { return };
    match tokio::net::TcpListener::from_std(door) {
        Ok(door) => splitter.run(credentials, door, stopping).await,
        Err(error) => {
            tracing::error!(%error, "cannot take in links");
            stopping.cancel();
        }
    }
}

async fn serve_tunnels(tunnels: Arc<Tunnels>, mut arrivals: mpsc::Receiver<Arrival>, stopping: CancellationToken) {
    // Bounded by the tunnels, which refuse at once what is too much.
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            arrival = arrivals.recv() => {
                let Some(Arrival { first, stream, .. }) = arrival else { break };
                let (tunnels, until) = (tunnels.clone(), stopping.clone());
                streams.spawn(async move { tunnels.serve(&first, stream, &until).await });
            }
            Some(ended) = streams.join_next() => tell(ended),
        }
    }
    while let Some(ended) = streams.join_next().await {
        tell(ended);
    }
}

fn tell(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a stream panicked");
    }
}

/// A gateway's end of the bus: it takes streams, and is asked nothing.
struct Door {
    arrivals: mpsc::Sender<Arrival>,
}

impl Handlers for Door {
    async fn raft(&self, _request: Bytes) -> Result<Vec<u8>, Malformed> {
        Err(Malformed)
    }

    async fn control(&self, _request: Bytes) -> Result<Vec<u8>, Malformed> {
        Err(Malformed)
    }

    fn gossip(&self, _from: SocketAddr, _message: Bytes) {}

    fn feed(&self, arrival: Arrival) {
        // One that does not fit is closed, and its primary takes another gateway.
        let _ = self.arrivals.try_send(arrival);
    }
}
