//! The replies have the shapes of Redis 7.0.15, byte for byte, and agree with one another.

use std::{collections::BTreeMap, sync::Arc};

use clock::Time;
use node_core::{
    cluster::{ClusterMap, MapCommand, Run, ShardId},
    resp::Value,
};

use crate::{
    cluster::{
        Cluster,
        testing::{cluster, moving, node, range, two_shards},
    },
    server::testing::{Client, worker_of},
};

/// The id of a node, and so of every node whose name begins like that.
fn id(prefix: &str) -> String {
    prefix.repeat(20)
}

/// The bytes of a reply, with blanks for the ends of lines.
#[track_caller]
fn replies(map: ClusterMap, request: &str, resp2: &str, resp3: &str) {
    let worker = worker_of(cluster(map, node(0, 0)));
    for (mut client, expected) in [(Client::of(&worker), resp2), (Client::of_resp3(&worker), resp3)] {
        assert_eq!(client.raw(request).trim_end().replace("\r\n", " "), expected, "{request}");
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Bulk(bytes) | Value::Verbatim(_, bytes) | Value::Simple(bytes) | Value::Error(bytes) => {
            String::from_utf8(bytes.clone()).unwrap()
        }
        other => panic!("{other:?} is no text"),
    }
}

fn integer(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        other => panic!("{other:?} is no integer"),
    }
}

fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) => values,
        other => panic!("{other:?} is no array"),
    }
}

fn fields(value: &Value) -> BTreeMap<String, &Value> {
    match value {
        Value::Map(pairs) => pairs.iter().map(|(key, value)| (text(key), value)).collect(),
        other => panic!("{other:?} is no map"),
    }
}

#[test]
fn slots_are_runs_with_their_nodes() {
    let (a0, a1, b0, b1) = (id("a0"), id("a1"), id("b0"), id("b1"));
    let expected = |none: &str| {
        format!(
            "*2 *4 :0 :8000 *4 $8 10.0.0.0 :6379 $40 {a0} {none} *4 $8 10.0.0.1 :6379 $40 {a1} {none} \
             *4 :8001 :16383 *4 $8 10.0.1.0 :6379 $40 {b0} {none} *4 $8 10.0.1.1 :6379 $40 {b1} {none}"
        )
    };
    replies(two_shards(), "CLUSTER SLOTS", &expected("*0"), &expected("%0"));
    replies(ClusterMap::new(), "CLUSTER SLOTS", "*0", "*0");
}

#[test]
fn shards_have_all_their_slots_and_nodes() {
    let node = |id: &str, ip: &str, role: &str, map: &str| {
        format!(
            "{map} $2 id $40 {id} $4 port :6379 $8 tls-port :6390 $2 ip $8 {ip} $8 endpoint $8 {ip} \
             $4 role ${} {role} $18 replication-offset :0 $6 health $6 online",
            role.len()
        )
    };
    let expected = |shard: &str, map: &str| {
        let [a0, a1, b0, b1] = [
            ("a0", "10.0.0.0", "master"),
            ("a1", "10.0.0.1", "replica"),
            ("b0", "10.0.1.0", "master"),
            ("b1", "10.0.1.1", "replica"),
        ]
        .map(|(prefix, ip, role)| node(&id(prefix), ip, role, map));
        format!(
            "*2 {shard} $5 slots *2 :0 :8000 $5 nodes *2 {a0} {a1} {shard} $5 slots *2 :8001 :16383 $5 nodes *2 {b0} {b1}"
        )
    };
    replies(two_shards(), "CLUSTER SHARDS", &expected("*4", "*16"), &expected("%2", "%8"));
    replies(ClusterMap::new(), "CLUSTER SHARDS", "*0", "*0");
}

#[test]
fn nodes_are_lines_that_show_what_moves_at_the_node_that_is_asked() {
    let (a0, a1, b0, b1) = (id("a0"), id("a1"), id("b0"), id("b1"));
    let map = moving(&two_shards(), range(7, 9));
    let worker = worker_of(cluster(map.clone(), node(0, 0)));
    let lines = format!(
        "{a0} 10.0.0.0:6379@16379 myself,master - 0 0 1 connected 0-8000 [7->-{b0}] [8->-{b0}]\n\
         {a1} 10.0.0.1:6379@16379 slave {a0} 0 0 1 connected\n\
         {b0} 10.0.1.0:6379@16379 master - 0 0 1 connected 8001-16383\n\
         {b1} 10.0.1.1:6379@16379 slave {b0} 0 0 1 connected\n"
    );
    assert_eq!(text(&Client::of(&worker).ask("CLUSTER NODES")), lines);
    assert_eq!(Client::of_resp3(&worker).raw("CLUSTER NODES"), format!("={}\r\ntxt:{lines}\r\n", lines.len() + 4));
    let target = worker_of(cluster(map, node(1, 0)));
    let mut client = Client::of(&target);
    client.session.over_tls = true;
    let line = text(&client.ask("CLUSTER NODES")).lines().nth(2).unwrap().to_owned();
    let expected = format!("{b0} 10.0.1.0:6390@16379 myself,master - 0 0 1 connected 8001-16383 [7-<-{a0}] [8-<-{a0}]");
    assert_eq!(line, expected);
}

#[test]
fn failures_and_suspicions_are_shown_and_failed_replicas_are_not_offered() {
    let mut map = two_shards();
    map.apply(&MapCommand::Failed { node: node(0, 1), run: Run(1) }).unwrap();
    let cluster = cluster(map, node(0, 0));
    cluster.observe(node(1, 0), |observed| {
        (observed.suspected, observed.connected, observed.reports) = (true, false, 2);
        (observed.asked, observed.answered) = (Some(Time::from_unix_ms(1_900)), Some(Time::from_unix_ms(1_500)));
    });
    cluster.observe(node(1, 1), |observed| (observed.loading, observed.offset) = (true, 42));
    let worker = worker_of(cluster);
    let mut client = Client::of_resp3(&worker);
    let nodes = text(&client.ask("CLUSTER NODES"));
    let (a0, b0) = (id("a0"), id("b0"));
    assert!(nodes.contains(&format!("10.0.0.1:6379@16379 slave,fail {a0} 0 0 1 connected\n")), "{nodes}");
    assert!(nodes.contains("master,fail? - 1900 1500 1 disconnected 8001-16383\n"), "{nodes}");
    assert_eq!(list(&list(&client.ask("CLUSTER SLOTS"))[0]).len(), 3, "start, end, primary");
    assert_eq!(integer(&client.ask(&format!("CLUSTER COUNT-FAILURE-REPORTS {b0}"))), 2);
    let shards = client.ask("CLUSTER SHARDS");
    let nodes: Vec<_> = list(&shards).iter().flat_map(|shard| list(fields(shard)["nodes"])).map(fields).collect();
    let health: Vec<_> = nodes.iter().map(|node| text(node["health"])).collect();
    assert_eq!(health, ["online", "fail", "online", "loading"]);
    assert_eq!(integer(nodes[3]["replication-offset"]), 42);
    assert_eq!(list(&client.ask("CLUSTER LINKS")).len(), 4, "to and from the two that are connected");
    let info = text(&client.ask("CLUSTER INFO"));
    assert!(info.contains("cluster_slots_ok:8001\r\ncluster_slots_pfail:8383\r\ncluster_slots_fail:0\r\n"), "{info}");
}

/// A node as one of the commands shows it: its address, whether it is a primary, the slots of its shard.
type Shown = (String, bool, Vec<(i64, i64)>);

#[test]
fn slots_shards_and_nodes_agree_for_either_kind_of_client() {
    let worker = worker_of(cluster(moving(&two_shards(), range(5, 6)), node(1, 1)));
    for over_tls in [false, true] {
        let mut client = Client::of_resp3(&worker);
        client.session.over_tls = over_tls;
        let mut seen: [BTreeMap<String, Shown>; 3] = Default::default();
        for run in list(&client.ask("CLUSTER SLOTS")) {
            let run = list(run);
            for (index, node) in run[2..].iter().enumerate() {
                let node = list(node);
                let address = format!("{}:{}", text(&node[0]), integer(&node[1]));
                let entry = seen[0].entry(text(&node[2])).or_insert((address, index == 0, vec![]));
                entry.2.push((integer(&run[0]), integer(&run[1])));
            }
        }
        for shard in list(&client.ask("CLUSTER SHARDS")) {
            let shard = fields(shard);
            let slots: Vec<_> =
                list(shard["slots"]).chunks(2).map(|pair| (integer(&pair[0]), integer(&pair[1]))).collect();
            for node in list(shard["nodes"]).iter().map(fields) {
                let port = integer(node[if over_tls { "tls-port" } else { "port" }]);
                let address = format!("{}:{port}", text(node["endpoint"]));
                seen[1].insert(text(node["id"]), (address, text(node["role"]) == "master", slots.clone()));
            }
        }
        // As redis-py takes the lines apart.
        for line in text(&client.ask("CLUSTER NODES")).lines() {
            let words: Vec<_> = line.split(' ').collect();
            let (address, _bus) = words[1].split_once('@').unwrap();
            let is_primary = words[2].contains("master");
            let owner = if is_primary { words[0] } else { words[3] }.to_owned();
            let ranges = words[8..].iter().filter(|word| !word.starts_with('['));
            let ranges: Vec<_> = ranges
                .map(|word| word.split_once('-').unwrap_or((word, word)))
                .map(|(first, last)| (first.parse().unwrap(), last.parse().unwrap()))
                .collect();
            let slots = if is_primary { ranges } else { seen[1][&owner].2.clone() };
            seen[2].insert(words[0].to_owned(), (address.to_owned(), is_primary, slots));
        }
        assert_eq!(seen[0].len(), 4);
        assert_eq!(seen[0], seen[1]);
        assert_eq!(seen[0], seen[2]);
    }
}

#[test]
fn replicas_are_listed_by_their_primary() {
    let (a0, a1) = (id("a0"), id("a1"));
    let line = format!("{a1} 10.0.0.1:6379@16379 slave {a0} 0 0 1 connected");
    let worker = worker_of(cluster(two_shards(), node(0, 0)));
    let mut client = Client::of(&worker);
    for command in ["REPLICAS", "SLAVES"] {
        client.gives(&[
            (&format!("CLUSTER {command} {a0}"), &format!("*1 ${} {line}", line.len())),
            (&format!("CLUSTER {command} {a1}"), "-ERR The specified node is not a master"),
            (&format!("CLUSTER {command} 1234"), "-ERR Unknown node 1234"),
        ]);
    }
    client.gives(&[("CLUSTER COUNT-FAILURE-REPORTS x", "-ERR Unknown node x")]);
}

#[test]
fn info_counts_slots_and_nodes() {
    let shared = cluster(two_shards(), node(0, 0));
    shared.count_messages(5, 3);
    let worker = worker_of(shared.clone());
    let mut client = Client::of(&worker);
    let info = |state: &str| {
        format!(
            "cluster_state:{state}\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\ncluster_slots_pfail:0\r\n\
             cluster_slots_fail:0\r\ncluster_known_nodes:4\r\ncluster_size:2\r\ncluster_current_epoch:1\r\n\
             cluster_my_epoch:1\r\ncluster_stats_messages_sent:5\r\ncluster_stats_messages_received:3\r\n\
             total_cluster_links_buffer_limit_exceeded:0\r\n"
        )
    };
    assert_eq!(text(&client.ask("CLUSTER INFO")), info("ok"));
    shared.set_lease(std::time::Duration::ZERO);
    assert_eq!(text(&client.ask("CLUSTER INFO")), info("fail"), "what it holds it may not serve");
    let worker = worker_of(Arc::new(Cluster::new(node(0, 0), Run(1))));
    let alone = text(&Client::of(&worker).ask("CLUSTER INFO"));
    assert!(alone.starts_with("cluster_state:fail\r\ncluster_slots_assigned:0\r\n"), "{alone}");
    assert!(alone.contains("cluster_known_nodes:1\r\n"), "{alone}");
}

#[test]
fn a_node_knows_itself_and_its_shard() {
    replies(two_shards(), "CLUSTER MYID", &format!("$40 {}", id("a0")), &format!("$40 {}", id("a0")));
    replies(two_shards(), "CLUSTER MYSHARDID", &format!("$40 {}", id("01")), &format!("$40 {}", id("01")));
    let alone = format!("{} :6379@0 myself,master - 0 0 0 connected\n", id("a0"));
    let worker = worker_of(cluster(ClusterMap::new(), node(0, 0)));
    assert_eq!(text(&Client::of(&worker).ask("CLUSTER NODES")), alone);
    Client::of(&worker).gives(&[("CLUSTER MYSHARDID", "-ERR this node is in no shard yet")]);
}

#[test]
fn links_have_the_fields_of_redis() {
    let expected = |map: &str| {
        let link = |direction: &str, node: &str| {
            format!(
                "{map} $9 direction ${} {direction} $4 node $40 {} $11 create-time :0 $6 events $1 r \
                 $21 send-buffer-allocated :0 $16 send-buffer-used :0",
                direction.len(),
                id(node)
            )
        };
        let links: Vec<_> =
            ["a1", "b0", "b1"].iter().flat_map(|node| ["to", "from"].map(|way| link(way, node))).collect();
        format!("*6 {}", links.join(" "))
    };
    replies(two_shards(), "CLUSTER LINKS", &expected("*12"), &expected("%6"));
}

#[test]
fn orders_that_the_control_plane_owns_are_refused_and_say_what_to_use() {
    let worker = worker_of(cluster(two_shards(), node(0, 0)));
    let mut client = Client::of(&worker);
    for (request, command) in [
        ("ADDSLOTS 1", "meridian cluster create"),
        ("ADDSLOTSRANGE 1 2", "meridian cluster create"),
        ("DELSLOTS 1", "meridian cluster rebalance"),
        ("DELSLOTSRANGE 1 2", "meridian cluster rebalance"),
        ("FLUSHSLOTS", "meridian cluster rebalance"),
        ("SETSLOT 1 STABLE", "meridian cluster rebalance"),
        ("MEET 127.0.0.1 6379", "meridian cluster add-node"),
        ("REPLICATE 1234", "meridian cluster add-node"),
        ("FORGET 1234", "meridian cluster remove-node"),
        ("RESET", "meridian cluster remove-node"),
        ("BUMPEPOCH", "meridian cluster status"),
        ("SET-CONFIG-EPOCH 1", "meridian cluster status"),
        ("SAVECONFIG", "meridian cluster status"),
    ] {
        let error = client.raw(&format!("CLUSTER {request}"));
        let name = request.split(' ').next().unwrap();
        assert!(error.starts_with(&format!("-ERR CLUSTER {name} is refused: ")), "{error}");
        assert!(error.contains(command), "{error}");
    }
}

#[test]
fn failover_by_hand_is_for_replicas() {
    let mut map = two_shards();
    let primary = worker_of(cluster(map.clone(), node(0, 0)));
    Client::of(&primary).gives(&[
        ("CLUSTER FAILOVER", "-ERR You should send CLUSTER FAILOVER to a replica"),
        ("CLUSTER FAILOVER x", "-ERR syntax error"),
    ]);
    let refused = "-ERR this node is still starting";
    let replica = worker_of(cluster(map.clone(), node(0, 1)));
    let orders = ["CLUSTER FAILOVER", "CLUSTER FAILOVER FORCE", "CLUSTER FAILOVER takeover"];
    Client::of(&replica).gives(&orders.map(|order| (order, refused)));
    Client::of(&replica).gives(&[("CLUSTER FAILOVER FORCE x", "-ERR syntax error")]);
    map.apply(&MapCommand::Failed { node: node(0, 0), run: Run(1) }).unwrap();
    let replica = worker_of(cluster(map, node(0, 1)));
    Client::of(&replica).gives(&[
        ("CLUSTER FAILOVER", "-ERR Master is down or failed, please use CLUSTER FAILOVER FORCE"),
        ("CLUSTER FAILOVER FORCE", refused),
    ]);
}

#[test]
fn a_node_in_a_cluster_says_so_wherever_clients_look() {
    let worker = worker_of(cluster(two_shards(), node(0, 1)));
    let mut client = Client::of_resp3(&worker);
    assert!(text(&client.ask("INFO cluster")).contains("cluster_enabled:1\r\n"));
    assert!(text(&client.ask("INFO server")).contains("redis_mode:cluster\r\n"));
    let hello = client.ask("HELLO 3");
    assert_eq!((text(fields(&hello)["mode"]), text(fields(&hello)["role"])), ("cluster".into(), "replica".into()));
    let parameters = client.ask("CONFIG GET cluster-*");
    let parameters = fields(&parameters);
    for (name, value) in [
        ("cluster-enabled", "yes"),
        ("cluster-announce-ip", "10.0.0.1"),
        ("cluster-announce-port", "6379"),
        ("cluster-announce-tls-port", "6390"),
        ("cluster-announce-bus-port", "16379"),
    ] {
        assert_eq!(text(parameters[name]), value, "{name}");
    }
}

#[test]
fn a_node_that_is_in_no_cluster_redirects_nobody_and_refuses_what_needs_one() {
    let worker = worker_of(None);
    let mut client = Client::of(&worker);
    client.gives(&[
        ("MSET a 1 b 2 f 3", "+OK"),
        ("CLUSTER KEYSLOT a", ":15495"),
        ("CLUSTER COUNTKEYSINSLOT 15495", ":1"),
    ]);
    for request in
        ["CLUSTER SLOTS", "CLUSTER INFO", "CLUSTER RESET", "CLUSTER FAILOVER", "READONLY", "READWRITE", "ASKING"]
    {
        client.gives(&[(request, "-ERR This instance has cluster support disabled")]);
    }
    assert!(text(&client.ask("INFO cluster")).contains("cluster_enabled:0\r\n"));
}

#[test]
fn a_promoted_replica_is_shown_as_the_primary() {
    let mut map = two_shards();
    let former = (node(0, 0), Run(1));
    map.apply(&MapCommand::Promote {
        shard: ShardId(0),
        node: node(0, 1),
        run: Run(1),
        former,
        has_all: false,
        at: Time::ZERO,
    })
    .unwrap();
    let worker = worker_of(cluster(map, node(1, 0)));
    let nodes = text(&Client::of(&worker).ask("CLUSTER NODES"));
    let (a0, a1) = (id("a0"), id("a1"));
    assert!(nodes.starts_with(&format!("{a0} 10.0.0.0:6379@16379 slave {a1} 0 0 2 connected\n")), "{nodes}");
    assert!(nodes.contains(&format!("{a1} 10.0.0.1:6379@16379 master - 0 0 2 connected 0-8000\n")), "{nodes}");
}
