//! Connections of a worker to other nodes, as a client of theirs: dialled when needed, kept, used by one run at a time.
//!
//! A run has a connection to itself, so nothing that one client does (a WAIT, a long KEYS) keeps another's replies. The
//! connections to one node are bounded by [`UPSTREAMS_MAX`]; at the bound a run waits for its turn.
//!
//! What a broken connection means depends on when it broke, and only this file knows: see [`Broken`].

use std::{cell::RefCell, collections::BTreeMap, io, mem::MaybeUninit, rc::Rc, time::Duration};

use bytes::{Buf as _, BytesMut};
use node_core::resp::{ArgsBuf, Protocol, Reply, Value, value::Decoder};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};

use super::super::worker::Worker;
use crate::limits::{DIAL_MAX, FORWARD_MAX, UPSTREAM_TARGETS_MAX, UPSTREAMS_MAX};

/// The connections of a worker.
#[derive(Default)]
pub(crate) struct Upstreams {
    pools: RefCell<BTreeMap<(String, u8), Rc<Pool>>>,
}

/// Those to one node in one protocol.
struct Pool {
    permits: Semaphore,
    idle: RefCell<Vec<Upstream>>,
}

struct Upstream {
    stream: TcpStream,
    /// What has been read and belongs to replies that are not complete.
    input: BytesMut,
}

/// One reply: as it came, and what it says.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    pub(super) value: Value,
}

/// Why there are fewer replies than requests.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// Nothing was sent.
    #[error("{0}")]
    NotSent(io::Error),
    /// What has no reply may have been carried out or not.
    #[error("{0}")]
    Lost(io::Error),
}

/// What a node is sent at once.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) replies: usize,
    /// How long the node may be silent; `None` for as long as it likes.
    pub(super) silence_max: Option<Duration>,
}

impl Worker {
    /// Sends a batch to a node, and adds its replies to `answers` as they come.
    ///
    /// # Errors
    /// [`Broken`]; `answers` holds those that came before.
    pub(super) async fn exchange(
        &self,
        address: &str,
        protocol: Protocol,
        batch: &Batch,
        answers: &mut Vec<Answer>,
    ) -> Result<(), Broken> {
        let pool = self.upstreams.pool(address, protocol);
        let permit = timeout(FORWARD_MAX, pool.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else { return Err(Broken::NotSent(io::ErrorKind::TimedOut.into())) };
        let mut upstream = match pool.idle_and_open() {
            Some(upstream) => upstream,
            None => match timeout(DIAL_MAX, self.dial(address, protocol)).await {
                Ok(dialled) => dialled.map_err(Broken::NotSent)?,
                Err(_) => return Err(Broken::NotSent(io::ErrorKind::TimedOut.into())),
            },
        };
        let bytes_max = self.server.parameters.output_bytes_max();
        upstream.exchange(batch, bytes_max, answers).await.map_err(Broken::Lost)?;
        pool.idle.borrow_mut().push(upstream);
        Ok(())
    }

    /// Connects, and says what a client of this node has said to it.
    async fn dial(&self, address: &str, protocol: Protocol) -> io::Result<Upstream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut upstream = Upstream { stream, input: BytesMut::new() };
        let mut words = Vec::new();
        if let Some(password) = self.server.parameters.password() {
            words.push(["AUTH", password.expose()].into_iter().collect::<ArgsBuf>());
        }
        if protocol == Protocol::Resp3 {
            words.push(["HELLO", "3"].into_iter().collect());
        }
        let mut greeting = Batch { replies: words.len(), silence_max: Some(DIAL_MAX), ..Batch::default() };
        for words in &words {
            let mut request = Reply::new(&mut greeting.bytes, Protocol::Resp2);
            request.array(words.as_args().len());
            words.as_args().iter().for_each(|word| request.bulk(word));
        }
        let (bytes_max, mut answers) = (self.server.parameters.output_bytes_max(), Vec::new());
        upstream.exchange(&greeting, bytes_max, &mut answers).await?;
        match answers.into_iter().find_map(|answer| if let Value::Error(why) = answer.value { Some(why) } else { None })
        {
            Some(why) => Err(io::Error::other(String::from_utf8_lossy(&why).into_owned())),
            None => Ok(upstream),
        }
    }
}

impl Upstreams {
    fn pool(&self, address: &str, protocol: Protocol) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        let key = (address.to_owned(), protocol.version());
        if pools.len() >= UPSTREAM_TARGETS_MAX && !pools.contains_key(&key) {
            // Nodes that are gone would fill it in the end; those in use are held by who uses them.
            pools.retain(|_, pool| Rc::strong_count(pool) > 1);
        }
        let new = || Rc::new(Pool { permits: Semaphore::new(UPSTREAMS_MAX), idle: RefCell::default() });
        pools.entry(key).or_insert_with(new).clone()
    }
}

impl Pool {
    /// A connection that nobody uses and that the node has not closed, as far as is known.
    fn idle_and_open(&self) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        std::iter::from_fn(|| idle.pop()).find(Upstream::is_open)
    }
}

impl Upstream {
    /// Asks the kernel, since the runtime may not have heard of the end yet. Bytes that nobody asked for are an end too.
    fn is_open(&self) -> bool {
        let peeked = SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit(); 1]);
        self.input.is_empty() && peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    async fn exchange(&mut self, batch: &Batch, bytes_max: usize, answers: &mut Vec<Answer>) -> io::Result<()> {
        let (mut reader, mut writer) = self.stream.split();
        let mut decoder = Decoder::new(bytes_max);
        // At the same time: a node that cannot write its replies does not read on.
        let read = async {
            for _ in 0..batch.replies {
                answers.push(read(&mut reader, &mut self.input, &mut decoder, batch.silence_max).await?);
            }
            Ok(())
        };
        tokio::try_join!(writer.write_all(&batch.bytes), read).map(|_| ())
    }
}

/// Reads one reply.
async fn read(
    reader: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
    decoder: &mut Decoder,
    silence_max: Option<Duration>,
) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    loop {
        let decoded = decoder.decode(input).map_err(io::Error::other)?;
        bytes.extend_from_slice(&input[..decoded.consumed]);
        input.advance(decoded.consumed);
        if let Some(value) = decoded.value {
            return Ok(Answer { bytes, value });
        }
        let reading = reader.read_buf(input);
        let count = match silence_max {
            Some(most) => timeout(most, reading).await??,
            None => reading.await?,
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
