//! What a lab says when it cannot be as it was asked for, and what is left of it then: nothing.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::{Command, Output},
};

fn lab(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
    command.arg("lab").args(arguments).output().expect("the program was built for this test")
}

/// Demands that a lab is refused as a mistake of who asked, in words that contain `expected`.
#[track_caller]
fn refused(arguments: &[&str], expected: &str) {
    let Output { status, stdout, stderr } = lab(arguments);
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(2), "{arguments:?}: {said}");
    assert!(said.contains(expected), "{arguments:?}: {said}");
    assert!(stdout.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&stdout));
}

#[test]
fn layouts_that_are_not_possible_are_refused_with_what_is() {
    refused(&["--gateways=0"], "the gateways of a region of 4 nodes are processes of their own");
    refused(&["--primaries=1", "--replicas=0", "--gateways=2"], "give --gateways embedded");
    refused(&["--regions=alone", "--gateways=1"], "gateways join regions, and there is but one");
    refused(&["--primaries=20"], "at most 99 nodes, not 120");
}

#[test]
fn regions_and_distances_that_do_not_fit_are_refused() {
    refused(&["--regions=alone", "--primaries=1", "--replicas=0"], "a single region must have several nodes");
    refused(&["--regions=a,b,a"], "a is named twice");
    refused(&["--regions=US,EU"], "lower-case");
    refused(&["--wan=mars"], "neither a preset (lab, world, none) nor a file");
    refused(&["--wan=world", "--regions=london,atlantis"], "atlantis");
    refused(&["--clock-offset=mars=1s"], "there is no region mars");
}

#[test]
fn settings_are_checked_before_anything_starts() {
    refused(&["--node-set=memory.maxmemry=1mb"], "maxmemry");
    refused(&["--node-set=memory.stripes=3"], "not a power of two");
    refused(&["--node-set=maxmemory"], "SECTION.KEY=VALUE");
}

#[test]
fn taken_port_is_named_if_it_was_asked_for() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    refused(&[&format!("--port={port}")], &format!("port {port} is taken"));
}

#[test]
fn child_that_cannot_start_is_quoted_and_ends_the_lab() {
    let dir = tempfile::tempdir().unwrap();
    let dir_flag = format!("--dir={}", dir.path().display());
    // A file is opened only by the node, so that the lab itself has nothing to refuse.
    let layout = ["--json", "--primaries=1", "--replicas=0", &dir_flag];
    let Output { status, stdout, stderr } =
        lab(&[&layout[..], &["--node-set=us-east:auth.requirepass_file=/there/is/no/such/file"]].concat());
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(stdout.is_empty(), "a lab that is not ready says that it is");
    assert!(said.contains("us-east (pid"), "{said}");
    assert!(said.contains("cannot read the password file"), "{said}");
}
