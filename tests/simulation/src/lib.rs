//! Whole regions in one thread and virtual time, from one seed.

mod agenda;
mod broken;
mod names;
#[path = "../../../node/core/tests/store_support/parcel.rs"]
mod parcel;
mod region;
mod world;

pub use broken::Broken;
pub use region::Region;
pub use world::{Verdict, World, WorldOptions};
