//! What a scenario takes from the real file of a node: how it behaves, and not where it is or who may ask it.
//!
//! An operator wants to see how a region would fare that is configured as the real one is. Its addresses, certificates and
//! passwords are of no use in a lab, which has its own.

use std::{collections::BTreeMap, path::Path};

use config::{NodeConfig, RegionName, Report};

/// What a node's file says that holds in a lab as well.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What the region is called.
    pub name: RegionName,
    /// Its settings, by section and key.
    pub set: BTreeMap<String, toml::Value>,
}

/// Sections of a node's file that say how it behaves, and not where it is or who may ask it.
const SECTIONS: [&str; 7] = ["limits", "memory", "clock", "cluster", "gateway", "slowlog", "latency"];

/// Keys of those that say where it is all the same.
const PLACES: [&str; 7] = ["listen", "announce", "seeds", "cert", "key", "ca", "proxy"];

/// Reads a node's file: all of it is checked, and what is tied to its machine is left out.
///
/// # Errors
/// A report of all that is wrong with it.
pub fn load(file: &Path) -> Result<Settings, Report> {
    let config = NodeConfig::load(file)?;
    let table: toml::Table = config::load(file)?;
    let sections = table.into_iter().filter(|(section, _)| SECTIONS.contains(&section.as_str()));
    let keys = sections.flat_map(|(section, keys)| {
        let keys = if let toml::Value::Table(keys) = keys { keys } else { toml::Table::new() };
        keys.into_iter().map(move |(key, value)| (section.clone(), key, value))
    });
    let kept = keys.filter(|(_, key, _)| !PLACES.contains(&key.as_str()));
    let set = kept.map(|(section, key, value)| (format!("{section}.{key}"), value)).collect();
    Ok(Settings { name: config.region.name, set })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::load;

    #[test]
    fn what_is_tied_to_a_machine_is_left_out() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/regions/us-east.toml");
        let settings = load(&file).unwrap();
        assert_eq!(settings.name.as_str(), "us-east");
        assert_eq!(settings.set["memory.maxmemory"].as_str(), Some("1GiB"));
        assert!(settings.set.contains_key("gateway.heartbeat"));
        let is_place = |key: &str| [".listen", ".cert", ".key", ".ca"].iter().any(|place| key.ends_with(place));
        assert!(!settings.set.keys().any(|key| is_place(key) || key.starts_with("peer") || key.starts_with("node")));
    }
}
