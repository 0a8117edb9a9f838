//! The gateways that this node knows, and the way through them: the shell around [`node_core::cluster::gateways`].
//!
//! A gateway attaches by a call on the control channel, and gets the map if it has an older one. A stream to another region
//! begins with [`Gateways::connect_through`]: it tries gateways, the best first, until one has connected to that region, and
//! remembers of each that failed that it did. What comes back is a connection on which the other region's gateway answers,
//! under TLS on its way there, and as the bus is between here and the gateway.
//!
//! Whoever has such a stream waits for its end by [`Gateways::until_displaced`] as well: a gateway that is frozen or cut off
//! closes nothing, so its silence is what gives it away, within [`GATEWAY_SILENCE_MAX`].
//!
//! [`GATEWAY_SILENCE_MAX`]: node_core::limits::GATEWAY_SILENCE_MAX

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clock::{OsClock, RegionId};
use geo_link::{
    limits::VERDICT_MAX,
    tunnel::{
        TunnelRefusal,
        greeting::{self, Wanted},
    },
};
use node_core::cluster::{
    ClusterMap, NodeId,
    control::{Attach, Response},
    gateways::{Attachment, Gateways as Known, Standing},
};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::bus::{Bus, BusStream, DialError};
use crate::limits::GATEWAY_RECHECK;

/// See the head of this file.
pub(crate) struct Gateways {
    node: NodeId,
    bus: Bus,
    clock: Arc<OsClock>,
    known: Mutex<Known>,
}

/// A connection to another region.
pub(crate) struct Through {
    /// The gateway that it goes by.
    pub(crate) gateway: Attachment,
    /// The other region's gateway is at its end.
    pub(crate) stream: BusStream,
}

/// Why there is no connection to another region.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoWay {
    /// No gateway leads there.
    #[error("no gateway of this region leads there")]
    NoGateway,
    /// Gateways were tried, and this is what became of the last.
    #[error("gateway {gateway}: {reason}")]
    Failed {
        /// Its name.
        gateway: String,
        /// What stood in the way.
        reason: Obstacle,
    },
}

/// Why there is no connection by a gateway.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Obstacle {
    /// It is not reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It was, and then was not.
    #[error("it was lost: {0}")]
    Lost(#[from] io::Error),
    /// It has not said anything in time.
    #[error("it did not answer in time")]
    Timeout,
    /// It was not heard of any more.
    #[error("it is not there any more")]
    Gone,
    /// It does not let this node through.
    #[error(transparent)]
    Refused(#[from] TunnelRefusal),
}

impl Obstacle {
    /// Whether the gateway itself is well, and only the way from there is not.
    const fn is_beyond(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_about_the_way())
    }
}

/// What a node says of a gateway.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GatewayStatus {
    name: String,
    addr: String,
    /// The numbers of the regions that it leads to.
    peers: Vec<u8>,
    /// Whether it was not reached lately.
    aside: bool,
}

impl Gateways {
    /// Those that this node of this region knows: none yet.
    pub(crate) fn new(node: NodeId, region: RegionId, bus: Bus, clock: Arc<OsClock>) -> Self {
        Self { node, bus, clock, known: Mutex::new(Known::new(node, region)) }
    }

    /// Lets a gateway in, and says what it does not know of the map.
    pub(crate) fn attach(&self, Attach { gateway, epoch }: Attach, map: &ClusterMap) -> Response {
        let name = gateway.name.clone();
        match self.known().handle_attach(self.now(), gateway) {
            Ok(is_news) => {
                if is_news {
                    tracing::info!(gateway = name, "a gateway is attached");
                }
                let is_newer = map.is_founded() && map.epoch() > epoch;
                Response::Attached(is_newer.then(|| Box::new(map.clone())))
            }
            Err(refused) => {
                tracing::debug!(gateway = name, %refused, "a gateway is refused");
                Response::Failed(refused.to_string())
            }
        }
    }

    /// All that are there, for the status.
    pub(crate) fn status(&self) -> Vec<GatewayStatus> {
        let known = self.known();
        let live = known.live(self.now());
        live.map(|(gateway, aside)| GatewayStatus {
            name: gateway.name.clone(),
            addr: gateway.address.clone(),
            peers: gateway.peers.iter().map(|region| region.number()).collect(),
            aside,
        })
        .collect()
    }

    fn now(&self) -> Duration {
        self.clock.now().monotonic
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateways {
    /// The gateway by which a stream to this region is to go now, if one leads there.
    #[cfg(test)]
    pub(crate) fn choose(&self, region: RegionId) -> Option<Attachment> {
        self.known().ranked(self.now(), region).first().map(|gateway| (*gateway).clone())
    }

    /// Where a stream to this region stands that goes by this gateway.
    pub(crate) fn standing(&self, region: RegionId, gateway: &Attachment) -> Standing {
        self.known().standing(self.now(), region, gateway)
    }

    /// Waits until a stream to this region should not go by this gateway any more. After [`Standing::Gone`] it is to be given
    /// up; after [`Standing::Outranked`] it may end in good order, when it suits.
    pub(crate) async fn until_displaced(&self, region: RegionId, gateway: &Attachment) -> Standing {
        loop {
            match self.standing(region, gateway) {
                Standing::Right => sleep(GATEWAY_RECHECK).await,
                displaced => return displaced,
            }
        }
    }

    /// Connects to a region by the best gateway that leads there now.
    ///
    /// Each gateway is tried once. Who calls again sees to a pause between.
    ///
    /// # Errors
    /// [`NoWay`]
    pub(crate) async fn connect_through(&self, region: RegionId) -> Result<Through, NoWay> {
        let ranked: Vec<_> = self.known().ranked(self.now(), region).into_iter().cloned().collect();
        let mut last = NoWay::NoGateway;
        for gateway in ranked {
            match self.connect_by(&gateway, region).await {
                Ok(stream) => return Ok(Through { gateway, stream }),
                Err(reason) => {
                    tracing::debug!(gateway = gateway.name, %region, %reason, "no connection came about by a gateway");
                    self.known().handle_unreached(self.now(), &gateway, reason.is_beyond().then_some(region));
                    last = NoWay::Failed { gateway: gateway.name, reason };
                }
            }
        }
        Err(last)
    }

    /// Connects by this gateway, unless it is gone meanwhile.
    async fn connect_by(&self, gateway: &Attachment, region: RegionId) -> Result<BusStream, Obstacle> {
        let connect = async {
            let wanted = Wanted { to: region, from: self.node.to_string() };
            let mut stream = self.bus.peer(gateway.address.as_str()).connect(&wanted.to_frame()).await?;
            timeout(VERDICT_MAX, greeting::hear(&mut stream)).await.map_err(|_| Obstacle::Timeout)???;
            Ok(stream)
        };
        tokio::select! {
            connected = connect => connected,
            () = self.until_gone(region, gateway) => Err(Obstacle::Gone),
        }
    }

    async fn until_gone(&self, region: RegionId, gateway: &Attachment) {
        while self.standing(region, gateway) != Standing::Gone {
            sleep(GATEWAY_RECHECK).await;
        }
    }
}

impl fmt::Debug for Gateways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateways").field("known", &self.known).finish_non_exhaustive()
    }
}
