//! The protocol of a link between two regions, without the link: no sockets, no TLS, no tokio, no clock, no dice.
//!
//! A link A -> B carries what a feed in A says to an intake in B. Everything that makes it hard is here: when a batch
//! leaves, how much may be on its way, what is believed of a peer that greets, which clock is too far ahead to be
//! followed, who refills an empty region, and what any bytes whatever from the other side may and may not do. The
//! shell around it (the crate `geo-link`) moves bytes. PROTOCOL.md beside that crate is the protocol as a document.
//!
//! # Why the cursor is not here
//! No end of a link remembers how far it came. What has arrived stands in the receiving region beside the data
//! (`seen`), and is asked for at each greeting. So either end may die at any moment, be replaced by another process,
//! or be connected twice, and nothing is lost and nothing applied that would not win anyway.
//!
//! # Where what is
//! The two ends: [`Sender`] and [`Receiver`], and [`Incoming`] around the latter, at a store; where slots have several owners,
//! [`Split`]. Between them: `frame` (messages), `batch` and `body` (records), `row` (what was seen). What all ends at one store
//! share is [`Links`]: `admission` (who may speak for a region), `refill` (how an empty region comes by its data), `hearing` (who
//! must be relayed) and `lag`. Besides: `audit` (whether two regions hold the same) and [`limits`].

mod admission;
mod audit;
mod batch;
mod body;
mod entitlement;
mod frame;
mod hearing;
mod incoming;
mod lag;
pub mod limits;
mod links;
mod receiver;
mod refill;
mod row;
mod sender;
mod split;

pub use admission::{LinkId, answered};
pub use audit::{Audit, Auditor, audit_is_conclusive, next_audit};
pub use batch::{Batch, Codec, Envelope, Packed, Packer, Unpacker};
pub use body::{BodyError, BodyWriter, Items, Layout, TimeRange};
pub use entitlement::check_own;
pub use frame::{Ack, Echo, FrameKind, Hello, Inbox, Malformed, Refusal, Want, Welcome, put_bye};
pub use incoming::{CloneProgress, Incoming};
pub use links::{Displaced, Links, LinksEvent, Welcomed};
pub use receiver::{Applied, Authority, Receiver, ReceiverEvent, ReceiverOptions};
pub use refill::{RefillOptions, Wish};
pub use sender::{LinkEnd, Phase, Sender, SenderEvent, SenderOptions};
pub use split::{Branch, BranchEnd, BranchId, Owner, Owners, Split, SplitEvent, SplitOptions};
