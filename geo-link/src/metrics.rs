//! Cached handles of this crate's metrics, per peer. A handle costs some nanoseconds to use, a name some hundred.
//!
//! Handles go to the recorder that is installed when the gateway starts.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use node_core::store::Tally;

use crate::names;

/// What is measured of the two links with one peer.
pub(crate) struct PeerMetrics {
    pub(crate) out: OutMetrics,
    pub(crate) r#in: InMetrics,
}

/// What is measured where a link begins.
pub(crate) struct OutMetrics {
    pub(crate) up: Gauge,
    pub(crate) bytes: BytesMetrics,
    pub(crate) connects: Counter,
    pub(crate) clock_offset: Gauge,
}

/// What is measured where a link ends.
pub(crate) struct InMetrics {
    pub(crate) up: Gauge,
    pub(crate) bytes: BytesMetrics,
    pub(crate) lag: Gauge,
    pub(crate) delay: Histogram,
    pub(crate) held: Gauge,
    slots_differing: Gauge,
    slots_compared: Counter,
    applied: Counter,
    stale: Counter,
    refused: Counter,
}

/// Bytes of batches, before and after compression.
pub(crate) struct BytesMetrics {
    raw: Counter,
    wire: Counter,
}

impl PeerMetrics {
    pub(crate) fn new(own: &str, peer: &str) -> Self {
        Self { out: OutMetrics::new(own, peer), r#in: InMetrics::new(peer, own) }
    }

    /// No link is up yet.
    pub(crate) fn begin(&self) {
        [&self.out.up, &self.r#in.up, &self.r#in.held, &self.r#in.slots_differing]
            .into_iter()
            .for_each(|gauge| gauge.set(0.0));
    }

    /// Nothing is to be said of links here; "not a number" is neither up nor down, and no lag.
    pub(crate) fn say_nothing(&self) {
        let (out, into) = (&self.out, &self.r#in);
        let gauges = [&out.up, &out.clock_offset, &into.up, &into.held, &into.lag, &into.slots_differing];
        gauges.into_iter().for_each(|gauge| gauge.set(f64::NAN));
    }
}

impl OutMetrics {
    fn new(from: &str, to: &str) -> Self {
        let (from, to) = (from.to_owned(), to.to_owned());
        Self {
            up: gauge!(names::LINK_UP, "from" => from.clone(), "to" => to.clone()),
            bytes: BytesMetrics::new(&from, &to),
            connects: counter!(names::LINK_CONNECTS_TOTAL, "from" => from, "to" => to.clone()),
            clock_offset: gauge!(names::CLOCK_OFFSET_SECONDS, "peer" => to),
        }
    }
}

impl InMetrics {
    fn new(from: &str, to: &str) -> Self {
        let (from, to) = (from.to_owned(), to.to_owned());
        let records = |outcome: &'static str| counter!(names::LINK_RECORDS_TOTAL, "from" => from.clone(), "to" => to.clone(), "outcome" => outcome);
        Self {
            up: gauge!(names::LINK_UP, "from" => from.clone(), "to" => to.clone()),
            bytes: BytesMetrics::new(&from, &to),
            lag: gauge!(names::REPLICATION_LAG_SECONDS, "from" => from.clone(), "to" => to.clone()),
            delay: histogram!(names::REPLICATION_DELAY_SECONDS, "from" => from.clone(), "to" => to.clone()),
            held: gauge!(names::LINK_HELD, "from" => from.clone(), "to" => to.clone()),
            slots_differing: gauge!(names::SLOTS_DIFFERING, "from" => from.clone(), "to" => to.clone()),
            slots_compared: counter!(names::SLOTS_COMPARED_TOTAL, "from" => from.clone(), "to" => to.clone()),
            applied: records("applied"),
            stale: records("stale"),
            refused: records("refused"),
        }
    }

    /// Says how this node's slots compare with those of the other region.
    pub(crate) fn audited(&self, differing: usize, compared: u64) {
        self.slots_differing.set(differing as f64);
        self.slots_compared.absolute(compared);
    }

    /// Adds what one batch came to.
    pub(crate) fn count(&self, tally: Tally) {
        self.applied.increment(tally.applied);
        self.stale.increment(tally.stale);
        self.refused.increment(tally.refused);
    }
}

impl BytesMetrics {
    pub(crate) fn new(from: &str, to: &str) -> Self {
        let bytes = |kind: &'static str| counter!(names::LINK_BYTES_TOTAL, "from" => from.to_owned(), "to" => to.to_owned(), "kind" => kind);
        Self { raw: bytes("raw"), wire: bytes("wire") }
    }

    pub(crate) fn count(&self, raw_bytes: usize, wire_bytes: usize) {
        self.raw.increment(raw_bytes as u64);
        self.wire.increment(wire_bytes as u64);
    }
}
