//! What types alone cannot say: ranges, and values that must fit one another.
//!
//! Every rule is looked at, whatever the others found, so that one run shows everything. A rule names the key that a
//! person would change to heed it.

mod gateway;

use std::{collections::HashMap, fmt::Display, hash::Hash, ops::RangeInclusive, path::PathBuf, time::Duration};

use crate::{
    Cluster, Gateway, Host, Limits, Listen, Memory, NodeConfig, Peer, Problem, Problems, Region, Size, Tls, limits,
    values::duration,
};

impl NodeConfig {
    /// Notes everything that is wrong with the whole.
    pub fn check(&self, problems: &mut Problems) {
        check_listeners(self, problems);
        if let Some(workers) = self.node.workers {
            within("node.workers", workers, &limits::WORKERS, problems);
        }
        check_limits(&self.limits, problems);
        check_memory(&self.memory, problems);
        check_auth(self, problems);
        check_tls(&self.tls, problems);
        within_durations("clock.max_drift", self.clock.max_drift, &limits::MAX_DRIFT, problems);
        within_durations("node.disk_delay", self.node.disk_delay, &limits::DISK_DELAY, problems);
        check_cluster(self, problems);
        check_gateway(&self.gateway, problems);
        check_peers(self, problems);
        within("slowlog.max_len", self.slowlog.max_len, &limits::SLOWLOG_MAX_LEN, problems);
    }
}

fn check_listeners(config: &NodeConfig, problems: &mut Problems) {
    let listeners = [
        ("node.listen", config.node.listen),
        ("node.admin", config.node.admin),
        ("tls.listen", config.tls.listen),
        ("cluster.listen", config.cluster.listen),
        ("cluster.proxy", config.cluster.proxy),
        ("gateway.listen", config.gateway.listen),
    ];
    problems.require(config.node.listen.is_on() || config.tls.listen.is_on(), || {
        Problem::new("no client could ever connect")
            .at("node.listen")
            .label("this is off, and so is `tls.listen`")
            .help(format!("turn one of them on, such as listen = \"127.0.0.1:{}\"", crate::Node::PORT))
    });
    check_clashes(&listeners, problems);
}

/// Notes listeners that cannot both be bound.
fn check_clashes(listeners: &[(&str, Listen)], problems: &mut Problems) {
    for (index, (path, listen)) in listeners.iter().enumerate() {
        if let Some((other, _)) = listeners[..index].iter().find(|(_, other)| listen.clashes_with(*other)) {
            problems.add(
                Problem::new(format!("`{path}` and `{other}` cannot both listen on {listen}"))
                    .at(*path)
                    .label(format!("taken by `{other}`"))
                    .help("give each a port of its own"),
            );
        }
    }
}

fn check_limits(section: &Limits, problems: &mut Problems) {
    let Limits { proto_max_bulk_len, client_query_buffer_limit, client_output_buffer_limit, .. } = *section;
    within("limits.max_key_len", section.max_key_len, &limits::MAX_KEY_LEN, problems);
    within("limits.proto_max_bulk_len", proto_max_bulk_len, &limits::PROTO_MAX_BULK_LEN, problems);
    let inline = section.proto_inline_max_size;
    within("limits.proto_inline_max_size", inline, &limits::PROTO_INLINE_MAX_SIZE, problems);
    within("limits.max_multibulk_len", section.max_multibulk_len, &limits::MAX_MULTIBULK_LEN, problems);
    within("limits.maxclients", section.maxclients, &limits::MAXCLIENTS, problems);
    // A buffer that cannot hold the largest value makes a client that uses it fail for ever.
    for (path, buffer) in [
        ("limits.client_query_buffer_limit", client_query_buffer_limit),
        ("limits.client_output_buffer_limit", client_output_buffer_limit),
    ] {
        problems.require(buffer > proto_max_bulk_len, || {
            Problem::new(format!("`{path}` has no room for the largest value"))
                .at(path)
                .label(format!("must be more than `limits.proto_max_bulk_len`, which is {proto_max_bulk_len}"))
                .help("raise this one, or lower that one")
        });
    }
}

fn check_memory(section: &Memory, problems: &mut Problems) {
    within("memory.maxmemory_samples", section.maxmemory_samples, &limits::MAXMEMORY_SAMPLES, problems);
    within("memory.log_records", section.log_records, &limits::LOG_RECORDS, problems);
    within("memory.stripes", section.stripes, &limits::STRIPES, problems);
    problems.require(section.stripes.is_power_of_two() || section.stripes == 0, || {
        let higher = section.stripes.checked_next_power_of_two().unwrap_or(*limits::STRIPES.end());
        Problem::new("`memory.stripes` is not a power of two")
            .at("memory.stripes")
            .label(format!("the nearest are {} and {higher}", higher / 2))
    });
    problems.require(section.log_records >= u64::from(section.stripes), || {
        Problem::new("`memory.log_records` leaves a stripe without a log")
            .at("memory.log_records")
            .label(format!("must be at least `memory.stripes`, which is {}", section.stripes))
    });
    let decay = section.lfu_decay_time;
    let minutes = decay.as_secs() / limits::LFU_DECAY_UNIT.as_secs();
    let is_whole = decay.subsec_nanos() == 0 && decay.as_secs().is_multiple_of(limits::LFU_DECAY_UNIT.as_secs());
    problems.require(is_whole, || {
        Problem::new("`memory.lfu_decay_time` is not a number of whole minutes")
            .at("memory.lfu_decay_time")
            .label("idle time is counted in minutes, as in Redis")
            .help(match minutes {
                0 => "write \"1m\" for the fastest decay there is, or \"0s\" for none".to_owned(),
                _ => format!("the nearest are \"{minutes}m\" and \"{}m\"", minutes + 1),
            })
    });
    let most = limits::LFU_DECAY_TIME_MAX;
    problems.require(decay <= most, || {
        Problem::new("`memory.lfu_decay_time` is out of range")
            .at("memory.lfu_decay_time")
            .label(format!("must be at most {}", duration::display(most)))
            .help("write \"0s\" if the counters are never to fall")
    });
}

fn check_auth(config: &NodeConfig, problems: &mut Problems) {
    let auth = &config.auth;
    problems.require(auth.requirepass.is_none() || auth.requirepass_file.is_none(), || {
        Problem::new("the password is given twice")
            .at("auth.requirepass_file")
            .label("`auth.requirepass` is set as well")
            .help("keep one of the two")
    });
    problems.require(auth.requirepass.as_ref().is_none_or(|password| !password.expose().is_empty()), || {
        Problem::new("the password is empty")
            .at("auth.requirepass")
            .label("nobody could tell this from having none")
            .help("leave the key out to let in anybody who can reach the port")
    });
}

fn check_tls(tls: &Tls, problems: &mut Problems) {
    let wanted = tls.listen.is_on() || tls.cert.is_some() || tls.key.is_some() || tls.ca.is_some();
    if wanted {
        let why = "encrypted connections need a certificate and its key";
        require_file("tls.cert", &tls.cert, why, problems);
        require_file("tls.key", &tls.key, why, problems);
    }
}

fn check_cluster(config: &NodeConfig, problems: &mut Problems) {
    let cluster = &config.cluster;
    problems.require(!cluster.listen.is_on() || config.node.dir.is_some(), || {
        Problem::new("this is a node of a cluster, but there is no folder to keep the cluster's map in")
            .at("cluster.listen")
            .label("`node.dir` is not set")
            .help("set `dir` in [node], such as dir = \"/var/lib/meridian\"")
    });
    check_announced(cluster.listen, cluster.announce.as_ref(), problems);
    problems.require(!cluster.proxy.is_on() || cluster.listen.is_on(), || {
        Problem::new("there is a proxy, but no cluster that it could forward to")
            .at("cluster.proxy")
            .label("`cluster.listen` is off")
            .help("clients of a region of one node connect to `node.listen`")
    });
    check_bus_files(&cluster.cert, &cluster.key, &cluster.ca, problems);
    check_cluster_times(cluster, problems);
}

/// Notes if nodes could not be told where a bus is.
fn check_announced(listen: Listen, announce: Option<&Host>, problems: &mut Problems) {
    let is_reachable = listen.address().is_none_or(|address| !address.ip().is_unspecified());
    problems.require(is_reachable || announce.is_some(), || {
        Problem::new("other nodes would not know where to reach this one")
            .at("cluster.listen")
            .label("this is every address of the machine, and so none to call it by")
            .help("set `announce` to a name or an address of this machine, such as announce = \"10.0.0.7\"")
    });
}

/// Notes what is missing of the certificates of a bus, if any of it is there.
fn check_bus_files(cert: &Option<PathBuf>, key: &Option<PathBuf>, ca: &Option<PathBuf>, problems: &mut Problems) {
    if cert.is_some() || key.is_some() || ca.is_some() {
        let why = "nodes show certificates to one another, or none do";
        require_file("cluster.cert", cert, why, problems);
        require_file("cluster.key", key, why, problems);
        require_file("cluster.ca", ca, why, problems);
    }
}

fn check_cluster_times(cluster: &Cluster, problems: &mut Problems) {
    let Cluster { lease, report_every, gossip_every, min_replicas_max_lag, .. } = *cluster;
    within_durations("cluster.lease", lease, &limits::LEASE, problems);
    within_durations("cluster.report_every", report_every, &limits::REPORT_EVERY, problems);
    within_durations("cluster.gossip_every", gossip_every, &limits::GOSSIP_EVERY, problems);
    let lag = ("cluster.min_replicas_max_lag", min_replicas_max_lag);
    within_durations(lag.0, lag.1, &limits::MIN_REPLICAS_MAX_LAG, problems);
    let longest = lease / limits::REPORTS_PER_LEASE;
    problems.require(report_every <= longest, || {
        Problem::new("`cluster.report_every` is too long for `cluster.lease`")
            .at("cluster.report_every")
            .label(format!("must be at most a quarter of the lease, which is {}", duration::display(longest)))
            .help("a report may be lost, and the lease must go on all the same")
    });
}

/// Notes what is missing of the certificates of an end of links.
fn require_link_files(cert: &Option<PathBuf>, key: &Option<PathBuf>, ca: &Option<PathBuf>, problems: &mut Problems) {
    let why = "both ends of a link show a certificate and check the other's";
    require_file("gateway.cert", cert, why, problems);
    require_file("gateway.key", key, why, problems);
    require_file("gateway.ca", ca, why, problems);
}

fn check_gateway(gateway: &Gateway, problems: &mut Problems) {
    if gateway.listen.is_on() {
        require_link_files(&gateway.cert, &gateway.key, &gateway.ca, problems);
    }
    within_durations("gateway.heartbeat", gateway.heartbeat, &limits::HEARTBEAT, problems);
    within_durations("gateway.batch_delay", gateway.batch_delay, &limits::BATCH_DELAY, problems);
    within_durations("gateway.audit_interval", gateway.audit_interval, &limits::AUDIT_INTERVAL, problems);
    within_durations("gateway.reconnect_min", gateway.reconnect_min, &limits::RECONNECT, problems);
    within_durations("gateway.reconnect_max", gateway.reconnect_max, &limits::RECONNECT, problems);
    within("gateway.batch", gateway.batch, &limits::BATCH, problems);
    at_most(("gateway.batch", gateway.batch), ("gateway.window", gateway.window), problems);
    problems.require(gateway.reconnect_min <= gateway.reconnect_max, || {
        Problem::new("`gateway.reconnect_min` is longer than `gateway.reconnect_max`")
            .at("gateway.reconnect_min")
            .label(format!("must be at most {}", duration::display(gateway.reconnect_max)))
    });
}

fn check_peers(config: &NodeConfig, problems: &mut Problems) {
    let (peers, is_clustered) = (&config.peers, config.cluster.listen.is_on());
    problems.require(!is_clustered || !config.gateway.listen.is_on(), || {
        Problem::new("a node of a cluster has no gateway inside")
            .at("gateway.listen")
            .label("`cluster.listen` is on")
            .help("leave `listen` out, and run `meridian gateway` for the region: its nodes find it by themselves")
    });
    problems.require(peers.is_empty() || is_clustered || config.gateway.listen.is_on(), || {
        Problem::new("there are peers, but no gateway that their links could arrive at")
            .at("peer.0")
            .label("`gateway.listen` is off")
            .help("set `listen` in [gateway], such as listen = \"0.0.0.0:7103\", with `cert`, `key` and `ca`")
    });
    problems.require(peers.is_empty() || config.node.dir.is_some(), || {
        Problem::new("there are peers, but no folder to remember this region's incarnation in")
            .at("peer.0")
            .label("`node.dir` is not set")
            .help("set `dir` in [node], such as dir = \"/var/lib/meridian\": whoever starts anew must not pass for who it was")
    });
    if !is_clustered {
        require_addresses(peers, problems);
    }
    check_distinct(&config.region, peers, config.gateway.listen, problems);
}

/// Notes peers that nobody could reach.
fn require_addresses(peers: &[Peer], problems: &mut Problems) {
    for (index, peer) in peers.iter().enumerate().filter(|(_, peer)| peer.addr.is_empty()) {
        problems.add(
            Problem::new(format!("it is not said where the gateways of {} are", peer.region))
                .at(format!("peer.{index}"))
                .label("`addr` is missing")
                .help("name host and port of one or more, such as addr = \"gateway.eu-west.example:7203\""),
        );
    }
}

/// Notes peers that cannot all be who and where they are said to be.
fn check_distinct(own: &Region, peers: &[Peer], listen: Listen, problems: &mut Problems) {
    unique("id", (own.id, "this region"), peers.iter().map(|peer| peer.id).enumerate(), problems);
    unique("region", (&own.name, "this region"), peers.iter().map(|peer| &peer.region).enumerate(), problems);
    let own = listen.address().map(|address| address.to_string()).unwrap_or_default();
    let addresses = peers.iter().enumerate();
    let addresses = addresses.flat_map(|(index, peer)| peer.addr.iter().map(move |addr| (index, addr.to_string())));
    unique("addr", (own, "this gateway"), addresses, problems);
}

/// Notes every peer whose `key` is that of an earlier peer, or our own.
fn unique<T: Eq + Hash + Display>(
    key: &str,
    (own, owner): (T, &str),
    values: impl Iterator<Item = (usize, T)>,
    problems: &mut Problems,
) {
    let mut taken = HashMap::from([(own, owner.to_owned())]);
    for (index, value) in values {
        if let Some(by) = taken.get(&value) {
            problems.add(
                Problem::new(format!("two regions have the {key} {value}"))
                    .at(format!("peer.{index}.{key}"))
                    .label(format!("this is the {key} of {by}"))
                    .help(format!("every region has its own {key}")),
            );
        } else {
            taken.insert(value, format!("peer {}", index + 1));
        }
    }
}

fn require_file(path: &str, file: &Option<PathBuf>, why: &str, problems: &mut Problems) {
    let key = path.rsplit('.').next().unwrap_or(path);
    problems.require(file.is_some(), || {
        Problem::new(format!("`{path}` is missing"))
            .at(path)
            .label(why)
            .help(format!("name a PEM file: {key} = \"certs/{key}.pem\""))
    });
}

fn within<T: PartialOrd + Display>(path: &str, value: T, range: &RangeInclusive<T>, problems: &mut Problems) {
    problems.require(range.contains(&value), || out_of_range(path, range.start(), range.end()));
}

fn within_durations(path: &str, value: Duration, range: &RangeInclusive<Duration>, problems: &mut Problems) {
    let (start, end) = (duration::display(*range.start()), duration::display(*range.end()));
    problems.require(range.contains(&value), || out_of_range(path, start, end));
}

fn out_of_range(path: &str, start: impl Display, end: impl Display) -> Problem {
    Problem::new(format!("`{path}` is out of range")).at(path).label(format!("must be {start} to {end}"))
}

fn at_most((path, value): (&str, Size), (other, bound): (&str, Size), problems: &mut Problems) {
    problems.require(value <= bound, || {
        Problem::new(format!("`{path}` is more than `{other}`"))
            .at(path)
            .label(format!("must be at most `{other}`, which is {bound}"))
    });
}

#[cfg(test)]
mod tests {
    use crate::{NodeConfig, Problems};

    /// The messages for a text that is valid in itself.
    fn problems(text: &str) -> Vec<String> {
        match NodeConfig::parse("node.toml", text) {
            Ok(_) => Vec::new(),
            Err(report) => report.problems().map(|problem| problem.message().to_owned()).collect(),
        }
    }

    #[test]
    fn defaults_are_valid() {
        let mut problems = Problems::default();
        NodeConfig::default().check(&mut problems);
        assert!(problems.is_empty(), "{problems:?}");
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let text =
            "[memory]\nstripes = 48\nmaxmemory_samples = 0\n[slowlog]\nmax_len = 9999999\n[tls]\nlisten = \"[::]:1\"";
        assert_eq!(
            problems(text),
            [
                "`memory.stripes` is not a power of two",
                "`memory.maxmemory_samples` is out of range",
                "`slowlog.max_len` is out of range",
                "`tls.cert` is missing",
                "`tls.key` is missing",
            ]
        );
    }

    #[test]
    fn peers_need_a_folder_and_a_gateway_with_all_three_files() {
        let peer = "[[peer]]\nregion = \"b\"\nid = 2\naddr = \"b:1\"\n";
        let expected = [
            "there are peers, but no gateway that their links could arrive at",
            "there are peers, but no folder to remember this region's incarnation in",
        ];
        assert_eq!(problems(peer), expected);
        let with_gateway = format!("{peer}[node]\ndir = \"d\"\n[gateway]\nlisten = \"127.0.0.1:7\"\ncert = \"c\"");
        assert_eq!(problems(&with_gateway), ["`gateway.key` is missing", "`gateway.ca` is missing"]);
    }

    #[test]
    fn cluster_needs_a_folder_an_address_and_all_files_or_none() {
        let with = |cluster: &str| problems(&format!("node.dir = \"d\"\ncluster = {{ {cluster} }}"));
        assert_eq!(with("listen = \"10.0.0.7:16379\""), [""; 0]);
        assert_eq!(with("listen = \"0.0.0.0:16379\", announce = \"a\""), [""; 0]);
        assert_eq!(
            with("listen = \"[::]:16379\", cert = \"c\""),
            [
                "`cluster.key` is missing",
                "`cluster.ca` is missing",
                "other nodes would not know where to reach this one"
            ]
        );
        assert_eq!(
            problems("cluster.listen = \"127.0.0.1:16379\""),
            ["this is a node of a cluster, but there is no folder to keep the cluster's map in"]
        );
        assert_eq!(with("proxy = \"127.0.0.1:7379\""), ["there is a proxy, but no cluster that it could forward to"]);
    }

    #[test]
    fn lease_outlasts_lost_reports() {
        let with = |times: &str| problems(&format!("cluster = {{ {times} }}"));
        assert_eq!(with("lease = \"400ms\""), [""; 0]);
        assert_eq!(with("lease = \"399ms\""), ["`cluster.report_every` is too long for `cluster.lease`"]);
        assert_eq!(
            with("lease = \"1h\", gossip_every = \"0s\", min_replicas_max_lag = \"0s\""),
            [
                "`cluster.lease` is out of range",
                "`cluster.gossip_every` is out of range",
                "`cluster.min_replicas_max_lag` is out of range"
            ]
        );
    }

    #[test]
    fn regions_share_neither_id_nor_name_nor_address() {
        let text = "
            region = { name = \"a\", id = 1 }
            node = { dir = \"d\" }
            gateway = { listen = \"127.0.0.1:7\", cert = \"c\", key = \"k\", ca = \"a\" }
            peer = [
                { region = \"a\", id = 2, addr = \"b:1\" },
                { region = \"c\", id = 1, addr = \"b:1\" },
                { region = \"d\", id = 2, addr = \"127.0.0.1:7\" },
            ]";
        let expected = [
            "two regions have the region a",
            "two regions have the id 1",
            "two regions have the addr b:1",
            "two regions have the id 2",
            "two regions have the addr 127.0.0.1:7",
        ];
        assert_eq!(problems(text), expected);
    }

    #[test]
    fn peers_are_reached_at_any_of_their_addresses_and_clusters_reach_them_by_gateways() {
        let text = "
            node.dir = \"d\"
            gateway = { listen = \"127.0.0.1:7\", cert = \"c\", key = \"k\", ca = \"a\" }
            peer = [
                { region = \"b\", id = 2, addr = [\"b:1\"] },
                { region = \"c\", id = 3, addr = [\"c:1\", \"b:1\"] },
                { region = \"d\", id = 4 },
            ]";
        let expected = ["two regions have the addr b:1", "it is not said where the gateways of d are"];
        assert_eq!(problems(text), expected);
        let clustered = "
            node.dir = \"d\"
            cluster.listen = \"127.0.0.1:7\"
            peer = [{ region = \"b\", id = 2 }]";
        assert_eq!(problems(clustered), [""; 0]);
        let text =
            format!("{clustered}\ngateway = {{ listen = \"127.0.0.1:8\", cert = \"c\", key = \"k\", ca = \"a\" }}");
        assert_eq!(problems(&text), ["a node of a cluster has no gateway inside"]);
    }

    #[test]
    fn decay_is_counted_in_whole_minutes() {
        let with = |time: &str| problems(&format!("memory.lfu_decay_time = \"{time}\""));
        for time in ["0s", "1m", "90m", "1h", "120s", "65535m"] {
            assert_eq!(with(time), [""; 0], "{time}");
        }
        for time in ["1ms", "30s", "61s", "1m 500ms"] {
            assert_eq!(with(time), ["`memory.lfu_decay_time` is not a number of whole minutes"], "{time}");
        }
        assert_eq!(with("65536m"), ["`memory.lfu_decay_time` is out of range"]);
    }

    #[test]
    fn bounds_that_depend_on_one_another_are_compared() {
        assert_eq!(problems("gateway = { window = \"1KiB\" }"), ["`gateway.batch` is more than `gateway.window`"]);
        assert_eq!(
            problems("limits.client_output_buffer_limit = \"1MiB\""),
            ["`limits.client_output_buffer_limit` has no room for the largest value"]
        );
        assert_eq!(problems("gateway.reconnect_min = \"10s\"").len(), 1);
        assert_eq!(
            problems("auth = { requirepass = \"a\", requirepass_file = \"b\" }"),
            ["the password is given twice"]
        );
        assert_eq!(problems("auth = { requirepass = \"\" }"), ["the password is empty"]);
    }

    #[test]
    fn two_listeners_cannot_share_a_port_and_one_must_be_on() {
        assert_eq!(
            problems("node.admin = \"0.0.0.0:6379\""),
            ["`node.admin` and `node.listen` cannot both listen on 0.0.0.0:6379"]
        );
        assert_eq!(problems("node.listen = \"off\""), ["no client could ever connect"]);
    }
}
