//! What the process says of itself, on standard error: lines for people, or an object per line for machines.
//!
//! The configuration sets the level. `RUST_LOG` overrides it, for whoever looks for something in particular.
//!
//! openraft is silent unless `RUST_LOG` asks for it: it calls an error each attempt to reach a member that is away, many
//! times a second. What an operator must know of the control plane (who leads, who is out of reach, that the disk has
//! failed) this crate says itself.

use std::io::{self, IsTerminal};

use config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// Installs the subscriber of the process; only the first call counts.
pub(crate) fn install(log: &Log) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives(log)));
    // What cannot be logged is lost: to say that on the same stream would panic in whoever had something to say.
    let builder = tracing_subscriber::fmt().log_internal_errors(false).with_env_filter(filter).with_writer(io::stderr);
    // An error means that a subscriber is there already, as when a test starts several nodes.
    let _ = match log.format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// What is logged by default.
fn directives(log: &Log) -> String {
    format!("{},openraft=off", log.level)
}

#[cfg(test)]
mod tests {
    use config::Log;
    use tracing_subscriber::EnvFilter;

    use super::directives;

    #[test]
    fn openraft_is_silent_by_default() {
        let filter = EnvFilter::try_new(directives(&Log::default())).unwrap();
        assert!(filter.to_string().contains("openraft=off"), "{filter}");
    }
}
