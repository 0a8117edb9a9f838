//! A server in this process, on ports of its own, and raw connections to it.
#![allow(dead_code, reason = "each test file uses what it needs")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use config::NodeConfig;
use meridian_node::node::Node;

/// After how long a test gives up on an answer. Never waited for when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a server is started.
pub(crate) struct Options {
    workers: u16,
    toml: String,
}

/// Two workers, and defaults.
pub(crate) fn options() -> Options {
    Options { workers: 2, toml: String::new() }
}

impl Options {
    pub(crate) fn workers(self, workers: u16) -> Self {
        Self { workers, ..self }
    }

    /// Further sections of the configuration file.
    pub(crate) fn toml(self, toml: impl Into<String>) -> Self {
        Self { toml: toml.into(), ..self }
    }
}

/// A server that is stopped when dropped.
pub(crate) struct Server {
    node: Option<Node>,
}

impl Server {
    pub(crate) fn start(options: Options) -> Self {
        let Options { workers, toml } = options;
        let text = format!("[node]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nworkers = {workers}\n{toml}\n");
        let config = NodeConfig::parse("test.toml", &text).unwrap_or_else(|report| panic!("{report}"));
        Self { node: Some(Node::start(config, None).unwrap()) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.node.as_ref().unwrap().addresses().redis.unwrap()
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.node.as_ref().unwrap().addresses().admin.unwrap()
    }

    pub(crate) fn tls(&self) -> SocketAddr {
        self.node.as_ref().unwrap().addresses().tls.unwrap()
    }

    pub(crate) fn connect(&self) -> Raw {
        Raw::connect(self.address())
    }

    pub(crate) fn stop(mut self) {
        self.node.take().unwrap().stop().unwrap();
    }

    /// A GET of a path of the admin server: status and body.
    pub(crate) fn admin_get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.admin()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            let _ = node.stop();
        }
    }
}

/// A connection on which bytes are sent and compared.
pub(crate) struct Raw(TcpStream);

impl Clone for Raw {
    fn clone(&self) -> Self {
        Self(self.0.try_clone().unwrap())
    }
}

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub(crate) fn set_write_timeout(&self, timeout: Duration) {
        self.0.set_write_timeout(Some(timeout)).unwrap();
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Sends what can be sent within the write timeout; says whether that was all.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        match self.0.write_all(bytes) {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn shut_down(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads exactly as many bytes as are expected, and compares.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &[u8]) {
        let mut got = vec![0; expected.len()];
        let mut filled = 0;
        while filled < got.len() {
            match self.0.read(&mut got[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) => panic!("{error} after {:?}", got[..filled].escape_ascii().to_string()),
            }
        }
        got.truncate(filled);
        if got != expected {
            let shown = |bytes: &[u8]| bytes[..bytes.len().min(500)].escape_ascii().to_string();
            panic!("got {:?}, expected {:?}", shown(&got), shown(expected));
        }
    }

    /// Reads the end of the connection.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(rest.escape_ascii().to_string(), "", "expected nothing but the end"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }

    /// Reads whatever comes until the end of the connection.
    pub(crate) fn read_to_end(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = self.0.read_to_end(&mut rest);
    }

    /// Says whether the server is silent for this long.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        self.0.set_read_timeout(Some(time)).unwrap();
        let silent = self.0.peek(&mut [0]).is_err();
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }

    /// Sends words, and further arguments as they are, and compares the reply.
    #[track_caller]
    pub(crate) fn ask(&mut self, words: &str, arguments: &[&[u8]], expected: &[u8]) {
        self.request(words, arguments);
        self.expect(expected);
    }

    pub(crate) fn request(&mut self, words: &str, arguments: &[&[u8]]) {
        let all: Vec<&[u8]> = words.split(' ').map(str::as_bytes).chain(arguments.iter().copied()).collect();
        let mut request = format!("*{}\r\n", all.len()).into_bytes();
        for argument in all {
            request.extend(format!("${}\r\n", argument.len()).into_bytes());
            request.extend(argument);
            request.extend(b"\r\n");
        }
        self.send(&request);
    }

    /// The reply to words, if it is a bulk string in RESP2.
    pub(crate) fn bulk(&mut self, words: &str) -> String {
        self.request(words, &[]);
        let header = self.line();
        let length: usize = header.strip_prefix('$').expect("a bulk string").parse().unwrap();
        let mut body = vec![0; length + 2];
        self.0.read_exact(&mut body).unwrap();
        body.truncate(length);
        String::from_utf8(body).unwrap()
    }

    /// One line, without its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            self.0.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).unwrap()
    }

    pub(crate) fn info(&mut self, section: &str) -> String {
        self.bulk(&format!("INFO {section}"))
    }
}

/// A field of INFO.
#[track_caller]
pub(crate) fn field(info: &str, name: &str) -> String {
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {info}")).trim().to_owned()
}
