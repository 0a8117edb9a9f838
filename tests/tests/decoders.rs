//! Whatever reads bytes of others is handed all that a search for bad ones has found worth keeping, and much that is close to it.
//!
//! The corpus is in `tests/fuzz/corpus`, a folder for each decoder; `cargo +nightly fuzz run NAME` in `tests/fuzz` goes on from there. Here
//! each piece is tried as it is, cut short, and with bytes changed, from a seed that is printed.

use std::{fs, panic, path::Path};

use anyhow::{Context, Result};
use meridian_tests::{
    Seed,
    decoders::{TARGETS, seeds},
    note,
};
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// How often each piece of the corpus is changed.
const CHANGES: usize = 50;
/// Bytes that are changed at once, at most.
const BYTES_MAX: usize = 4;

#[test]
fn what_others_have_written_is_read_or_refused() -> Result<()> {
    let seed = Seed::choose()?;
    seed.announce("decoders");
    let mut random = Pcg64Mcg::seed_from_u64(seed.0);
    for (name, target) in TARGETS {
        let pieces = pieces(name)?;
        let mut tried = 0;
        for piece in &pieces {
            try_one(name, *target, piece);
            for _ in 0..CHANGES {
                try_one(name, *target, &changed(piece, &mut random));
            }
            tried += 1 + CHANGES;
        }
        note(&format!("{name}: {} pieces, {tried} tried", pieces.len()));
    }
    Ok(())
}

#[test]
fn every_decoder_has_a_fuzzing_target_and_something_to_begin_with() {
    for (name, _) in TARGETS {
        let file = fuzz().join("fuzz_targets").join(format!("{name}.rs"));
        assert!(file.exists(), "{} is missing", file.display());
        assert!(!seeds(name).is_empty(), "{name} has no example");
    }
}

fn fuzz() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}

/// The examples and the corpus, in the order of names.
fn pieces(name: &str) -> Result<Vec<Vec<u8>>> {
    let mut pieces = seeds(name);
    let folder = fuzz().join("corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .with_context(|| format!("no corpus in {}", folder.display()))?
        .collect::<Result<_, _>>()?;
    files.sort_by_key(fs::DirEntry::file_name);
    for file in files {
        pieces.push(fs::read(file.path())?);
    }
    Ok(pieces)
}

/// A panic is the finding; what led to it is said.
fn try_one(name: &str, target: fn(&[u8]), bytes: &[u8]) {
    if panic::catch_unwind(|| target(bytes)).is_err() {
        panic!("{name} has panicked over {bytes:?}");
    }
}

fn changed(piece: &[u8], random: &mut impl Rng) -> Vec<u8> {
    let mut bytes = piece.to_vec();
    for _ in 0..random.random_range(0..=BYTES_MAX) {
        if bytes.is_empty() {
            break;
        }
        let place = random.random_range(0..bytes.len());
        match random.random_range(0..4) {
            0 => bytes[place] = random.random(),
            1 => bytes[place] ^= 1 << random.random_range(0..8),
            2 => drop(bytes.remove(place)),
            _ => bytes.insert(place, random.random()),
        }
    }
    if random.random_bool(0.2) {
        bytes.truncate(random.random_range(0..=bytes.len()));
    }
    bytes
}
