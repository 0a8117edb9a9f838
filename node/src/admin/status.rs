//! `/status`: the state of a node as JSON; what the lab, tests and `REGION STATUS` look at.

use clock::Now;
use geo_link::LinksStatus;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Subject, cluster::ClusterStatus, metrics};
use crate::server::Server;

/// What a node says of itself.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Status {
    version: &'static str,
    region: Region,
    uptime_seconds: f64,
    /// Whether the region has all that the others had when it started.
    pub(crate) complete: bool,
    /// Values, those among them that have ended but were not swept yet.
    keys: usize,
    used_memory_bytes: usize,
    /// Tombstones, and markers of values that were dropped.
    tombstones: usize,
    tombstone_bytes: usize,
    tombstone_budget_bytes: usize,
    /// Stamps that were forgotten before the frontier had passed them, since the start.
    forgotten_early: u64,
    /// How long ago the frontier passed.
    frontier_age_seconds: f64,
    pub(crate) links: LinksStatus,
    /// The node's part in its cluster, if it is in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterStatus>,
}

/// Who a node is.
#[derive(Clone, Debug, Serialize)]
struct Region {
    name: String,
    id: u8,
    /// Region and incarnation, as they stand in stamps.
    origin: String,
}

impl Subject for Server {
    fn publish(&self) {
        metrics::publish(self, self.clock.now());
    }

    fn readiness(&self) -> Result<Value, &'static str> {
        if self.is_ready() {
            return Ok(json!({ "ready": true, "complete": self.links.is_complete() }));
        }
        let stopping = self.stopping.is_cancelled();
        Err(if stopping { "the node is stopping" } else { "the node is starting" })
    }

    fn status(&self) -> impl Serialize {
        Status::of(self, self.clock.now())
    }
}

impl Status {
    /// Looks at everything as of `now`.
    pub(crate) fn of(server: &Server, now: Now) -> Self {
        let (store, region) = (&server.store, &server.config.region);
        let census = store.census();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            region: Region {
                name: region.name.to_string(),
                id: region.id.number(),
                origin: store.origin().to_string(),
            },
            uptime_seconds: now.monotonic.saturating_sub(server.started.monotonic).as_secs_f64(),
            complete: server.links.is_complete(),
            keys: census.values,
            used_memory_bytes: store.settings().used_bytes(),
            tombstones: census.tombstones,
            tombstone_bytes: store.settings().tombstone_bytes(),
            tombstone_budget_bytes: store.settings().tombstone_budget(),
            forgotten_early: store.counters().forgotten_early,
            frontier_age_seconds: now.wall.since(store.settings().frontier()).as_secs_f64(),
            links: server.links.status(now),
            cluster: ClusterStatus::of(server, now),
        }
    }
}
