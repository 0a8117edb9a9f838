//! Regions on loopback: real stores, real gateways, real TLS, and cables between them that can be cut.
//!
//! Each ordered pair of regions has a [`Cable`], a TCP forwarder, whose address is what the one dials to reach the
//! other. So a gateway can listen wherever it likes, a region can die and come back elsewhere, and a link can be cut or
//! stalled without either end knowing. Tests wait for conditions, never for a time.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::{
    collections::BTreeMap,
    io::Write,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use clock::{Incarnation, Now, Offset, Origin, OsClock, RegionId, Time};
use geo_link::{Gateway, GatewayEvent, GatewayOptions, Host, InStatus, LinkOptions, OutStatus, Peer, TlsMaterial};
use node_core::store::{Store, StoreOptions};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not within half a minute.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain until {what}; log:\n{}", log());
        thread::sleep(Duration::from_millis(2));
    }
}

/// An authority that issues certificates of regions.
pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// What the region of this name authenticates with.
    pub(crate) fn issue(&self, region: &str) -> TlsMaterial {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![format!("{region}.region.meridian")]).unwrap();
        TlsMaterial {
            cert_pem: params.signed_by(&key, &self.issuer).unwrap().pem().into_bytes(),
            key_pem: key.serialize_pem().into_bytes(),
            ca_pem: self.pem.clone().into_bytes(),
        }
    }
}

/// What a cable does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Whole,
    /// Bytes are neither read nor written.
    Stalled,
    /// Connections are closed, and new ones as well.
    Cut,
}

/// A TCP forwarder that can be cut.
pub(crate) struct Cable {
    pub(crate) addr: SocketAddr,
    condition: watch::Sender<Condition>,
    target: Arc<Mutex<Option<SocketAddr>>>,
    /// How many bytes may still pass to the far end.
    fuse: Arc<AtomicUsize>,
}

impl Cable {
    pub(crate) fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let (condition, watched) = watch::channel(Condition::Whole);
        let target = Arc::new(Mutex::new(None));
        let fuse = Arc::new(AtomicUsize::new(usize::MAX));
        let (at, bound) = (target.clone(), fuse.clone());
        runtime().spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let target = *lock(&at);
                tokio::spawn(forward(stream, target, watched.clone(), bound.clone()));
            }
        });
        Self { addr, condition, target, fuse }
    }

    pub(crate) fn lead_to(&self, target: SocketAddr) {
        *lock(&self.target) = Some(target);
    }

    pub(crate) fn cut(&self) {
        self.condition.send_replace(Condition::Cut);
    }

    pub(crate) fn stall(&self) {
        self.condition.send_replace(Condition::Stalled);
    }

    /// Cuts the cable when about so many more bytes have passed to the far end.
    pub(crate) fn cut_after(&self, bytes: usize) {
        self.fuse.store(bytes, Relaxed);
    }

    pub(crate) fn mend(&self) {
        self.fuse.store(usize::MAX, Relaxed);
        self.condition.send_replace(Condition::Whole);
    }
}

async fn forward(
    mut near: TcpStream,
    target: Option<SocketAddr>,
    mut condition: watch::Receiver<Condition>,
    fuse: Arc<AtomicUsize>,
) {
    let Some(target) = target else { return };
    if *condition.borrow_and_update() == Condition::Cut {
        return;
    }
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let (mut there, mut back) = (vec![0; 65_536], vec![0; 65_536]);
    // Either side may have said all that it has to say before the other has.
    let (mut near_speaks, mut far_speaks) = (true, true);
    while near_speaks || far_speaks {
        let now = *condition.borrow_and_update();
        tokio::select! {
            changed = condition.changed() => {
                if changed.is_err() || *condition.borrow() == Condition::Cut { return }
            }
            read = near.read(&mut there), if near_speaks && now == Condition::Whole => match read {
                Ok(0) if far.shutdown().await.is_ok() => near_speaks = false,
                Ok(count) if count > 0 && burn(&fuse, count) && far.write_all(&there[..count]).await.is_ok() => {}
                _ => return,
            },
            read = far.read(&mut back), if far_speaks && now == Condition::Whole => match read {
                Ok(0) if near.shutdown().await.is_ok() => far_speaks = false,
                Ok(count) if count > 0 && near.write_all(&back[..count]).await.is_ok() => {}
                _ => return,
            },
        }
    }
}

/// Takes `count` bytes off a fuse. Returns whether it holds.
fn burn(fuse: &AtomicUsize, count: usize) -> bool {
    let left = |left: usize| if left == usize::MAX { left } else { left.saturating_sub(count) };
    fuse.fetch_update(Relaxed, Relaxed, |before| Some(left(before))).is_ok_and(|before| before > count)
}

/// Regions and the cables between them.
pub(crate) struct Lab {
    pub(crate) authority: Authority,
    names: Vec<&'static str>,
    cables: BTreeMap<(&'static str, &'static str), Cable>,
}

/// How a region is started.
pub(crate) struct Start {
    pub(crate) life: u16,
    pub(crate) log_records: usize,
    pub(crate) clock_offset: Offset,
    pub(crate) links: LinkOptions,
    pub(crate) tls: Option<TlsMaterial>,
    pub(crate) mark: Time,
}

impl Default for Start {
    fn default() -> Self {
        Self {
            life: 0,
            log_records: 1 << 16,
            clock_offset: Offset::ZERO,
            links: fast_links(),
            tls: None,
            mark: Time::MAX,
        }
    }
}

/// Links that come back quickly.
pub(crate) fn fast_links() -> LinkOptions {
    let (reconnect_min, reconnect_max) = (Duration::from_millis(5), Duration::from_millis(50));
    LinkOptions { heartbeat: Duration::from_millis(10), reconnect_min, reconnect_max, ..LinkOptions::default() }
}

impl Lab {
    pub(crate) fn new<const N: usize>(names: [&'static str; N]) -> Self {
        start_log();
        let pairs = names.iter().flat_map(|from| names.iter().map(move |to| (*from, *to)));
        let cables = pairs.filter(|(from, to)| from != to).map(|pair| (pair, Cable::new())).collect();
        Self { authority: Authority::new(), names: names.to_vec(), cables }
    }

    /// The cable on which `from` dials `to`.
    pub(crate) fn cable(&self, from: &'static str, to: &'static str) -> &Cable {
        &self.cables[&(from, to)]
    }

    pub(crate) fn id(&self, name: &str) -> RegionId {
        let index = self.names.iter().position(|known| *known == name).unwrap();
        RegionId::new(index as u8 + 1).unwrap()
    }

    pub(crate) fn start(&self, name: &'static str) -> TestRegion {
        self.start_with(name, Start::default())
    }

    pub(crate) fn start_with(&self, name: &'static str, start: Start) -> TestRegion {
        let clock = Arc::new(OsClock::with_offset(start.clock_offset));
        let others: Vec<_> = self.names.iter().copied().filter(|other| *other != name).collect();
        let store = Arc::new(Store::new(&StoreOptions {
            origin: Origin::new(self.id(name), Incarnation::new(start.life)),
            start: clock.now().wall,
            peers: others.iter().map(|other| self.id(other)).collect(),
            stripes: 4,
            log_records: start.log_records,
            hash_seed: 7,
        }));
        let peer = |other: &&'static str| Peer {
            name: (*other).to_owned(),
            id: self.id(other),
            addrs: vec![self.cable(name, other).addr.to_string()],
            retired: None,
        };
        let options = GatewayOptions {
            name: name.to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            peers: others.iter().map(peer).collect(),
            tls: start.tls.unwrap_or_else(|| self.authority.issue(name)),
            links: start.links,
        };
        let events = Arc::new(Mutex::new(Vec::new()));
        let mark = Arc::new(Mutex::new(start.mark));
        let host = Process { events: events.clone(), mark: mark.clone() };
        let gateway = Gateway::start(&options, store.clone(), clock.clone(), host).unwrap();
        for other in others {
            self.cable(other, name).lead_to(gateway.local_addr());
        }
        TestRegion { name, store, clock, gateway, events, mark }
    }
}

/// A running region.
pub(crate) struct TestRegion {
    pub(crate) name: &'static str,
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<OsClock>,
    pub(crate) gateway: Gateway,
    events: Arc<Mutex<Vec<GatewayEvent>>>,
    mark: Arc<Mutex<Time>>,
}

/// The process around a gateway.
struct Process {
    events: Arc<Mutex<Vec<GatewayEvent>>>,
    mark: Arc<Mutex<Time>>,
}

impl Host for Process {
    fn on_event(&self, event: GatewayEvent) {
        lock(&self.events).push(event);
    }

    fn covers(&self, time: Time) -> bool {
        time <= *lock(&self.mark)
    }
}

impl TestRegion {
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) fn set_mark(&self, mark: Time) {
        *lock(&self.mark) = mark;
    }

    pub(crate) fn set(&self, key: &str, value: &str) {
        let at = self.store.address(key.as_bytes());
        let mut stripe = self.store.lock(self.store.stripe_of(at.slot));
        stripe.write(at, key.as_bytes(), value.as_bytes(), None, self.now().wall).unwrap();
    }

    pub(crate) fn delete(&self, key: &str) {
        let at = self.store.address(key.as_bytes());
        let mut stripe = self.store.lock(self.store.stripe_of(at.slot));
        stripe.delete(at, key.as_bytes(), self.now().wall).unwrap();
    }

    pub(crate) fn get(&self, key: &str) -> Option<String> {
        let at = self.store.address(key.as_bytes());
        let mut stripe = self.store.lock(self.store.stripe_of(at.slot));
        let found = stripe.peek(at, key.as_bytes(), self.now().wall)?;
        Some(String::from_utf8(found.value.to_vec()).unwrap())
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, key: &str, value: Option<&str>) {
        wait_until(&format!("{} holds {key} = {value:?}", self.name), || self.get(key).as_deref() == value);
    }

    pub(crate) fn out(&self, to: &str) -> OutStatus {
        self.gateway.region().status(self.now()).out.into_iter().find(|link| link.to == to).unwrap()
    }

    pub(crate) fn incoming(&self, from: &str) -> InStatus {
        self.gateway.region().status(self.now()).r#in.into_iter().find(|link| link.from == from).unwrap()
    }

    pub(crate) fn events(&self) -> Vec<GatewayEvent> {
        lock(&self.events).clone()
    }

    #[track_caller]
    pub(crate) fn wait_complete(&self) {
        wait_until(&format!("{} is complete", self.name), || self.gateway.region().is_complete());
    }
}

/// The runtime of the cables.
pub(crate) fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
}

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// What was logged by this process so far.
pub(crate) fn log() -> String {
    String::from_utf8_lossy(&lock(&LOG)).into_owned()
}

struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&LOG).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn start_log() {
    static START: OnceLock<()> = OnceLock::new();
    START.get_or_init(|| {
        tracing_subscriber::fmt().with_ansi(false).with_writer(|| LogWriter).init();
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
