//! Configuration, parsed into types before a socket opens.
//!
//! One file describes one node, or an embedded region of one node; or a gateway, if that is a process of its own. Whoever starts the process may leave the file out
//! altogether: every key has a default, and the environment and the flags override what the file says
//! ([`Overrides`]). What comes out, a [`NodeConfig`], has been checked as a whole, so that nothing behind it needs to
//! ask again whether a value makes sense.
//!
//! What cannot be used is refused with everything that is wrong at once, each with its line and with what would be
//! right ([`Report`]): a key that nobody knows is more often a slip than a wish, and a setting that is silently ignored
//! is worse than a process that does not start.
//!
//! [`load`] and [`parse`] take any type, since other files (the topology of a simulated WAN) deserve the same errors.
//! Left out on purpose: includes, templates and reloading. What can change at run time is changed by `CONFIG SET`.

mod check;
mod document;
mod fault;
mod gateway;
pub mod limits;
mod node;
mod overrides;
mod redact;
mod report;
mod validate;
pub mod values;

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

pub use check::{Checked, Kind, check};
use document::Document;
pub use gateway::{Admin, Bus, GatewayConfig, LinkEnd};
pub use node::{
    Auth, Clock, Cluster, Gateway, LatencyMonitor, Limits, Log, LogFormat, LogLevel, MaxmemoryPolicy, Memory, Node,
    NodeConfig, Peer, Region, Slowlog, Tls, TlsFiles,
};
pub use overrides::{Overrides, PeerArg};
pub use report::{Problem, Problems, Report};
use serde::de::DeserializeOwned;
pub use values::{GatewayName, Host, Listen, Offset, PeerAddress, PeerAddresses, RegionName, Secret, Size, Threshold};

/// Every key of a node's file at its default, with its unit and why.
pub const REFERENCE: &str = include_str!("../reference.toml");

/// The alert rules that are shipped.
pub const ALERT_RULES: &str = include_str!("../prometheus/meridian.rules.yml");

/// Reads a file into any type. Unknown keys are refused.
///
/// For a node use [`NodeConfig::load`], for a gateway [`GatewayConfig::load`], which also check that the values fit one
/// another.
///
/// # Errors
/// A [`Report`] of everything that stands in the way, also of a file that cannot be read.
pub fn load<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T, Report> {
    load_with(path, |value, _| value)
}

/// Reads a text into any type. `file_name` is how errors call it.
///
/// # Errors
/// A [`Report`] of everything that stands in the way.
pub fn parse<T: DeserializeOwned>(file_name: &str, text: &str) -> Result<T, Report> {
    parse_with(file_name, text, |value, _| value)
}

/// [`load`], and then `finish`, which checks what types alone cannot say, notes all that is wrong, and may turn the
/// value into another.
///
/// # Errors
/// A [`Report`] of everything that stands in the way, or of everything that `finish` noted.
pub fn load_with<T: DeserializeOwned, U>(
    path: impl AsRef<Path>,
    finish: impl FnOnce(T, &mut Problems) -> U,
) -> Result<U, Report> {
    let path = path.as_ref();
    let text = read(path)?;
    parse_with(&path.display().to_string(), &text, finish)
}

/// [`parse`], and then `finish`, as in [`load_with`].
///
/// # Errors
/// A [`Report`] of everything that stands in the way, or of everything that `finish` noted.
pub fn parse_with<T: DeserializeOwned, U>(
    file_name: &str,
    text: &str,
    finish: impl FnOnce(T, &mut Problems) -> U,
) -> Result<U, Report> {
    let mut problems = Problems::default();
    let document = Document::parse(text, &mut problems);
    let value = document.as_ref().and_then(|document| document.read(&mut problems));
    let finished = value.map(|value| finish(value, &mut problems));
    problems.into_report(file_name, text, document.as_ref())?;
    Ok(finished.expect("what cannot be parsed or read has noted a problem"))
}

/// The text of a file.
fn read(path: &Path) -> Result<String, Report> {
    read_to_string(path).map_err(|error| {
        let problem = Problem::new("cannot read this file").label(error.to_string());
        Report::of_file(&path.display().to_string(), problem)
    })
}

/// Reads a file of at most [`limits::FILE_LEN_MAX`].
fn read_to_string(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let max = limits::FILE_LEN_MAX.as_u64();
    let read = File::open(path)?.take(max + 1).read_to_string(&mut text)?;
    if read as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {}", limits::FILE_LEN_MAX)));
    }
    Ok(text)
}
