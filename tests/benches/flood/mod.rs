//! A load that no server keeps up with, from a client that costs less than any server.
//!
//! A benchmark client that reads its replies is slower than a fast server, which then sleeps between the requests: and to be woken costs it more than to answer. So what such a client
//! measures of a fast server is how often it sleeps. This one prepares its requests before, counts the bytes of the replies instead of reading them, and never sleeps itself, so that it
//! is no work to wake it either.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    ops::Range,
};

use anyhow::{Result, bail, ensure};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Connections, as redis-benchmark has them.
const CONNECTIONS: u64 = 50;
/// Pipelines that are prepared, of which each connection begins with another.
const PREPARED: usize = 4_096;
/// Bytes of a value.
const VALUE_BYTES: usize = 100;
/// Keys of one MSET or MGET.
const KEYS_AT_ONCE: u64 = 10;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    Set,
    Get,
    /// Of ten keys.
    Mset,
    /// Of ten keys.
    Mget,
}

impl Request {
    /// As redis-benchmark calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Get => "get",
            Self::Mset => "mset",
            Self::Mget => "mget",
        }
    }

    /// Keys of one command.
    const fn keys(self) -> u64 {
        match self {
            Self::Set | Self::Get => 1,
            Self::Mset | Self::Mget => KEYS_AT_ONCE,
        }
    }
}

/// Pipelines that are sent over and over.
pub(crate) struct Flood {
    bytes: Vec<u8>,
    pipelines: Vec<Range<usize>>,
    /// Commands in each.
    commands: u64,
    /// Bytes of the replies to each.
    reply: usize,
}

impl Flood {
    /// Of so many commands in a pipeline, on keys drawn from so many.
    pub(crate) fn new(request: Request, keys: u64, commands: u64) -> Self {
        let mut rng = Pcg64Mcg::seed_from_u64(keys);
        let mut flood = Self { bytes: Vec::new(), pipelines: Vec::new(), commands, reply: 0 };
        for _ in 0..PREPARED {
            let keys: Vec<u64> = (0..commands * request.keys()).map(|_| rng.random_range(0..keys)).collect();
            flood.prepare(request, &keys);
        }
        flood
    }

    /// That writes each of so many keys.
    pub(crate) fn of_each(keys: u64) -> Self {
        let mut flood = Self { bytes: Vec::new(), pipelines: Vec::new(), commands: 1, reply: 0 };
        (0..keys).for_each(|key| flood.prepare(Request::Set, &[key]));
        flood
    }

    /// How many commands there are in all prepared pipelines.
    pub(crate) fn len(&self) -> u64 {
        self.pipelines.len() as u64 * self.commands
    }

    fn prepare(&mut self, request: Request, keys: &[u64]) {
        let (value, start) = ("v".repeat(VALUE_BYTES), self.bytes.len());
        let bulk = format!("${VALUE_BYTES}\r\n{value}\r\n").len();
        self.reply = 0;
        for keys in keys.chunks(request.keys() as usize) {
            let mut words = vec![request.name().to_uppercase()];
            for key in keys {
                words.push(format!("key:{key:012}"));
                if matches!(request, Request::Set | Request::Mset) {
                    words.push(value.clone());
                }
            }
            self.bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
            for word in words {
                self.bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
            }
            self.reply += match request {
                Request::Set | Request::Mset => "+OK\r\n".len(),
                Request::Get => bulk,
                Request::Mget => format!("*{KEYS_AT_ONCE}\r\n").len() + keys.len() * bulk,
            };
        }
        self.pipelines.push(start..self.bytes.len());
    }

    /// Has so many commands carried out, each connection with one pipeline on its way at any time.
    ///
    /// # Errors
    /// If a reply is an error, or is not of the length that it must have.
    pub(crate) fn pour(&self, port: u16, commands: u64) -> Result<()> {
        let mut left = commands / self.commands;
        let connect = |place| {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let next = (place * PREPARED as u64 / CONNECTIONS) as usize % self.pipelines.len();
            anyhow::Ok(Connection { stream, next, awaited: 0 })
        };
        let mut connections = (0..CONNECTIONS).map(connect).collect::<Result<Vec<_>>>()?;
        let mut scratch = vec![0; self.reply + 1];
        loop {
            let mut is_idle = true;
            for connection in &mut connections {
                // It is answered in its turn, and the server has all others to answer meanwhile.
                while connection.awaited > 0 {
                    connection.receive(&mut scratch)?;
                }
                if left > 0 {
                    left -= 1;
                    is_idle = false;
                    connection.send(self)?;
                }
            }
            if is_idle {
                return Ok(());
            }
        }
    }
}

/// One connection, with one pipeline on its way at most.
struct Connection {
    stream: TcpStream,
    /// The pipeline that is sent next.
    next: usize,
    /// Bytes that are still to come.
    awaited: usize,
}

impl Connection {
    fn send(&mut self, flood: &Flood) -> Result<()> {
        // What a socket takes is more than any pipeline has, and nothing else is on its way.
        self.stream.write_all(&flood.bytes[flood.pipelines[self.next].clone()])?;
        self.next = (self.next + 1) % flood.pipelines.len();
        self.awaited = flood.reply;
        Ok(())
    }

    /// Takes in what has come, if anything has.
    fn receive(&mut self, scratch: &mut [u8]) -> Result<()> {
        match self.stream.read(scratch) {
            Ok(0) => bail!("the server hung up"),
            Ok(count) => {
                let reply = String::from_utf8_lossy(&scratch[..count.min(40)]);
                ensure!(scratch[0] != b'-' && count <= self.awaited, "an unexpected reply: {reply}");
                self.awaited -= count;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
