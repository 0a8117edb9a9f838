//! Time in Meridian: stamps, origins, and the hybrid logical clock that issues them.

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
pub use skew::{Estimate, Exchange, ExchangeError, Skew, too_far_ahead};
pub use stamp::{Incarnation, InvalidRegionId, Origin, RegionId, Stamp};
pub use time::{Now, Offset, Time};
