//! What the lab sees of its processes: the status of each node and gateway, and the links of the WAN.
//!
//! The lab looks through the same HTTP that everybody else has, one short connection per look, all of them at once. A
//! process that does not answer in time, or not in the form that is expected, is one that does not answer. Only what
//! the lab shows is read; what else stands in an answer is ignored, so that a status can grow.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use node_core::cluster::{ClusterMap, Role};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{net::TcpStream, time};

use super::{
    cluster::{self, Cluster},
    limits,
    link::Link,
    plan::{NodePlan, Plan, RegionPlan},
    prometheus::Alert,
};

/// The state of everything at about one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// The nodes, in the order of the plan; none for one that did not answer.
    pub(super) nodes: Vec<Option<Status>>,
    /// The gateways that are processes, in the order of the plan; none for one that did not answer.
    pub(super) gateways: Vec<Option<GatewayStatus>>,
    /// The maps of the regions, in their order; none if a region has none, or nobody knows it.
    pub(super) maps: Vec<Option<ClusterMap>>,
    /// The links of the WAN; none if it did not answer.
    pub(super) wan: Option<Vec<WanLink>>,
    /// The alerts that fire; none if nobody watches, or it did not answer.
    pub(super) alerts: Option<Vec<Alert>>,
}

/// What a node says of itself.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Status {
    /// Whether it holds again what its region lost when it began empty.
    pub(super) complete: bool,
    /// How many keys it has.
    pub(super) keys: u64,
    /// What they take.
    pub(super) used_memory_bytes: u64,
    /// Stamps that were forgotten before all regions had seen them.
    #[serde(default)]
    pub(super) forgotten_early: u64,
    /// Its ends of links.
    pub(super) links: Links,
}

/// The ends of links at one node.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Links {
    /// Those that it dials.
    pub(super) out: Vec<LinkOut>,
    /// Those that it receives.
    #[serde(rename = "in")]
    pub(super) incoming: Vec<LinkIn>,
}

/// The sending end of a link.
#[derive(Debug, Default, Deserialize)]
pub(super) struct LinkOut {
    /// Where it leads.
    pub(super) to: String,
    /// Whether it is connected.
    pub(super) up: bool,
    /// What it does.
    pub(super) state: String,
    /// What went wrong last.
    pub(super) last_error: Option<String>,
}

/// The receiving end of a link.
#[derive(Debug, Default, Deserialize)]
pub(super) struct LinkIn {
    /// Where it begins.
    pub(super) from: String,
    /// Whether it is connected.
    pub(super) up: bool,
    /// What it does.
    pub(super) state: String,
    /// Of how many streams it consists.
    pub(super) streams: usize,
    /// How far behind the other region this one is; decades if it never heard from it.
    lag_seconds: Option<f64>,
    /// What went wrong last.
    pub(super) last_error: Option<String>,
}

impl LinkIn {
    /// How far behind the other region this one is, in seconds; none if it never heard from it.
    pub(super) fn lag(&self) -> Option<f64> {
        // Who has seen nothing has seen everything up to 1970.
        self.lag_seconds.filter(|&seconds| seconds < limits::LAG_OF_A_STRANGER.as_secs_f64())
    }
}

/// What a gateway says of itself.
#[derive(Debug, Default, Deserialize)]
pub(super) struct GatewayStatus {
    /// The nodes that it calls.
    pub(super) nodes: Vec<CalledNode>,
    /// The sending half.
    pub(super) tunnels: Tunnels,
    /// The streams that arrive.
    pub(super) arriving: Vec<Stream>,
}

impl GatewayStatus {
    /// How many nodes know it.
    pub(super) fn attached(&self) -> usize {
        self.nodes.iter().filter(|node| node.attached).count()
    }
}

/// A node that a gateway calls.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CalledNode {
    /// Whether it knows the gateway.
    pub(super) attached: bool,
}

/// The sending half of a gateway.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Tunnels {
    /// The streams that leave.
    pub(super) streams: Vec<Stream>,
}

/// A stream through a gateway; what the lab shows is how many there are.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Stream {}

/// A link of the WAN.
#[derive(Debug, Deserialize)]
pub(super) struct WanLink {
    /// Where it begins.
    pub(super) from: String,
    /// Where it leads.
    pub(super) to: String,
    /// Its delay, one way.
    pub(super) delay_ms: f64,
    /// `up`, `blackhole` or `reset`.
    pub(super) state: String,
}

impl Snapshot {
    /// Looks at everything.
    pub(super) async fn take(plan: &Plan, clusters: &[Option<Cluster>]) -> Self {
        #[derive(Deserialize)]
        struct All {
            links: Vec<WanLink>,
        }
        let nodes = join_all(plan.nodes().map(|node| read_json(node.admin, "/status")));
        let gateways = join_all(plan.gateways().map(|gateway| read_json(gateway.admin, "/status")));
        let maps = join_all(clusters.iter().map(async |cluster| cluster.as_ref()?.map().await));
        let wan = async { read_json::<All>(plan.topology.as_ref()?.control, "/links").await };
        let (nodes, gateways, maps, wan) = tokio::join!(nodes, gateways, maps, wan);
        Self { nodes, gateways, maps, wan: wan.map(|all| all.links), alerts: None }
    }

    /// The statuses of a region's nodes, in the order of the plan, by the index of the region.
    pub(super) fn nodes_of<'a>(&'a self, plan: &'a Plan, region: usize) -> &'a [Option<Status>] {
        let first = plan.first_node(region);
        self.nodes.get(first..first + plan.regions[region].nodes.len()).unwrap_or_default()
    }

    /// The statuses of a region's gateways that are processes, in the order of the plan, by the index of the region.
    pub(super) fn gateways_of(&self, plan: &Plan, region: usize) -> &[Option<GatewayStatus>] {
        let first: usize = plan.regions.iter().take(region).map(|region| region.gateways.len()).sum();
        self.gateways.get(first..first + plan.regions[region].gateways.len()).unwrap_or_default()
    }

    /// The primaries of a region, by its index, each by what it says of itself; nothing if nobody tells who they are.
    pub(super) fn primaries<'a>(&'a self, plan: &'a Plan, region: usize) -> Vec<Option<&'a Status>> {
        self.named_primaries(plan, region).into_iter().map(|(_, status)| status).collect()
    }

    /// The same, each with its plan.
    pub(super) fn named_primaries<'a>(
        &'a self,
        plan: &'a Plan,
        region: usize,
    ) -> Vec<(&'a NodePlan, Option<&'a Status>)> {
        let RegionPlan { nodes, .. } = &plan.regions[region];
        let statuses = self.nodes_of(plan, region);
        if plan.regions[region].is_cluster() && self.maps.get(region).is_none_or(Option::is_none) {
            return Vec::new();
        }
        let primaries = nodes.iter().zip(statuses).filter(|(node, _)| self.role(region, node) == Role::Primary);
        primaries.map(|(node, status)| (node, status.as_ref())).collect()
    }

    /// What a node is, by the map of its region; the primary, if it is alone in it.
    pub(super) fn role(&self, region: usize, node: &NodePlan) -> Role {
        let map = self.maps.get(region).and_then(Option::as_ref);
        map.zip(node.bus).and_then(|(map, bus)| map.role(cluster::node_at(map, bus)?)).unwrap_or(Role::Primary)
    }

    /// The link of the WAN under a link, by the indices of its regions.
    pub(super) fn wan_link(&self, plan: &Plan, from: usize, to: usize) -> Option<&WanLink> {
        let [from, to] = [from, to].map(|index| &plan.regions[index].name);
        self.wan.as_ref()?.iter().find(|link| link.from == *from && link.to == *to)
    }

    /// What is not up yet, in words; empty when all is.
    pub(super) fn missing(&self, plan: &Plan) -> Vec<String> {
        let silent = plan.nodes().zip(&self.nodes).filter(|(_, status)| status.is_none());
        let mut missing: Vec<_> = silent.map(|(node, _)| format!("{} does not answer", node.name)).collect();
        let has_wan = plan.topology.is_some();
        missing.extend((has_wan && self.wan.is_none()).then(|| "the wan does not answer".to_owned()));
        for (index, region) in plan.regions.iter().enumerate() {
            for (gateway, status) in region.gateways.iter().zip(self.gateways_of(plan, index)) {
                let nodes = region.nodes.len();
                let what = match status.as_ref().map(GatewayStatus::attached) {
                    None => "does not answer".to_owned(),
                    Some(attached) if attached < nodes => format!("is known to {attached} of {nodes} nodes"),
                    Some(_) => continue,
                };
                missing.push(format!("{} {what}", gateway.name));
            }
        }
        let links = plan.pairs().map(|(from, to)| Link::between(plan, self, from, to));
        missing.extend(links.filter_map(|link| link.missing()));
        missing
    }
}

/// Reads JSON from an address, if it comes in time, whole and in the right form.
pub(super) async fn read_json<T: DeserializeOwned>(address: SocketAddr, path: &str) -> Option<T> {
    let body = read(address, path).await?;
    serde_json::from_slice(&body).ok()
}

/// Reads text from an address, if it comes in time and whole.
pub(super) async fn read_text(address: SocketAddr, path: &str) -> Option<String> {
    String::from_utf8(read(address, path).await?.into()).ok()
}

async fn read(address: SocketAddr, path: &str) -> Option<Bytes> {
    let read = exchange(address, Method::GET, path, Bytes::new());
    time::timeout(limits::LOOK, read).await.ok()?.ok()
}

/// Sends JSON to an address.
///
/// # Errors
/// If it is refused, with what is said of that; or if there is no answer in time.
pub(super) async fn send_json(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: &serde_json::Value,
) -> anyhow::Result<()> {
    let sent = exchange(address, method, path, body.to_string().into());
    time::timeout(limits::LOOK, sent).await?.map(drop)
}

async fn exchange(address: SocketAddr, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = http1::handshake(stream).await?;
    let request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
    let request = request.body(Full::new(body))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), limits::ANSWER_LEN).collect().await;
        let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
        anyhow::ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    };
    // The connection is what moves the bytes of the exchange; it ends only when the sender is dropped.
    tokio::select! {
        body = exchange => body,
        Err(error) = connection => Err(error.into()),
    }
}
