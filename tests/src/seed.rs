//! Where the randomness of a test comes from, so that a failure can be had again.

use std::{
    env, fmt,
    hash::{BuildHasher, RandomState},
};

use anyhow::{Context, Result};

/// Replays a run.
const SEED: &str = "MERIDIAN_TEST_SEED";

/// What all choices of a test follow from. How processes interleave does not follow from it: the same seed gives the
/// same commands, not the same race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of the environment, or else a new one.
    ///
    /// # Errors
    /// If the environment has one that is no number.
    pub fn choose() -> Result<Self> {
        match env::var(SEED) {
            Ok(text) => Ok(Self(text.parse().with_context(|| format!("{SEED} is no number"))?)),
            // The only randomness of the standard library; short, so that it is easily typed.
            Err(_) => Ok(Self(RandomState::new().hash_one(0) % 1_000_000)),
        }
    }

    /// Says it, with the command that replays the run.
    pub fn announce(self, test: &str) {
        crate::note(&format!("seed {self}; replay with {SEED}={self} cargo test -p meridian-tests --test {test}"));
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
