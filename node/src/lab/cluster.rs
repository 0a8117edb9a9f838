//! A region of several nodes, as the lab operates it: founded once, and then looked at.
//!
//! The lab founds a cluster by the same code as `meridian cluster create`, and sees it as every operator does: over the bus,
//! with a certificate of the region. A lab that begins in a folder of a former one finds a cluster that is founded
//! already, and leaves it as it is.
//!
//! # Ready
//! A cluster is ready when all its nodes know the map, each says of itself that it may serve what it holds (`cluster_state:ok`
//! in `CLUSTER INFO`: for a primary that is its lease), and each replica follows its primary (`master_link_status:up` in
//! `INFO`). A node that asks for a password says neither, and is taken at the word of the map.

use std::net::SocketAddr;

use anyhow::Context;
use config::NodeConfig;
use futures_util::future::join_all;
use node_core::cluster::{ClusterMap, NodeId, Role};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time,
};

use super::{
    limits,
    plan::{NodePlan, Plan},
};
use crate::{
    cli::cluster::{Caller, Founding, FoundingError},
    cluster::bus,
};

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Cluster {
    caller: Caller,
    /// The buses of its nodes, in the order of the plan: the primaries first.
    addresses: Vec<String>,
    replicas: usize,
    is_founded: bool,
}

impl Cluster {
    /// The regions of a plan that are clusters, by their places; the certificates must have been written.
    ///
    /// # Errors
    /// If a certificate cannot be used.
    pub(super) fn all(plan: &Plan) -> anyhow::Result<Vec<Option<Self>>> {
        let cluster = |region: &super::plan::RegionPlan| {
            if !region.is_cluster() {
                return Ok(None);
            }
            let first = &region.nodes[0];
            let file = plan.file(&first.name, "toml");
            let config = NodeConfig::parse(&file.display().to_string(), &first.config).context("a plan is no file")?;
            let addresses = region.nodes.iter().filter_map(|node| node.bus).map(|bus| bus.to_string()).collect();
            let caller = Caller::new(bus::credentials(&config)?);
            Ok(Some(Self { caller, addresses, replicas: region.replicas.into(), is_founded: false }))
        };
        plan.regions.iter().map(cluster).collect()
    }

    /// Founds it if it is not, once all its nodes can be asked.
    ///
    /// # Errors
    /// What stands in the way, at this moment.
    pub(super) async fn found(&mut self) -> Result<(), FoundingError> {
        if self.is_founded {
            return Ok(());
        }
        let asked = join_all(self.addresses.iter().map(|address| self.caller.introduction(address))).await;
        let nodes = asked.into_iter().collect::<Result<Vec<_>, _>>()?;
        // One that has not heard of it yet will.
        if !nodes.iter().any(|node| node.is_founded) {
            let founding = Founding::plan(&self.caller, &self.addresses, self.replicas, &[]).await?;
            founding.carry_out(&self.caller, |_, _| ()).await?;
        }
        self.is_founded = true;
        Ok(())
    }

    /// The map, as the node has it that knows most.
    pub(super) async fn map(&self) -> Option<ClusterMap> {
        let maps = self.maps().await;
        maps.into_iter().flatten().filter(ClusterMap::is_founded).max_by_key(ClusterMap::epoch)
    }

    /// What is not there yet, in words; empty when all is.
    pub(super) async fn missing(&self, nodes: &[NodePlan]) -> Vec<String> {
        let maps = self.maps().await;
        let looks = nodes.iter().zip(maps).map(async |(node, map)| {
            let (id, map) = map.zip(node.bus).and_then(|(map, bus)| Some((node_at(&map, bus)?, map)))?;
            Some(what_is_missing(node, map.role(id)).await)
        });
        let looks = join_all(looks).await.into_iter().zip(nodes);
        let said = looks.filter_map(|(look, node)| {
            let missing = look.unwrap_or(Some("does not know the cluster"))?;
            Some(format!("{} {missing}", node.name))
        });
        said.collect()
    }

    async fn maps(&self) -> Vec<Option<ClusterMap>> {
        // Who hangs is not waited for longer than for any other look.
        let ask = async |address: &String| time::timeout(limits::LOOK, self.caller.map(address)).await.ok()?.ok();
        join_all(self.addresses.iter().map(ask)).await
    }
}

/// The node whose bus is here.
pub(super) fn node_at(map: &ClusterMap, bus: SocketAddr) -> Option<NodeId> {
    let bus = bus.to_string();
    map.nodes().find(|(_, node)| node.addresses.bus() == bus).map(|(id, _)| id)
}

async fn what_is_missing(node: &NodePlan, role: Option<Role>) -> Option<&'static str> {
    let lacks = async |command: &str, words: &str| match ask(node.redis, command).await {
        Some(Answer::Text(text)) => !text.contains(words),
        Some(Answer::Error) => false,
        None => true,
    };
    if lacks("CLUSTER INFO", "cluster_state:ok").await {
        return Some("does not serve its slots yet");
    }
    if role == Some(Role::Replica) && lacks("INFO replication", "master_link_status:up").await {
        return Some("does not follow its primary yet");
    }
    None
}

/// What a node says to its clients.
enum Answer {
    Text(String),
    /// Such as that a password is wanted.
    Error,
}

/// Asks as a client does; none if there is no answer in time, or none that is expected.
async fn ask(address: SocketAddr, command: &str) -> Option<Answer> {
    let exchange = async {
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        stream.write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut head = String::new();
        (&mut stream).take(limits::ANSWER_LEN as u64).read_line(&mut head).await?;
        if head.starts_with('-') {
            return Ok(Answer::Error);
        }
        let length: u64 = head.trim_start_matches('$').trim_end().parse()?;
        let mut text = String::new();
        stream.take(length.min(limits::ANSWER_LEN as u64)).read_to_string(&mut text).await?;
        anyhow::Ok(Answer::Text(text))
    };
    time::timeout(limits::LOOK, exchange).await.ok()?.ok()
}

#[cfg(test)]
pub(super) mod tests {
    use clock::{RegionId, Time};
    use node_core::cluster::{Addresses, ClusterMap, Founder, Id, MapCommand, NodeId, Run};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::{Answer, Caller, Cluster, FoundingError, ask};
    use crate::{
        cli::cluster::{shards, tests::Region},
        lab::plan::RegionPlan,
    };

    /// The map of such a region once it is founded.
    pub(crate) fn founded(region: &RegionPlan) -> ClusterMap {
        let founder = |(index, node): (usize, &crate::lab::plan::NodePlan)| {
            let addresses = Addresses {
                host: "127.0.0.1".to_owned(),
                port: node.redis.port(),
                tls_port: 0,
                bus_port: node.bus.unwrap().port(),
            };
            Founder { id: NodeId(Id::from_bytes([index as u8; 20])), run: Run(1), addresses }
        };
        let nodes = region.nodes.iter().enumerate().map(founder).collect();
        let shards = shards(nodes, region.replicas.into(), &[], || Id::from_bytes([7; 20])).unwrap();
        let mut map = ClusterMap::new();
        let region = RegionId::new(region.id).unwrap();
        map.apply(&MapCommand::Found { region, shards, at: Time::from_unix_ms(1) }).unwrap();
        map
    }

    fn cluster(addresses: Vec<String>) -> Cluster {
        Cluster { caller: Caller::new(None), addresses, replicas: 1, is_founded: false }
    }

    #[tokio::test]
    async fn a_cluster_is_founded_once_whoever_runs_the_lab() {
        let region = Region::start(4).await;
        let mut first = cluster(region.addresses());
        assert!(first.map().await.is_none());
        first.found().await.unwrap();
        assert_eq!(first.map().await.unwrap().shards().len(), 2);
        let mut second = cluster(region.addresses());
        second.found().await.unwrap();
        assert_eq!(second.map().await, Some(region.map()));
        region.stop().await;
    }

    #[tokio::test]
    async fn what_is_not_there_yet_founds_nothing() {
        let region = Region::start(3).await;
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let addresses = region.addresses().into_iter().chain([silent.to_string()]).collect();
        let error = cluster(addresses).found().await.unwrap_err();
        assert!(matches!(error, FoundingError::Operate(_)), "{error}");
        assert!(!region.map().is_founded());
        region.stop().await;
    }

    #[tokio::test]
    async fn a_node_is_asked_as_by_a_client() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let node = async {
            for answer in ["$21\r\ncluster_state:ok\r\nx:1\r\n", "-NOAUTH Authentication required.\r\n", "garbage\r\n"]
            {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut command = [0; 14];
                stream.read_exact(&mut command).await.unwrap();
                assert_eq!(&command, b"CLUSTER INFO\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let client = async {
            let text = ask(address, "CLUSTER INFO").await;
            assert!(matches!(text, Some(Answer::Text(text)) if text == "cluster_state:ok\r\nx:1"));
            assert!(matches!(ask(address, "CLUSTER INFO").await, Some(Answer::Error)));
            assert!(ask(address, "CLUSTER INFO").await.is_none());
        };
        tokio::join!(node, client);
    }
}
