//! The atomics of what is concurrent by hand.
//!
//! One place, so that `tests/interleavings.rs` can put loom's in their stead and try every order in which threads may come.

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};
