//! What is known of tunnels: a part of `/status`, ready to be made JSON.

use serde::Serialize;

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TunnelsStatus {
    /// The regions that they lead to.
    pub peers: Vec<TunnelPeerStatus>,
    /// The streams, the oldest first.
    pub streams: Vec<StreamStatus>,
}

/// A region that they lead to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TunnelPeerStatus {
    /// Its name.
    pub region: String,
    /// Its number.
    pub id: u8,
    /// Where its gateways are dialled.
    pub addrs: Vec<String>,
    /// Streams that are open to it.
    pub streams: usize,
    /// How often one of its gateways was not reached.
    pub dial_failures: u64,
    /// Why, if it was not the last time.
    pub last_error: Option<String>,
}

/// A stream that goes through one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StreamStatus {
    /// The primary that dialled: its id.
    pub from: String,
    /// The region that it leads to.
    pub to: String,
    /// The gateway there that took it.
    pub addr: String,
    /// For how long it has been open.
    pub seconds: f64,
    /// Bytes that went to the other region.
    pub out_bytes: u64,
    /// Bytes that came from there.
    pub in_bytes: u64,
}
