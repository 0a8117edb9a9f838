//! A WAN on one machine.

pub mod limits;
pub mod model;
pub mod presets;
pub mod topology;
