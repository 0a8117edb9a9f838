//! `deploy/gateway.toml` says what the code does: every key is in it, and where it names a default or says that there is
//! none it is right.

use config::{GatewayConfig, Kind};
use toml::{Table, Value};

const EXAMPLE: &str = include_str!("../deploy/gateway.toml");

/// The example with every optional key set.
fn complete() -> Table {
    EXAMPLE.replace("#: ", "").parse().unwrap()
}

#[test]
fn the_example_is_a_gateway() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/gateway.toml");
    let checked = config::check([path], &[]).remove(0).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!((checked.kind, checked.about.as_str()), ("gateway", "gateway-1 of region us-east (id 1), 2 peers"));
    let config = GatewayConfig::load(path).unwrap();
    assert!(config.gateway.files().unwrap().cert.starts_with(env!("CARGO_MANIFEST_DIR")));
    assert!(config.cluster.files().is_none());
}

#[test]
fn the_example_lacks_no_key() {
    let config = GatewayConfig::parse("gateway.toml", &complete().to_string()).unwrap();
    // What the code knows: absent values aside, and none is absent.
    let known = Table::try_from(&config).unwrap();
    let keys = |table: &Table| -> Vec<String> {
        let section = |(name, value): (&String, &Value)| {
            let table = value.as_table().or_else(|| value[0].as_table()).unwrap();
            table.keys().map(|key| format!("{name}.{key}")).collect::<Vec<_>>()
        };
        table.iter().flat_map(section).collect()
    };
    assert_eq!(keys(&complete()), keys(&known));
    assert!(config.cluster.files().is_some());
    for section in Kind::GATEWAY.keys.iter().filter(|key| !key.contains('.')) {
        assert!(known.contains_key(*section), "{section}");
    }
}

#[test]
fn comments_name_the_defaults_of_the_code() {
    let (mut section, mut comment, mut goes_on) = (String::new(), String::new(), false);
    for line in EXAMPLE.lines() {
        let set = line.strip_prefix("#: ").unwrap_or(line);
        if set.starts_with('#') {
            // A comment holds for all keys that follow it without another one.
            if !std::mem::replace(&mut goes_on, true) {
                comment.clear();
            }
            comment.push_str(set.trim_start_matches('#'));
        } else if let Some(name) = set.strip_prefix('[') {
            (section, comment) = (name.trim_matches(['[', ']']).to_owned(), String::new());
        } else if let Some((key, _)) = set.split_once(" = ") {
            goes_on = false;
            // The second peer has no comments, the first has them all.
            if !comment.is_empty() {
                assert_said(&section, key, &comment);
            }
        } else {
            comment.clear();
        }
    }
}

/// Compares what a comment says with what comes of leaving a key out.
#[track_caller]
fn assert_said(section: &str, key: &str, comment: &str) {
    let mut without = complete();
    let table = without.get_mut(section).unwrap();
    let table = if table.is_array() { &mut table[0] } else { table };
    table.as_table_mut().unwrap().remove(key).unwrap();
    let default = match config::parse::<GatewayConfig>("gateway.toml", &without.to_string()) {
        Ok(config) => Table::try_from(&config).unwrap()[section].get(key).map_or("none".to_owned(), Value::to_string),
        Err(_) => return assert!(comment.contains("Required."), "{section}.{key} is required"),
    };
    if comment.contains("Required.") {
        // There is a value to read it as, and the check asks for another; the name of a region is checked by its nodes.
        let refused = GatewayConfig::parse("gateway.toml", &without.to_string()).is_err();
        assert!(refused || section == "region", "{section}.{key} is not required");
    } else {
        let said = format!("Default: {default}");
        assert!(comment.contains(&said), "{section}.{key}: the default is {default}, the comment says {comment}");
    }
}
