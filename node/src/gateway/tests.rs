//! A gateway between nodes of its region and other regions, in one process, over loopback and under TLS: the nodes are the
//! ends of a bus that know gateways as nodes do, the other regions say what they hear.

use std::{
    net::{self, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use clock::{OsClock, RegionId, Time};
use config::GatewayConfig;
use geo_link::{
    tls::Credentials,
    tunnel::{PROTOCOL, TunnelRefusal, greeting},
};
use node_core::{
    cluster::{
        Addresses, ClusterMap, FoundShard, Founder, Id, MapCommand, NodeId, Run,
        control::{Attach, Request, Response},
        gateways::{Attachment, Standing},
    },
    slot::{SLOTS, SlotRange},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{bytes::Bytes, sync::CancellationToken};

use super::Gateway;
use crate::{
    cluster::{
        bus::{self, Arrival, Bus, BusStream, Handlers, Malformed},
        gateways::{Gateways, NoWay, Obstacle},
    },
    lab::certificates::Authority,
    links,
    server::acceptor,
};

#[tokio::test]
async fn a_primary_reaches_another_region_through_a_gateway() {
    let world = World::new();
    let eu = Echo::start(&world, "eu-west").await;
    let nodes = world.cluster(2).await;
    // It is told of one node, and learns of the other.
    let gateway = world.gateway("g", &nodes[..1], &eu.address);
    for node in &nodes {
        until("the gateway is attached", async || node.gateways.choose(EU).is_some()).await;
        let mut through = node.gateways.connect_through(EU).await.unwrap();
        assert_eq!(through.gateway.name, "g");
        assert_eq!(echoed(&mut through.stream, b"records").await, b"records");
    }
    until("it is ready", async || get(&gateway, "/health/ready").await.0 == 200).await;
    let mut through = nodes[1].gateways.connect_through(EU).await.unwrap();
    assert_eq!(echoed(&mut through.stream, b"more records").await, b"more records");
    let status: Value = serde_json::from_str(&get(&gateway, "/status").await.1).unwrap();
    assert_eq!((&status["epoch"], &status["gateway"]["name"]), (&1.into(), &"g".into()));
    let attached = status["nodes"].as_array().unwrap().iter().filter(|node| node["attached"] == true);
    assert_eq!(attached.count(), 2);
    let streams = status["tunnels"]["streams"].as_array().unwrap();
    let last = streams.last().unwrap();
    assert_eq!((&last["from"], &last["to"]), (&nodes[1].id.to_string().into(), &"eu-west".into()));
    assert_eq!((&last["out_bytes"], &last["in_bytes"]), (&12.into(), &12.into()));
    let metrics = get(&gateway, "/metrics").await.1;
    assert!(metrics.contains("meridian_tunnel_bytes_total{to=\"eu-west\",direction=\"out\"}"), "{metrics}");
    // Both ends are told when it stops.
    gateway.stop().await;
    assert_eq!(through.stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    until("it is forgotten", async || nodes[0].gateways.choose(EU).is_none()).await;
}

#[tokio::test]
async fn a_region_without_certificates_is_joined_as_well() {
    let world = World::without_certificates();
    let eu = Echo::start(&world, "eu-west").await;
    let nodes = world.cluster(1).await;
    let _gateway = world.gateway("g", &nodes, &eu.address);
    until("the gateway is attached", async || nodes[0].gateways.choose(EU).is_some()).await;
    let mut through = nodes[0].gateways.connect_through(EU).await.unwrap();
    assert_eq!(echoed(&mut through.stream, b"records").await, b"records");
    let error = nodes[0].gateways.connect_through(RegionId::new(9).unwrap()).await.err().unwrap();
    assert!(matches!(error, NoWay::NoGateway), "{error}");
}

#[tokio::test]
async fn a_region_that_shows_the_wrong_certificate_is_not_reached() {
    let world = World::new();
    // Another region of the same authority, and the right name of another authority.
    let others = World::new();
    for stranger in [Echo::start(&world, "ap-south").await, Echo::start(&others, "eu-west").await] {
        let nodes = world.cluster(1).await;
        let gateway = world.gateway("g", &nodes, &stranger.address);
        until("the gateway is attached", async || nodes[0].gateways.choose(EU).is_some()).await;
        let error = nodes[0].gateways.connect_through(EU).await.err().unwrap();
        let NoWay::Failed { reason: Obstacle::Refused(TunnelRefusal::Unreachable(reason)), .. } = error else {
            panic!("{error}")
        };
        assert!(reason.contains("certificate"), "{reason}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn who_is_not_of_the_region_is_refused_on_the_bus_at_both_ends() {
    let (world, others) = (World::new(), World::new());
    let eu = Echo::start(&world, "eu-west").await;
    let nodes = world.cluster(1).await;
    let gateway = world.gateway("g", &nodes, &eu.address);
    let address = gateway.addresses().bus.to_string();
    for stranger in [world.bus_credentials("eu-west"), others.bus_credentials("us-east"), None] {
        Bus::new(stranger).peer(address.clone()).connect(b"").await.expect_err("a stranger is refused");
    }
    // A gateway that shows what nodes do not believe.
    let stranger = others.gateway("stranger", &nodes, &eu.address);
    until("it is told", async || get(&stranger, "/status").await.1.contains("certificate")).await;
    let (code, body) = get(&stranger, "/health/ready").await;
    assert_eq!(code, 503);
    assert!(body.contains("no node of the region knows this gateway"), "{body}");
    until("the other is attached", async || nodes[0].gateways.choose(EU).is_some()).await;
    assert_eq!(nodes[0].gateways.status().len(), 1);
}

#[tokio::test]
async fn a_gateway_of_another_region_is_refused_also_where_nobody_shows_a_certificate() {
    let world = World::without_certificates();
    let eu = Echo::start(&world, "eu-west").await;
    let nodes = world.cluster(1).await;
    let mut config = world.config("g", &nodes, &eu.address);
    config.region.id = RegionId::new(7).unwrap();
    let gateway = Gateway::start(&config).unwrap();
    until("it is told", async || get(&gateway, "/status").await.1.contains("it is a gateway of region 7")).await;
    assert!(nodes[0].gateways.choose(EU).is_none());
}

#[tokio::test]
async fn what_cannot_be_read_ends_its_own_connection_alone() {
    let world = World::new();
    let eu = Echo::start(&world, "eu-west").await;
    let nodes = world.cluster(1).await;
    let gateway = world.gateway("g", &nodes, &eu.address);
    until("the gateway is attached", async || nodes[0].gateways.choose(EU).is_some()).await;
    let mut through = nodes[0].gateways.connect_through(EU).await.unwrap();
    let peer = nodes[0].bus.peer(gateway.addresses().bus.to_string());
    for garbage in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64], &[7; 100_000]] {
        let mut stranger = peer.connect(garbage).await.unwrap();
        let refusal = within(greeting::hear(&mut stranger)).await.unwrap();
        assert_eq!(refusal, Err(TunnelRefusal::Malformed));
        within(stranger.read_to_end(&mut Vec::new())).await.ok();
    }
    // Nor is a gateway asked anything.
    let call = peer.call::<_, Response>(bus::Channel::Control, &Request::Introduce, PATIENCE);
    call.await.expect_err("a gateway answers no calls");
    assert_eq!(echoed(&mut through.stream, b"records").await, b"records");
}

#[tokio::test]
async fn a_gateway_that_dies_is_replaced_by_another() {
    let world = World::new();
    let eu = Echo::start(&world, "eu-west").await;
    let nodes = world.cluster(1).await;
    let node = &nodes[0];
    let mut gateways: Vec<_> = ["a", "b"].map(|name| Some((name, world.gateway(name, &nodes, &eu.address)))).into();
    until("both are attached", async || node.gateways.status().len() == 2).await;
    let mut through = node.gateways.connect_through(EU).await.unwrap();
    let first = through.gateway.name.clone();
    assert_eq!(node.gateways.choose(EU).unwrap().name, first);
    assert_eq!(node.gateways.standing(EU, &through.gateway), Standing::Right);
    let dies = gateways.iter_mut().find(|gateway| gateway.as_ref().is_some_and(|(name, _)| *name == first)).unwrap();
    dies.take().unwrap().1.stop().await;
    assert_eq!(through.stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    // At once: that it is gone shows when it is dialled.
    let mut next = node.gateways.connect_through(EU).await.unwrap();
    assert_ne!(next.gateway.name, first);
    assert_eq!(echoed(&mut next.stream, b"records").await, b"records");
    assert_eq!(node.gateways.until_displaced(EU, &through.gateway).await, Standing::Gone);
    // It is back, as another process, and is the first choice again; the stream may stay for a while.
    let _back = world.gateway(&first, &nodes, &eu.address);
    until("it is back", async || node.gateways.choose(EU).is_some_and(|gateway| gateway.name == first)).await;
    assert_eq!(node.gateways.standing(EU, &through.gateway), Standing::Gone);
    assert_eq!(echoed(&mut next.stream, b"records").await, b"records");
    assert_eq!(node.gateways.until_displaced(EU, &next.gateway).await, Standing::Outranked);
}

#[tokio::test]
async fn a_gateway_that_is_frozen_is_given_up_when_it_is_not_heard_of() {
    let world = World::without_certificates();
    let eu = Echo::start(&world, "eu-west").await;
    let nodes = world.cluster(1).await;
    let node = &nodes[0];
    // The kernel takes connections for a process that does nothing.
    let frozen = net::TcpListener::bind("127.0.0.1:0").unwrap();
    let attach = |name: &str| {
        let address = frozen.local_addr().unwrap().to_string();
        let gateway = Attachment { region: US, name: name.to_owned(), instance: 1, address, peers: vec![EU] };
        let attach = Attach { gateway, epoch: node.map.epoch() };
        assert!(matches!(node.gateways.attach(attach, &node.map), Response::Attached(None)));
    };
    // The better of two is the one that is frozen.
    ["a", "b"].iter().for_each(|name| attach(name));
    let best = node.gateways.choose(EU).unwrap();
    until("both are forgotten", async || node.gateways.choose(EU).is_none()).await;
    let _gateway = world.gateway(if best.name == "a" { "b" } else { "a" }, &nodes, &eu.address);
    until("the gateway is attached", async || node.gateways.choose(EU).is_some()).await;
    attach(&best.name);
    assert_eq!(node.gateways.choose(EU).as_ref(), Some(&best));
    let mut through = node.gateways.connect_through(EU).await.unwrap();
    assert_ne!(through.gateway.name, best.name);
    assert_eq!(echoed(&mut through.stream, b"records").await, b"records");
    assert_eq!(node.gateways.until_displaced(EU, &best).await, Standing::Gone);
}

const US: RegionId = RegionId::MIN;
const EU: RegionId = match RegionId::new(2) {
    Ok(region) => region,
    Err(_) => panic!(),
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it takes long")
}

/// Waits until something is so.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let wait = async {
        while !is_so().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

async fn echoed(stream: &mut BusStream, bytes: &[u8]) -> Vec<u8> {
    let echo = async {
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        let mut echo = vec![0; bytes.len()];
        stream.read_exact(&mut echo).await.unwrap();
        echo
    };
    within(echo).await
}

/// What a gateway says over HTTP: the code and the body.
async fn get(gateway: &Gateway, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(gateway.addresses().admin.unwrap()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A folder of certificates that one authority has signed: those of links, and those of buses if there are any.
struct World {
    dir: TempDir,
    authority: Authority,
    bus_has_certificates: bool,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(&dir.path().join("ca.pem")).unwrap();
        let world = Self { dir, authority, bus_has_certificates: true };
        for region in ["us-east", "eu-west", "ap-south"] {
            let [cert, key] = ["pem", "key"].map(|end| world.path().join(format!("{region}.{end}")));
            world.authority.certify(region, &cert, &key).unwrap();
        }
        world
    }

    fn without_certificates() -> Self {
        Self { bus_has_certificates: false, ..Self::new() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What nodes of a region show to one another.
    fn bus_credentials(&self, region: &str) -> Option<Arc<Credentials>> {
        let [cert, key] = ["pem", "key"].map(|end| self.path().join(format!("{region}.{end}")));
        let files = config::TlsFiles { cert: &cert, key: &key, ca: Some(&self.path().join("ca.pem")) };
        self.bus_has_certificates.then(|| bus::credentials_of(region, files).unwrap())
    }

    /// Nodes of us-east that agree on a map.
    async fn cluster(&self, count: u8) -> Vec<Node> {
        let sockets: Vec<_> = (0..count).map(|_| acceptor::bind("127.0.0.1:0".parse().unwrap()).unwrap()).collect();
        let founders = sockets.iter().zip(1..).map(|(socket, number)| Founder {
            id: NodeId(Id::from_bytes([number; Id::BYTES])),
            run: Run(1),
            addresses: Addresses {
                host: "127.0.0.1".to_owned(),
                port: 6_379,
                tls_port: 0,
                bus_port: socket.local_addr().unwrap().port(),
            },
        });
        let nodes: Vec<_> = founders.collect();
        let ids: Vec<_> = nodes.iter().map(|node| node.id).collect();
        let slots = SlotRange::new(0..SLOTS).unwrap().iter().collect();
        let shard = FoundShard { label: Id::from_bytes([9; Id::BYTES]), nodes, slots, weight: 100 };
        let mut map = ClusterMap::new();
        map.apply(&MapCommand::Found { region: US, shards: vec![shard], at: Time::ZERO }).unwrap();
        let map = Arc::new(map);
        let nodes = sockets.into_iter().zip(ids);
        nodes.map(|(socket, id)| Node::start(socket, id, map.clone(), self.bus_credentials("us-east"))).collect()
    }

    /// What the file of a gateway of us-east says.
    fn config(&self, name: &str, seeds: &[Node], eu: &str) -> GatewayConfig {
        let seeds: Vec<_> = seeds.iter().map(|node| node.address.to_string()).collect();
        let files = "cert = \"us-east.pem\"\nkey = \"us-east.key\"\nca = \"ca.pem\"\n";
        let bus_files = if self.bus_has_certificates { files } else { "" };
        let text = format!(
            "region = {{ name = \"us-east\", id = 1 }}\n\
             [gateway]\nname = \"{name}\"\n{files}\
             [cluster]\nlisten = \"127.0.0.1:0\"\nseeds = {seeds:?}\n{bus_files}\
             [admin]\nlisten = \"127.0.0.1:0\"\n\
             [[peer]]\nregion = \"eu-west\"\nid = 2\naddr = \"{eu}\"\n"
        );
        GatewayConfig::parse(&self.path().join("gateway.toml").display().to_string(), &text).unwrap()
    }

    fn gateway(&self, name: &str, seeds: &[Node], eu: &str) -> Gateway {
        Gateway::start(&self.config(name, seeds, eu)).unwrap()
    }
}

/// As much of a node as gateways see.
struct Node {
    id: NodeId,
    address: SocketAddr,
    bus: Bus,
    map: Arc<ClusterMap>,
    gateways: Arc<Gateways>,
    _listening: JoinHandle<std::io::Result<()>>,
}

impl Node {
    fn start(
        socket: net::TcpListener,
        id: NodeId,
        map: Arc<ClusterMap>,
        credentials: Option<Arc<Credentials>>,
    ) -> Self {
        let (address, bus) = (socket.local_addr().unwrap(), Bus::new(credentials.clone()));
        let gateways = Arc::new(Gateways::new(id, US, bus.clone(), Arc::new(OsClock::new())));
        let handlers = Arc::new(Answers { map: map.clone(), gateways: gateways.clone() });
        let listening = tokio::spawn(bus::listen(socket, credentials, handlers, CancellationToken::new()));
        Self { id, address, bus, map, gateways, _listening: listening }
    }
}

struct Answers {
    map: Arc<ClusterMap>,
    gateways: Arc<Gateways>,
}

impl Handlers for Answers {
    async fn raft(&self, _request: Bytes) -> Result<Vec<u8>, Malformed> {
        Err(Malformed)
    }

    async fn control(&self, request: Bytes) -> Result<Vec<u8>, Malformed> {
        match rmp_serde::from_slice(&request)? {
            Request::Attach(attach) => Ok(rmp_serde::to_vec(&self.gateways.attach(attach, &self.map)).unwrap()),
            _ => Err(Malformed),
        }
    }

    fn gossip(&self, _from: SocketAddr, _message: Bytes) {}

    fn feed(&self, _arrival: Arrival) {}
}

/// A gateway of another region that says what it hears.
struct Echo {
    address: String,
    _listening: JoinHandle<()>,
}

impl Echo {
    async fn start(world: &World, region: &str) -> Self {
        let [cert, key] = ["pem", "key"].map(|end| world.path().join(format!("{region}.{end}")));
        let files = config::TlsFiles { cert: &cert, key: &key, ca: Some(&world.path().join("ca.pem")) };
        let credentials = Credentials::new(region, PROTOCOL, &links::material(files).unwrap()).unwrap();
        let acceptor = TlsAcceptor::from(credentials.server());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let listening = tokio::spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                served.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let (mut read, mut write) = tokio::io::split(stream);
                    if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                        write.shutdown().await.ok();
                    }
                });
            }
        });
        Self { address, _listening: listening }
    }
}
