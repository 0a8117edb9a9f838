//! The files in this folder say what the code does.
//!
//! `reference.toml` is written by hand, for people, and held to the code from both sides: it parses to the defaults, and
//! no key is missing. The comments of the region files name defaults in words; each is compared with the code's.

use std::{collections::BTreeSet, fs, path::PathBuf};

use config::{Kind, NodeConfig, REFERENCE};
use proptest::prelude::*;
use toml::{Table, Value};

fn region_files() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/regions");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The reference with every optional key set.
fn complete_reference() -> String {
    REFERENCE.replace("#: ", "")
}

#[test]
fn reference_is_the_defaults() {
    let config: NodeConfig = config::parse("reference.toml", REFERENCE).unwrap();
    assert_eq!(config, NodeConfig::default());
}

#[test]
fn reference_lacks_no_key() {
    let complete: Table = complete_reference().parse().unwrap();
    config::parse::<NodeConfig>("reference.toml", &complete_reference()).unwrap();
    for section in Kind::NODE.keys {
        let value = &complete[*section];
        let table = value.as_table().unwrap_or_else(|| value[0].as_table().unwrap());
        assert_eq!(table.keys().cloned().collect::<BTreeSet<_>>(), known_keys(section), "[{section}]");
    }
}

/// The keys that a section knows, as it lists them itself when it is asked for one that it does not know.
fn known_keys(section: &str) -> BTreeSet<String> {
    let unknown = if section == "peer" { "[{ zzz = 1 }]" } else { "{ zzz = 1 }" };
    let report = config::parse::<NodeConfig>("x.toml", &format!("{section} = {unknown}")).unwrap_err().to_string();
    let (_, list) = report.split_once("known are: ").unwrap();
    list.trim().split(", ").map(|key| key.trim_matches('`').to_owned()).collect()
}

#[test]
fn region_files_are_valid() {
    let results = config::check(region_files(), &[]);
    assert_eq!(results.len(), 3);
    for result in results {
        let checked = result.unwrap_or_else(|report| panic!("{report}"));
        assert!(checked.about.ends_with("2 peers"), "{checked:?}");
    }
}

#[test]
fn region_files_describe_regions_that_find_one_another() {
    let regions: Vec<_> = region_files().iter().map(|file| NodeConfig::load(file).unwrap()).collect();
    for region in &regions {
        for peer in &region.peers {
            let other = regions.iter().find(|other| other.region.id == peer.id).unwrap();
            assert_eq!(other.region.name, peer.region);
            assert_eq!(other.gateway.listen.to_string(), peer.addr.single().unwrap().to_string());
        }
    }
    let listeners = |region: &NodeConfig| [region.node.listen, region.node.admin, region.gateway.listen];
    let all: Vec<_> = regions.iter().flat_map(listeners).collect();
    for (index, listener) in all.iter().enumerate() {
        assert!(all[..index].iter().all(|other| !listener.clashes_with(*other)), "{listener} is taken twice");
    }
}

#[test]
fn comments_name_the_defaults_of_the_code() {
    let defaults = Table::try_from(NodeConfig::default()).unwrap();
    for file in region_files() {
        let text = fs::read_to_string(&file).unwrap();
        let (mut section, mut comment, mut compared) = ("", String::new(), 0);
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(words) = line.strip_prefix('#') {
                comment.push_str(words);
            } else if let Some(name) = line.strip_prefix('[') {
                section = name.trim_matches(['[', ']']);
            } else if let Some((key, _)) = line.split_once(" = ").filter(|_| section != "peer") {
                assert_default(&defaults, section, key, &comment, &format!("{}: {line}", file.display()));
                compared += 1;
            }
            // A comment holds for all keys that follow it without another one.
            let ends =
                line.is_empty() || !line.starts_with('#') && lines.peek().is_some_and(|next| next.starts_with('#'));
            if ends {
                comment.clear();
            }
        }
        assert!(compared >= 10, "{} says too little", file.display());
    }
}

/// Compares what a comment says behind `Default:` with the default of a key.
#[track_caller]
fn assert_default(defaults: &Table, section: &str, key: &str, comment: &str, place: &str) {
    let (_, said) = comment.split_once("Default: ").unwrap_or_else(|| panic!("{place}: no default is named"));
    let default = defaults[section].get(key).map_or("none".to_owned(), Value::to_string);
    // A size without a unit may be written as a number.
    let spellings = [default.clone(), default.trim_matches('"').to_owned()];
    let named =
        |spelling: &String| said.strip_prefix(spelling.as_str()).is_some_and(|rest| rest.starts_with(['.', ',', ';']));
    assert!(spellings.iter().any(named), "{place}: the default is {default}, the comment says {said}");
}

/// What matters of the reference, so that most random cuts hit something that does.
fn reference_without_comments() -> String {
    complete_reference()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .fold(String::new(), |text, line| text + line + "\n")
}

proptest! {
    #[test]
    fn no_text_makes_a_report_panic(cut in 0..2_000_usize, length in 0..40_usize, text in "[ -~\n\"'=é€]{0,12}") {
        let mut bytes = reference_without_comments().into_bytes();
        let (start, end) = (cut.min(bytes.len()), (cut + length).min(bytes.len()));
        bytes.splice(start..end, text.bytes());
        if let Err(report) = NodeConfig::parse("x.toml", &String::from_utf8_lossy(&bytes)) {
            prop_assert!(report.problems().len() > 0 && !report.to_string().is_empty());
        }
    }
}
