//! How fast gossip is, and what foca is told of it.

use std::{
    num::{NonZeroU8, NonZeroUsize},
    time::Duration,
};

use foca::PeriodicParams;

use crate::limits::{GOSSIP_PACKET_BYTES_MAX, GOSSIP_REPEATS};

/// How fast news should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GossipOptions {
    /// How often this node probes another. A probe that has no answer by the end of this is a suspicion.
    pub probe_period: Duration,
    /// How long an answer may take, before others are asked to probe as well. Under half of `probe_period`.
    pub probe_rtt: Duration,
    /// How many others are asked to probe whoever does not answer.
    pub indirect_probes: NonZeroUsize,
    /// How often news is passed on, if there is any.
    pub spread_period: Duration,
    /// How long somebody is suspected before being held to be down.
    pub down_after: Duration,
    /// How often those who are down are knocked at.
    pub knock_period: Duration,
}

impl Default for GossipOptions {
    fn default() -> Self {
        Self {
            probe_period: Duration::from_millis(200),
            probe_rtt: Duration::from_millis(60),
            indirect_probes: NonZeroUsize::MIN.saturating_add(1),
            spread_period: Duration::from_millis(50),
            down_after: Duration::from_secs(3),
            knock_period: Duration::from_millis(500),
        }
    }
}

impl GossipOptions {
    /// What foca is told.
    pub(super) const fn protocol(&self) -> foca::Config {
        foca::Config {
            probe_period: self.probe_period,
            probe_rtt: self.probe_rtt,
            num_indirect_probes: self.indirect_probes,
            max_transmissions: const { NonZeroU8::new(GOSSIP_REPEATS).unwrap() },
            suspect_to_down_after: self.down_after,
            // The map says when a node is forgotten.
            remove_down_after: None,
            max_packet_size: const { NonZeroUsize::new(GOSSIP_PACKET_BYTES_MAX).unwrap() },
            notify_down_members: true,
            // Knocks do both, and go on when nobody is left.
            periodic_announce: None,
            periodic_announce_to_down_members: None,
            periodic_gossip: Some(PeriodicParams { frequency: self.spread_period, num_members: self.indirect_probes }),
        }
    }
}
