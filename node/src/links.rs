//! A node's ends of its region's links: the configuration as `geo-link` wants it, and what comes back from there.
//!
//! The one node of a region has its gateway inside. A node of a cluster has the ends of its streams, which replication opens
//! and closes as the node comes to be primary and ceases to be it; gateways are processes of their own. A node that is in
//! no cluster and has no gateway's address has no links, and one that has no peers has nothing to wait for: it is complete.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, Weak},
};

use anyhow::Context as _;
use clock::{Now, Origin, Time};
use config::{Listen, NodeConfig, TlsFiles};
use geo_link::{
    Gateway, GatewayEvent, GatewayOptions, Host, LinkOptions, LinksStatus, Peer, Region, Streams, TlsError, TlsMaterial,
};

use crate::server::Server;

/// The links of a node's region, if it has any.
#[derive(Debug, Default)]
pub(crate) struct Links {
    ends: RwLock<Option<Ends>>,
    superseded: OnceLock<Origin>,
}

/// A node's ends of links.
#[derive(Debug)]
enum Ends {
    /// All of them.
    Embedded(Gateway),
    /// Those of its own slots.
    Streams(Arc<Streams>),
}

impl Links {
    /// Starts the gateway, if one is configured, or what takes its place in a cluster. Returns where it listens.
    ///
    /// # Errors
    /// Whatever stands in the way: the address, the certificates, the thread.
    pub(crate) fn start(server: &Arc<Server>) -> anyhow::Result<Option<SocketAddr>> {
        let (config, process) = (&server.config, Process(Arc::downgrade(server)));
        let (ends, address) = if config.cluster.listen.is_on() {
            let (region, peers) = (config.region.name.as_str(), server.regions.all());
            let (store, clock) = (server.store.clone(), server.clock.clone());
            let streams = Streams::new(region, &peers, link_options(config), store, clock, process);
            (Ends::Streams(Arc::new(streams)), None)
        } else {
            let Some(options) = options(server)? else { return Ok(None) };
            let gateway = Gateway::start(&options, server.store.clone(), server.clock.clone(), process)?;
            let address = gateway.local_addr();
            (Ends::Embedded(gateway), Some(address))
        };
        *server.links.ends.write().unwrap_or_else(PoisonError::into_inner) = Some(ends);
        Ok(address)
    }

    /// Takes other certificates for links of an embedded gateway that are made from now on.
    ///
    /// # Errors
    /// [`TlsError`]; those that were in use still are.
    pub(crate) fn reload_tls(&self, material: &TlsMaterial) -> Result<(), TlsError> {
        match &*self.ends() {
            Some(Ends::Embedded(gateway)) => gateway.reload_tls(material),
            _ => Ok(()),
        }
    }

    /// From here on these are the other regions.
    pub(crate) fn set_peers(&self, peers: &[Peer]) {
        self.with(|region| region.set_peers(peers));
    }

    /// Ends all links of an embedded gateway, and waits for the end.
    pub(crate) fn stop(&self) {
        let ends = self.ends.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Ends::Embedded(gateway)) = ends {
            gateway.shutdown();
        }
    }

    /// The ends of streams, if this is a node of a cluster that has peers.
    pub(crate) fn streams(&self) -> Option<Arc<Streams>> {
        match &*self.ends() {
            Some(Ends::Streams(streams)) => Some(streams.clone()),
            _ => None,
        }
    }

    /// Whether this node has all that the other regions had when it started.
    pub(crate) fn is_complete(&self) -> bool {
        self.with(Region::is_complete).unwrap_or(true)
    }

    /// The state of all links.
    pub(crate) fn status(&self, now: Now) -> LinksStatus {
        self.with(|region| region.status(now)).unwrap_or_default()
    }

    /// Brings the links' gauges up to date.
    pub(crate) fn refresh_metrics(&self, now: Now) {
        self.with(|region| region.refresh_metrics(now));
    }

    /// The younger life of this region that a peer knows of, if one does: this process must end.
    pub(crate) fn superseded_by(&self) -> Option<Origin> {
        self.superseded.get().copied()
    }

    fn ends(&self) -> RwLockReadGuard<'_, Option<Ends>> {
        self.ends.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the region as its links know it, if there are any.
    fn with<T>(&self, act: impl FnOnce(&Region) -> T) -> Option<T> {
        self.ends().as_ref().map(|ends| match ends {
            Ends::Embedded(gateway) => act(gateway.region()),
            Ends::Streams(streams) => act(streams.region()),
        })
    }
}

/// This node, as its gateway sees it.
struct Process(Weak<Server>);

impl Host for Process {
    fn on_event(&self, event: GatewayEvent) {
        if let Some(server) = self.0.upgrade() {
            heard(&server, event);
        }
    }

    fn covers(&self, time: Time) -> bool {
        self.0.upgrade().is_some_and(|server| server.mark.covers_or_moves(time))
    }
}

/// What a node does about what its gateway reports.
fn heard(server: &Server, event: GatewayEvent) {
    match event {
        GatewayEvent::Complete => tracing::info!("this region has all that the others had when it started"),
        GatewayEvent::Superseded { by } if server.config.cluster.listen.is_on() => {
            // Who speaks for a slot says the map; one that was replaced hears so from its own region. Else the peer means another
            // cluster that was this region once, and this one goes on beyond it.
            let own = server.store.origin();
            tracing::warn!(%own, %by, "a peer knows a younger primary of these slots");
            server.cluster.iter().for_each(|cluster| cluster.note_superseded(by.incarnation()));
        }
        GatewayEvent::Superseded { by } => {
            let own = server.store.origin();
            tracing::error!(%own, %by, "a peer knows a younger life of this region: was its state directory lost? stopping; the next start takes a younger one");
            let _ = server.links.superseded.set(by);
            server.stopping.cancel();
        }
    }
}

/// What the configuration says of an embedded gateway; `None` if the node has none.
fn options(server: &Server) -> anyhow::Result<Option<GatewayOptions>> {
    let config = &server.config;
    let (Listen::At(listen), Some(files)) = (config.gateway.listen, config.gateway.files()) else { return Ok(None) };
    let (name, tls) = (config.region.name.to_string(), material(files)?);
    Ok(Some(GatewayOptions { name, listen, peers: server.regions.all().to_vec(), tls, links: link_options(config) }))
}

/// The peers of a file.
pub(crate) fn peers(configured: &[config::Peer]) -> Vec<Peer> {
    let peer = |peer: &config::Peer| {
        let addrs = peer.addr.iter().map(ToString::to_string).collect();
        Peer { name: peer.region.to_string(), id: peer.id, addrs, retired: None }
    };
    configured.iter().map(peer).collect()
}

fn link_options(config: &NodeConfig) -> LinkOptions {
    let gateway = &config.gateway;
    LinkOptions {
        heartbeat: gateway.heartbeat,
        window_bytes: gateway.window.as_usize(),
        batch_bytes: gateway.batch.as_usize(),
        batch_delay: gateway.batch_delay,
        audit_interval: gateway.audit_interval,
        reconnect_min: gateway.reconnect_min,
        reconnect_max: gateway.reconnect_max,
        max_drift: config.clock.max_drift,
        ..LinkOptions::default()
    }
}

/// The contents of the files.
///
/// # Errors
/// If one cannot be read, or is not named.
pub(crate) fn material(files: TlsFiles<'_>) -> anyhow::Result<TlsMaterial> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let ca = files.ca.context("the authorities of the other side's certificate are not named")?;
    Ok(TlsMaterial { cert_pem: read(files.cert)?, key_pem: read(files.key)?, ca_pem: read(ca)? })
}
