//! Links between clusters: streams from each primary, split by owner at the other side's gateway.

mod common;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use clock::{Incarnation, Now, Origin, OsClock, RegionId};
use common::{Authority, fast_links, runtime, wait_until};
use geo_link::{
    Connect, GatewayEvent, Nodes, Owner, Owners, Peer, Splitter, Streams, TlsMaterial,
    tls::{self, Credentials},
};
use node_core::{
    slot::{Slot, SlotRange, SlotSet},
    store::{Feed, Intake, Polled, Store, StoreOptions},
};
use tokio::{
    io::DuplexStream,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

const REGIONS: [&str; 2] = ["alice", "bob"];

fn id(region: &str) -> RegionId {
    RegionId::new(REGIONS.iter().position(|known| *known == region).unwrap() as u8 + 1).unwrap()
}

fn slots(numbers: std::ops::Range<u16>) -> SlotSet {
    SlotRange::new(numbers).unwrap().iter().collect()
}

/// A primary of a cluster, with the ends of its streams.
struct Primary {
    store: Arc<Store>,
    streams: Arc<Streams>,
    /// Ends all streams that arrive.
    cut: Mutex<CancellationToken>,
    sending: CancellationToken,
}

/// Where the gateway of the other region is, for a primary.
#[derive(Clone)]
struct Through {
    region: &'static str,
    gateway: SocketAddr,
    credentials: Arc<Credentials>,
}

impl Connect for Through {
    type Stream = TlsStream<TcpStream>;
    type Error = std::io::Error;

    async fn connect(&self) -> Result<Self::Stream, std::io::Error> {
        let stream = TcpStream::connect(self.gateway).await?;
        let name = tls::server_name(self.region).unwrap();
        TlsConnector::from(self.credentials.client()).connect(name, stream).await
    }
}

/// The primaries of a cluster as its gateway reaches them.
struct Reach {
    primaries: BTreeMap<String, Arc<Primary>>,
    owners: watch::Receiver<Arc<Owners>>,
}

impl Nodes for Reach {
    type Stream = DuplexStream;
    type Error = &'static str;

    fn owners(&self) -> watch::Receiver<Arc<Owners>> {
        self.owners.clone()
    }

    async fn connect(&self, owner: Owner, from: String) -> Result<DuplexStream, &'static str> {
        let primary = self.primaries.get(&*owner.address).ok_or("nobody is there")?.clone();
        let (near, far) = tokio::io::duplex(65_536);
        tokio::spawn(async move {
            let ending = primary.cut.lock().unwrap().clone();
            primary.streams.receive(&from, (*owner.slots).clone(), far, "gateway", &ending).await;
        });
        Ok(near)
    }
}

struct Cluster {
    name: &'static str,
    clock: Arc<OsClock>,
    primaries: Vec<Arc<Primary>>,
    owners: watch::Sender<Arc<Owners>>,
    gateway: SocketAddr,
    splitter: Arc<Splitter<Reach>>,
    epoch: u64,
}

impl Cluster {
    /// As many primaries as there are bounds, each from its own to the next.
    fn new(name: &'static str, authority: &Authority, bounds: &[u16]) -> Self {
        let clock = Arc::new(OsClock::with_offset(clock::Offset::ZERO));
        let peers: Vec<_> = REGIONS.iter().filter(|other| **other != name).map(|other| peer(other)).collect();
        let ends = bounds.iter().skip(1).copied().chain([16_384]);
        let primaries = bounds.iter().zip(ends).enumerate().map(|(life, (first, end))| {
            let store = Arc::new(Store::new(&StoreOptions {
                origin: Origin::new(id(name), Incarnation::new(life as u16)),
                start: clock.now().wall,
                peers: peers.iter().map(|peer| peer.id).collect(),
                stripes: 4,
                log_records: 1 << 12,
                hash_seed: 7,
            }));
            store.set_owned(slots(*first..end), 1);
            let streams = Streams::new(name, &peers, fast_links(), store.clone(), clock.clone(), |_: GatewayEvent| ());
            Arc::new(Primary {
                store,
                streams: Arc::new(streams),
                cut: Mutex::default(),
                sending: CancellationToken::new(),
            })
        });
        let primaries: Vec<_> = primaries.collect();
        let (owners, watched) = watch::channel(Arc::new(owners_of(&primaries)));
        let reached = primaries.iter().enumerate().map(|(place, primary)| (place.to_string(), primary.clone()));
        let reach = Reach { primaries: reached.collect(), owners: watched };
        let splitter = Arc::new(Splitter::new(name, id(name), &peers, fast_links(), clock.clone(), reach));
        let credentials = Arc::new(credentials(name, &authority.issue(name)));
        let listener = runtime().block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let gateway = listener.local_addr().unwrap();
        runtime().spawn(splitter.clone().run(credentials, listener, CancellationToken::new()));
        Self { name, clock, primaries, owners, gateway, splitter, epoch: 1 }
    }

    /// Each primary begins to send to `other`.
    fn link_to(&self, other: &Self, authority: &Authority) {
        for primary in &self.primaries {
            let credentials = Arc::new(credentials(self.name, &authority.issue(self.name)));
            let through = Through { region: other.name, gateway: other.gateway, credentials };
            let (streams, ending) = (primary.streams.clone(), primary.sending.clone());
            runtime().spawn(async move { streams.send(|_| through.clone(), &ending).await });
        }
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn owner(&self, key: &str) -> &Store {
        let slot = Slot::of(key.as_bytes());
        let owns = |primary: &&Arc<Primary>| primary.store.owned().unwrap().contains(slot);
        &self.primaries.iter().find(owns).unwrap().store
    }

    fn set(&self, key: &str, value: &str) {
        let (store, now) = (self.owner(key), self.now().wall);
        let at = store.address(key.as_bytes());
        store.lock(store.stripe_of(at.slot)).write(at, key.as_bytes(), value.as_bytes(), None, now).unwrap();
    }

    fn get(&self, key: &str) -> Option<String> {
        let store = self.owner(key);
        let at = store.address(key.as_bytes());
        let mut stripe = store.lock(store.stripe_of(at.slot));
        let found = stripe.peek(at, key.as_bytes(), self.now().wall)?;
        Some(String::from_utf8(found.value.to_vec()).unwrap())
    }

    /// Slots move from one primary to another, while nobody writes to them here; others' writes may arrive all the time.
    fn hand_over(&mut self, from: usize, to: usize, moving: &SlotSet) {
        let (source, target) = (&self.primaries[from].store, &self.primaries[to].store);
        target.clear_slots(moving);
        let mut feed = Feed::of_slots(source, moving.clone());
        let mut intake = Intake::of_slots(moving.clone());
        loop {
            let now = self.now();
            let saw = source.seen_minima(now);
            let mut items = 0;
            let polled = feed.poll(source, now, 100_000, |item| {
                intake.take(target, item, &saw, now).unwrap();
                items += 1;
                100
            });
            if polled == Polled::Drained && items < 10 {
                break;
            }
        }
        self.epoch += 1;
        let mut left = (*source.owned().unwrap()).clone();
        left.subtract(moving);
        source.set_owned(left, self.epoch);
        let mut more = (*target.owned().unwrap()).clone();
        more.add(moving);
        target.set_owned(more, self.epoch);
        source.clear_slots(moving);
        self.owners.send_replace(Arc::new(owners_of(&self.primaries)));
    }

    fn lag(&self, from: &str) -> std::time::Duration {
        self.primaries.iter().map(|primary| primary.streams.region().lag(id(from), self.now())).max().unwrap()
    }
}

fn peer(name: &str) -> Peer {
    Peer { name: name.to_owned(), id: id(name), addrs: Vec::new(), retired: None }
}

fn credentials(name: &str, material: &TlsMaterial) -> Credentials {
    Credentials::new(name, tls::LINK, material).unwrap()
}

fn owners_of(primaries: &[Arc<Primary>]) -> Owners {
    let owner = |(place, primary): (usize, &Arc<Primary>)| Owner {
        address: place.to_string().into(),
        slots: primary.store.owned().unwrap(),
    };
    Owners::new(primaries.iter().enumerate().map(owner).collect())
}

fn two_clusters() -> (Cluster, Cluster, Authority) {
    common::start_log();
    let authority = Authority::new();
    let alice = Cluster::new("alice", &authority, &[0, 9_000]);
    let bob = Cluster::new("bob", &authority, &[0, 4_000, 12_000]);
    alice.link_to(&bob, &authority);
    bob.link_to(&alice, &authority);
    (alice, bob, authority)
}

#[track_caller]
fn wait_for_all(cluster: &Cluster, keys: std::ops::Range<u32>, value: &str) {
    for key in keys {
        let key = format!("key{key}");
        let what = format!("{} holds {key} of slot {:?} = {value}", cluster.name, Slot::of(key.as_bytes()));
        wait_until(&what, || cluster.get(&key).as_deref() == Some(value));
    }
}

fn set_all(cluster: &Cluster, keys: std::ops::Range<u32>, value: &str) {
    keys.for_each(|key| cluster.set(&format!("key{key}"), value));
}

#[test]
fn writes_reach_their_owners_in_a_cluster_of_another_shape() {
    let (alice, bob, _authority) = two_clusters();
    set_all(&alice, 0..300, "a");
    set_all(&bob, 300..600, "b");
    wait_for_all(&bob, 0..300, "a");
    wait_for_all(&alice, 300..600, "b");
    wait_until("both lag by little", || alice.lag("bob").as_millis() < 200 && bob.lag("alice").as_millis() < 200);
    wait_until("the frontier goes on", || {
        let now = alice.now();
        let before = now.wall.before(std::time::Duration::from_secs(1));
        alice.primaries.iter().chain(&bob.primaries).all(|primary| primary.store.advance_frontier(now) > before)
    });
    let status = bob.splitter.status();
    assert_eq!(status.iter().map(|stream| (stream.branches, stream.owners)).collect::<Vec<_>>(), [(3, 3); 2]);
}

#[test]
fn an_owner_that_goes_away_holds_up_nobody_and_lacks_nothing_when_it_is_back() {
    let (alice, bob, _authority) = two_clusters();
    set_all(&alice, 0..100, "before");
    wait_for_all(&bob, 0..100, "before");
    for round in 0..5 {
        let cut = std::mem::take(&mut *bob.primaries[round % 3].cut.lock().unwrap());
        set_all(&alice, 0..100, &format!("during {round}"));
        cut.cancel();
        set_all(&alice, 100..200, &format!("after {round}"));
        wait_for_all(&bob, 0..100, &format!("during {round}"));
        wait_for_all(&bob, 100..200, &format!("after {round}"));
    }
}

#[test]
fn slots_may_move_on_both_sides_while_writes_arrive() {
    let (mut alice, mut bob, _authority) = two_clusters();
    set_all(&alice, 0..200, "first");
    wait_for_all(&bob, 0..200, "first");
    for round in 0..6_u16 {
        let at = round * 1_000;
        set_all(&alice, 0..200, &format!("{round}"));
        bob.hand_over(1, 0, &slots(4_000 + at..5_000 + at));
        set_all(&alice, 200..300, &format!("{round}"));
        alice.hand_over(0, 1, &slots(at..at + 1_000));
        set_all(&alice, 300..400, &format!("{round}"));
        set_all(&bob, 400..500, &format!("{round}"));
        wait_for_all(&bob, 0..400, &format!("{round}"));
        wait_for_all(&alice, 400..500, &format!("{round}"));
    }
    wait_until("both lag by little", || alice.lag("bob").as_millis() < 200 && bob.lag("alice").as_millis() < 200);
}
