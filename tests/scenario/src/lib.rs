//! Scenarios as text, and the judgement of what came of them.
//!
//! A scenario says which regions there are, how far apart, what load they bear, what befalls them and when, and what is
//! expected all the same. An operator writes it as a file; `meridian lab --scenario FILE` lives through it with real
//! processes. This crate is the part of that which decides and does nothing:
//!
//! - [`document`] reads the file into a [`Scenario`], with [`target`], [`timeline`] and [`expectation`] for its sentences
//!   and [`settings`] for real files that it names;
//! - [`load`] says what each client asks for next, from a seed;
//! - [`history`] is what the clients saw, and [`order`] what follows from it of the order of writes;
//! - [`oracles`] judge a history, one promise each, and [`verdict`] says it in words;
//! - [`linearizable`] decides whether a key was a register; [`rules`] are alert rules in a hurry.
//!
//! # What it keeps
//! No clock, no socket, no dice, and no file but the scenario itself, which the crate `config` reads: times come in as distances
//! from the start of the run and randomness as a seed. So a history that was written down is judged again with the same result,
//! and an oracle is tested by a history made by hand.
//!
//! # What is left out on purpose
//! Who runs it: the lab. And what only an administrator of the cluster could see, such as the stamps of single records: the
//! oracles judge by what clients can see, so that what they find is what a user would have met.

pub mod document;
pub mod expectation;
pub mod history;
pub mod limits;
pub mod linearizable;
pub mod load;
pub mod oracles;
pub mod order;
pub mod rules;
pub mod settings;
pub mod target;
pub mod timeline;
pub mod verdict;

pub use document::Scenario;
pub use expectation::Expectation;
pub use history::History;
pub use target::{LinkPath, Part, Target};
pub use timeline::{Deed, Event};
