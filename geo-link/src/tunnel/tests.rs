//! Tunnels between a primary, which is a pipe in memory, and other regions, which are TLS servers on loopback; and what it
//! carries, in a time of its own.

use std::sync::Arc;

use clock::RegionId;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    TunnelOptions, TunnelRefusal, Tunnels,
    carry::{Carried, Ended, carry},
    greeting::{self, Wanted},
    reach::WayMetrics,
};
use crate::{
    Peer, TlsMaterial,
    limits::{TUNNEL_BUFFER_BYTES, WANTED_BYTES_MAX},
    tls::{Credentials, LINK},
};

#[tokio::test]
async fn bytes_pass_both_ways_and_both_ends_end_together() {
    let regions = Authority::new();
    let eu = Echo::start(&regions.region("eu-west")).await;
    let running = Running::start(&regions.region("us-east"), &[&eu.address]);
    let mut primary = running.connect();
    assert_eq!(greeting::hear(&mut primary).await.unwrap(), Ok(()));
    assert_eq!(echoed(&mut primary, b"records").await, b"records");
    let status = running.tunnels.status();
    assert_eq!((status.peers[0].streams, status.peers[0].dial_failures), (1, 0));
    let stream = &status.streams[0];
    assert_eq!((stream.from.as_str(), stream.to.as_str(), &stream.addr), ("node", "eu-west", &eu.address));
    assert_eq!((stream.out_bytes, stream.in_bytes), (7, 7));
    primary.write_all(b"last words").await.unwrap();
    primary.shutdown().await.unwrap();
    let mut rest = Vec::new();
    primary.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"last words");
    running.until_idle().await;
    assert!(running.tunnels.status().streams.is_empty());
    eu.until_idle().await;
}

#[tokio::test]
async fn who_ends_at_the_other_end_ends_the_primary_s_stream() {
    let regions = Authority::new();
    let eu = Echo::start(&regions.region("eu-west")).await;
    let running = Running::start(&regions.region("us-east"), &[&eu.address]);
    let mut primary = running.connect();
    assert_eq!(greeting::hear(&mut primary).await.unwrap(), Ok(()));
    assert_eq!(echoed(&mut primary, b"records").await, b"records");
    eu.stop();
    primary.read_to_end(&mut Vec::new()).await.unwrap();
    running.until_idle().await;
}

#[tokio::test]
async fn the_next_gateway_is_dialled_where_one_is_gone() {
    let regions = Authority::new();
    let eu = Echo::start(&regions.region("eu-west")).await;
    let gone = nobody().await;
    let running = Running::start(&regions.region("us-east"), &[&gone, &eu.address, &gone]);
    for _ in 0..4 {
        let mut primary = running.connect();
        assert_eq!(greeting::hear(&mut primary).await.unwrap(), Ok(()));
        assert_eq!(echoed(&mut primary, b"records").await, b"records");
    }
    assert!(running.tunnels.status().streams.iter().all(|stream| stream.addr == eu.address));
}

#[tokio::test]
async fn a_region_that_is_not_reached_is_said_to_be_so() {
    let regions = Authority::new();
    let running = Running::start(&regions.region("us-east"), &[&nobody().await, &nobody().await]);
    let refusal = greeting::hear(&mut running.connect()).await.unwrap().unwrap_err();
    assert!(matches!(&refusal, TunnelRefusal::Unreachable(reason) if reason.contains("cannot connect")), "{refusal}");
    let status = &running.tunnels.status().peers[0];
    assert_eq!(status.dial_failures, 2);
    assert!(status.last_error.as_ref().is_some_and(|error| error.contains("cannot connect")), "{status:?}");
    let wanted = Wanted { to: RegionId::new(9).unwrap(), from: "node".to_owned() };
    let refusal = greeting::hear(&mut running.say(&wanted.to_frame())).await.unwrap().unwrap_err();
    assert_eq!(refusal, TunnelRefusal::UnknownRegion);
}

#[tokio::test]
async fn who_is_not_that_region_is_not_spoken_to() {
    let (regions, others) = (Authority::new(), Authority::new());
    // Another region of the same authority, the right name of another authority.
    for stranger in [regions.region("ap-south"), others.region("eu-west")] {
        let stranger = Echo::start(&stranger).await;
        let running = Running::start(&regions.region("us-east"), &[&stranger.address]);
        let refusal = greeting::hear(&mut running.connect()).await.unwrap().unwrap_err();
        assert!(matches!(&refusal, TunnelRefusal::Unreachable(reason) if reason.contains("certificate")), "{refusal}");
    }
}

#[tokio::test]
async fn a_peer_that_refuses_this_region_s_certificate_is_no_peer_that_is_well() {
    let (regions, others) = (Authority::new(), Authority::new());
    // It believes in another authority than the one that its own certificate comes from.
    let mut eu = regions.region("eu-west");
    eu.ca_pem = others.region("eu-west").ca_pem;
    let eu = Echo::start(&eu).await;
    let running = Running::start(&regions.region("us-east"), &[&eu.address]);
    let mut primary = running.connect();
    // The connection was made, and is ended.
    assert_eq!(greeting::hear(&mut primary).await.unwrap(), Ok(()));
    assert_eq!(primary.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    running.until_idle().await;
    let status = &running.tunnels.status().peers[0];
    assert!(status.dial_failures == 1 && status.last_error.is_some(), "{status:?}");
}

#[tokio::test]
async fn a_first_frame_that_cannot_be_read_ends_its_own_connection_alone() {
    let regions = Authority::new();
    let eu = Echo::start(&regions.region("eu-west")).await;
    let running = Running::start(&regions.region("us-east"), &[&eu.address]);
    let mut primary = running.connect();
    assert_eq!(greeting::hear(&mut primary).await.unwrap(), Ok(()));
    let long = Wanted { to: RegionId::MAX, from: "x".repeat(65) }.to_frame();
    let of_no_region = rmp_serde::to_vec(&(0, "node")).unwrap();
    for garbage in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64], &[0; WANTED_BYTES_MAX + 1], &long, &of_no_region]
    {
        let mut stranger = running.say(garbage);
        assert_eq!(greeting::hear(&mut stranger).await.unwrap(), Err(TunnelRefusal::Malformed));
        assert_eq!(stranger.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    }
    assert_eq!(echoed(&mut primary, b"records").await, b"records");
}

#[tokio::test]
async fn what_is_no_verdict_is_an_error() {
    for garbage in [&b"\x7f\xff\xff\xff"[..], b"\0\0\0\x02xx", b"\0\0"] {
        assert!(greeting::hear(&mut &garbage[..]).await.is_err());
    }
}

#[tokio::test]
async fn streams_end_in_order_when_the_gateway_stops() {
    let regions = Authority::new();
    let eu = Echo::start(&regions.region("eu-west")).await;
    let running = Running::start(&regions.region("us-east"), &[&eu.address]);
    let mut primary = running.connect();
    assert_eq!(greeting::hear(&mut primary).await.unwrap(), Ok(()));
    running.shutdown.cancel();
    assert_eq!(primary.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    running.until_idle().await;
    let refusal = greeting::hear(&mut running.connect()).await.unwrap();
    assert_eq!(refusal, Err(TunnelRefusal::Stopping));
}

#[tokio::test(start_paused = true)]
async fn a_side_that_does_not_read_holds_up_the_other_and_is_given_up_in_the_end() {
    let ([mut primary, near], [mut peer, far]) = (pipe(), pipe());
    let carried = carried();
    let never = CancellationToken::new();
    let carrying = carry(near, far, &carried, &never);
    let flood = vec![7; 32 * TUNNEL_BUFFER_BYTES];
    let (ended, written) = tokio::join!(carrying, primary.write_all(&flood));
    // Time went on only when nothing else did.
    assert!(matches!(ended, Ended::Silent), "{ended}");
    assert!(written.is_err());
    assert!(carried.out_bytes() as usize <= TUNNEL_BUFFER_BYTES + PIPE_BYTES, "{carried:?}");
    peer.read_u8().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_the_end_arrives_and_the_other_side_need_not_end() {
    let ([mut primary, near], [mut peer, far]) = (pipe(), pipe());
    let (carried, never) = (carried(), CancellationToken::new());
    let sent = async {
        primary.write_all(&[7; 10 * PIPE_BYTES]).await.unwrap();
        primary.shutdown().await.unwrap();
    };
    let received = async {
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).await.unwrap();
        bytes.len()
    };
    let (ended, (), received) = tokio::join!(carry(near, far, &carried, &never), sent, received);
    assert!(matches!(ended, Ended::Closed), "{ended}");
    assert_eq!(received, 10 * PIPE_BYTES);
    // It has not ended by itself.
    assert!(peer.write_u8(1).await.is_err());
}

/// What fits between a test and what it tests.
const PIPE_BYTES: usize = 1_024;

fn pipe() -> [DuplexStream; 2] {
    duplex(PIPE_BYTES).into()
}

fn carried() -> Carried {
    Carried::new(&WayMetrics::new("nowhere"))
}

/// An address at which nobody listens.
async fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

async fn echoed(stream: &mut DuplexStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).await.unwrap();
    let mut echo = vec![0; bytes.len()];
    stream.read_exact(&mut echo).await.unwrap();
    echo
}

/// Tunnels of us-east that lead to eu-west, whose number is 2.
struct Running {
    tunnels: Arc<Tunnels>,
    serving: std::sync::Mutex<Vec<JoinHandle<()>>>,
    shutdown: CancellationToken,
}

impl Running {
    fn start(tls: &TlsMaterial, addresses: &[&str]) -> Self {
        let addrs = addresses.iter().map(|address| (*address).to_owned()).collect();
        let peer = Peer { name: "eu-west".to_owned(), id: RegionId::new(2).unwrap(), addrs, retired: None };
        let options = TunnelOptions { region: "us-east".to_owned(), peers: vec![peer], tls: tls.clone() };
        let tunnels = Arc::new(Tunnels::new(&options).unwrap());
        Self { tunnels, serving: std::sync::Mutex::default(), shutdown: CancellationToken::new() }
    }

    fn connect(&self) -> DuplexStream {
        self.say(&Wanted { to: RegionId::new(2).unwrap(), from: "node".to_owned() }.to_frame())
    }

    fn say(&self, first: &[u8]) -> DuplexStream {
        let ([here, there], first) = (pipe(), first.to_owned());
        let (tunnels, shutdown) = (self.tunnels.clone(), self.shutdown.clone());
        let serving = tokio::spawn(async move { tunnels.serve(&first, there, &shutdown).await });
        self.serving.lock().unwrap().push(serving);
        here
    }

    /// Waits until all that was served has ended.
    async fn until_idle(&self) {
        let serving = std::mem::take(&mut *self.serving.lock().unwrap());
        for stream in serving {
            stream.await.unwrap();
        }
    }
}

/// A gateway of a region that says what it hears.
struct Echo {
    address: String,
    stop: CancellationToken,
    listening: JoinHandle<()>,
}

impl Echo {
    async fn start(tls: &TlsMaterial) -> Self {
        let region = region_of(tls);
        let acceptor = TlsAcceptor::from(Credentials::new(&region, LINK, tls).unwrap().server());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap().to_string(), CancellationToken::new());
        let until = stop.clone();
        let listening = tokio::spawn(async move {
            let mut served = JoinSet::new();
            while let Some(Ok((stream, _))) = until.run_until_cancelled(listener.accept()).await {
                let acceptor = acceptor.clone();
                served.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let (mut read, mut write) = tokio::io::split(stream);
                    if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                        write.shutdown().await.ok();
                    }
                });
            }
            // Those that are served are dropped, and with them their connections.
        });
        Self { address, stop, listening }
    }

    fn stop(&self) {
        self.stop.cancel();
    }

    async fn until_idle(self) {
        self.stop();
        self.listening.await.unwrap();
    }
}

fn region_of(tls: &TlsMaterial) -> String {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let certificate = CertificateDer::from_pem_slice(&tls.cert_pem).unwrap();
    crate::tls::regions_of(&certificate).remove(0)
}

/// Who signs certificates of regions.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// What the region of this name authenticates with.
    fn region(&self, region: &str) -> TlsMaterial {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![format!("{region}.region.meridian")]).unwrap();
        TlsMaterial {
            cert_pem: params.signed_by(&key, &self.0).unwrap().pem().into_bytes(),
            key_pem: key.serialize_pem().into_bytes(),
            ca_pem: self.0.pem().into_bytes(),
        }
    }
}
