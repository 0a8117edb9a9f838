//! What a gateway says of its links: the part `links` of `/status`, ready to be made JSON.

use geo_link_core::CloneProgress;
use serde::Serialize;

/// All links of a region.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LinksStatus {
    /// Those that carry this region's writes, one per peer.
    pub out: Vec<OutStatus>,
    /// Those that bring the peers' writes, one per peer.
    pub r#in: Vec<InStatus>,
}

/// A link that carries this region's writes to a peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OutStatus {
    /// The peer's name.
    pub to: String,
    /// Whether the two have greeted and hear each other.
    pub up: bool,
    /// Where it stands.
    pub state: OutState,
    /// Where the peer is dialled.
    pub addr: String,
    /// The shortest round trip of the last few, in seconds.
    pub rtt_seconds: Option<f64>,
    /// The peer's clock minus ours, in seconds.
    pub clock_offset_seconds: Option<f64>,
    /// Slots that wait to be scanned for the peer.
    pub slots_waiting: usize,
    /// Changes in the log that were not read for the peer yet.
    pub backlog_records: u64,
    /// Bytes that are on their way and not applied there yet.
    pub window_bytes: usize,
    /// How often a connection was made and greeted.
    pub connects: u64,
    /// Why the last connection, or the last attempt at one, ended.
    pub last_error: Option<String>,
}

/// Where an outgoing link stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OutState {
    /// There is no connection.
    #[default]
    Connecting,
    /// The peer wants nothing yet: another sends it a clone.
    Waiting,
    /// Slots are scanned for the peer.
    Scanning,
    /// The peer follows the log.
    Tailing,
    /// The peer holds our batches: our clock is ahead of its.
    Held,
}

/// A link that brings a peer's writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct InStatus {
    /// The peer's name.
    pub from: String,
    /// Whether the two have greeted and hear each other.
    pub up: bool,
    /// Where it stands.
    pub state: InState,
    /// Of how many streams it consists: one from each primary over there.
    pub streams: usize,
    /// How far a clone of the peer has come, while there is one.
    pub clone: Option<CloneProgress>,
    /// How old what is missing here of the peer's writes may be, in seconds.
    pub lag_seconds: f64,
    /// Records that won, since the process started.
    pub applied: u64,
    /// Records that were no news.
    pub stale: u64,
    /// Records under a floor.
    pub refused: u64,
    /// Slots that hold something else than the peer's, and did when they were compared before.
    pub slots_differing: usize,
    /// Why the last connection ended.
    pub last_error: Option<String>,
}

/// Where an incoming link stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InState {
    /// There is no connection.
    #[default]
    Down,
    /// Nothing is wanted of the peer yet: another sends a clone.
    Waiting,
    /// The peer sends everything.
    Cloning,
    /// The peer sends what is missing, and what is new.
    Streaming,
    /// A batch lies too far ahead of our clock.
    Held,
}
