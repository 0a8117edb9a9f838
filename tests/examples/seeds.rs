//! Writes the examples with which fuzzing begins: `cargo run -p meridian-tests --example seeds -- tests/fuzz/corpus`.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result};
use meridian_tests::decoders::{TARGETS, seeds};

fn main() -> Result<()> {
    let corpus = PathBuf::from(env::args_os().nth(1).context("name the folder of the corpus")?);
    for (name, _) in TARGETS {
        let folder = corpus.join(name);
        fs::create_dir_all(&folder)?;
        for (index, seed) in seeds(name).into_iter().enumerate() {
            fs::write(folder.join(format!("example-{index}")), seed)?;
        }
    }
    Ok(())
}
