//! The bus: every connection between the nodes of a region.
//!
//! One listener per node, and one dialler. A connection starts with a greeting that names its [`Channel`]; what follows
//! are frames with their length before them, each bounded by its channel. If certificates are configured, both ends show
//! one, and both must bear the name of this region: a node of another region, or of none, is turned away.
//!
//! # Calls
//! On [`Channel::Raft`] and [`Channel::Control`] the dialler asks and the listener answers ([`Peer::call`]). All calls to
//! a peer on a channel share one connection. Each has a number, and answers come in whatever order they are ready in: a
//! proposal that waits for a majority delays no vote. The connection is made at the first call and again after a failure,
//! for as long as there are calls. A call that fails is not repeated, since it may have been carried out; whether to try
//! again is for the caller to say.
//!
//! # Posts
//! On [`Channel::Gossip`] messages go one way ([`Peer::post`]), and are lost when they cannot go: gossip is made for
//! that, and nothing waits for it.
//!
//! # Feeds
//! On [`Channel::Feed`] the dialler sends one frame that says what it wants, and from then on the stream is the
//! handler's ([`Peer::connect`], [`Handlers::feed`]).
//!
//! # What holds
//! - **One peer harms no other.** Each has its own connections, tasks and queues; each queue is bounded ([`limits`]).
//! - **What a peer sends ends at most its own connection**, be it garbage or too much.
//! - **Nothing is detached.** [`listen`](listener::listen) returns when every connection that it served has ended; the
//!   dialler's tasks end in [`Bus::shutdown`].
//!
//! # The order of the end
//! 1. The listener's token is cancelled: nothing is accepted any more, requests that are being handled are dropped
//!    unanswered, and every connection that was accepted is closed, those of feeds aside, which are their handler's.
//! 2. What makes calls ends: Raft, the steward, gossip.
//! 3. [`Bus::shutdown`] fails the calls that are left, and closes what was dialled.
//!
//! Left out on purpose: names of nodes in certificates. The region's authority vouches for its nodes alike, and which of
//! them speaks stands in what it says.

mod calls;
mod dialler;
mod greeting;
pub(crate) mod limits;
mod lines;
mod listener;
mod posts;
#[cfg(test)]
mod tests;

use std::{io, sync::Arc};

use config::{NodeConfig, TlsFiles};
use geo_link::tls::Credentials;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use tokio_util::{codec::LengthDelimitedCodec, either::Either};

#[cfg_attr(not(test), expect(unused_imports, reason = "the parts that use them follow"))]
pub(crate) use self::{
    calls::CallError,
    dialler::{Bus, DialError, Peer},
    listener::{Arrival, Handlers, Malformed, listen},
};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Channel {
    /// Calls of the Raft group.
    Raft = 1,
    /// Who answers, and who does not.
    Gossip = 2,
    /// Records.
    Feed = 3,
    /// Reports to the leader, and what operators want.
    Control = 4,
}

impl Channel {
    const ALL: [Self; 4] = [Self::Raft, Self::Gossip, Self::Feed, Self::Control];
}

/// A connection between nodes, plain or under TLS. Boxed, since the state of TLS is a kilobyte.
pub(crate) type BusStream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// So that the bus never ends in a gateway or some other TLS service.
const PROTOCOL: &[u8] = b"meridian-bus/1";

/// What nodes show to one another, if that is configured.
///
/// # Errors
/// If a file cannot be read, or the certificate is not one of this region.
pub(crate) fn credentials(config: &NodeConfig) -> anyhow::Result<Option<Arc<Credentials>>> {
    config.cluster.files().map(|files| credentials_of(config.region.name.as_str(), files)).transpose()
}

/// What these files make: the credentials of a node, or of an operator, of this region.
///
/// # Errors
/// As [`credentials`].
pub(crate) fn credentials_of(region: &str, files: TlsFiles<'_>) -> anyhow::Result<Arc<Credentials>> {
    let material = crate::links::material(files)?;
    Ok(Arc::new(Credentials::new(region, PROTOCOL, &material)?))
}

/// Prepares a socket, at either end. Without `TCP_NODELAY` a handshake and each small answer take 40 ms.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(limits::UNACKNOWLEDGED_MAX))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(limits::KEEPALIVE).with_interval(limits::KEEPALIVE))
}

fn codec(channel: Channel) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(limits::frame_bytes_max(channel)).new_codec()
}
