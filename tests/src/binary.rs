//! Where the program under test is.
//!
//! Cargo builds a package's binary for the tests of that package alone, so this one asks cargo to build it, once per
//! test process and for the same profile. After `cargo test --workspace` there is next to nothing to do. To test
//! another build, such as one that is shipped, name it in `MERIDIAN_TEST_BINARY`.

use std::{
    env,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{Context, Result, anyhow};

/// Names the program to test instead of building it.
const BINARY: &str = "MERIDIAN_TEST_BINARY";

/// The path of `meridian`, built if need be.
///
/// # Errors
/// If it cannot be built.
pub fn meridian() -> Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_deref().map_err(|error| anyhow!("{error}"))
}

fn build() -> Result<PathBuf> {
    if let Some(binary) = env::var_os(BINARY) {
        return Ok(binary.into());
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    // With the whole workspace in view cargo chooses the features that `cargo test --workspace` has, and so finds
    // everything built already.
    let build = escargot::CargoBuild::new().manifest_path(manifest).arg("--workspace").bin("meridian");
    let run = build
        .current_release()
        .run()
        .context("cannot build meridian; `cargo build --workspace --bin meridian` says why")?;
    Ok(run.path().to_owned())
}
