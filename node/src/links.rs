//! The gateway embedded in a node: the configuration as `geo-link` wants it, and what comes back from there.
//!
//! A node without peers and without a gateway's address has no links, and has nothing to wait for: it is complete.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, OnceLock, PoisonError, RwLock, Weak},
};

use anyhow::Context as _;
use clock::{Now, Origin, Time};
use config::{Listen, NodeConfig, TlsFiles};
use geo_link::{Gateway, GatewayEvent, GatewayOptions, Host, LinkOptions, LinksStatus, Peer, TlsMaterial};

use crate::server::Server;

/// The links of a node's region, if it has any.
#[derive(Debug, Default)]
pub(crate) struct Links {
    gateway: RwLock<Option<Gateway>>,
    superseded: OnceLock<Origin>,
}

impl Links {
    /// Starts the gateway, if one is configured. Returns where it listens.
    ///
    /// # Errors
    /// Whatever stands in the way: the address, the certificates, the thread.
    pub(crate) fn start(server: &Arc<Server>) -> anyhow::Result<Option<SocketAddr>> {
        let Some(options) = options(&server.config)? else { return Ok(None) };
        let gateway =
            Gateway::start(&options, server.store.clone(), server.clock.clone(), Process(Arc::downgrade(server)))?;
        let address = gateway.local_addr();
        *server.links.gateway.write().unwrap_or_else(PoisonError::into_inner) = Some(gateway);
        Ok(Some(address))
    }

    /// Ends all links, and waits for the end.
    pub(crate) fn stop(&self) {
        let gateway = self.gateway.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(gateway) = gateway {
            gateway.shutdown();
        }
    }

    /// Whether the region has all that the others had when it started.
    pub(crate) fn is_complete(&self) -> bool {
        self.with(Gateway::is_complete).unwrap_or(true)
    }

    /// The state of all links.
    pub(crate) fn status(&self, now: Now) -> LinksStatus {
        self.with(|gateway| gateway.status(now)).unwrap_or_default()
    }

    /// Brings the links' gauges up to date.
    pub(crate) fn refresh_metrics(&self, now: Now) {
        self.with(|gateway| gateway.refresh_metrics(now));
    }

    /// The younger life of this region that a peer knows of, if one does: this process must end.
    pub(crate) fn superseded_by(&self) -> Option<Origin> {
        self.superseded.get().copied()
    }

    fn with<T>(&self, look: impl FnOnce(&Gateway) -> T) -> Option<T> {
        self.gateway.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(look)
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
        GatewayEvent::Superseded { by } => {
            let own = server.store.origin();
            tracing::error!(%own, %by, "a peer knows a younger life of this region: was its state directory lost? stopping; the next start takes a younger one");
            let _ = server.links.superseded.set(by);
            server.stopping.cancel();
        }
    }
}

/// What the configuration says of links; `None` if the node has none.
fn options(config: &NodeConfig) -> anyhow::Result<Option<GatewayOptions>> {
    let (Listen::At(listen), Some(files)) = (config.gateway.listen, config.gateway.files()) else { return Ok(None) };
    let gateway = &config.gateway;
    let peer = |peer: &config::Peer| {
        let addr = peer.addr.single().context("a node dials one address of a peer")?;
        Ok(Peer { name: peer.region.to_string(), id: peer.id, addr: addr.to_string() })
    };
    Ok(Some(GatewayOptions {
        name: config.region.name.to_string(),
        listen,
        peers: config.peers.iter().map(peer).collect::<anyhow::Result<_>>()?,
        tls: material(files)?,
        links: LinkOptions {
            heartbeat: gateway.heartbeat,
            window_bytes: gateway.window.as_usize(),
            batch_bytes: gateway.batch.as_usize(),
            batch_delay: gateway.batch_delay,
            reconnect_min: gateway.reconnect_min,
            reconnect_max: gateway.reconnect_max,
            max_drift: config.clock.max_drift,
            ..LinkOptions::default()
        },
    }))
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
