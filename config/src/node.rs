//! The configuration of one node, section by section, with its defaults.
//!
//! Settings that Redis has bear Redis's name, with underscores, so that `CONFIG GET` and the file need no dictionary;
//! the units are in the types instead of the names. The defaults are those of Redis where Redis has one, and where it
//! has a bound: what Redis leaves unbounded by default (the output buffer of a client) is bounded here.
//!
//! A default node is a region of its own, named `local`, that serves this machine and nobody else: it can be started
//! without any file, and nothing can reach it by accident. It has no peers, so it needs to remember nothing.
//!
//! The fields are public and can be set to anything; [`NodeConfig::load`] and [`Overrides`](crate::Overrides) are what
//! vouches for the whole.

use std::{
    fmt, fs, io,
    net::{Ipv4Addr, SocketAddr},
    num::NonZero,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use clap::ValueEnum;
use clock::RegionId;
use serde::{Deserialize, Serialize};

use crate::{
    Host, Listen, Offset, PeerAddress, PeerAddresses, RegionName, Report, Secret, Size, Threshold,
    values::{duration, region_id},
};

/// One node, or an embedded region of one node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// The region that the node belongs to.
    pub region: Region,
    /// The process: where it listens, what it runs on.
    pub node: Node,
    /// What one client may ask for.
    pub limits: Limits,
    /// What the data may take, and what goes when it is full.
    pub memory: Memory,
    /// Who may connect.
    pub auth: Auth,
    /// Encrypted connections of clients.
    pub tls: Tls,
    /// How far clocks are trusted.
    pub clock: Clock,
    /// The nodes of this region among themselves.
    pub cluster: Cluster,
    /// The end of this region's links.
    pub gateway: Gateway,
    /// The other regions.
    #[serde(rename = "peer")]
    pub peers: Vec<Peer>,
    /// Commands that took long.
    pub slowlog: Slowlog,
    /// Events that took long.
    pub latency: LatencyMonitor,
    /// What the process says of itself.
    pub log: Log,
}

impl NodeConfig {
    /// Loads and checks a file, without environment and flags. Relative paths in it are relative to the file.
    ///
    /// # Errors
    /// A [`Report`] of everything that is wrong with it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Report> {
        let path = path.as_ref();
        crate::load_with(path, |mut config: Self, problems| {
            config.rebase(path);
            config.check(problems);
            config
        })
    }

    /// Parses and checks a text; `file_name` is how errors call it, and what relative paths are relative to.
    ///
    /// # Errors
    /// A [`Report`] of everything that is wrong with it.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, Report> {
        crate::parse_with(file_name, text, |mut config: Self, problems| {
            config.rebase(Path::new(file_name));
            config.check(problems);
            config
        })
    }

    /// Makes the relative paths relative to the folder that `file` is in.
    pub(crate) fn rebase(&mut self, file: &Path) {
        let Some(folder) = file.parent() else { return };
        let Self { node, auth, tls, cluster, gateway, .. } = self;
        let paths = [
            &mut node.dir,
            &mut auth.requirepass_file,
            &mut tls.cert,
            &mut tls.key,
            &mut tls.ca,
            &mut cluster.cert,
            &mut cluster.key,
            &mut cluster.ca,
            &mut gateway.cert,
            &mut gateway.key,
            &mut gateway.ca,
        ];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&path);
        }
    }
}

/// `[region]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Region {
    /// The name: in certificates, metrics and logs.
    pub name: RegionName,
    /// The number: in every stamp. Unique among all regions, for ever.
    #[serde(with = "region_id")]
    pub id: RegionId,
}

impl Default for Region {
    fn default() -> Self {
        Self { name: RegionName::local(), id: RegionId::MIN }
    }
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Where clients connect in plain text.
    pub listen: Listen,
    /// Where metrics, health and status are served over HTTP, in plain text and to anybody.
    pub admin: Listen,
    /// Where state that must survive a restart is kept (clock, incarnation, the cluster's map). None keeps it nowhere; a
    /// node with peers, and one of a cluster, must have one.
    pub dir: Option<PathBuf>,
    /// By how much longer each write takes that must be on the disk there, on purpose, for tests.
    #[serde(with = "duration")]
    pub disk_delay: Duration,
    /// Worker threads; none is one per core. See [`Node::worker_count`].
    pub workers: Option<u16>,
}

impl Node {
    /// The port of clients: that of Redis.
    pub const PORT: u16 = 6379;
    /// The port of the admin server. In the range where Prometheus exporters live, and not 9121, which is where
    /// redis_exporter listens on a host that is moving from Redis.
    pub const ADMIN_PORT: u16 = 9379;
    /// The number of databases: one, as in Redis Cluster.
    pub const DATABASES: u32 = 1;

    /// The number of worker threads: as configured, or one per core that this process may use.
    pub fn worker_count(&self) -> usize {
        let cores = || thread::available_parallelism().map_or(1, NonZero::get);
        self.workers.map_or_else(cores, usize::from)
    }
}

impl Default for Node {
    fn default() -> Self {
        let local = |port| Listen::At(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Self {
            listen: local(Self::PORT),
            admin: local(Self::ADMIN_PORT),
            dir: None,
            disk_delay: Duration::ZERO,
            workers: None,
        }
    }
}

/// `[limits]`: what one client may ask for. Whoever asks for more gets an error or is closed, and nobody else notices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The longest key; a command with a longer one is refused.
    pub max_key_len: Size,
    /// The longest argument, and so the largest value; a client that announces more is closed.
    pub proto_max_bulk_len: Size,
    /// The longest command typed in plain words; a client that sends more without a line break is closed.
    pub proto_inline_max_size: Size,
    /// The greatest number of arguments of one command; a client that announces more is closed.
    pub max_multibulk_len: u32,
    /// How much of a client's input may wait to be parsed; a client with more is closed.
    pub client_query_buffer_limit: Size,
    /// How much output may wait for a client to read it; a client that leaves more unread is closed.
    pub client_output_buffer_limit: Size,
    /// How many clients may be connected; one more gets an error and is closed.
    pub maxclients: u32,
    /// After how long a silent client is closed; zero is never.
    #[serde(with = "duration")]
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_key_len: Size::mib(512),
            proto_max_bulk_len: Size::mib(512),
            proto_inline_max_size: Size::kib(64),
            max_multibulk_len: 1 << 20,
            client_query_buffer_limit: Size::gib(1),
            client_output_buffer_limit: Size::gib(1),
            maxclients: 10_000,
            timeout: Duration::ZERO,
        }
    }
}

/// `[memory]`: what the data may take, and what goes when it is full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// The most that entries may take; zero is no limit.
    pub maxmemory: Size,
    /// What is evicted when they take more.
    pub maxmemory_policy: MaxmemoryPolicy,
    /// How many keys are looked at to find the one to evict.
    pub maxmemory_samples: u32,
    /// How slowly the access counter of LFU grows.
    pub lfu_log_factor: u32,
    /// After how long without access the counter of LFU falls by one, in whole minutes; zero is never.
    #[serde(with = "duration")]
    pub lfu_decay_time: Duration,
    /// The most that tombstones and markers may take before the oldest are forgotten early.
    pub tombstone_budget: Size,
    /// The length of the log's ring, in records of the whole node.
    pub log_records: u64,
    /// The number of stripes; a power of two.
    pub stripes: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            maxmemory: Size::ZERO,
            maxmemory_policy: MaxmemoryPolicy::default(),
            maxmemory_samples: 5,
            lfu_log_factor: 10,
            lfu_decay_time: Duration::from_secs(60),
            tombstone_budget: Size::mib(64),
            log_records: 1 << 20,
            stripes: 64,
        }
    }
}

/// What is evicted when memory is full: the eight policies of Redis, by their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum MaxmemoryPolicy {
    /// Nothing: commands that need memory are refused.
    #[default]
    Noeviction,
    /// Of all keys, what was not used for longest.
    AllkeysLru,
    /// Of all keys, what is used least often.
    AllkeysLfu,
    /// Any key.
    AllkeysRandom,
    /// Of the keys that expire, what was not used for longest.
    VolatileLru,
    /// Of the keys that expire, what is used least often.
    VolatileLfu,
    /// Any key that expires.
    VolatileRandom,
    /// Of the keys that expire, what expires soonest.
    VolatileTtl,
}

/// `[auth]`: who may connect.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The password of the default user; none lets anybody in who can reach the port.
    pub requirepass: Option<Secret>,
    /// A file that holds the password, instead; for secrets that are mounted.
    pub requirepass_file: Option<PathBuf>,
}

impl Auth {
    /// The password, from wherever it is configured; the line break that editors leave at the end is not part of it.
    ///
    /// # Errors
    /// Those of reading the file; [`io::ErrorKind::InvalidData`] if it is empty.
    pub fn password(&self) -> io::Result<Option<Secret>> {
        let Some(file) = &self.requirepass_file else { return Ok(self.requirepass.clone()) };
        let text = fs::read_to_string(file)?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(io::Error::new(io::ErrorKind::InvalidData, "the password file is empty")),
            password => Ok(Some(Secret::new(password))),
        }
    }
}

/// `[tls]`: encrypted connections of clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Where clients connect over TLS.
    pub listen: Listen,
    /// The chain of this server's certificate, PEM.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// The authorities of client certificates, PEM. If set, every client must show one.
    pub ca: Option<PathBuf>,
}

impl Tls {
    /// The files, if there are a certificate and a key.
    pub fn files(&self) -> Option<TlsFiles<'_>> {
        TlsFiles::new(&self.cert, &self.key, &self.ca)
    }
}

/// The files that make one end of a TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsFiles<'a> {
    /// The chain of the certificate, PEM.
    pub cert: &'a Path,
    /// Its private key, PEM.
    pub key: &'a Path,
    /// The authorities that the other side's certificate must come from, PEM.
    pub ca: Option<&'a Path>,
}

impl<'a> TlsFiles<'a> {
    fn new(cert: &'a Option<PathBuf>, key: &'a Option<PathBuf>, ca: &'a Option<PathBuf>) -> Option<Self> {
        Some(Self { cert: cert.as_deref()?, key: key.as_deref()?, ca: ca.as_deref() })
    }

    /// All three: mutual authentication has no halves.
    pub(crate) fn all(cert: &'a Option<PathBuf>, key: &'a Option<PathBuf>, ca: &'a Option<PathBuf>) -> Option<Self> {
        Self::new(cert, key, ca).filter(|files| files.ca.is_some())
    }
}

/// `[clock]`: how far clocks are trusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clock {
    /// How far a stamp may lie ahead of this clock before its link holds.
    #[serde(with = "duration")]
    pub max_drift: Duration,
    /// How far this clock is set wrong on purpose, for tests.
    pub offset: Offset,
}

impl Default for Clock {
    fn default() -> Self {
        Self { max_drift: Duration::from_millis(500), offset: Offset::ZERO }
    }
}

/// `[cluster]`: the nodes of this region among themselves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// Where the other nodes connect: the bus. Off makes a region of one node, which is no cluster.
    pub listen: Listen,
    /// The host that clients and nodes are told to reach this node by; none is the address of `listen`.
    pub announce: Option<Host>,
    /// Nodes to find the cluster by when the addresses in the map are no longer right.
    pub seeds: Vec<PeerAddress>,
    /// The chain of this node's certificate, PEM; it bears the name of the region.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// The authorities of the nodes' certificates, PEM.
    pub ca: Option<PathBuf>,
    /// For how long a primary may take writes without hearing from the leader.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// How often a node reports to the leader, and a primary renews its lease.
    #[serde(with = "duration")]
    pub report_every: Duration,
    /// How often a node asks another whether it is there.
    #[serde(with = "duration")]
    pub gossip_every: Duration,
    /// How many replicas must follow a primary for it to take writes; zero asks for none.
    pub min_replicas_to_write: u32,
    /// How far behind a replica may be and still count for that.
    #[serde(with = "duration")]
    pub min_replicas_max_lag: Duration,
    /// Where clients connect that know nothing of clusters.
    pub proxy: Listen,
}

impl Cluster {
    /// How far above that of clients the port of the bus lies by convention, as in Redis.
    pub const PORT_OFFSET: u16 = 10_000;

    /// The files, if all three are there.
    pub fn files(&self) -> Option<TlsFiles<'_>> {
        TlsFiles::all(&self.cert, &self.key, &self.ca)
    }

    /// The host by which clients and nodes are told to reach this node, if it is in a cluster.
    pub fn host(&self) -> Option<String> {
        let listen = self.listen.address()?;
        Some(self.announce.as_ref().map_or_else(|| listen.ip().to_string(), ToString::to_string))
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            listen: Listen::Off,
            announce: None,
            seeds: Vec::new(),
            cert: None,
            key: None,
            ca: None,
            lease: Duration::from_secs(1),
            report_every: Duration::from_millis(100),
            gossip_every: Duration::from_millis(200),
            min_replicas_to_write: 0,
            min_replicas_max_lag: Duration::from_secs(10),
            proxy: Listen::Off,
        }
    }
}

/// `[gateway]`: the end of this region's links. Both ends of a link show a certificate, always.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Where the links of other regions arrive.
    pub listen: Listen,
    /// The chain of this region's certificate, PEM; it bears the name of the region.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// The authorities of the regions' certificates, PEM.
    pub ca: Option<PathBuf>,
    /// How often a link says that it is alive, also when nobody writes; the resolution of lag.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// How much may be on its way on one link before it is acknowledged; then the sender conflates.
    pub window: Size,
    /// How much one batch carries before compression; a larger record goes alone.
    pub batch: Size,
    /// How often what this region holds is compared with the others, in the background; zero is never. The same in all regions, or
    /// nothing is compared.
    #[serde(with = "duration")]
    pub audit_interval: Duration,
    /// How long a record waits for a batch to fill.
    #[serde(with = "duration")]
    pub batch_delay: Duration,
    /// The first pause before a lost link is dialled again; it doubles from there.
    #[serde(with = "duration")]
    pub reconnect_min: Duration,
    /// The longest such pause.
    #[serde(with = "duration")]
    pub reconnect_max: Duration,
}

impl Gateway {
    /// The files of this end, if all three are there.
    pub fn files(&self) -> Option<TlsFiles<'_>> {
        TlsFiles::all(&self.cert, &self.key, &self.ca)
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: Listen::Off,
            cert: None,
            key: None,
            ca: None,
            heartbeat: Duration::from_millis(50),
            window: Size::mib(32),
            batch: Size::kib(64),
            audit_interval: Duration::from_secs(300),
            batch_delay: Duration::from_millis(1),
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_secs(5),
        }
    }
}

/// `[[peer]]`: another region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its name, which its certificate must bear.
    pub region: RegionName,
    /// Its number.
    #[serde(with = "region_id")]
    pub id: RegionId,
    /// Where its gateways listen; any will do. A node of a cluster dials none, and need not know.
    #[serde(default, skip_serializing_if = "PeerAddresses::is_empty")]
    pub addr: PeerAddresses,
}

/// `[slowlog]`: commands that took long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Slowlog {
    /// From how long on a command is noted.
    pub log_slower_than: Threshold,
    /// How many are kept; the oldest goes first.
    pub max_len: u32,
}

impl Default for Slowlog {
    fn default() -> Self {
        Self { log_slower_than: Threshold::from(Duration::from_millis(10)), max_len: 128 }
    }
}

/// `[latency]`: events that took long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LatencyMonitor {
    /// From how long on an event is noted.
    pub monitor_threshold: Threshold,
}

/// `[log]`: what the process says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// From which weight on.
    pub level: LogLevel,
    /// In which form.
    pub format: LogFormat,
}

/// How weighty a message must be to be logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// The process must stop.
    Error,
    /// An operator should look.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// Why it happened; may show keys.
    Debug,
    /// Everything.
    Trace,
}

/// In which form messages are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// An object per line for machines.
    Json,
}

/// Prints the names that the file and the flags use.
macro_rules! display_by_name {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.to_possible_value().expect("no variant is skipped").get_name())
            }
        }
    )*};
}
display_by_name!(MaxmemoryPolicy, LogLevel, LogFormat);

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use clap::ValueEnum;

    use super::{Auth, MaxmemoryPolicy, NodeConfig};

    #[test]
    fn node_without_a_file_is_a_region_of_its_own() {
        let config = NodeConfig::parse("empty.toml", "").unwrap();
        assert_eq!(config, NodeConfig::default());
        assert_eq!((config.region.name.as_str(), config.region.id.number()), ("local", 1));
        assert!(config.node.worker_count() >= 1);
    }

    #[test]
    fn policies_have_the_same_name_in_file_and_flag() {
        for policy in MaxmemoryPolicy::value_variants() {
            let text = format!("[memory]\nmaxmemory_policy = \"{policy}\"");
            assert_eq!(NodeConfig::parse("x.toml", &text).unwrap().memory.maxmemory_policy, *policy);
        }
        assert_eq!(MaxmemoryPolicy::value_variants().len(), 8);
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let text = "[node]\ndir = \"state\"\n[tls]\ncert = \"/etc/cert.pem\"\nkey = \"key.pem\"";
        let config = NodeConfig::parse("/srv/meridian/node.toml", text).unwrap();
        assert_eq!(config.node.dir.as_deref(), Some(Path::new("/srv/meridian/state")));
        assert_eq!(config.tls.files().unwrap().cert, Path::new("/etc/cert.pem"));
    }

    #[test]
    fn password_file_may_end_with_a_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pass");
        fs::write(&file, "hunter2\n").unwrap();
        let auth = Auth { requirepass: None, requirepass_file: Some(file.clone()) };
        assert_eq!(auth.password().unwrap().unwrap().expose(), "hunter2");
        fs::write(&file, "\n").unwrap();
        assert!(auth.password().is_err());
    }
}
