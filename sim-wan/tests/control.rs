//! The control API as an operator or a test meets it: plain HTTP and JSON.

mod common;

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use common::{HERE, Lab, THERE, patient, receive, send};
use serde_json::{Value, json};
use sim_wan::{Wan, limits::CONTROL_BODY};

/// One request; the status and the body of the answer.
fn request(wan: &Wan, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut socket = patient(TcpStream::connect(wan.control_addr()).unwrap());
    let length = body.len();
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nhost: wan\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

/// A request that is refused; the status and what it says.
fn refusal(wan: &Wan, method: &str, path: &str, body: &str) -> (u16, String) {
    let (status, answer) = request(wan, method, path, body);
    assert_eq!(answer.as_object().map(serde_json::Map::len), Some(1), "{answer}");
    (status, answer["error"].as_str().unwrap().to_owned())
}

fn plain_link(from: &str, to: &str) -> Value {
    json!({
        "from": from, "to": to,
        "delay_ms": 5.0, "jitter_ms": 0.0, "rate_mbit": null, "loss": 0.0, "state": "up",
    })
}

#[test]
fn links_are_listed_with_all_that_can_be_changed() {
    let Lab { wan, .. } = Lab::start(5);
    let expected = json!({ "links": [plain_link(HERE, THERE), plain_link(THERE, HERE)] });
    assert_eq!(request(&wan, "GET", "/links", ""), (200, expected));
}

#[test]
fn a_link_takes_any_of_its_settings_and_keeps_the_rest() {
    let Lab { wan, .. } = Lab::start(5);
    let path = "/links/us-east/eu-west";
    let (status, link) = request(&wan, "PUT", path, r#"{"delay_ms": 6.5, "rate_mbit": 100, "loss": 0.25}"#);
    let mut expected = plain_link(HERE, THERE);
    expected["delay_ms"] = json!(6.5);
    expected["rate_mbit"] = json!(100.0);
    expected["loss"] = json!(0.25);
    assert_eq!((status, &link), (200, &expected));
    let (_, link) = request(&wan, "PUT", path, r#"{"jitter_ms": 3, "rate_mbit": null, "state": "blackhole"}"#);
    expected["jitter_ms"] = json!(3.0);
    expected["rate_mbit"] = Value::Null;
    expected["state"] = json!("blackhole");
    assert_eq!(link, expected);
    let (_, all) = request(&wan, "GET", "/links", "");
    assert_eq!(all, json!({ "links": [expected, plain_link(THERE, HERE)] }));
}

#[test]
fn a_partition_cuts_and_a_heal_mends() {
    let Lab { wan, .. } = Lab::start(5);
    let states = |links: &Value| -> Vec<String> {
        let links = links["links"].as_array().unwrap();
        links.iter().map(|link| link["state"].as_str().unwrap().to_owned()).collect()
    };
    let (status, links) = request(&wan, "POST", "/partition", r#"{"regions": ["us-east"]}"#);
    assert_eq!((status, states(&links)), (200, vec!["blackhole".to_owned(); 2]));
    let (status, links) = request(&wan, "POST", "/heal", "");
    assert_eq!((status, states(&links)), (200, vec!["up".to_owned(); 2]));
}

#[test]
fn stats_count_what_crossed() {
    let lab = Lab::start(1);
    let (mut client, mut server) = lab.pair();
    send(&mut server, b"0123456789");
    receive(&mut client, 10);
    let (status, stats) = request(&lab.wan, "GET", "/stats", "");
    let [there, back] = [&stats["links"][0], &stats["links"][1]];
    assert_eq!((status, &there["from"], &there["to"]), (200, &json!(HERE), &json!(THERE)));
    assert_eq!((&there["bytes"], &back["bytes"]), (&json!(1), &json!(10)));
    assert_eq!((&there["connections"], &there["drops"], &there["stalls"]), (&json!(1), &json!(0), &json!(0)));
    assert!(back["chunks"].as_u64() >= Some(2) && back["queued_bytes"].is_u64());
}

#[test]
fn what_is_wrong_is_refused_with_what_would_be_right() {
    let Lab { wan, .. } = Lab::start(5);
    let link = "/links/us-east/eu-west";
    for (method, path, body, status, says) in [
        (
            "PUT",
            "/links/us-east/mars",
            r#"{"delay_ms": 1}"#,
            404,
            "there is no link us-east -> mars; the links are us-east",
        ),
        ("PUT", link, r#"{"delay_ms": -1}"#, 400, "-1 is no delay: give 0 to 60000 milliseconds"),
        ("PUT", link, r#"{"delay_ms": "50"}"#, 400, r#"invalid type: string "50", expected f64"#),
        ("PUT", link, r#"{"rate_mbit": 0}"#, 400, "0 is no rate: give 0.001 to 1000000 Mbit/s"),
        ("PUT", link, r#"{"loss": 1.5}"#, 400, "1.5 is no loss: give a chance between 0"),
        ("PUT", link, r#"{"state": "down"}"#, 400, "expected one of `up`, `blackhole`, `reset`"),
        ("PUT", link, r#"{"delay": 1}"#, 400, "unknown field `delay`, expected one of `delay_ms`"),
        ("PUT", link, "{}", 400, "name at least one of delay_ms"),
        ("PUT", link, "delay_ms=5", 400, r#"expected such as {"delay_ms": 50"#),
        (
            "POST",
            "/partition",
            r#"{"regions": ["mars"]}"#,
            400,
            "there is no region mars; the regions are eu-west, us-east",
        ),
        ("POST", "/partition", r#"{"regions": []}"#, 400, "a partition has two sides"),
        ("POST", "/partition", "", 400, r#"expected such as {"regions": ["us-east"]}"#),
        ("GET", "/", "", 404, "there is no /; there are GET /links"),
        ("DELETE", "/links", "", 405, "DELETE does nothing at /links"),
    ] {
        let (got, error) = refusal(&wan, method, path, body);
        assert_eq!(got, status, "{method} {path} {body}: {error}");
        assert!(error.contains(says), "{method} {path} {body}: {error}");
    }
    let (status, _) = refusal(&wan, "PUT", link, &" ".repeat(CONTROL_BODY + 1));
    assert_eq!(status, 413);
    let unchanged = json!({ "links": [plain_link(HERE, THERE), plain_link(THERE, HERE)] });
    assert_eq!(request(&wan, "GET", "/links", "").1, unchanged);
}
