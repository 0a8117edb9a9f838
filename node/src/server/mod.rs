//! The server: what all threads of a node share, and the way of a request.
//!
//! ```text
//! acceptor -> worker -> connection: read, parse -> worker::execute -> command or node_core::command -> reply, write
//! ```
//!
//! The acceptor hands each connection to a worker in turn, where it stays. A worker is an OS thread with one
//! current-thread runtime; workers share nothing that a command writes, but for the stripes of the store.

pub(crate) mod acceptor;
mod connection;
mod execute;
mod proxy;
mod routed;
pub(crate) mod session;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tls;
pub(crate) mod worker;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use clock::{Now, OsClock};
use config::NodeConfig;
use node_core::{store::Store, turns::Turns};
use tokio::{
    task::yield_now,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clients::Clients,
    cluster::Cluster,
    latency::LatencyMonitor,
    limits::{HOLD_MAX, TURN_GLANCES, TURN_REST},
    links::Links,
    mark::Mark,
    parameters::Parameters,
    pause::Pause,
    rates::Rates,
    regions::OtherRegions,
    slowlog::Slowlog,
    stats::Stats,
};

/// What all threads of a node share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) config: NodeConfig,
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<OsClock>,
    /// The cluster that this node belongs to; `None` if it holds all slots by itself.
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// Who is in a turn; of use in a cluster only.
    turns: Turns,
    pub(crate) parameters: Parameters,
    pub(crate) clients: Arc<Clients>,
    pub(crate) stats: Stats,
    pub(crate) slowlog: Slowlog,
    pub(crate) latency: LatencyMonitor,
    pub(crate) mark: Arc<Mark>,
    pub(crate) pause: Pause,
    pub(crate) links: Links,
    pub(crate) regions: OtherRegions,
    pub(crate) rates: Rates,
    /// The most that entries, tables and tombstones have held so far.
    pub(crate) peak_bytes: AtomicU64,
    /// When the process began.
    pub(crate) started: Now,
    /// 40 hexadecimal digits, new at each start; clients tell restarts by it.
    pub(crate) run_id: String,
    /// Where clients connect, once that is known.
    pub(crate) address: Option<SocketAddr>,
    /// Where the configuration was read from.
    pub(crate) config_file: Option<String>,
    /// Serves clients: started up, and not stopping.
    pub(crate) ready: AtomicBool,
    /// Cancelled when the node is to stop.
    pub(crate) stopping: CancellationToken,
}

/// What a server is made of.
pub(crate) struct ServerParts {
    pub(crate) config: NodeConfig,
    pub(crate) config_file: Option<String>,
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<OsClock>,
    pub(crate) mark: Arc<Mark>,
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) parameters: Parameters,
    pub(crate) regions: OtherRegions,
    pub(crate) address: Option<SocketAddr>,
}

impl Server {
    pub(crate) fn new(parts: ServerParts) -> Self {
        let ServerParts { config, config_file, store, clock, cluster, mark, parameters, regions, address } = parts;
        Self {
            stats: Stats::new(config.node.worker_count()),
            turns: Turns::new(config.node.worker_count()),
            started: clock.now(),
            run_id: rand::random_iter::<u8>().take(20).map(|byte| format!("{byte:02x}")).collect(),
            clients: Arc::default(),
            slowlog: Slowlog::default(),
            latency: LatencyMonitor::default(),
            pause: Pause::default(),
            rates: Rates::default(),
            peak_bytes: AtomicU64::new(0),
            links: Links::default(),
            ready: AtomicBool::new(false),
            stopping: CancellationToken::new(),
            config,
            config_file,
            store,
            clock,
            cluster,
            mark,
            parameters,
            regions,
            address,
        }
    }

    /// Waits until every turn has ended that may still go by what the cluster said before this call.
    pub(crate) async fn until_turns_passed(&self) {
        let (mut passing, mut glances) = (self.turns.passing(), 0..TURN_GLANCES);
        while !passing.is_over() {
            match glances.next() {
                Some(_) => yield_now().await,
                None => sleep(TURN_REST).await,
            }
        }
    }

    /// Waits until neither a pause nor the persisted mark stands against a write, nor what is held in the cluster.
    pub(crate) async fn until_writable(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.until_rerouted().await;
        }
        self.pause.until_over(|| self.clock.now().monotonic).await;
        let covered = self.mark.until_covers(self.clock.now().wall);
        match self.cluster {
            None => covered.await,
            // A node whose disk is full steps aside: who waits here looks now and then whether it is to go elsewhere.
            Some(_) => _ = timeout(HOLD_MAX, covered).await,
        }
    }

    /// Whether clients are served.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Relaxed) && !self.stopping.is_cancelled()
    }
}
