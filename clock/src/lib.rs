//! Time in Meridian: stamps, origins, and the hybrid logical clock that issues them.

mod stamp;
mod time;

pub use stamp::{Incarnation, InvalidRegionId, Origin, RegionId, Stamp};
pub use time::{Now, Time};
