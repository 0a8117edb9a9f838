//! How an operator speaks to nodes: over their bus, with the region's certificates if it has any.
//!
//! A [`Caller`] asks one node one thing. It knows nothing of clusters: that is how nodes are asked that are in none yet.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use clap::Args;
use config::{NodeConfig, PeerAddress, RegionName, TlsFiles};
use futures_util::future::join_all;
use geo_link::tls::Credentials;
use node_core::cluster::{
    ClusterMap, Refused,
    control::{Introduction, Request, Response},
};
use tokio::time::{Instant, sleep};

use super::{UsageError, limits};
use crate::cluster::bus::{self, Bus, CallError, Channel};

/// What an operator shows to the nodes of a region.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct CredentialArgs {
    /// The file of any node of the region: its certificates are shown, and it is asked if no --node is given
    #[arg(long, value_name = "FILE", env = "MERIDIAN_CONFIG", conflicts_with_all = ["cert", "key", "ca", "region"])]
    config: Option<PathBuf>,

    /// A certificate of the region, PEM; without one and without --config nodes are spoken to in plain text
    #[arg(long, value_name = "FILE", requires_all = ["key", "ca", "region"])]
    cert: Option<PathBuf>,

    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,

    /// The authorities of the nodes' certificates, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    ca: Option<PathBuf>,

    /// The name of the region, which stands in all its certificates
    #[arg(long, value_name = "NAME", requires = "cert")]
    region: Option<RegionName>,
}

impl CredentialArgs {
    /// A caller with these credentials, and the file that they came from.
    ///
    /// # Errors
    /// [`UsageError`] if the file is wrong; others if a certificate cannot be used.
    pub(super) fn caller(&self) -> anyhow::Result<(Caller, Option<NodeConfig>)> {
        if let Some(path) = &self.config {
            let config = NodeConfig::load(path).map_err(UsageError::new)?;
            return Ok((Caller::new(bus::credentials(&config)?), Some(config)));
        }
        let (Some(cert), Some(key), Some(ca), Some(region)) = (&self.cert, &self.key, &self.ca, &self.region) else {
            return Ok((Caller::new(None), None));
        };
        let files = TlsFiles { cert, key, ca: Some(ca) };
        let credentials = bus::credentials_of(region.as_str(), files).context("cannot use the certificates")?;
        Ok((Caller::new(Some(credentials)), None))
    }
}

/// Which cluster.
#[derive(Debug, Args)]
pub(super) struct NodeArgs {
    /// The bus of any node of the cluster
    #[arg(long, value_name = "HOST:PORT", env = "MERIDIAN_CLUSTER_NODE", help_heading = "Connection")]
    node: Option<PeerAddress>,

    #[command(flatten)]
    credentials: CredentialArgs,
}

impl NodeArgs {
    /// A caller, and the address of the node to begin with.
    ///
    /// # Errors
    /// [`UsageError`] if no node is named; others as [`CredentialArgs::caller`].
    pub(super) fn caller(&self) -> anyhow::Result<(Caller, String)> {
        let (caller, config) = self.credentials.caller()?;
        let from_file = || {
            let cluster = &config.as_ref()?.cluster;
            Some(bus_address(&cluster.host()?, cluster.listen.address()?.port()))
        };
        let node = self.node.as_ref().map(ToString::to_string).or_else(from_file);
        let node = node.ok_or_else(|| {
            UsageError::new("name a node of the cluster: --node HOST:PORT of its bus, or --config FILE of a node")
        });
        Ok((caller, node?))
    }
}

fn bus_address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Why a node, or a cluster, did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperateError {
    /// A node cannot be reached, and has not been asked.
    #[error("{address} does not answer: {error}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        error: CallError,
    },
    /// A node may have done what it was asked for.
    #[error("{address} may have done it or not, its answer was lost ({error}): see `meridian cluster status`")]
    Unknown {
        /// Where.
        address: String,
        /// Why.
        error: CallError,
    },
    /// A node gave an answer to another question.
    #[error("{0} gives an answer that does not fit the question; is it of another version?")]
    Misfit(String),
    /// The map does not allow it.
    #[error("the cluster refuses: {0}")]
    Refused(Refused),
    /// It cannot be done.
    #[error("{address}: {reason}")]
    Failed {
        /// Who says so.
        address: String,
        /// Why.
        reason: String,
    },
    /// Every node sends on to another.
    #[error("no node of the cluster took the request, after {0} attempts: has it a leader?")]
    Leaderless(usize),
    /// There is no cluster.
    #[error("{0} is in no cluster yet: see `meridian cluster create`")]
    NotFounded(String),
    /// Not every node knows of a change.
    #[error("it is done, but after {} s these nodes do not know of it: {}", limits::KNOWN_MAX.as_secs(), .0.join(", "))]
    NotKnown(Vec<String>),
}

/// Asks nodes.
#[derive(Debug)]
pub(crate) struct Caller {
    bus: Bus,
}

impl Caller {
    /// One who shows these credentials, or speaks in plain text. Connects when something is asked.
    pub(crate) fn new(credentials: Option<Arc<Credentials>>) -> Self {
        Self { bus: Bus::new(credentials) }
    }

    /// Asks a node.
    ///
    /// # Errors
    /// [`OperateError::Unreachable`] if it was not asked, [`OperateError::Unknown`] if it may have been.
    pub(crate) async fn ask(&self, address: &str, request: &Request) -> Result<Response, OperateError> {
        let answer = self.bus.peer(address).call(Channel::Control, request, limits::PATIENCE).await;
        answer.map_err(|error| {
            let address = address.to_owned();
            if error.was_sent() {
                OperateError::Unknown { address, error }
            } else {
                OperateError::Unreachable { address, error }
            }
        })
    }

    /// Asks a node who it is.
    ///
    /// # Errors
    /// [`OperateError`]
    pub(crate) async fn introduction(&self, address: &str) -> Result<Introduction, OperateError> {
        match self.ask(address, &Request::Introduce).await.map_err(as_unreachable)? {
            Response::Introduction(introduction) => Ok(introduction),
            other => Err(unexpected(address, other)),
        }
    }

    /// Asks a node for the map, as it has it.
    ///
    /// # Errors
    /// [`OperateError`]
    pub(crate) async fn map(&self, address: &str) -> Result<ClusterMap, OperateError> {
        match self.ask(address, &Request::Map).await.map_err(as_unreachable)? {
            Response::Map(map) => Ok(*map),
            other => Err(unexpected(address, other)),
        }
    }

    /// Waits until the map of each of these nodes is as it should be. `told` hears how many are.
    ///
    /// # Errors
    /// [`OperateError::NotKnown`] if some are not after [`limits::KNOWN_MAX`].
    pub(crate) async fn until_known(
        &self,
        addresses: &[String],
        is_known: impl Fn(&ClusterMap) -> bool,
        mut told: impl FnMut(usize, usize),
    ) -> Result<(), OperateError> {
        let until = Instant::now() + limits::KNOWN_MAX;
        let mut lacking = addresses.to_vec();
        loop {
            let maps = join_all(lacking.iter().map(|address| self.map(address))).await;
            let known = maps.into_iter().map(|map| map.is_ok_and(|map| is_known(&map)));
            lacking =
                lacking.iter().zip(known).filter(|(_, known)| !known).map(|(address, _)| address.clone()).collect();
            told(addresses.len() - lacking.len(), addresses.len());
            if lacking.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(OperateError::NotKnown(lacking));
            }
            sleep(limits::POLL).await;
        }
    }

    /// Closes all connections.
    pub(crate) async fn hang_up(self) {
        self.bus.shutdown().await;
    }
}

/// Of a question that changes nothing it does not matter whether it arrived.
fn as_unreachable(error: OperateError) -> OperateError {
    match error {
        OperateError::Unknown { address, error } => OperateError::Unreachable { address, error },
        other => other,
    }
}

/// What to make of an answer that is not the one that was hoped for.
pub(super) fn unexpected(address: &str, response: Response) -> OperateError {
    let address = address.to_owned();
    match response {
        Response::Refused(refused) => OperateError::Refused(refused),
        Response::Failed(reason) => OperateError::Failed { address, reason },
        _ => OperateError::Misfit(address),
    }
}
