//! The WAN between real sockets: a thin shell around [`model::Network`](crate::model::Network).
//!
//! ```text
//!             accept            read                                  due                  write
//! client ---> route ---> end ---------> hub: network behind a lock ---------> inbox ---> end ---> target
//!                        (client's)      ^ pacer thread: sleeps till due                 (target's)
//!                                        ^ control API: changes, looks
//! ```
//!
//! Two threads, both held by the [`Wan`] and ended with it: one runs a current-thread tokio runtime with all sockets
//! and the control API, the other keeps the time. The caller's runtime, if it has one, runs nothing of this, so that
//! a busy test does not bend the delays it measures.

mod alarm;
mod control;
mod end;
mod hub;
mod pacer;
mod route;
mod socket;
mod wan;

pub use wan::{BoundRoute, StartError, Wan};
