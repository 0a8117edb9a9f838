//! What the process says of itself, on standard error: lines for people, or an object per line for machines.
//!
//! The configuration sets the level. `RUST_LOG` overrides it, for whoever looks for something in particular.

use std::io::{self, IsTerminal};

use config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// Installs the subscriber of the process; only the first call counts.
pub(crate) fn install(log: &Log) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(log.level.to_string()));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // An error means that a subscriber is there already, as when a test starts several nodes.
    let _ = match log.format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
