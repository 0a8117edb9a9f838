//! A WAN on one machine.

pub mod limits;
pub mod model;
pub mod presets;
#[cfg(feature = "proxy")]
mod proxy;
pub mod topology;

#[cfg(feature = "proxy")]
pub use proxy::{BoundRoute, StartError, Wan};
