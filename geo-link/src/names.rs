//! Names of this crate's metrics, in one place: dashboards and alerts depend on them.
//!
//! `from` is always the region whose records a link carries, `to` the one they are for.

/// Gauge, at the receiver: how old what is still missing here may be.
pub const REPLICATION_LAG_SECONDS: &str = "meridian_replication_lag_seconds";
/// Histogram, at the receiver: now minus the stamp of the oldest record of each batch that came by the tail. One
/// observation per batch and not per record: it is the slowest of the batch, so quantiles err on the bad side.
pub const REPLICATION_DELAY_SECONDS: &str = "meridian_replication_delay_seconds";
/// Gauge, at both ends: 1 while the two ends have greeted and hear each other.
pub const LINK_UP: &str = "meridian_link_up";
/// Counter, at both ends, by `kind`: bytes of batches, `raw` before compression and `wire` after it.
pub const LINK_BYTES_TOTAL: &str = "meridian_link_bytes_total";
/// Counter, at the receiver, by `outcome`: `applied`, `stale`, `refused`.
pub const LINK_RECORDS_TOTAL: &str = "meridian_link_records_total";
/// Gauge, at the sender, by `peer`: the peer's clock minus ours.
pub const CLOCK_OFFSET_SECONDS: &str = "meridian_clock_offset_seconds";
/// Counter, at the sender: connections that were made and greeted.
pub const LINK_CONNECTS_TOTAL: &str = "meridian_link_connects_total";
/// Gauge, at the receiver: 1 while a batch is held because it lies too far ahead of our clock.
pub const LINK_HELD: &str = "meridian_link_held";
/// Gauge, at the receiver: slots that hold something else than in the region `from`, and did an interval before, while neither
/// side has changed.
pub const SLOTS_DIFFERING: &str = "meridian_slots_differing";
/// Counter, at the receiver: slots that were compared with the region `from`.
pub const SLOTS_COMPARED_TOTAL: &str = "meridian_slots_compared_total";
/// Counter, at the receiver: incoming connections that were turned away, by `reason`: `tls`, `refused`, `malformed`.
pub const LINK_REFUSED_TOTAL: &str = "meridian_link_refused_total";
/// Gauge, at a gateway, by `to`: streams of primaries that are open to that region.
pub const TUNNELS: &str = "meridian_tunnels";
/// Counter, at a gateway, by `to` and `direction` (`out` to that region, `in` from it): bytes that were passed on.
pub const TUNNEL_BYTES_TOTAL: &str = "meridian_tunnel_bytes_total";
/// Counter, at a gateway, by `to`: those of that region that were dialled and not reached.
pub const TUNNEL_DIAL_FAILURES_TOTAL: &str = "meridian_tunnel_dial_failures_total";
/// Counter, at a gateway: primaries that were not let through, by `reason`: `malformed`, `region`, `full`, `unreachable`,
/// `stopping`.
pub const TUNNEL_REFUSED_TOTAL: &str = "meridian_tunnel_refused_total";
