//! Time in Meridian: stamps, origins, and the hybrid logical clock that issues them.
//!
//! Regions agree on nothing but this: of two writes to a key, the one with the greater [`Stamp`] wins. So a stamp has
//! to mean what people expect of "last", has to be given out without asking anyone, and must never be given out
//! twice. This crate is about making that true on machines whose clocks drift, jump and go back.
//!
//! # Why a hybrid logical clock
//! Wall time alone would do what people expect, until a clock goes back or two writes fall on one tick: then a later
//! write loses against the value that it was made to replace. A logical counter alone never does that, but its
//! "last" has nothing to do with time: a region that writes much would win over one that writes little. The [`Hlc`]
//! is wall time wherever it can be, and counts on where it cannot. It lies above all that was issued or seen here,
//! and within the skew of the clocks of true time.
//!
//! Vector clocks would tell concurrent writes apart. Nobody asked here could do anything with that knowledge: a
//! register keeps one value. They would cost bytes per region in each entry, and per record on each link.
//!
//! # Why ten bytes
//! Every entry holds a stamp, and every record carries one. Eight bytes of [`Time`] give a fraction of a nanosecond
//! until 2106; two bytes of [`Origin`] break ties, and name the *life* of a region that issued the stamp, which is
//! what `seen` vectors count by. A 16-byte id, as uhlc has it, would more than double that and say no more.
//!
//! # What can go wrong, and what stands against it
//! - **The clock drifts.** [`Anchor`] checks the counter against the system clock every second and slews.
//! - **The clock is set ahead.** It is followed. Stamps of such a node may lie too far ahead for its peers: their
//!   links hold ([`too_far_ahead`]) rather than let every later write lose, and go on when the clocks agree.
//! - **The clock is set back.** Wall time brakes instead of going back, and stamps never go back at all.
//! - **A node's clock is simply wrong.** Links and neighbours measure it ([`Skew`]), and a node that is
//!   [outvoted](is_outvoted) takes no more writes.
//! - **The process restarts**, perhaps on a clock that went back meanwhile. It begins above the persisted
//!   [`HighWater`] mark.
//! - **A replica is promoted**, and has not seen all that the former primary issued. It begins at
//!   [`promotion_start`], above anything that can have been.
//! - **What was issued is lost**, by an empty restart or a failover to a replica that lags. The next
//!   [`Incarnation`] says so: the former life's stamps are then another origin's, which can be asked for again.
//!
//! # Where what is
//! Pure, with time as an argument: `stamp` and `time` (the types), `hlc` (issues stamps), `anchor` (wall time from a
//! counter), `high_water` (what outlives a restart), `skew` (a peer's clock), [`limits`] (every bound and why it is
//! what it is). `os` alone reads the clocks of the machine, and is used by the shells alone.
//!
//! The way of a stamp: [`OsClock::now`] once per turn of a worker's loop, [`Hlc::issue`] under the lock of a stripe,
//! and [`HighWater::is_covered`] before the stamp leaves.

mod anchor;
mod high_water;
mod hlc;
pub mod limits;
mod os;
mod skew;
mod stamp;
mod time;

pub use anchor::{Anchor, Correction, Jumps, Reading};
pub use high_water::{HighWater, State, StateError, promotion_start};
pub use hlc::Hlc;
pub use os::OsClock;
pub use skew::{Estimate, Exchange, ExchangeError, Skew, is_outvoted, too_far_ahead};
pub use stamp::{Incarnation, InvalidRegionId, Origin, ParseStampError, RegionId, Stamp};
pub use time::{Now, Offset, Time};
