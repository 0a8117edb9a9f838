//! `/metrics`: the recorder of the process, and a node's own numbers.
//!
//! The data path counts in plain integers of each worker and stripe; they are added up and published when somebody
//! asks, so a scrape costs some microseconds and a command nothing. Links publish theirs as they go, through the same
//! recorder, which must therefore be installed before they start.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use clock::Now;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::cluster::ClusterStatus;
use crate::{process, server::Server};

/// Names of the node's metrics, in one place: dashboards and alerts depend on them. Those of the links stand in
/// [`geo_link::names`].
pub(crate) mod names {
    pub(crate) const BUILD_INFO: &str = "meridian_build_info";
    /// By `purpose`: `links`, `bus`, `clients`.
    pub(crate) const CERTIFICATE_END_TIMESTAMP_SECONDS: &str = "meridian_certificate_end_timestamp_seconds";
    pub(crate) const BUS_POSTS_LOST_TOTAL: &str = "meridian_bus_posts_lost_total";
    /// By `reason`: `tls`, `region`, `version`, `malformed`, `timeout`, `full`.
    pub(crate) const BUS_REFUSED_TOTAL: &str = "meridian_bus_refused_total";
    pub(crate) const CLIENTS: &str = "meridian_clients";
    /// By `direction`: `in` from clients, `out` to them.
    pub(crate) const CLIENT_BYTES_TOTAL: &str = "meridian_client_bytes_total";
    pub(crate) const CLOCK_ANCHOR_OFFSET_SECONDS: &str = "meridian_clock_anchor_offset_seconds";
    pub(crate) const CLUSTER_CLOCK_OUTVOTED: &str = "meridian_cluster_clock_outvoted";
    pub(crate) const CLUSTER_EPOCH: &str = "meridian_cluster_epoch";
    /// At a node.
    pub(crate) const CLUSTER_GATEWAYS: &str = "meridian_cluster_gateways";
    pub(crate) const CLUSTER_LEASE_SECONDS: &str = "meridian_cluster_lease_seconds";
    pub(crate) const CLUSTER_PRIMARY: &str = "meridian_cluster_primary";
    pub(crate) const CLUSTER_SLOTS: &str = "meridian_cluster_slots";
    pub(crate) const CLUSTER_SUSPECTED: &str = "meridian_cluster_suspected";
    pub(crate) const CLUSTER_SYNCED: &str = "meridian_cluster_synced";
    pub(crate) const COMMANDS_TOTAL: &str = "meridian_commands_total";
    pub(crate) const COMPLETE: &str = "meridian_complete";
    pub(crate) const CONFLICTS_TOTAL: &str = "meridian_conflicts_total";
    pub(crate) const CONNECTIONS_REFUSED_TOTAL: &str = "meridian_connections_refused_total";
    pub(crate) const CONNECTIONS_TOTAL: &str = "meridian_connections_total";
    pub(crate) const EVICTED_TOTAL: &str = "meridian_evicted_total";
    pub(crate) const EXPIRED_TOTAL: &str = "meridian_expired_total";
    pub(crate) const FORGOTTEN_EARLY_TOTAL: &str = "meridian_forgotten_early_total";
    pub(crate) const FRONTIER_AGE_SECONDS: &str = "meridian_frontier_age_seconds";
    /// At a gateway.
    pub(crate) const GATEWAY_NODES: &str = "meridian_gateway_nodes";
    pub(crate) const GATEWAY_NODES_ATTACHED: &str = "meridian_gateway_nodes_attached";
    pub(crate) const HITS_TOTAL: &str = "meridian_hits_total";
    pub(crate) const KEYS: &str = "meridian_keys";
    pub(crate) const MEMORY_MAX_BYTES: &str = "meridian_memory_max_bytes";
    pub(crate) const MEMORY_RESIDENT_BYTES: &str = "meridian_memory_resident_bytes";
    pub(crate) const MEMORY_USED_BYTES: &str = "meridian_memory_used_bytes";
    pub(crate) const MISSES_TOTAL: &str = "meridian_misses_total";
    pub(crate) const PANICS_TOTAL: &str = "meridian_panics_total";
    pub(crate) const PROTOCOL_ERRORS_TOTAL: &str = "meridian_protocol_errors_total";
    /// By `replica`.
    pub(crate) const REPLICA_LAG_SECONDS: &str = "meridian_replica_lag_seconds";
    /// By `replica`.
    pub(crate) const REPLICA_UP: &str = "meridian_replica_up";
    pub(crate) const SLOTS_HELD_SECONDS: &str = "meridian_slots_held_seconds";
    pub(crate) const TOMBSTONES: &str = "meridian_tombstones";
    pub(crate) const TOMBSTONE_BYTES: &str = "meridian_tombstone_bytes";
    pub(crate) const WRITES_TOTAL: &str = "meridian_writes_total";
}

/// Bounds of the buckets of the delay histogram, in seconds: fine where oceans lie, coarse where cuts do.
const DELAY_BUCKETS: [f64; 18] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.5, 1.0, 5.0, 30.0, 300.0];

/// How often the recorder tidies up; it does not do so by itself.
pub(crate) const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Installs the recorder of this process, once; later calls return the same.
///
/// # Errors
/// If another recorder was installed by somebody else.
pub(crate) fn install() -> anyhow::Result<PrometheusHandle> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    // Tests start several nodes at once in one process.
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let delay = Matcher::Full(geo_link::names::REPLICATION_DELAY_SECONDS.to_owned());
    let held = Matcher::Full(names::SLOTS_HELD_SECONDS.to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(delay, &DELAY_BUCKETS)?;
    let recorder = builder.set_buckets_for_metric(held, &DELAY_BUCKETS)?.build_recorder();
    let handle = HANDLE.get_or_init(|| recorder.handle()).clone();
    metrics::set_global_recorder(recorder)?;
    describe();
    Ok(handle)
}

/// Brings the gauges of a node up to date.
pub(super) fn publish(server: &Server, now: Now) {
    publish_own(server, now);
    if let Some(status) = ClusterStatus::of(server, now) {
        status.publish();
    }
    server.links.refresh_metrics(now);
}

fn publish_own(server: &Server, now: Now) {
    let (store, settings) = (&server.store, server.store.settings());
    let (census, counters, totals) = (store.census(), store.counters(), server.stats.since_start());
    publish_process();
    gauge!(names::COMPLETE).set(f64::from(u8::from(server.links.is_complete())));
    gauge!(names::KEYS).set(census.values as f64);
    gauge!(names::TOMBSTONES).set(census.tombstones as f64);
    gauge!(names::TOMBSTONE_BYTES).set(settings.tombstone_bytes() as f64);
    gauge!(names::MEMORY_USED_BYTES).set(settings.used_bytes() as f64);
    gauge!(names::MEMORY_MAX_BYTES).set(settings.max_memory() as f64);
    gauge!(names::FRONTIER_AGE_SECONDS).set(now.wall.since(settings.frontier()).as_secs_f64());
    gauge!(names::CLOCK_ANCHOR_OFFSET_SECONDS).set(server.clock.offset().nanos() as f64 / 1e9);
    gauge!(names::CLIENTS).set(server.clients.connected() as f64);
    counter!(names::CONNECTIONS_TOTAL).absolute(server.clients.accepted());
    counter!(names::CONNECTIONS_REFUSED_TOTAL).absolute(server.clients.refused());
    counter!(names::COMMANDS_TOTAL).absolute(totals.calls());
    counter!(names::CLIENT_BYTES_TOTAL, "direction" => "in").absolute(totals.read_bytes);
    counter!(names::CLIENT_BYTES_TOTAL, "direction" => "out").absolute(totals.written_bytes);
    counter!(names::PROTOCOL_ERRORS_TOTAL).absolute(totals.protocol_errors);
    counter!(names::PANICS_TOTAL).absolute(server.stats.panics());
    counter!(names::HITS_TOTAL).absolute(counters.hits);
    counter!(names::MISSES_TOTAL).absolute(counters.misses);
    counter!(names::WRITES_TOTAL).absolute(counters.writes);
    counter!(names::EVICTED_TOTAL).absolute(counters.evicted);
    counter!(names::EXPIRED_TOTAL).absolute(counters.expired);
    counter!(names::FORGOTTEN_EARLY_TOTAL).absolute(counters.forgotten_early);
    counter!(names::CONFLICTS_TOTAL).absolute(counters.conflicts);
}

/// Brings those gauges up to date that every process has.
pub(crate) fn publish_process() {
    gauge!(names::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    gauge!(names::MEMORY_RESIDENT_BYTES).set(process::resident_bytes() as f64);
}

fn describe() {
    describe_gauge!(names::BUILD_INFO, "1, with the version as a label");
    describe_gauge!(names::CERTIFICATE_END_TIMESTAMP_SECONDS, "until when this end's certificate is valid, since 1970");
    describe_counter!(names::BUS_POSTS_LOST_TOTAL, "messages of gossip that could not be sent");
    describe_counter!(
        names::BUS_REFUSED_TOTAL,
        "connections of other nodes that were turned away or ended for what they sent"
    );
    describe_gauge!(
        names::CLUSTER_CLOCK_OUTVOTED,
        "1 while this node takes no writes since its clock disagrees with most of its region"
    );
    describe_gauge!(names::CLUSTER_EPOCH, "how often the cluster's map has changed, as this node knows it");
    describe_gauge!(names::CLUSTER_GATEWAYS, "gateways of the region that are attached to this node");
    describe_gauge!(names::CLUSTER_LEASE_SECONDS, "how long this node may take writes without hearing from the leader");
    describe_gauge!(names::CLUSTER_PRIMARY, "1 of the primary of a shard");
    describe_gauge!(names::CLUSTER_SLOTS, "slots of this node's shard");
    describe_gauge!(names::CLUSTER_SUSPECTED, "nodes that do not answer this one");
    describe_gauge!(names::CLUSTER_SYNCED, "1 once a replica has all that its primary had when it began to follow");
    describe_gauge!(names::GATEWAY_NODES, "nodes of its region that a gateway calls");
    describe_gauge!(names::GATEWAY_NODES_ATTACHED, "nodes that know the gateway");
    describe_gauge!(geo_link::names::TUNNELS, "streams of primaries to a region that go through this gateway");
    describe_counter!(geo_link::names::TUNNEL_BYTES_TOTAL, "bytes of those streams, to and from a region");
    describe_counter!(
        geo_link::names::TUNNEL_DIAL_FAILURES_TOTAL,
        "gateways of a region that were dialled and not reached"
    );
    describe_counter!(geo_link::names::TUNNEL_REFUSED_TOTAL, "primaries that were not let through");
    describe_gauge!(names::REPLICA_LAG_SECONDS, "how old what a replica lacks of its primary's writes may be");
    describe_gauge!(names::REPLICA_UP, "1 of a replica that its primary feeds");
    describe_histogram!(names::SLOTS_HELD_SECONDS, "for how long requests waited while slots changed hands");
    describe_gauge!(names::COMPLETE, "1 once the region has all that the others had when it started");
    describe_gauge!(names::KEYS, "values held");
    describe_gauge!(names::TOMBSTONES, "tombstones and markers held until every region is past them");
    describe_gauge!(names::TOMBSTONE_BYTES, "bytes that tombstones and markers hold");
    describe_gauge!(names::MEMORY_USED_BYTES, "bytes that entries, tables and tombstones hold");
    describe_gauge!(names::MEMORY_MAX_BYTES, "the limit for that, 0 without one");
    describe_gauge!(names::MEMORY_RESIDENT_BYTES, "resident set of the process");
    describe_gauge!(names::FRONTIER_AGE_SECONDS, "now minus the time that every region is past for every origin");
    describe_gauge!(names::CLOCK_ANCHOR_OFFSET_SECONDS, "the system's clock minus the node's");
    describe_gauge!(names::CLIENTS, "clients connected");
    describe_counter!(names::CONNECTIONS_TOTAL, "clients accepted");
    describe_counter!(names::CONNECTIONS_REFUSED_TOTAL, "clients turned away because there were too many");
    describe_counter!(names::CLIENT_BYTES_TOTAL, "bytes from and to clients");
    describe_counter!(names::PROTOCOL_ERRORS_TOTAL, "connections closed for what is not the Redis protocol");
    describe_counter!(names::COMMANDS_TOTAL, "commands executed");
    describe_counter!(names::PANICS_TOTAL, "connections that ended in a panic: each is a bug");
    describe_counter!(names::HITS_TOTAL, "reads that found a value");
    describe_counter!(names::MISSES_TOTAL, "reads that found none");
    describe_counter!(names::WRITES_TOTAL, "local writes, deletes among them");
    describe_counter!(names::EVICTED_TOTAL, "values dropped for memory");
    describe_counter!(names::EXPIRED_TOTAL, "values that ended");
    describe_counter!(names::FORGOTTEN_EARLY_TOTAL, "stamps forgotten before the frontier had passed them");
    describe_counter!(names::CONFLICTS_TOTAL, "records that were written concurrently with what was held of their key");
}
