//! A client of a region that hides nothing.
//!
//! It finds its way through a cluster as every client does, and tells apart what clients as a rule do not: a command that was
//! refused was not carried out and may be sent again; of one whose reply was lost nobody knows, and it is never sent again.
//! It runs commands one by one, so that each has its own times.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    net::SocketAddr,
    time::Duration,
};

use bytes::{Buf as _, BytesMut};
use node_core::resp::{
    Protocol, Reply, Value,
    value::{Decoder, REPLY_BYTES_MAX},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{self, Instant},
};

use super::limits;

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It was not carried out.
    #[error("{0}")]
    Refused(String),
    /// It was sent, and nobody knows whether it was carried out.
    #[error("{0}")]
    Unknown(String),
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Client {
    nodes: Vec<SocketAddr>,
    connections: BTreeMap<SocketAddr, Connection>,
    /// Where a key was answered for last.
    places: BTreeMap<String, SocketAddr>,
    /// Where to begin with a key that was never asked for.
    first: usize,
}

/// A reply, and who gave it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) value: Value,
    pub(super) node: SocketAddr,
}

impl Client {
    /// A client of these nodes. It connects when it must.
    pub(super) fn new(nodes: Vec<SocketAddr>) -> Self {
        Self { nodes, connections: BTreeMap::new(), places: BTreeMap::new(), first: 0 }
    }

    /// Runs a command about a key, at whichever node owns it.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn run(&mut self, key: &str, words: &[&str]) -> Result<Answer, Failure> {
        let start = Instant::now();
        let mut is_asking = false;
        for attempt in 0.. {
            let node = self.places.get(key).copied().unwrap_or(self.nodes[self.first]);
            let refused = match self.run_at(node, words, is_asking, limits::ANSWER_MAX).await {
                Ok(value) => {
                    self.places.insert(key.to_owned(), node);
                    return Ok(Answer { value, node });
                }
                Err(Failure::Unknown(error)) => {
                    self.forget(key, node);
                    return Err(Failure::Unknown(error));
                }
                Err(Failure::Refused(error)) => error,
            };
            if start.elapsed() > limits::REFUSED_MAX {
                // Who is cut off refuses for ever, and does not know who has taken its place.
                self.forget(key, node);
                return Err(Failure::Refused(refused));
            }
            is_asking = refused.starts_with("ASK ");
            match redirection(&refused) {
                Some(node) => {
                    self.places.insert(key.to_owned(), node);
                    if attempt < limits::REDIRECTIONS_AT_ONCE {
                        continue;
                    }
                }
                // Whoever answers at all knows where to go as soon as anybody does.
                None if !self.connections.contains_key(&node) => self.forget(key, node),
                None => {}
            }
            time::sleep(limits::RETRY_PAUSE).await;
        }
        unreachable!("attempts do not run out")
    }

    /// Runs a command at one node, and follows nobody.
    ///
    /// # Errors
    /// [`Failure`]; a redirection is a refusal.
    pub(super) async fn run_at(
        &mut self,
        node: SocketAddr,
        words: &[&str],
        is_asking: bool,
        within: Duration,
    ) -> Result<Value, Failure> {
        let connection = match self.connections.entry(node) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(Connection::dial(node).await?),
        };
        let exchange = async {
            if is_asking {
                connection.exchange(&["ASKING"]).await?;
            }
            connection.exchange(words).await
        };
        let answered = time::timeout(within, exchange).await;
        match answered.map_err(|_| io::Error::from(io::ErrorKind::TimedOut)).flatten() {
            // What a node answers with an error, it has not done.
            Ok(Value::Error(error)) => Err(Failure::Refused(String::from_utf8_lossy(&error).into_owned())),
            Ok(value) => Ok(value),
            Err(error) => {
                self.connections.remove(&node);
                Err(Failure::Unknown(error.to_string()))
            }
        }
    }

    /// Begins anew with this key, elsewhere.
    fn forget(&mut self, key: &str, node: SocketAddr) {
        self.connections.remove(&node);
        self.places.remove(key);
        self.first = (self.first + 1) % self.nodes.len();
    }
}

/// A connection to one node.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    input: BytesMut,
}

impl Connection {
    /// Nothing was sent to who cannot be reached.
    async fn dial(node: SocketAddr) -> Result<Self, Failure> {
        let dialled = time::timeout(limits::ANSWER_MAX, TcpStream::connect(node)).await;
        let stream = dialled.map_err(|_| io::Error::from(io::ErrorKind::TimedOut)).flatten();
        let stream = stream.map_err(|error| Failure::Refused(format!("cannot connect: {error}")))?;
        Ok(Self { stream, input: BytesMut::new() })
    }

    async fn exchange(&mut self, words: &[&str]) -> io::Result<Value> {
        let mut bytes = Vec::new();
        let mut request = Reply::new(&mut bytes, Protocol::Resp2);
        request.array(words.len());
        words.iter().for_each(|word| request.text(word));
        self.stream.write_all(&bytes).await?;
        let mut decoder = Decoder::new(limits::REPLY_BYTES_MAX);
        loop {
            let decoded = decoder.decode(&self.input).map_err(io::Error::other)?;
            self.input.advance(decoded.consumed);
            if let Some(value) = decoded.value {
                return Ok(value);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Where `MOVED` or `ASK` leads.
fn redirection(error: &str) -> Option<SocketAddr> {
    let mut words = error.split(' ');
    matches!(words.next(), Some("MOVED" | "ASK")).then_some(())?;
    words.nth(1)?.parse().ok()
}

/// A reply as text, if it is one.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::Bulk(bytes) | Value::Simple(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}

// What the decoder allows at most is no bound for a client of a lab.
const _: () = assert!(limits::REPLY_BYTES_MAX <= REPLY_BYTES_MAX);

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::{Client, Failure, Value, redirection};

    #[test]
    fn redirections_lead_where_they_say() {
        assert_eq!(redirection("MOVED 3999 127.0.0.1:6381"), Some("127.0.0.1:6381".parse().unwrap()));
        assert_eq!(redirection("ASK 3999 127.0.0.1:6381"), Some("127.0.0.1:6381".parse().unwrap()));
        assert_eq!(redirection("CLUSTERDOWN The cluster is down"), None);
    }

    #[tokio::test]
    async fn a_client_follows_and_knows_what_was_refused_from_what_was_lost() {
        let [first, second] = [TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0")];
        let (first, second) = (first.await.unwrap(), second.await.unwrap());
        let addresses = [first.local_addr().unwrap(), second.local_addr().unwrap()];
        let moved = format!("-MOVED 1 {}\r\n", addresses[1]);
        let nodes = async {
            let (mut stream, _) = first.accept().await.unwrap();
            read(&mut stream).await;
            stream.write_all(moved.as_bytes()).await.unwrap();
            let (mut stream, _) = second.accept().await.unwrap();
            read(&mut stream).await;
            stream.write_all(b"$-1\r\n").await.unwrap();
            // The next one has no answer.
            read(&mut stream).await;
        };
        let client = async {
            let mut client = Client::new(addresses.to_vec());
            let answer = client.run("key", &["GET", "key"]).await.unwrap();
            assert_eq!((answer.value, answer.node), (Value::Null, addresses[1]));
            assert!(matches!(client.run("key", &["GET", "key"]).await, Err(Failure::Unknown(_))));
        };
        tokio::join!(nodes, client);
        drop((first, second));
        let refused = Client::new(addresses.to_vec()).run("key", &["GET", "key"]).await;
        assert!(matches!(refused, Err(Failure::Refused(_))), "nobody listens, so nothing was sent");
    }

    async fn read(stream: &mut tokio::net::TcpStream) {
        let mut request = [0; 64];
        assert!(stream.read(&mut request).await.unwrap() > 0);
    }
}
