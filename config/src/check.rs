//! Checks files without starting anything: what `meridian config check` does.
//!
//! Files of several kinds lie side by side in a folder, and nobody should have to say which is which. The keys at the
//! top of a file tell: it is taken for the kind that knows most of them. Kinds that are not ours come from the caller.

use std::path::{Path, PathBuf};

use crate::{NodeConfig, Problems, Report, document::Document};

/// A kind of file.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// How it is called.
    pub name: &'static str,
    /// The keys that can stand at its top.
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

    /// How many of the keys at the top of a file this kind knows.
    fn knows(&self, document: &Document<'_>) -> usize {
        document.keys().filter(|key| self.keys.contains(key)).count()
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

/// Checks each file, as a node's or as one of the `other_kinds`, and gives the results in the same order.
pub fn check<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>, other_kinds: &[Kind]) -> Vec<Result<Checked, Report>> {
    paths.into_iter().map(|path| check_one(path.as_ref(), other_kinds)).collect()
}

fn check_one(path: &Path, other_kinds: &[Kind]) -> Result<Checked, Report> {
    let text = crate::read(path)?;
    let document = Document::parse(&text, &mut Problems::default());
    let known = |kind: &Kind| document.as_ref().map_or(0, |document| kind.knows(document));
    // At a tie the node comes first. What is no TOML at all is refused by any kind in the same words.
    let kind = other_kinds.iter().fold(&Kind::NODE, |best, kind| if known(kind) > known(best) { kind } else { best });
    let about = (kind.check)(path, &text)?;
    Ok(Checked { path: path.to_owned(), kind: kind.name, about })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde::Deserialize;

    use super::{Kind, check};
    use crate::NodeConfig;

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
            write("empty.toml", ""),
            write("broken.toml", "[[["),
            write("wrong.toml", "link = 1"),
            folder.path().join("missing.toml"),
        ];
        let results = check(&paths, &[TOPOLOGY]);
        let kinds: Vec<_> = results.iter().map(|result| result.as_ref().ok().map(|checked| checked.kind)).collect();
        assert_eq!(kinds, [Some("node"), Some("topology"), Some("node"), None, None, None]);
        assert_eq!(results[0].as_ref().unwrap().about, "region a (id 1), 0 peers");
        assert_eq!(results[1].as_ref().unwrap().about, "2 links");
    }

    #[test]
    fn kind_of_a_node_knows_every_section() {
        let sections = toml::Table::try_from(NodeConfig::default()).unwrap();
        assert_eq!(sections.len(), Kind::NODE.keys.len());
        assert!(sections.keys().all(|section| Kind::NODE.keys.contains(&section.as_str())));
    }
}
