//! Which worlds a run of a simulation makes: those that failed once, and then new ones.
//!
//! Those that failed stand in a file of `tests/seeds`, and are replayed for ever. The new ones are others in each run, so that each run
//! looks where none has looked before; the first is printed, and each failure with the command that replays it. `MERIDIAN_TEST_SEED` is the
//! first seed of a run, `MERIDIAN_TEST_SEEDS` their number.

#![allow(clippy::disallowed_types, reason = "a run chooses its seeds; what follows from them takes them as arguments")]

use std::{
    env,
    hash::{BuildHasher, RandomState},
    str::FromStr,
};

/// New seeds lie above those that are looked for by name, and are short enough to be typed.
const NEW: std::ops::Range<u64> = 1_000_000..1_000_000_000;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Seeds {
    kept: Vec<u64>,
    /// The first that is new.
    pub(crate) first: u64,
    /// How many are.
    pub(crate) count: u64,
}

impl Seeds {
    /// Those of a file, and so many new ones unless the environment says otherwise. If it names a seed, the file's are let be.
    ///
    /// # Panics
    /// If a line of the file is no number.
    pub(crate) fn choose(file: &str, count: u64) -> Self {
        let named = variable("MERIDIAN_TEST_SEED");
        let lines = file.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let kept = lines.filter(|line| !line.is_empty() && named.is_none());
        let kept = kept.map(|line| line.parse().unwrap_or_else(|_| panic!("{line} is no seed"))).collect();
        // The only randomness of the standard library.
        let new = || NEW.start + RandomState::new().hash_one(0) % (NEW.end - NEW.start);
        let first = named.unwrap_or_else(new);
        Self { kept, first, count: variable("MERIDIAN_TEST_SEEDS").unwrap_or(count) }
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = u64> {
        self.kept.iter().copied().chain(self.first..self.first + self.count)
    }
}

/// A number of the environment.
pub(crate) fn variable<T: FromStr>(name: &str) -> Option<T> {
    env::var(name).ok()?.parse().ok()
}
