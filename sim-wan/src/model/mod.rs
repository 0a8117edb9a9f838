//! The WAN as a pure state machine: no sockets, no tokio, no clock, no randomness but from a seed.
//!
//! ```text
//! settings  what is asked of a line           flow     one connection on one line: order, loss, recovery
//! line      one ordered pair of regions       network  all lines, the connections across them, cuts and heals
//! schedule  changes at given times            frame    what a TCP connection sends over a line
//! ```
//!
//! The proxy of this crate is a thin shell around a [`Network`]; a simulation of a whole system in virtual time drives
//! the same one:
//!
//! ```
//! use std::time::Duration;
//! use sim_wan::model::{Bounds, Delay, Event, LineSettings, Network, Way};
//!
//! let mut network = Network::new(7, Bounds::default());
//! let there = network.add_line("us-east", "eu-west", LineSettings::with_delay(Delay::from_ms(50.0)?))?;
//! let back = network.add_line("eu-west", "us-east", LineSettings::with_delay(Delay::from_ms(50.0)?))?;
//!
//! let connection = network.open(there, back)?;
//! network.send(Duration::ZERO, connection, Way::There, 5, "hello")?;
//!
//! let now = network.poll_timeout().expect("a chunk is on its way");
//! assert_eq!(now, Duration::from_millis(50));
//! assert_eq!(network.poll(now), Some(Event::Delivered { connection, way: Way::There, size: 5, payload: "hello" }));
//! network.release(connection, Way::There, 5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod flow;
mod frame;
mod line;
mod network;
mod schedule;
mod settings;

use std::fmt;

pub use frame::Frame;
pub use line::{Bounds, Line, LineEvent, LineStats, OpenError, Room, SendError};
pub use network::{AddLineError, Change, CloseReason, Event, InvalidChange, LineId, LinkView, Network, Way};
pub use schedule::{Schedule, storm};
pub use settings::{Delay, InvalidSetting, LineChange, LineSettings, Loss, Rate, State};

/// The number of a connection; a network uses none twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// The connection of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
