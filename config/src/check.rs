//! Checks files without starting anything: what `meridian config check` does.
//!
//! Files of several kinds lie side by side in a folder, and nobody should have to say which is which. The keys at the
//! top of a file tell, and some below them: it is taken for the kind that knows most of them. Kinds that are not ours come from the caller.

use std::path::{Path, PathBuf};

use crate::{GatewayConfig, NodeConfig, Problems, Report, document::Document};

/// A kind of file.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// How it is called.
    pub name: &'static str,
    /// The keys that can stand at its top, and dotted paths of such below it as no other kind has.
    pub keys: &'static [&'static str],
    /// Checks a file of this kind, given its path and its text; returns what it is about, in a few words.
    pub check: fn(&Path, &str) -> Result<String, Report>,
}

impl Kind {
    /// The configuration of a node. An empty file is one.
    pub const NODE: Self = Self {
        name: "node",
        keys: &[
            "region", "node", "limits", "memory", "auth", "tls", "clock", "cluster", "gateway", "peer", "slowlog",
            "latency", "log",
        ],
        check: |path, text| {
            let config = NodeConfig::parse(&path.display().to_string(), text)?;
            let NodeConfig { region, peers, .. } = config;
            Ok(format!("region {} (id {}), {} peers", region.name, region.id, peers.len()))
        },
    };

    /// The configuration of a gateway that is a process of its own. It has sections in common with that of a node; its name,
    /// which it must have, tells it apart.
    pub const GATEWAY: Self = Self {
        name: "gateway",
        keys: &["region", "gateway", "gateway.name", "cluster", "admin", "clock", "peer", "log"],
        check: |path, text| {
            let config = GatewayConfig::parse(&path.display().to_string(), text)?;
            let GatewayConfig { region, gateway, peers, .. } = config;
            Ok(format!("{} of region {} (id {}), {} peers", gateway.name, region.name, region.id, peers.len()))
        },
    };

    /// How many of its keys are in a file.
    fn knows(&self, document: &Document<'_>) -> usize {
        self.keys.iter().filter(|key| document.contains(key)).count()
    }
}

/// A file in which nothing is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The file.
    pub path: PathBuf,
    /// The name of its kind.
    pub kind: &'static str,
    /// What it is about, in a few words.
    pub about: String,
}

/// Checks each file, as a node's, a gateway's or one of the `other_kinds`, and gives the results in the same order.
pub fn check<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>, other_kinds: &[Kind]) -> Vec<Result<Checked, Report>> {
    paths.into_iter().map(|path| check_one(path.as_ref(), other_kinds)).collect()
}

fn check_one(path: &Path, other_kinds: &[Kind]) -> Result<Checked, Report> {
    let text = crate::read(path)?;
    let document = Document::parse(&text, &mut Problems::default());
    let known = |kind: &Kind| document.as_ref().map_or(0, |document| kind.knows(document));
    // At a tie the node comes first. What is no TOML at all is refused by any kind in the same words.
    let others = [Kind::GATEWAY].into_iter().chain(other_kinds.iter().copied());
    let kind = others.fold(Kind::NODE, |best, kind| if known(&kind) > known(&best) { kind } else { best });
    let about = (kind.check)(path, &text)?;
    Ok(Checked { path: path.to_owned(), kind: kind.name, about })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde::Deserialize;

    use super::{Kind, check};
    use crate::{GatewayConfig, NodeConfig};

    #[derive(Deserialize)]
    struct Topology {
        link: Vec<u32>,
    }

    const TOPOLOGY: Kind = Kind {
        name: "topology",
        keys: &["link"],
        check: |path, text| {
            let topology: Topology = crate::parse(&path.display().to_string(), text)?;
            Ok(format!("{} links", topology.link.len()))
        },
    };

    #[test]
    fn kind_of_a_file_is_told_by_its_keys() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let paths = [
            write("node.toml", "[region]\nname = \"a\""),
            write("wan.toml", "link = [1, 2]"),
            write("gateway.toml", GATEWAY),
            write("unfinished.toml", "[region]\nname = \"a\"\n[gateway]\nname = \"g\""),
            write("empty.toml", ""),
            write("broken.toml", "[[["),
            write("wrong.toml", "link = 1"),
            folder.path().join("missing.toml"),
        ];
        let results = check(&paths, &[TOPOLOGY]);
        let kinds: Vec<_> = results.iter().map(|result| result.as_ref().ok().map(|checked| checked.kind)).collect();
        assert_eq!(kinds, [Some("node"), Some("topology"), Some("gateway"), None, Some("node"), None, None, None]);
        assert_eq!(results[0].as_ref().unwrap().about, "region a (id 1), 0 peers");
        assert_eq!(results[1].as_ref().unwrap().about, "2 links");
        assert_eq!(results[2].as_ref().unwrap().about, "g of region a (id 1), 1 peers");
        let unfinished = results[3].as_ref().unwrap_err().to_string();
        assert!(unfinished.contains("no node could ever reach this gateway"), "{unfinished}");
    }

    const GATEWAY: &str = "
        region = { name = \"a\", id = 1 }
        gateway = { name = \"g\", cert = \"c\", key = \"k\", ca = \"a\" }
        cluster = { listen = \"127.0.0.1:17379\", seeds = [\"127.0.0.1:16379\"] }
        peer = [{ region = \"b\", id = 2, addr = \"b:1\" }]";

    #[test]
    fn kind_of_a_node_knows_every_section() {
        let sections = toml::Table::try_from(NodeConfig::default()).unwrap();
        assert_eq!(sections.len(), Kind::NODE.keys.len());
        assert!(sections.keys().all(|section| Kind::NODE.keys.contains(&section.as_str())));
    }

    #[test]
    fn kind_of_a_gateway_knows_every_section() {
        let sections = toml::Table::try_from(GatewayConfig::parse("gateway.toml", GATEWAY).unwrap()).unwrap();
        let known = Kind::GATEWAY.keys.iter().filter(|key| !key.contains('.'));
        assert_eq!(sections.len(), known.count());
        assert!(sections.keys().all(|section| Kind::GATEWAY.keys.contains(&section.as_str())));
    }
}
