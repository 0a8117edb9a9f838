//! What the command line says of configuration: `config check` looks at files, `node` refuses what it cannot run.
//!
//! Exit codes are a promise to init systems and pipelines: 0 done, 1 failed, 2 bad usage or configuration.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

const GOOD: &str = "[region]\nname = \"us-east\"\nid = 1\n";
const UNKNOWN_KEY: &str = "[memory]\nmaxmemory = \"1GiB\"\nmaxmemry_samples = 5\n";
const TWO_PROBLEMS: &str = "[memory]\nstripes = 48\nlfu_decay_time = \"10s\"\n";

/// What a process said, and its exit code.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn meridian(arguments: &[&str], files: &[&Path]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    let Output { status, stdout, stderr } =
        command.args(arguments).args(files).output().expect("the program was built for this test");
    let text = |bytes| String::from_utf8(bytes).expect("what it says is UTF-8");
    Said { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

fn file(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn check_of_good_files_says_what_they_are_and_exits_with_0() {
    let dir = TempDir::new().unwrap();
    let node = file(&dir, "us-east.toml", GOOD);
    let Said { code, stdout, stderr } = meridian(&["config", "check"], &[&node]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.starts_with(&format!("{}: node: ", node.display())), "{stdout}");
    assert!(stdout.contains("us-east"), "{stdout}");
}

#[test]
fn check_reports_every_problem_of_every_file_and_exits_with_2() {
    let dir = TempDir::new().unwrap();
    let (good, two) = (file(&dir, "good.toml", GOOD), file(&dir, "two.toml", TWO_PROBLEMS));
    let (unknown, absent) = (file(&dir, "unknown.toml", UNKNOWN_KEY), dir.path().join("absent.toml"));
    let Said { code, stdout, stderr } = meridian(&["config", "check"], &[&two, &good, &unknown, &absent]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stdout.contains("good.toml: node: "), "what is good is said all the same: {stdout}");
    for expected in [
        "`memory.stripes` is not a power of two",
        "two.toml:2:11",
        "`memory.lfu_decay_time` is not a number of whole minutes",
        "two.toml:3:18",
        "unknown key `maxmemry_samples`",
        "unknown.toml:3:1",
        "did you mean `maxmemory_samples`?",
        "absent.toml",
    ] {
        assert!(stderr.contains(expected), "no {expected:?} in:\n{stderr}");
    }
    assert!(!stderr.contains('\u{1b}'), "colours are for terminals:\n{stderr}");
}

#[test]
fn check_of_nothing_is_bad_usage() {
    let Said { code, stderr, .. } = meridian(&["config", "check"], &[]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("Usage: meridian config check"), "{stderr}");
}

#[test]
fn a_node_with_an_unknown_key_exits_with_2_and_says_where_it_stands() {
    let dir = TempDir::new().unwrap();
    let path = file(&dir, "us-east.toml", UNKNOWN_KEY);
    let Said { code, stdout, stderr } = meridian(&["node", "--config"], &[&path]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("error: unknown key `maxmemry_samples`"), "{stderr}");
    assert!(stderr.contains(&format!("{}:3:1", path.display())), "{stderr}");
    assert_eq!(stdout, "", "it must not have begun to run");
}

#[test]
fn a_node_without_its_file_exits_with_2() {
    let dir = TempDir::new().unwrap();
    let Said { code, stderr, .. } = meridian(&["node", "--config"], &[&dir.path().join("absent.toml")]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("absent.toml"), "{stderr}");
}
