//! What a connection has agreed on with its client, and where it stands in it.

use std::{sync::Arc, time::Duration};

use node_core::resp::Protocol;

use super::proxy::Proxied;
use crate::{clients::Client, command::Waiting, transaction::Transaction};

/// Which replies a client wants; CLIENT REPLY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Replies {
    /// All.
    #[default]
    On,
    /// None.
    Off,
    /// All but that of the next command.
    SkipNext,
    /// All but that of this command.
    Skip,
}

impl Replies {
    /// What holds for the next command.
    pub(crate) const fn after_command(self) -> Self {
        match self {
            Self::SkipNext => Self::Skip,
            Self::Off => Self::Off,
            Self::On | Self::Skip => Self::On,
        }
    }
}

/// Where a client stands with the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClusterSession {
    /// It takes what a replica has; READONLY.
    pub(crate) readonly: bool,
    /// It comes by an ASK, with this one command or transaction; ASKING.
    pub(crate) asking: bool,
    /// Since when its next request waits for a slot that is held, on the monotonic clock.
    pub(crate) held_since: Option<Duration>,
    /// It has written something since its last replies left.
    pub(crate) has_written: bool,
}

/// See the head of this file.
pub(crate) struct Session {
    pub(crate) client: Arc<Client>,
    pub(crate) protocol: Protocol,
    pub(crate) authenticated: bool,
    pub(crate) replies: Replies,
    pub(crate) over_tls: bool,
    pub(crate) cluster: ClusterSession,
    /// What is kept of a client of the proxy, if it is one.
    pub(crate) proxied: Option<Box<Proxied>>,
    /// The transaction that is open and the keys that are watched; boxed, since hardly any client has one.
    pub(crate) transaction: Option<Box<Transaction>>,
    /// The replicas that WAIT waits for.
    pub(crate) waiting: Option<Waiting>,
    /// The connection ends after the reply to this command.
    pub(crate) closing: bool,
}

impl Session {
    pub(crate) fn new(client: Arc<Client>, authenticated: bool) -> Self {
        Self {
            client,
            protocol: Protocol::default(),
            authenticated,
            replies: Replies::default(),
            over_tls: false,
            cluster: ClusterSession::default(),
            proxied: None,
            transaction: None,
            waiting: None,
            closing: false,
        }
    }

    /// Whether requests wait to be forwarded, whose replies come first.
    pub(crate) fn has_run(&self) -> bool {
        self.proxied.as_ref().is_some_and(|proxied| proxied.has_run())
    }
}
