//! What a client sees on the wire: requests whole, cut, piled up and broken; limits; the end of a connection.

mod server_support;

use std::time::Duration;

use server_support::{Raw, Server, options};

#[test]
fn requests_that_arrive_byte_by_byte_are_answered() {
    let server = Server::start(options());
    let mut client = server.connect();
    for byte in b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" {
        client.send(&[*byte]);
    }
    client.expect(b"+OK\r\n$5\r\nvalue\r\n");
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let server = Server::start(options());
    let mut client = server.connect();
    let requests: Vec<u8> = (0..10_000).flat_map(|i| format!("ECHO {i}\r\n").into_bytes()).collect();
    let replies: Vec<u8> = (0..10_000)
        .flat_map(|i| {
            let text = i.to_string();
            format!("${}\r\n{text}\r\n", text.len()).into_bytes()
        })
        .collect();
    let mut writer = client.clone();
    let sending = std::thread::spawn(move || writer.send(&requests));
    client.expect(&replies);
    sending.join().unwrap();
}

#[test]
fn a_value_of_many_megabytes_comes_back() {
    let server = Server::start(options());
    let mut client = server.connect();
    let value: Vec<u8> = (0..20_000_000_u32).map(|i| (i % 251) as u8).collect();
    let mut writer = client.clone();
    let header = format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n", value.len());
    let request = [header.as_bytes(), &value, b"\r\nGET big\r\n"].concat();
    let sending = std::thread::spawn(move || writer.send(&request));
    let reply = [format!("+OK\r\n${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
    client.expect(&reply);
    sending.join().unwrap();
}

#[test]
fn who_sends_without_reading_holds_up_nobody_else() {
    let server = Server::start(options().workers(1));
    let mut other = server.connect();
    other.ask("SET big", &[&b"x".repeat(100_000)], b"+OK\r\n");
    let mut greedy = server.connect();
    greedy.set_write_timeout(Duration::from_millis(300));
    // Until the kernel's buffers are full in both directions.
    while greedy.try_send(&b"GET big\r\n".repeat(1_000)) {}
    other.ask("PING", &[], b"+PONG\r\n");
    let held: usize = server_support::field(&other.info("clients"), "client_recent_max_output_buffer").parse().unwrap();
    assert!(held < 1_000_000, "{held} bytes are held for a client that does not read");
}

#[test]
fn what_breaks_the_protocol_gets_an_error_and_is_closed() {
    let server = Server::start(options());
    for (request, error) in [
        (&b"*1\r\n$x\r\n"[..], "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\nPING\r\n", "-ERR Protocol error: expected '$', got 'P'\r\n"),
        (b"SET \"a\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
        (b"PING\r\n*1\r\n$-5\r\n", "+PONG\r\n-ERR Protocol error: invalid bulk length\r\n"),
    ] {
        let mut client = server.connect();
        client.send(request);
        client.expect(error.as_bytes());
        client.expect_end();
    }
    let mut client = server.connect();
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n");
    client.expect_end();
    server.connect().ask("PING", &[], b"+PONG\r\n");
}

#[test]
fn a_client_too_many_gets_an_error() {
    let server = Server::start(options().toml("[limits]\nmaxclients = 2"));
    let (mut first, _second) = (server.connect(), server.connect());
    let mut third = server.connect();
    third.expect(b"-ERR max number of clients reached\r\n");
    third.expect_end();
    first.ask("PING", &[], b"+PONG\r\n");
    assert_eq!(server_support::field(&first.info("stats"), "rejected_connections"), "1");
    first.ask("CONFIG SET maxclients 3", &[], b"+OK\r\n");
    server.connect().ask("PING", &[], b"+PONG\r\n");
}

#[test]
fn an_argument_over_the_limit_closes_the_connection() {
    let server = Server::start(options().toml("[limits]\nproto_max_bulk_len = \"1MiB\""));
    let mut client = server.connect();
    client.send(b"*2\r\n$4\r\nECHO\r\n$1048577\r\n");
    client.expect(b"-ERR Protocol error: invalid bulk length\r\n");
    client.expect_end();
}

#[test]
fn an_inline_command_over_the_limit_closes_the_connection() {
    let server = Server::start(options().toml("[limits]\nproto_inline_max_size = \"1KiB\""));
    let mut client = server.connect();
    client.send(&[b"ECHO ", &[b'x'; 1_019][..], b"\n"].concat());
    client.expect(&[b"$1019\r\n", &[b'x'; 1_019][..], b"\r\n"].concat());
    client.send(&[b"ECHO ", &[b'x'; 1_020][..], b"\n"].concat());
    client.expect(b"-ERR Protocol error: too big inline request\r\n");
    client.expect_end();
}

#[test]
fn a_key_over_the_limit_is_refused_and_nothing_is_executed() {
    let server = Server::start(options().toml("[limits]\nmax_key_len = \"8B\""));
    let mut client = server.connect();
    let refused = b"-ERR key is longer than max-key-len\r\n";
    client.ask("SET 12345678 a-long-value", &[], b"+OK\r\n");
    client.ask("GET 12345678", &[], b"$12\r\na-long-value\r\n");
    client.ask("SET 123456789 1", &[], refused);
    client.ask("MSET short 1 123456789 2", &[], refused);
    client.ask("RENAME 12345678 123456789", &[], refused);
    client.ask("EXISTS short", &[], b":0\r\n");
    client.ask("DBSIZE", &[], b":1\r\n");
    client.ask("MULTI", &[], b"+OK\r\n");
    client.ask("DEL 123456789", &[], refused);
    client.ask("EXEC", &[], b"-EXECABORT Transaction discarded because of previous errors.\r\n");
    client.ask("CONFIG SET max-key-len 9", &[], b"+OK\r\n");
    client.send(b"SET 123456789 1\r\n");
    client.expect(b"+OK\r\n");
}

#[test]
fn output_over_the_limit_closes_the_connection() {
    let server = Server::start(
        options().toml("[limits]\nclient_output_buffer_limit = \"1100KiB\"\nproto_max_bulk_len = \"1MiB\""),
    );
    let mut client = server.connect();
    client.ask("SET big", &[&b"x".repeat(900_000)], b"+OK\r\n");
    client.send(b"MGET big big\r\n");
    client.expect_end();
}

#[test]
fn a_silent_client_is_closed_after_the_timeout() {
    let server = Server::start(options().toml("[limits]\ntimeout = \"1s\""));
    let mut client = server.connect();
    client.ask("PING", &[], b"+PONG\r\n");
    client.expect_end();
}

#[test]
fn quit_is_answered_before_the_end() {
    let server = Server::start(options());
    let mut client = server.connect();
    client.send(b"PING\r\nQUIT\r\nPING\r\n");
    client.expect(b"+PONG\r\n+OK\r\n");
    client.expect_end();
}

#[test]
fn a_node_that_stops_answers_what_it_was_asked() {
    let server = Server::start(options());
    let mut client: Raw = server.connect();
    client.ask("SET k v", &[], b"+OK\r\n");
    server.stop();
    client.expect_end();
}
