//! What a gateway is told at its start, as types. Whoever reads a file or flags maps them to these.

use std::{net::SocketAddr, time::Duration};

use geo_link_core::{RefillOptions, limits::FRAME_BYTES_MAX};
pub use node_core::cluster::Peer;

/// How a gateway is built.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// This region's name, which its certificate bears as `NAME.region.meridian`.
    pub name: String,
    /// Where the links of other regions arrive; port 0 picks one, see [`Gateway::local_addr`](crate::Gateway::local_addr).
    pub listen: SocketAddr,
    /// The other regions.
    pub peers: Vec<Peer>,
    /// Certificates.
    pub tls: TlsMaterial,
    /// How links behave.
    pub links: LinkOptions,
}

/// How links behave. The defaults are those of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct LinkOptions {
    /// How often a link says that it is alive: the resolution of lag.
    pub heartbeat: Duration,
    /// How many bytes may be on their way on one link before they are applied.
    pub window_bytes: usize,
    /// About how many bytes of records go into a batch, before compression.
    pub batch_bytes: usize,
    /// How long a record may wait for its batch to fill.
    pub batch_delay: Duration,
    /// The first pause before a lost link is dialled again.
    pub reconnect_min: Duration,
    /// The longest such pause.
    pub reconnect_max: Duration,
    /// How far ahead of the clock a stamp may lie before its link holds.
    pub max_drift: Duration,
    /// How long a peer may be silent before its connection is given up, and how long one may take to be made.
    pub timeout: Duration,
    /// The longest frame that is taken, in bytes.
    pub frame_bytes_max: usize,
    /// How often what is held is compared with other regions; zero is never. The same in all of them.
    pub audit_interval: Duration,
    /// How an empty region refills.
    pub refill: RefillOptions,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(50),
            window_bytes: 32 * 1024 * 1024,
            batch_bytes: 64 * 1024,
            batch_delay: Duration::from_millis(1),
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_secs(5),
            max_drift: clock::limits::MAX_DRIFT_DEFAULT,
            timeout: Duration::from_secs(5),
            frame_bytes_max: FRAME_BYTES_MAX,
            audit_interval: Duration::from_secs(300),
            refill: RefillOptions::default(),
        }
    }
}

/// A region's certificate, its key, and whom to believe; the contents of PEM files.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsMaterial {
    /// The chain of the region's certificate, its own first.
    pub cert_pem: Vec<u8>,
    /// Its private key.
    pub key_pem: Vec<u8>,
    /// The authorities of all regions' certificates.
    pub ca_pem: Vec<u8>,
}

impl std::fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsMaterial").finish_non_exhaustive()
    }
}
