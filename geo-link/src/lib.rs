//! The gateway of a region: the links to and from all others, over mutually authenticated TLS.
//!
//! A link A -> B is one connection, dialled by A, on which A's writes flow to B and acknowledgements back; the way back
//! is another link, dialled by B. What is said on it, and when, is decided by `geo-link-core`; PROTOCOL.md beside this
//! crate is the protocol as a document. Here are the sockets, TLS, the tasks, the metrics and the status.
//!
//! # What holds
//! - **A gateway holds nothing.** Cursors live with the data that they describe. It may die at any moment.
//! - **One link harms no other.** Each has its own task and feed; whatever is queued has a bound ([`limits`]); long work
//!   is done in turns. What a peer sends, be it garbage, ends its own connection.
//! - **Nobody is believed for what it says.** A peer is the region that its certificate names, or is turned away.
//!
//! # Where what is
//! [`Gateway`] (start, status, shutdown); `outgoing` and `incoming` (the loops of the two ends); `pipe` (a socket);
//! `region` (what links share); `tls`; [`names`] (metrics).

mod gateway;
mod incoming;
pub mod limits;
mod metrics;
pub mod names;
mod options;
mod outgoing;
mod pipe;
mod region;
mod status;
pub mod tls;

pub use gateway::{Gateway, GatewayEvent, Host, StartError};
pub use options::{GatewayOptions, LinkOptions, Peer, TlsMaterial};
pub use pipe::Pipe;
pub use status::{InState, InStatus, LinksStatus, OutState, OutStatus};
pub use tls::TlsError;
