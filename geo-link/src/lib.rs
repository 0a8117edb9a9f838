//! The gateway of a region: the links to and from all others, over mutually authenticated TLS.
//!
//! A link A -> B consists of streams: one connection, dialled by A, from each node that stamps A's writes, on which they flow
//! to B and acknowledgements back; the way back is another link, dialled by B. What is said on it, and when, is decided by
//! `geo-link-core`; PROTOCOL.md beside this crate is the protocol as a document. Here are the sockets, TLS, the tasks, the
//! metrics and the status.
//!
//! # What holds
//! - **A gateway holds nothing.** Cursors live with the data that they describe. It may die at any moment.
//! - **One link harms no other.** Each has its own task and feed; whatever is queued has a bound ([`limits`]); long work
//!   is done in turns. What a peer sends, be it garbage, ends its own connection.
//! - **Nobody is believed for what it says.** A peer is the region that its certificate names, or is turned away.
//!
//! # Where what is
//! [`Gateway`] (embedded in the one node of a region: start, shutdown), with `dial` and `accept`. For clusters:
//! [`Streams`] (in a node), [`tunnel`] (the way out, in a gateway), [`Splitter`] (the way in). Of all: `outgoing` and `incoming`
//! (the loops of a stream's two ends), `ends` (what those do that a feed within a region does as well), `pipe` (a socket), [`Region`] (what the ends at one store share, status and lag), `peers` (who the others
//! are), `tls`, [`names`] (metrics).

mod accept;
mod audit;
mod dial;
mod ends;
mod gateway;
mod incoming;
pub mod limits;
mod metrics;
pub mod names;
mod options;
mod outgoing;
mod peers;
mod pipe;
mod region;
mod split;
mod status;
mod streams;
pub mod tls;
pub mod tunnel;
mod turned_away;

pub use ends::{ReceivingEnd, SendingEnd};
pub use gateway::{Gateway, GatewayEvent, Host, StartError};
pub use geo_link_core::CloneProgress;
pub use options::{GatewayOptions, LinkOptions, Peer, TlsMaterial};
pub use outgoing::Connect;
pub use pipe::Pipe;
pub use region::Region;
pub use split::{Nodes, Owner, Owners, SplitStatus, Splitter};
pub use status::{InState, InStatus, LinksStatus, OutState, OutStatus};
pub use streams::Streams;
pub use tls::TlsError;
