//! What a connection agrees on with its client, and what one client can do to another.

mod server_support;

use std::time::Duration;

use server_support::{Server, field, options};

const PASSWORD: &str = "[auth]\nrequirepass = \"hunter2\"";

#[test]
fn nothing_but_authentication_is_served_before_it() {
    let server = Server::start(options().toml(PASSWORD));
    let mut client = server.connect();
    client.ask("GET k", &[], b"-NOAUTH Authentication required.\r\n");
    client.ask("AUTH wrong", &[], b"-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    client.ask("AUTH somebody hunter2", &[], b"-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    client.ask("AUTH hunter2", &[], b"+OK\r\n");
    client.ask("GET k", &[], b"$-1\r\n");
    client.ask("RESET", &[], b"+RESET\r\n");
    client.ask("PING", &[], b"-NOAUTH Authentication required.\r\n");
    client.request("HELLO 3 AUTH default hunter2 SETNAME me", &[]);
    assert_eq!(client.line(), "%7");
    let mut fresh = server.connect();
    fresh.send(b"*11\r\n");
    fresh.expect(b"-ERR Protocol error: unauthenticated multibulk length\r\n");
}

#[test]
fn a_password_that_is_set_later_leaves_in_who_is_in() {
    let server = Server::start(options());
    let mut client = server.connect();
    client.ask("CONFIG SET requirepass new", &[], b"+OK\r\n");
    client.ask("PING", &[], b"+PONG\r\n");
    server.connect().ask("PING", &[], b"-NOAUTH Authentication required.\r\n");
}

#[test]
fn hello_switches_the_protocol_and_refuses_what_it_does_not_know() {
    let server = Server::start(options());
    let mut client = server.connect();
    client.ask("HELLO 4", &[], b"-NOPROTO unsupported protocol version\r\n");
    client.ask("HELLO x", &[], b"-ERR Protocol version is not an integer or out of range\r\n");
    client.ask("HELLO 3 WHAT", &[], b"-ERR Syntax error in HELLO option 'WHAT'\r\n");
    client.ask("GET none", &[], b"$-1\r\n");
    client.request("HELLO 3", &[]);
    client.expect(
        b"%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n",
    );
    client.line();
    client.expect(b"$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n");
    client.ask("GET none", &[], b"_\r\n");
}

#[test]
fn there_is_one_database() {
    let server = Server::start(options());
    let mut client = server.connect();
    client.ask("SELECT 0", &[], b"+OK\r\n");
    client.ask("SELECT 1", &[], b"-ERR DB index is out of range\r\n");
}

#[test]
fn clients_are_listed_with_what_they_say_of_themselves() {
    let server = Server::start(options());
    let mut client = server.connect();
    client.ask("CLIENT SETNAME worker-7", &[], b"+OK\r\n");
    client.ask("CLIENT GETNAME", &[], b"$8\r\nworker-7\r\n");
    client.ask(
        "CLIENT SETNAME",
        &[b"a b"],
        b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
    );
    client.ask("CLIENT SETINFO LIB-NAME testlib", &[], b"+OK\r\n");
    client.ask("CLIENT SETINFO LIB-COLOUR red", &[], b"-ERR Unrecognized option 'LIB-COLOUR'\r\n");
    let line = client.bulk("CLIENT INFO");
    for part in [" name=worker-7 ", " lib-name=testlib ", " cmd=client|info ", " db=0 ", " multi=-1 ", " resp=2 "] {
        assert!(line.contains(part), "{part} in {line}");
    }
    let mut other = server.connect();
    other.ask("PING", &[], b"+PONG\r\n");
    assert_eq!(client.bulk("CLIENT LIST").lines().count(), 2);
    assert_eq!(client.bulk("CLIENT LIST TYPE pubsub"), "");
    client.ask("CLIENT LIST TYPE odd", &[], b"-ERR Unknown client type 'odd'\r\n");
}

#[test]
fn a_killed_client_is_closed_and_the_others_are_not() {
    let server = Server::start(options());
    let (mut killer, mut victim, mut other) = (server.connect(), server.connect(), server.connect());
    other.ask("PING", &[], b"+PONG\r\n");
    victim.request("CLIENT ID", &[]);
    let id = victim.line()[1..].to_owned();
    killer.ask(&format!("CLIENT KILL ID {id}"), &[], b":1\r\n");
    victim.expect_end();
    killer.ask(&format!("CLIENT KILL ID {id}"), &[], b":0\r\n");
    killer.ask("CLIENT KILL 127.0.0.1:1", &[], b"-ERR No such client\r\n");
    killer.ask("CLIENT KILL SKIPME yes", &[], b":1\r\n");
    other.expect_end();
    killer.ask("CLIENT KILL SKIPME no", &[], b":1\r\n");
    killer.expect_end();
}

#[test]
fn a_client_that_does_not_read_can_be_killed() {
    let server = Server::start(options());
    let (mut killer, mut greedy) = (server.connect(), server.connect());
    killer.ask("SET big", &[&b"x".repeat(100_000)], b"+OK\r\n");
    greedy.set_write_timeout(Duration::from_millis(300));
    while greedy.try_send(&b"GET big\r\n".repeat(1_000)) {}
    killer.ask("CLIENT KILL TYPE normal", &[], b":1\r\n");
    while !killer.info("clients").contains("connected_clients:1") {}
}

#[test]
fn a_pause_of_writes_holds_writes_and_lets_reads_through() {
    let server = Server::start(options());
    let (mut operator, mut writer) = (server.connect(), server.connect());
    operator.ask("CLIENT PAUSE 60000 WRITE", &[], b"+OK\r\n");
    writer.ask("GET k", &[], b"$-1\r\n");
    writer.request("SET k v", &[]);
    writer.request("GET k", &[]);
    while !operator.info("clients").contains("blocked_clients:1") {}
    assert!(writer.is_silent_for(Duration::from_millis(50)));
    operator.ask("GET k", &[], b"$-1\r\n");
    operator.ask("CLIENT UNPAUSE", &[], b"+OK\r\n");
    writer.expect(b"+OK\r\n$1\r\nv\r\n");
}

#[test]
fn a_pause_ends_by_itself_and_who_waits_can_be_killed() {
    let server = Server::start(options());
    let (mut operator, mut waiting) = (server.connect(), server.connect());
    operator.ask("CLIENT PAUSE 100 ALL", &[], b"+OK\r\n");
    waiting.ask("PING", &[], b"+PONG\r\n");
    operator.ask("CLIENT PAUSE 60000 WRITE", &[], b"+OK\r\n");
    waiting.request("SET k v", &[]);
    while !operator.info("clients").contains("blocked_clients:1") {}
    operator.ask("CLIENT KILL TYPE normal", &[], b":1\r\n");
    waiting.expect_end();
    operator.ask("CLIENT UNPAUSE", &[], b"+OK\r\n");
    operator.ask("GET k", &[], b"$-1\r\n");
}

#[test]
fn replies_can_be_turned_off_and_skipped() {
    let server = Server::start(options());
    let mut client = server.connect();
    for words in ["CLIENT REPLY OFF", "PING", "SET k v", "CLIENT REPLY ON"] {
        client.request(words, &[]);
    }
    client.expect(b"+OK\r\n");
    for words in ["CLIENT REPLY SKIP", "PING", "GET k"] {
        client.request(words, &[]);
    }
    client.expect(b"$1\r\nv\r\n");
}

#[test]
fn unknown_commands_get_the_words_of_redis() {
    let server = Server::start(options());
    let mut client = server.connect();
    client.ask("NOPE a b", &[], b"-ERR unknown command 'NOPE', with args beginning with: 'a' 'b' \r\n");
    client.ask("CLIENT WHAT", &[], b"-ERR unknown subcommand 'WHAT'. Try CLIENT HELP.\r\n");
    client.ask("GET", &[], b"-ERR wrong number of arguments for 'get' command\r\n");
    assert_eq!(field(&client.info("errorstats"), "errorstat_ERR"), "count=3");
}
