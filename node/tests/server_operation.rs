//! What an operator sees and turns: CONFIG, INFO, the slow log, HTTP, TLS, the state directory, real client tools.

mod server_support;

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::ServerName;
use server_support::{Raw, Server, field, options};

#[test]
fn config_set_does_all_or_nothing() {
    let server = Server::start(options());
    let mut client = server.connect();
    client.ask("CONFIG SET maxmemory 100mb maxmemory-policy allkeys-lfu", &[], b"+OK\r\n");
    client.ask("CONFIG GET maxmemory", &[], b"*2\r\n$9\r\nmaxmemory\r\n$9\r\n104857600\r\n");
    client.ask(
        "CONFIG SET maxmemory 200mb timeout never",
        &[],
        b"-ERR CONFIG SET failed (possibly related to argument 'timeout') - argument couldn't be parsed into an integer\r\n",
    );
    client.ask("CONFIG GET maxmemory", &[], b"*2\r\n$9\r\nmaxmemory\r\n$9\r\n104857600\r\n");
    client.ask("CONFIG SET odd 1", &[], b"-ERR Unknown option or number of arguments for CONFIG SET - 'odd'\r\n");
    client.ask("CONFIG GET save appendonly", &[], b"*4\r\n$10\r\nappendonly\r\n$2\r\nno\r\n$4\r\nsave\r\n$0\r\n\r\n");
    client.request("CONFIG GET maxmemory*", &[]);
    assert_eq!(client.line(), "*6");
}

#[test]
fn writes_that_need_memory_are_refused_when_nothing_may_go() {
    let server = Server::start(options());
    let mut client = server.connect();
    client.ask("SET a", &[&b"x".repeat(10_000)], b"+OK\r\n");
    client.ask("CONFIG SET maxmemory 1000", &[], b"+OK\r\n");
    let refused = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    client.ask("SET b 1", &[], refused);
    client.ask("MULTI", &[], b"+OK\r\n");
    client.ask("SET b 1", &[], refused);
    client.ask("EXEC", &[], b"-EXECABORT Transaction discarded because of previous errors.\r\n");
    let mut operator = server.connect();
    operator.ask("CONFIG SET maxmemory 0", &[], b"+OK\r\n");
    client.ask("MULTI", &[], b"+OK\r\n");
    client.ask("SET b 1", &[], b"+QUEUED\r\n");
    operator.ask("CONFIG SET maxmemory 1000", &[], b"+OK\r\n");
    let aborted = [b"-EXECABORT Transaction discarded because of: ", &refused[1..]].concat();
    client.ask("EXEC", &[], &aborted);
    client.ask("DEL a", &[], b":1\r\n");
    client.ask("CONFIG SET maxmemory-policy allkeys-lru maxmemory 100kb", &[], b"+OK\r\n");
    for key in 0..1_000 {
        client.ask(&format!("SET {key}"), &[&[b'x'; 1_000]], b"+OK\r\n");
    }
    assert_ne!(field(&client.info("stats"), "evicted_keys"), "0");
}

#[test]
fn info_has_what_exporters_and_ready_checks_read() {
    let server = Server::start(options());
    let mut client = server.connect();
    client.ask("SET k v EX 100", &[], b"+OK\r\n");
    client.ask("GET k", &[], b"$1\r\nv\r\n");
    client.ask("GET none", &[], b"$-1\r\n");
    let info = client.info("everything");
    for (name, value) in [
        ("loading", "0"),
        ("role", "master"),
        ("redis_mode", "standalone"),
        ("cluster_enabled", "0"),
        ("connected_clients", "1"),
        ("maxmemory_policy", "noeviction"),
        ("keyspace_hits", "1"),
        ("keyspace_misses", "1"),
        ("db0", "keys=1,expires=1,avg_ttl=0"),
        ("meridian_region", "local"),
    ] {
        assert_eq!(field(&info, name), value, "{name}");
    }
    for name in [
        "redis_version",
        "run_id",
        "uptime_in_seconds",
        "used_memory",
        "used_memory_rss",
        "used_memory_peak",
        "maxmemory",
        "mem_fragmentation_ratio",
        "total_connections_received",
        "total_commands_processed",
        "evicted_keys",
        "instantaneous_ops_per_sec",
        "used_cpu_user",
        "master_replid",
        "rdb_last_save_time",
        "aof_enabled",
        "cmdstat_get",
        "latency_percentiles_usec_get",
    ] {
        field(&info, name);
    }
    assert!(field(&info, "cmdstat_get").starts_with("calls=2,usec="));
    client.ask("CONFIG RESETSTAT", &[], b"+OK\r\n");
    assert_eq!(field(&client.info("stats"), "keyspace_hits"), "0");
    assert!(!client.info("commandstats").contains("cmdstat_get:"));
}

#[test]
fn info_counts_what_stands_before_it_in_its_own_pipeline() {
    let server = Server::start(options());
    let mut client = server.connect();
    client.send(b"SET k v\r\nGET k\r\nGET k\r\nINFO commandstats\r\nINFO commandstats\r\n");
    client.expect(b"+OK\r\n$1\r\nv\r\n$1\r\nv\r\n");
    for infos in [None, Some("calls=1,")] {
        client.line();
        let lines: Vec<_> = std::iter::repeat_with(|| client.line()).take_while(|line| !line.is_empty()).collect();
        let of = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        assert!(of("cmdstat_set").is_some_and(|stat| stat.starts_with("calls=1,")), "{lines:?}");
        assert!(of("cmdstat_get").is_some_and(|stat| stat.starts_with("calls=2,")), "{lines:?}");
        assert!(infos.map_or(of("cmdstat_info").is_none(), |calls| of("cmdstat_info").unwrap().starts_with(calls)));
    }
}

#[test]
fn slow_commands_are_kept_and_can_be_asked_for() {
    let server = Server::start(options());
    let mut client = server.connect();
    client.ask("CONFIG SET slowlog-log-slower-than 0 latency-monitor-threshold 1", &[], b"+OK\r\n");
    client.ask("SET k v", &[], b"+OK\r\n");
    client.ask("CONFIG SET slowlog-log-slower-than -1", &[], b"+OK\r\n");
    client.request("SLOWLOG GET 1", &[]);
    assert_eq!((client.line(), client.line()), ("*1".to_owned(), "*6".to_owned()));
    client.line();
    client.line();
    client.line();
    client.expect(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n");
    client.line();
    client.line();
    client.line();
    client.line();
    client.ask("SLOWLOG RESET", &[], b"+OK\r\n");
    client.ask("SLOWLOG LEN", &[], b":0\r\n");
}

#[test]
fn health_status_and_metrics_are_served() {
    let server = Server::start(options());
    let mut client = server.connect();
    client.ask("SET k v", &[], b"+OK\r\n");
    assert_eq!(server.admin_get("/health/live").0, 200);
    assert_eq!(server.admin_get("/health/ready").0, 200);
    assert_eq!(server.admin_get("/elsewhere").0, 404);
    let (code, status) = server.admin_get("/status");
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((code, &status["region"]["name"], &status["keys"]), (200, &"local".into(), &1.into()));
    let (_, metrics) = server.admin_get("/metrics");
    for name in ["meridian_keys", "meridian_tombstones", "meridian_forgotten_early_total", "meridian_conflicts_total"] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name} in {metrics}");
    }
}

#[test]
fn tls_clients_are_served_beside_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let files = format!("cert = {cert:?}\nkey = {key:?}");
    let server = Server::start(options().toml(format!("[tls]\nlisten = \"127.0.0.1:0\"\n{files}")));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(server.tls()).unwrap();
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    let value = "x".repeat(300_000);
    write!(stream, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\nGET k\r\n", value.len()).unwrap();
    let expected = format!("+OK\r\n${}\r\n{value}\r\n", value.len());
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == expected.as_bytes());
    server.connect().ask("STRLEN k", &[], b":300000\r\n");

    // Whoever talks plainly to the TLS port is cut, and nobody else notices.
    let mut plain = Raw::connect(server.tls());
    plain.send(b"PING\r\n");
    plain.read_to_end();
    server.connect().ask("PING", &[], b"+PONG\r\n");
}

#[test]
fn a_restart_is_a_new_life_and_two_processes_do_not_share_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let dir = || options().toml(format!("dir = {:?}", folder.path()));
    let origin = |server: &Server| {
        let status: serde_json::Value = serde_json::from_str(&server.admin_get("/status").1).unwrap();
        status["region"]["origin"].as_str().unwrap().to_owned()
    };
    let first = Server::start(dir());
    first.connect().ask("SET k v", &[], b"+OK\r\n");
    assert_eq!(origin(&first), "1.0");
    let second = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(["node", "--listen", "127.0.0.1:0", "--admin", "off", "--dir"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("is in use by another process"));
    first.stop();
    assert_eq!(origin(&Server::start(dir())), "1.1");
}

/// A node as a process of its own, and a client of it.
fn process() -> (Child, Raw) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_meridian"))
        .args(["node", "--admin", "off", "--workers", "1", "--listen", &address.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while TcpStream::connect(address).is_err() {
        assert!(process.try_wait().unwrap().is_none(), "the node did not come up");
        thread::yield_now();
    }
    (process, Raw::connect(address))
}

#[test]
fn shutdown_ends_the_process_with_code_0() {
    let (mut process, mut client) = process();
    client.ask("SHUTDOWN SAVE", &[], b"-ERR Errors trying to SHUTDOWN. Check logs.\r\n");
    client.request("SHUTDOWN", &[]);
    client.expect_end();
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

#[test]
fn signals_end_the_process_with_code_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut process, mut client) = process();
        client.ask("SET k v", &[], b"+OK\r\n");
        kill_process(Pid::from_child(&process), signal).unwrap();
        client.expect_end();
        assert_eq!(process.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn bad_usage_and_bad_configuration_end_with_code_2() {
    let code = |args: &[&str]| {
        let command = Command::new(env!("CARGO_BIN_EXE_meridian")).args(args).stderr(Stdio::null()).status();
        command.unwrap().code()
    };
    assert_eq!(code(&["node", "--workers", "0"]), Some(2));
    assert_eq!(code(&["config", "check", "/nowhere.toml"]), Some(2));
    assert_eq!(code(&["what"]), Some(2));
}

/// Runs a tool of Redis against a server; says loudly if it is not there.
fn tool(name: &str, server: &Server, args: &[&str], input: &str) -> Option<String> {
    let port = server.address().port().to_string();
    let spawned = Command::new(name)
        .args(["-p", &port])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut process) = spawned else {
        eprintln!("SKIPPED: {name} is not installed (apt-get install redis-tools)");
        return None;
    };
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn redis_cli_works() {
    let server = Server::start(options());
    let Some(out) = tool("redis-cli", &server, &[], "SET k v\nGET k\nHELLO 3\nCONFIG GET maxclients\n") else { return };
    assert!(out.starts_with("OK\nv\nserver redis\n"), "{out}");
    let docs = tool("redis-cli", &server, &["COMMAND", "DOCS", "GET"], "").unwrap();
    assert!(docs.contains("summary"), "{docs}");
    for key in 0..500 {
        server.connect().ask(&format!("SET key:{key} value"), &[], b"+OK\r\n");
    }
    let keys = tool("redis-cli", &server, &["--scan", "--pattern", "key:*"], "").unwrap();
    assert_eq!(keys.lines().count(), 500);
    for flag in ["--bigkeys", "--memkeys"] {
        let out = tool("redis-cli", &server, &[flag], "").unwrap();
        assert!(out.contains("501 strings"), "{out}");
    }
    let piped: String = (0..1_000).map(|key| format!("SET piped:{key} x\r\n")).collect();
    let out = tool("redis-cli", &server, &["--pipe"], &piped).unwrap();
    assert!(out.contains("errors: 0, replies: 1000"), "{out}");
}

#[test]
fn redis_benchmark_works() {
    let server = Server::start(options());
    for pipeline in ["1", "16"] {
        let args = ["-q", "-t", "ping,set,get,incr,mset", "-n", "10000", "-P", pipeline];
        let Some(out) = tool("redis-benchmark", &server, &args, "") else { return };
        assert!(!out.to_lowercase().contains("error"), "{out}");
        assert_eq!(out.matches("requests per second").count(), 6, "{out}");
    }
}

#[test]
fn redis_rs_works() {
    let server = Server::start(options());
    let client = redis::Client::open(format!("redis://{}/?protocol=resp3", server.address())).unwrap();
    let mut connection = client.get_connection().unwrap();
    let (first, second): (i64, Option<String>) =
        redis::pipe().atomic().incr("n", 5).get("none").query(&mut connection).unwrap();
    assert_eq!((first, second), (5, None));
    let error = redis::cmd("INCR").arg("text").query::<i64>(&mut connection);
    assert_eq!(error.unwrap(), 1);
}
