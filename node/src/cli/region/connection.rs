//! A connection to one node, as any client has it: one question at a time, every byte counted.
//!
//! It is made of the same parts as the connections of the proxy, the core's encoder and decoder, and of no client library: what is
//! promised about a comparison is a number of bytes, and this is where they are counted, as plain RESP before TLS and TCP add
//! their own.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::Context;
use bytes::{Buf as _, BytesMut};
use clap::Args;
use config::Secret;
use node_core::resp::{Protocol, Reply, Value, value::Decoder};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::limits::{ANSWER_MAX, REPLY_BYTES_MAX, SEND_BYTES};
use crate::server::tls;

/// How nodes are spoken to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ConnectionArgs {
    /// The file that holds the password, the same in all regions
    #[arg(long, value_name = "FILE", env = "MERIDIAN_PASSWORD_FILE")]
    password_file: Option<PathBuf>,

    /// Connect over TLS, to nodes with certificates of these authorities, PEM
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// The certificate to show, PEM; needed where nodes ask clients for one
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl ConnectionArgs {
    /// Reads the files.
    ///
    /// # Errors
    /// If one cannot be read or used.
    pub(super) fn dialler(&self) -> anyhow::Result<Dialler> {
        let auth = config::Auth { requirepass: None, requirepass_file: self.password_file.clone() };
        let password = auth.password().context("cannot use the password file")?;
        let tls = self.tls_ca.as_ref().map(|ca| {
            let own = self.tls_cert.as_deref().zip(self.tls_key.as_deref());
            tls::connector(ca, own).context("cannot use the certificates")
        });
        Ok(Dialler { password, tls: tls.transpose()?, traffic: Arc::default() })
    }
}

/// Bytes that went either way, over all connections.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Traffic {
    /// To nodes, and from them.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.sent.load(Relaxed), self.received.load(Relaxed))
    }
}

/// Makes connections.
#[derive(Clone)]
pub(super) struct Dialler {
    password: Option<Secret>,
    tls: Option<TlsConnector>,
    traffic: Arc<Traffic>,
}

impl std::fmt::Debug for Dialler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialler").field("over_tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// Why a node has not answered, or not with what was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// It does not answer.
    #[error("{address} does not answer: {error}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// It says no.
    #[error("{address} refuses: {reason}")]
    Refused {
        /// Who.
        address: String,
        /// In its words.
        reason: String,
    },
    /// It answers another question.
    #[error("{0} gives an answer that does not fit the question; is it of another version?")]
    Misfit(String),
    /// Nobody holds a slot.
    #[error("no node of {region} serves slot {slot}")]
    Unserved {
        /// Where.
        region: String,
        /// Which.
        slot: u16,
    },
}

impl AskError {
    /// Whether it may be otherwise in a moment: a node is sent to another, a failover is under way, a slot changes hands.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unserved { .. } => true,
            Self::Refused { reason, .. } => ["MOVED ", "TRYAGAIN ", "CLUSTERDOWN ", "LOADING ", "MASTERDOWN "]
                .iter()
                .any(|code| reason.starts_with(code)),
            Self::Misfit(_) => false,
        }
    }
}

impl Dialler {
    /// The bytes of all connections that were made by this and its clones.
    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Connects to a node, and gives the password if there is one.
    ///
    /// # Errors
    /// [`AskError`]
    pub(super) async fn dial(&self, address: &str) -> Result<Connection, AskError> {
        let unreachable = |error| AskError::Unreachable { address: address.to_owned(), error };
        let stream = timeout(ANSWER_MAX, self.connect(address)).await.map_err(|late| unreachable(late.into()))?;
        let stream = stream.map_err(unreachable)?;
        let traffic = self.traffic.clone();
        let decoder = Decoder::new(REPLY_BYTES_MAX);
        let mut connection =
            Connection { address: address.to_owned(), stream, input: BytesMut::new(), decoder, traffic };
        if let Some(password) = &self.password {
            connection.ask(&[b"AUTH", password.expose().as_bytes()]).await?;
        }
        Ok(connection)
    }

    async fn connect(&self, address: &str) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

/// A socket, plain or under TLS. There are a handful, so a call through a table costs nothing.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// See the head of this file. Of no further use after [`AskError::Unreachable`].
pub(super) struct Connection {
    address: String,
    stream: Box<dyn Stream>,
    input: BytesMut,
    decoder: Decoder,
    traffic: Arc<Traffic>,
}

impl Connection {
    /// Asks one thing.
    ///
    /// # Errors
    /// [`AskError`]; an error in the answer is one as well.
    pub(super) async fn ask(&mut self, words: &[&[u8]]) -> Result<Value, AskError> {
        match self.exchange(words).await {
            Ok(Value::Error(reason)) => {
                let reason = String::from_utf8_lossy(&reason).into_owned();
                Err(AskError::Refused { address: self.address.clone(), reason })
            }
            Ok(value) => Ok(value),
            Err(error) => Err(AskError::Unreachable { address: self.address.clone(), error }),
        }
    }

    async fn exchange(&mut self, words: &[&[u8]]) -> io::Result<Value> {
        let mut request = Vec::new();
        let mut writer = Reply::new(&mut request, Protocol::Resp2);
        writer.array(words.len());
        words.iter().for_each(|word| writer.bulk(word));
        for part in request.chunks(SEND_BYTES) {
            timeout(ANSWER_MAX, self.stream.write_all(part)).await??;
            self.traffic.sent.fetch_add(part.len() as u64, Relaxed);
        }
        timeout(ANSWER_MAX, self.stream.flush()).await??;
        loop {
            let decoded = self.decoder.decode(&self.input).map_err(io::Error::other)?;
            self.input.advance(decoded.consumed);
            if let Some(value) = decoded.value {
                return Ok(value);
            }
            let count = timeout(ANSWER_MAX, self.stream.read_buf(&mut self.input)).await??;
            self.traffic.received.fetch_add(count as u64, Relaxed);
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
