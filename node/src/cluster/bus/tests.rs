//! The bus between nodes in one process, over loopback: calls, posts and feeds, and everybody who must not get in.

use std::{
    net::{self, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use geo_link::{
    TlsMaterial,
    tls::{Broken, Credentials},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{bytes::Bytes, sync::CancellationToken};

use super::{
    Arrival, Bus, CallError, Channel, DialError, Handlers, Malformed, PROTOCOL, greeting::Verdict, limits, listen,
};

#[tokio::test]
async fn a_call_is_answered_on_its_channel() {
    let (node, bus) = (Node::start(None).await, Bus::new(None));
    for channel in [Channel::Raft, Channel::Control] {
        let answer: String = bus.peer(node.at()).call(channel, &"hello", PATIENCE).await.unwrap();
        assert_eq!(answer, format!("{channel:?} hello"));
    }
    bus.shutdown().await;
    node.stop().await;
}

#[tokio::test]
async fn nodes_of_a_region_talk_under_tls() {
    let region = Authority::new();
    let (node, bus) = (Node::start(region.node("eu-west")).await, Bus::new(region.node("eu-west")));
    let answer: String = bus.peer(node.at()).call(Channel::Control, &"hello", PATIENCE).await.unwrap();
    assert_eq!(answer, "Control hello");
    let mut feed = bus.peer(node.at()).connect(b"all").await.unwrap();
    assert_eq!(echoed(&mut feed, b"records").await, b"records");
    node.stop().await;
}

#[tokio::test]
async fn a_node_of_another_region_is_refused() {
    // One authority for all regions: the name alone tells them apart.
    let all = Authority::new();
    let (node, bus) = (Node::start(all.node("eu-west")).await, Bus::new(all.node("us-east")));
    // It would not talk to the wrong node either: there the name of the server is wrong.
    let refused = bus.peer(node.at()).connect(b"").await.unwrap_err();
    assert!(matches!(refused, DialError::Broken(Broken::Certificate(_))), "{refused}");
    // One that does not care is told.
    let refused = stranger(&all, "us-east", node.address).await;
    assert_eq!(refused, Some(Verdict::Region));
    node.stop().await;
}

#[tokio::test]
async fn a_node_of_another_authority_or_without_a_certificate_is_refused() {
    let (own, other) = (Authority::new(), Authority::new());
    let node = Node::start(own.node("eu-west")).await;
    for credentials in [other.node("eu-west"), None] {
        let error = Bus::new(credentials).peer(node.at()).connect(b"").await.unwrap_err();
        assert!(matches!(error, DialError::Broken(_) | DialError::Garbage), "{error}");
    }
    // A certificate of this region that the authority has not signed, shown by one who believes everybody.
    assert_eq!(stranger(&other, "eu-west", node.address).await, None);
    node.stop().await;
}

#[tokio::test]
async fn who_speaks_another_protocol_is_closed_and_harms_nobody() {
    let (node, bus) = (Node::start(None).await, Bus::new(None));
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"MBUS\x01\x63", b"MBUS\x63\x01", b"MBUS\x01\x01\xff\xff\xff\xff"] {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        // It is closed, after a verdict if there is one to tell.
        timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("it is closed").ok();
    }
    let answer: String = bus.peer(node.at()).call(Channel::Raft, &"still there?", PATIENCE).await.unwrap();
    assert_eq!(answer, "Raft still there?");
    node.stop().await;
}

#[tokio::test]
async fn a_frame_that_is_too_long_is_not_sent_and_not_taken() {
    let (node, bus) = (Node::start(None).await, Bus::new(None));
    let long = "x".repeat(limits::frame_bytes_max(Channel::Control) + 1);
    let error = bus.peer(node.at()).call::<_, String>(Channel::Control, &long, PATIENCE).await.unwrap_err();
    assert!(matches!(error, CallError::TooLong(_)), "{error}");
    // As long as Raft's may be, so it goes out; the listener takes no such thing on the channel of control.
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    stream.write_all(b"MBUS\x01\x04").await.unwrap();
    stream.read_exact(&mut [0; 6]).await.unwrap();
    stream.write_u32(long.len() as u32).await.unwrap();
    timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("it is closed").ok();
    node.stop().await;
}

#[tokio::test]
async fn a_request_that_cannot_be_read_ends_its_connection_alone() {
    let (node, bus) = (Node::start(None).await, Bus::new(None));
    let error = bus.peer(node.at()).call::<_, String>(Channel::Raft, &17, PATIENCE).await.unwrap_err();
    assert!(matches!(error, CallError::Lost), "{error}");
    assert!(error.was_sent());
    let answer: String = bus.peer(node.at()).call(Channel::Raft, &"again", PATIENCE).await.unwrap();
    assert_eq!(answer, "Raft again");
    node.stop().await;
}

#[tokio::test]
async fn a_slow_answer_delays_no_other() {
    let (node, bus) = (Node::start(None).await, Bus::new(None));
    let peer = bus.peer(node.at());
    let slow = peer.call::<_, String>(Channel::Raft, &"wait", PATIENCE);
    let quick = async {
        let calls = (0..limits::CALLS_IN_FLIGHT as u32 - 1).map(|number| {
            let peer = peer.clone();
            async move { peer.call::<_, String>(Channel::Raft, &number.to_string(), PATIENCE).await.unwrap() }
        });
        let answers = futures_util::future::join_all(calls).await;
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer, format!("Raft {number}"));
        }
        node.handlers.go_on.notify_one();
    };
    let (slow, ()) = tokio::join!(slow, quick);
    assert_eq!(slow.unwrap(), "Raft wait");
    node.stop().await;
}

#[tokio::test]
async fn calls_beyond_the_queue_are_refused_and_a_caller_waits_no_longer_than_it_wants() {
    // It accepts and says nothing.
    let silent = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = Bus::new(None).peer(silent.local_addr().unwrap().to_string());
    let error = peer.call::<_, String>(Channel::Raft, &"", Duration::from_millis(1)).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout), "{error}");
    let calls =
        (0..=limits::CALLS_QUEUED).map(|_| peer.call::<_, String>(Channel::Raft, &"", Duration::from_millis(1)));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().any(|answer| matches!(answer, Err(CallError::Busy))));
}

#[tokio::test]
async fn calls_go_on_when_a_peer_has_restarted() {
    let (mut node, bus) = (Node::start(None).await, Bus::new(None));
    let peer = bus.peer(node.at());
    for _ in 0..3 {
        let answer = until_answered(&peer).await;
        assert_eq!(answer, "Raft hello");
        let address = node.address;
        node.stop().await;
        let error = peer.call::<_, String>(Channel::Raft, &"hello", PATIENCE).await.unwrap_err();
        assert!(matches!(error, CallError::Lost | CallError::Unreachable(_)), "{error}");
        node = Node::start_at(address, None).await;
    }
    assert_eq!(until_answered(&peer).await, "Raft hello");
    node.stop().await;
}

#[tokio::test]
async fn posts_arrive_in_order_and_those_to_nobody_are_lost() {
    let (mut node, bus) = (Node::start(None).await, Bus::new(None));
    let nobody = net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    bus.peer(nobody.to_string()).post(Bytes::from_static(b"lost"));
    let peer = bus.peer(node.at());
    for number in 0..limits::POSTS_QUEUED {
        peer.post(number.to_string().into());
    }
    for number in 0..limits::POSTS_QUEUED {
        assert_eq!(node.gossip().await, number.to_string());
    }
    peer.post(vec![0; limits::frame_bytes_max(Channel::Gossip) + 1].into());
    peer.post(Bytes::from_static(b"last"));
    assert_eq!(node.gossip().await, "last");
    node.stop().await;
}

#[tokio::test]
async fn a_feed_is_its_handlers_from_the_first_frame_on() {
    let (node, bus) = (Node::start(None).await, Bus::new(None));
    let mut feed = bus.peer(node.at()).connect(b"all").await.unwrap();
    assert_eq!(echoed(&mut feed, b"records").await, b"records");
    assert_eq!(node.handlers.wanted.lock().unwrap().as_slice(), [&b"all"[..]]);
    // The bus is shut down; the feed is not the bus's.
    bus.shutdown().await;
    assert_eq!(echoed(&mut feed, b"more").await, b"more");
    node.stop().await;
}

#[tokio::test]
async fn the_end_fails_what_is_left() {
    let (node, bus) = (Node::start(None).await, Bus::new(None));
    let peer = bus.peer(node.at());
    let call = peer.call::<_, String>(Channel::Raft, &"wait", PATIENCE);
    let end = async {
        node.handlers.waits.notified().await;
        bus.shutdown().await;
    };
    let (call, ()) = tokio::join!(call, end);
    assert!(matches!(call, Err(CallError::Lost)));
    let error = peer.call::<_, String>(Channel::Raft, &"hello", PATIENCE).await.unwrap_err();
    assert!(matches!(error, CallError::Shutdown), "{error}");
    node.stop().await;
}

/// Longer than anything here takes.
const PATIENCE: Duration = limits::ANSWER_MAX;

/// A node that answers with what it was asked.
struct Node {
    address: SocketAddr,
    handlers: Arc<Echo>,
    heard: mpsc::UnboundedReceiver<Bytes>,
    stopping: CancellationToken,
    listening: JoinHandle<std::io::Result<()>>,
}

struct Echo {
    heard: mpsc::UnboundedSender<Bytes>,
    /// Someone waits.
    waits: Notify,
    go_on: Notify,
    wanted: Mutex<Vec<Bytes>>,
    feeds: Mutex<tokio::task::JoinSet<()>>,
}

impl Node {
    async fn start(credentials: Option<Arc<Credentials>>) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), credentials).await
    }

    async fn start_at(address: SocketAddr, credentials: Option<Arc<Credentials>>) -> Self {
        let socket = crate::server::acceptor::bind(address).unwrap();
        let (address, stopping) = (socket.local_addr().unwrap(), CancellationToken::new());
        let (sender, heard) = mpsc::unbounded_channel();
        let handlers = Arc::new(Echo {
            heard: sender,
            waits: Notify::new(),
            go_on: Notify::new(),
            wanted: Mutex::default(),
            feeds: Mutex::default(),
        });
        let listening = tokio::spawn(listen(socket, credentials, handlers.clone(), stopping.clone()));
        Self { address, handlers, heard, stopping, listening }
    }

    fn at(&self) -> String {
        self.address.to_string()
    }

    async fn gossip(&mut self) -> String {
        let message = timeout(PATIENCE, self.heard.recv()).await.expect("a message comes").unwrap();
        String::from_utf8(message.into()).unwrap()
    }

    async fn stop(self) {
        self.stopping.cancel();
        self.listening.await.unwrap().unwrap();
    }
}

impl Echo {
    async fn answer(&self, channel: Channel, request: Bytes) -> Result<Vec<u8>, Malformed> {
        let text: String = rmp_serde::from_slice(&request)?;
        if text == "wait" {
            self.waits.notify_one();
            self.go_on.notified().await;
        }
        Ok(rmp_serde::to_vec(&format!("{channel:?} {text}")).unwrap())
    }
}

impl Handlers for Echo {
    async fn raft(&self, request: Bytes) -> Result<Vec<u8>, Malformed> {
        self.answer(Channel::Raft, request).await
    }

    async fn control(&self, request: Bytes) -> Result<Vec<u8>, Malformed> {
        self.answer(Channel::Control, request).await
    }

    fn gossip(&self, _: SocketAddr, message: Bytes) {
        self.heard.send(message).unwrap();
    }

    fn feed(&self, arrival: Arrival) {
        self.wanted.lock().unwrap().push(arrival.first);
        self.feeds.lock().unwrap().spawn(async move {
            let (mut read, mut write) = tokio::io::split(arrival.stream);
            tokio::io::copy(&mut read, &mut write).await.ok();
        });
    }
}

async fn echoed(stream: &mut super::BusStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    let mut echo = vec![0; bytes.len()];
    timeout(PATIENCE, stream.read_exact(&mut echo)).await.expect("an echo comes").unwrap();
    echo
}

async fn until_answered(peer: &super::Peer) -> String {
    let answered = async {
        loop {
            if let Ok(answer) = peer.call(Channel::Raft, &"hello", PATIENCE).await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, answered).await.expect("the peer answers again")
}

/// Who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn material(&self, region: &str) -> TlsMaterial {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![format!("{region}.region.meridian")]).unwrap();
        TlsMaterial {
            cert_pem: params.signed_by(&key, &self.0).unwrap().pem().into_bytes(),
            key_pem: key.serialize_pem().into_bytes(),
            ca_pem: self.0.pem().into_bytes(),
        }
    }

    fn node(&self, region: &str) -> Option<Arc<Credentials>> {
        Some(Arc::new(Credentials::new(region, PROTOCOL, &self.material(region)).unwrap()))
    }
}

/// What a node says to one that shows this certificate and checks none; `None` if it says nothing.
async fn stranger(authority: &Authority, region: &str, address: SocketAddr) -> Option<Verdict> {
    let credentials = authority.node(region).unwrap();
    let mut config = (*credentials.client()).clone();
    config.dangerous().set_certificate_verifier(Arc::new(Gullible));
    let socket = TcpStream::connect(address).await.unwrap();
    let name = "any.example".try_into().unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
    super::greeting::dial(&mut stream, Channel::Raft).await.ok()
}

#[derive(Debug)]
struct Gullible;

impl rustls::client::danger::ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
