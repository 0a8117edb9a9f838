//! MULTI, EXEC, WATCH: what runs together, what gives up, and what an error does.

mod server_support;

use server_support::{Server, options};

#[test]
fn what_is_queued_runs_at_exec_and_not_before() {
    let server = Server::start(options());
    let (mut client, mut other) = (server.connect(), server.connect());
    client.ask("MULTI", &[], b"+OK\r\n");
    client.ask("SET a 1", &[], b"+QUEUED\r\n");
    client.ask("INCR a", &[], b"+QUEUED\r\n");
    client.ask("DBSIZE", &[], b"+QUEUED\r\n");
    client.ask("FLUSHALL", &[], b"+QUEUED\r\n");
    client.ask("PING", &[], b"+QUEUED\r\n");
    other.ask("GET a", &[], b"$-1\r\n");
    client.ask("EXEC", &[], b"*5\r\n+OK\r\n:2\r\n:1\r\n+OK\r\n+PONG\r\n");
    client.ask("EXEC", &[], b"-ERR EXEC without MULTI\r\n");
}

#[test]
fn the_server_can_be_asked_about_in_a_transaction() {
    let server = Server::start(options());
    let mut client = server.connect();
    client.ask("MULTI", &[], b"+OK\r\n");
    for words in ["SET a 1", "INFO keyspace", "CONFIG RESETSTAT", "MEMORY DOCTOR", "WAIT 0 0", "CLUSTER KEYSLOT a"] {
        client.ask(words, &[], b"+QUEUED\r\n");
    }
    client.ask("EXEC", &[], b"*6\r\n+OK\r\n");
    client.line();
    client.expect(b"# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n\r\n+OK\r\n");
    client.line();
    client.line();
    client.expect(b":0\r\n:15495\r\n");
}

#[test]
fn an_error_while_queuing_spoils_all_of_it() {
    let server = Server::start(options());
    let mut client = server.connect();
    for wrong in ["NOPE", "GET", "SHUTDOWN", "REGION STATUS"] {
        client.ask("MULTI", &[], b"+OK\r\n");
        client.ask("SET a 1", &[], b"+QUEUED\r\n");
        client.request(wrong, &[]);
        assert!(client.line().starts_with("-ERR "));
        client.ask("EXEC", &[], b"-EXECABORT Transaction discarded because of previous errors.\r\n");
        client.ask("GET a", &[], b"$-1\r\n");
    }
}

#[test]
fn an_error_while_executing_is_one_reply_of_many() {
    let server = Server::start(options());
    let mut client = server.connect();
    client.ask("MULTI", &[], b"+OK\r\n");
    for words in ["SET a x", "INCR a", "GET a"] {
        client.ask(words, &[], b"+QUEUED\r\n");
    }
    client.ask("EXEC", &[], b"*3\r\n+OK\r\n-ERR value is not an integer or out of range\r\n$1\r\nx\r\n");
}

#[test]
fn what_does_not_belong_into_a_transaction_says_so_and_spoils_nothing() {
    let server = Server::start(options());
    let mut client = server.connect();
    client.ask("DISCARD", &[], b"-ERR DISCARD without MULTI\r\n");
    client.ask("MULTI", &[], b"+OK\r\n");
    client.ask("MULTI", &[], b"-ERR MULTI calls can not be nested\r\n");
    client.ask("WATCH a", &[], b"-ERR WATCH inside MULTI is not allowed\r\n");
    client.ask("SET a 1", &[], b"+QUEUED\r\n");
    client.ask("EXEC", &[], b"*1\r\n+OK\r\n");
}

#[test]
fn a_watched_key_that_changed_stops_exec() {
    let server = Server::start(options());
    let (mut client, mut other) = (server.connect(), server.connect());
    client.ask("SET a 1", &[], b"+OK\r\n");
    for change in ["SET a 2", "DEL a", "APPEND a x", "FLUSHALL", "SET a 3"] {
        client.ask("SET a 1", &[], b"+OK\r\n");
        client.ask("WATCH a b", &[], b"+OK\r\n");
        other.request(change, &[]);
        other.line();
        client.ask("MULTI", &[], b"+OK\r\n");
        client.ask("SET a mine", &[], b"+QUEUED\r\n");
        client.ask("EXEC", &[], b"*-1\r\n");
    }
    client.ask("GET a", &[], b"$1\r\n3\r\n");
}

#[test]
fn a_value_that_went_away_and_came_back_is_noticed() {
    let server = Server::start(options());
    let (mut client, mut other) = (server.connect(), server.connect());
    client.ask("SET a 1", &[], b"+OK\r\n");
    client.ask("WATCH a", &[], b"+OK\r\n");
    other.ask("SET a 2", &[], b"+OK\r\n");
    other.ask("SET a 1", &[], b"+OK\r\n");
    client.ask("MULTI", &[], b"+OK\r\n");
    client.ask("EXEC", &[], b"*-1\r\n");
}

#[test]
fn watching_ends_with_exec_discard_and_unwatch() {
    let server = Server::start(options());
    let (mut client, mut other) = (server.connect(), server.connect());
    for end in ["UNWATCH", "MULTI|DISCARD", "MULTI|EXEC"] {
        client.ask("WATCH a", &[], b"+OK\r\n");
        for words in end.split('|') {
            client.request(words, &[]);
            client.line();
        }
        other.ask("SET a 2", &[], b"+OK\r\n");
        client.ask("MULTI", &[], b"+OK\r\n");
        client.ask("GET a", &[], b"+QUEUED\r\n");
        client.ask("EXEC", &[], b"*1\r\n$1\r\n2\r\n");
    }
}

#[test]
fn what_is_queued_is_bounded() {
    let server = Server::start(
        options().toml("[limits]\nclient_query_buffer_limit = \"1100KiB\"\nproto_max_bulk_len = \"1MiB\""),
    );
    let mut client = server.connect();
    let value = b"x".repeat(400_000);
    client.ask("MULTI", &[], b"+OK\r\n");
    client.ask("SET a", &[&value], b"+QUEUED\r\n");
    client.ask("SET b", &[&value], b"+QUEUED\r\n");
    client.ask("SET c", &[&value], b"-ERR transaction exceeds client-query-buffer-limit\r\n");
    client.ask("EXEC", &[], b"-EXECABORT Transaction discarded because of previous errors.\r\n");
}

#[test]
fn transactions_on_the_same_keys_in_any_order_all_get_done() {
    let server = Server::start(options());
    let address = server.address();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            std::thread::spawn(move || {
                let mut client = server_support::Raw::connect(address);
                for round in 0..100 {
                    let (first, second) = if (thread + round) % 2 == 0 { ("x", "y") } else { ("y", "x") };
                    client.ask("MULTI", &[], b"+OK\r\n");
                    client.ask(&format!("INCR {first}"), &[], b"+QUEUED\r\n");
                    client.ask(&format!("INCR {second}"), &[], b"+QUEUED\r\n");
                    client.request("EXEC", &[]);
                    assert_eq!(client.line(), "*2");
                    // Both counters move together, so each sees the same number in both.
                    assert_eq!(client.line(), client.line());
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    server.connect().ask("MGET x y", &[], b"*2\r\n$3\r\n400\r\n$3\r\n400\r\n");
}
