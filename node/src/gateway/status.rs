//! What a gateway says of itself over HTTP.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use config::GatewayConfig;
use geo_link::{
    SplitStatus, Splitter,
    tunnel::{Tunnels, TunnelsStatus},
};
use metrics::gauge;
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Addresses, attaching::View, reach::Reach};
use crate::admin::{
    Subject,
    metrics::{names, publish_process},
};

/// What there is to look at.
#[derive(Debug)]
pub(super) struct Looks {
    region: Region,
    gateway: Own,
    started: Instant,
    stopping: CancellationToken,
    view: View,
    tunnels: Arc<Tunnels>,
    splitter: Arc<Splitter<Reach>>,
}

/// `/status` of a gateway.
#[derive(Clone, Debug, Serialize)]
pub(super) struct GatewayStatus {
    version: &'static str,
    region: Region,
    gateway: Own,
    uptime_seconds: f64,
    /// How often the region's map has changed, as this gateway knows it.
    epoch: u64,
    /// The nodes that it calls.
    pub(super) nodes: Vec<NodeStatus>,
    /// The sending half of links.
    pub(super) tunnels: TunnelsStatus,
    /// The receiving half of links: the streams that arrive, one from each primary of other regions.
    pub(super) arriving: Vec<SplitStatus>,
}

#[derive(Clone, Debug, Serialize)]
struct Region {
    name: String,
    id: u8,
}

#[derive(Clone, Debug, Serialize)]
struct Own {
    name: String,
    /// Where it listens to nodes.
    bus: SocketAddr,
    /// Where it listens to other regions, if it does.
    links: Option<SocketAddr>,
}

/// A node that a gateway calls.
#[derive(Clone, Debug, Serialize)]
pub(super) struct NodeStatus {
    /// Its bus.
    addr: String,
    /// Whether it knows this gateway.
    pub(super) attached: bool,
    /// Why it does not.
    last_error: Option<String>,
}

impl Looks {
    pub(super) fn new(
        config: &GatewayConfig,
        addresses: Addresses,
        stopping: CancellationToken,
        view: View,
        tunnels: Arc<Tunnels>,
        splitter: Arc<Splitter<Reach>>,
    ) -> Self {
        Self {
            region: Region { name: config.region.name.to_string(), id: config.region.id.number() },
            gateway: Own { name: config.gateway.name.to_string(), bus: addresses.bus, links: addresses.links },
            started: Instant::now(),
            stopping,
            view,
            tunnels,
            splitter,
        }
    }

    /// Looks at everything as of now.
    pub(super) fn look(&self) -> GatewayStatus {
        let node = |(addr, called): (Arc<str>, super::attaching::Called)| NodeStatus {
            addr: addr.to_string(),
            attached: called.is_attached(),
            last_error: called.error,
        };
        GatewayStatus {
            version: env!("CARGO_PKG_VERSION"),
            region: self.region.clone(),
            gateway: self.gateway.clone(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            epoch: self.view.maps.borrow().epoch().0,
            nodes: self.view.nodes().into_iter().map(node).collect(),
            tunnels: self.tunnels.status(),
            arriving: self.splitter.status(),
        }
    }
}

impl Subject for Looks {
    fn publish(&self) {
        publish_process();
        let status = self.look();
        gauge!(names::CLUSTER_EPOCH, "region" => status.region.name).set(status.epoch as f64);
        gauge!(names::GATEWAY_NODES).set(status.nodes.len() as f64);
        let attached = status.nodes.iter().filter(|node| node.attached).count();
        gauge!(names::GATEWAY_NODES_ATTACHED).set(attached as f64);
    }

    fn readiness(&self) -> Result<Value, &'static str> {
        if self.stopping.is_cancelled() {
            return Err("the gateway is stopping");
        }
        if !self.view.nodes().iter().any(|(_, called)| called.is_attached()) {
            return Err("no node of the region knows this gateway");
        }
        let epoch = self.view.maps.borrow().epoch().0;
        if epoch == 0 { Err("the region is no cluster yet") } else { Ok(json!({ "ready": true, "epoch": epoch })) }
    }

    fn status(&self) -> impl Serialize {
        self.look()
    }
}
