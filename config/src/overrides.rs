//! The everyday settings as flags and environment variables, on top of the file.
//!
//! The layers are, each over the one before: the defaults, the file, the environment, the flags. Environment and flags
//! are one list, kept by clap: `--maxmemory` is `MERIDIAN_MAXMEMORY`. What is set here replaces what the file says
//! before the whole is checked, so a file may be incomplete on purpose and get its addresses from whoever deploys it.
//! Relative paths in the file are relative to the file, those in flags to the working directory, as everybody expects
//! of each.

use std::{path::PathBuf, str::FromStr};

use clap::Args;
use clock::RegionId;

use crate::{
    Host, Listen, LogFormat, LogLevel, MaxmemoryPolicy, NodeConfig, Offset, Peer, PeerAddress, Problems, RegionName,
    Report, Secret, Size, values::region_id,
};

/// What the command line and the environment say.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Configuration")]
pub struct Overrides {
    /// The configuration file; without one, a region of one node with every setting at its default
    #[arg(long, value_name = "FILE", env = "MERIDIAN_CONFIG")]
    pub config: Option<PathBuf>,

    /// Where clients connect, or "off"
    #[arg(long, value_name = "IP:PORT", env = "MERIDIAN_LISTEN")]
    pub listen: Option<Listen>,

    /// Where metrics, health and status are served over HTTP, or "off"
    #[arg(long, value_name = "IP:PORT", env = "MERIDIAN_ADMIN")]
    pub admin: Option<Listen>,

    /// Where state that must survive a restart is kept
    #[arg(long, value_name = "FOLDER", env = "MERIDIAN_DIR")]
    pub dir: Option<PathBuf>,

    /// The name of the region
    #[arg(long, value_name = "NAME", env = "MERIDIAN_REGION")]
    pub region: Option<RegionName>,

    /// The number of the region, 1 to 63, unique among all regions
    #[arg(long, value_name = "ID", env = "MERIDIAN_REGION_ID", value_parser = region_id::parse)]
    pub region_id: Option<RegionId>,

    /// Worker threads; one per core unless set
    #[arg(long, value_name = "N", env = "MERIDIAN_WORKERS")]
    pub workers: Option<u16>,

    /// The most that entries may take, such as 4GiB; 0 is no limit
    #[arg(long, value_name = "SIZE", env = "MERIDIAN_MAXMEMORY")]
    pub maxmemory: Option<Size>,

    /// What is evicted when they take more
    #[arg(long, value_name = "POLICY", env = "MERIDIAN_MAXMEMORY_POLICY")]
    pub maxmemory_policy: Option<MaxmemoryPolicy>,

    /// The password of the default user; better given by the environment or a file, since flags can be seen by others
    #[arg(long, value_name = "PASSWORD", env = "MERIDIAN_REQUIREPASS", hide_env_values = true)]
    pub requirepass: Option<Secret>,

    /// Where clients connect over TLS, or "off"
    #[arg(long, value_name = "IP:PORT", env = "MERIDIAN_TLS_LISTEN")]
    pub tls_listen: Option<Listen>,

    /// The chain of the server's certificate, PEM
    #[arg(long, value_name = "FILE", env = "MERIDIAN_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of the server's certificate, PEM
    #[arg(long, value_name = "FILE", env = "MERIDIAN_TLS_KEY")]
    pub tls_key: Option<PathBuf>,

    /// The authorities of client certificates, PEM; if set, every client must show one
    #[arg(long, value_name = "FILE", env = "MERIDIAN_TLS_CA")]
    pub tls_ca: Option<PathBuf>,

    /// Where the other nodes of the region connect, or "off" for a region of one node
    #[arg(long, value_name = "IP:PORT", env = "MERIDIAN_CLUSTER_LISTEN")]
    pub cluster_listen: Option<Listen>,

    /// The host that clients and nodes are told to reach this node by
    #[arg(long, value_name = "HOST", env = "MERIDIAN_CLUSTER_ANNOUNCE")]
    pub cluster_announce: Option<Host>,

    /// A node to find the cluster by; repeat it for more (commas in the environment). Replaces all seeds of the file
    #[arg(long, value_name = "HOST:PORT", env = "MERIDIAN_CLUSTER_SEED", value_delimiter = ',')]
    pub cluster_seed: Vec<PeerAddress>,

    /// The chain of the node's certificate, PEM
    #[arg(long, value_name = "FILE", env = "MERIDIAN_CLUSTER_CERT")]
    pub cluster_cert: Option<PathBuf>,

    /// The private key of the node's certificate, PEM
    #[arg(long, value_name = "FILE", env = "MERIDIAN_CLUSTER_KEY")]
    pub cluster_key: Option<PathBuf>,

    /// The authorities of the nodes' certificates, PEM
    #[arg(long, value_name = "FILE", env = "MERIDIAN_CLUSTER_CA")]
    pub cluster_ca: Option<PathBuf>,

    /// Where clients connect that know nothing of clusters, or "off"
    #[arg(long, value_name = "IP:PORT", env = "MERIDIAN_CLUSTER_PROXY")]
    pub cluster_proxy: Option<Listen>,

    /// Where the links of other regions arrive, or "off"
    #[arg(long, value_name = "IP:PORT", env = "MERIDIAN_GATEWAY_LISTEN")]
    pub gateway_listen: Option<Listen>,

    /// The chain of the region's certificate, PEM
    #[arg(long, value_name = "FILE", env = "MERIDIAN_GATEWAY_CERT")]
    pub gateway_cert: Option<PathBuf>,

    /// The private key of the region's certificate, PEM
    #[arg(long, value_name = "FILE", env = "MERIDIAN_GATEWAY_KEY")]
    pub gateway_key: Option<PathBuf>,

    /// The authorities of the regions' certificates, PEM
    #[arg(long, value_name = "FILE", env = "MERIDIAN_GATEWAY_CA")]
    pub gateway_ca: Option<PathBuf>,

    /// Another region; repeat it for more (commas in the environment). Replaces all peers of the file
    #[arg(long, value_name = "NAME=ID@HOST:PORT", env = "MERIDIAN_PEER", value_delimiter = ',')]
    pub peer: Vec<PeerArg>,

    /// Sets this node's clock wrong on purpose, such as -250ms; for tests
    #[arg(long, value_name = "DURATION", env = "MERIDIAN_CLOCK_OFFSET", allow_hyphen_values = true)]
    pub clock_offset: Option<Offset>,

    /// How weighty a message must be to be logged
    #[arg(long, value_name = "LEVEL", env = "MERIDIAN_LOG_LEVEL")]
    pub log_level: Option<LogLevel>,

    /// In which form messages are logged
    #[arg(long, value_name = "FORMAT", env = "MERIDIAN_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
}

impl Overrides {
    /// All layers: the defaults, the file of `--config` if there is one, and these on top; checked as a whole.
    ///
    /// # Errors
    /// A [`Report`] of everything that is wrong, whichever layer it comes from.
    pub fn load(&self) -> Result<NodeConfig, Report> {
        let Some(path) = &self.config else { return self.apply(NodeConfig::default()) };
        crate::load_with(path, |mut config: NodeConfig, problems| {
            config.rebase(path);
            self.apply_to(&mut config, problems);
            config.check(problems);
            config
        })
    }

    /// These on top of `config`, checked as a whole.
    ///
    /// # Errors
    /// A [`Report`] of everything that is wrong.
    pub fn apply(&self, mut config: NodeConfig) -> Result<NodeConfig, Report> {
        let mut problems = Problems::default();
        self.apply_to(&mut config, &mut problems);
        config.check(&mut problems);
        problems.into_report("the configuration", "", None)?;
        Ok(config)
    }

    fn apply_to(&self, config: &mut NodeConfig, problems: &mut Problems) {
        let NodeConfig { region, node, memory, auth, tls, clock, cluster, gateway, peers, log, .. } = config;
        let mut layer = Layer { problems };
        layer.set("listen", &self.listen, "node.listen", &mut node.listen);
        layer.set("admin", &self.admin, "node.admin", &mut node.admin);
        layer.set("dir", &self.dir.clone().map(Some), "node.dir", &mut node.dir);
        layer.set("region", &self.region, "region.name", &mut region.name);
        layer.set("region-id", &self.region_id, "region.id", &mut region.id);
        layer.set("workers", &self.workers.map(Some), "node.workers", &mut node.workers);
        layer.set("maxmemory", &self.maxmemory, "memory.maxmemory", &mut memory.maxmemory);
        layer.set("maxmemory-policy", &self.maxmemory_policy, "memory.maxmemory_policy", &mut memory.maxmemory_policy);
        if self.requirepass.is_some() {
            // One password replaces the other, wherever the file keeps it.
            auth.requirepass_file = None;
        }
        layer.set("requirepass", &self.requirepass.clone().map(Some), "auth.requirepass", &mut auth.requirepass);
        layer.set("tls-listen", &self.tls_listen, "tls.listen", &mut tls.listen);
        layer.set("tls-cert", &self.tls_cert.clone().map(Some), "tls.cert", &mut tls.cert);
        layer.set("tls-key", &self.tls_key.clone().map(Some), "tls.key", &mut tls.key);
        layer.set("tls-ca", &self.tls_ca.clone().map(Some), "tls.ca", &mut tls.ca);
        layer.set("cluster-listen", &self.cluster_listen, "cluster.listen", &mut cluster.listen);
        let announce = self.cluster_announce.clone().map(Some);
        layer.set("cluster-announce", &announce, "cluster.announce", &mut cluster.announce);
        let seeds = (!self.cluster_seed.is_empty()).then(|| self.cluster_seed.clone());
        layer.set("cluster-seed", &seeds, "cluster.seeds", &mut cluster.seeds);
        layer.set("cluster-cert", &self.cluster_cert.clone().map(Some), "cluster.cert", &mut cluster.cert);
        layer.set("cluster-key", &self.cluster_key.clone().map(Some), "cluster.key", &mut cluster.key);
        layer.set("cluster-ca", &self.cluster_ca.clone().map(Some), "cluster.ca", &mut cluster.ca);
        layer.set("cluster-proxy", &self.cluster_proxy, "cluster.proxy", &mut cluster.proxy);
        layer.set("gateway-listen", &self.gateway_listen, "gateway.listen", &mut gateway.listen);
        layer.set("gateway-cert", &self.gateway_cert.clone().map(Some), "gateway.cert", &mut gateway.cert);
        layer.set("gateway-key", &self.gateway_key.clone().map(Some), "gateway.key", &mut gateway.key);
        layer.set("gateway-ca", &self.gateway_ca.clone().map(Some), "gateway.ca", &mut gateway.ca);
        let named = (!self.peer.is_empty()).then(|| self.peer.iter().map(|PeerArg(peer)| peer.clone()).collect());
        layer.set("peer", &named, "peer", peers);
        layer.set("clock-offset", &self.clock_offset, "clock.offset", &mut clock.offset);
        layer.set("log-level", &self.log_level, "log.level", &mut log.level);
        layer.set("log-format", &self.log_format, "log.format", &mut log.format);
    }
}

/// Lays values over others and remembers which, so that an error names the flag and not the file.
struct Layer<'a> {
    problems: &'a mut Problems,
}

impl Layer<'_> {
    fn set<T: Clone>(&mut self, flag: &str, value: &Option<T>, path: &str, target: &mut T) {
        if let Some(value) = value {
            target.clone_from(value);
            self.problems.set_elsewhere(path, format!("--{flag} or {}", variable(flag)));
        }
    }
}

/// The environment variable of a flag.
fn variable(flag: &str) -> String {
    format!("MERIDIAN_{}", flag.replace('-', "_").to_uppercase())
}

/// A peer as a flag: `NAME=ID@HOST:PORT`.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerArg(pub Peer);

impl FromStr for PeerArg {
    type Err = InvalidPeer;

    fn from_str(text: &str) -> Result<Self, InvalidPeer> {
        let (region, rest) = text.trim().split_once('=').ok_or(InvalidPeer)?;
        let (id, addr) = rest.split_once('@').ok_or(InvalidPeer)?;
        let region = region.parse().map_err(|_| InvalidPeer)?;
        let id = region_id::parse(id).map_err(|_| InvalidPeer)?;
        let addr: PeerAddress = addr.parse().map_err(|_| InvalidPeer)?;
        Ok(Self(Peer { region, id, addr: addr.into() }))
    }
}

/// A text that names no peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a peer: write NAME=ID@HOST:PORT, such as eu-west=2@gateway.eu-west.example:7203")]
pub struct InvalidPeer;

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::{Args, Command, FromArgMatches};

    use super::{Overrides, variable};
    use crate::{NodeConfig, Size};

    fn overrides(args: &[&str]) -> Overrides {
        let command = Overrides::augment_args(Command::new("meridian").no_binary_name(true));
        Overrides::from_arg_matches(&command.get_matches_from(args)).unwrap()
    }

    #[test]
    fn every_flag_has_a_variable_of_its_name() {
        let command = Overrides::augment_args(Command::new("meridian"));
        for arg in command.get_arguments() {
            let flag = arg.get_long().unwrap();
            assert_eq!(arg.get_env().unwrap().to_str().unwrap(), variable(flag));
        }
    }

    #[test]
    fn every_flag_but_the_file_changes_the_configuration() {
        let args = [
            "--listen=127.0.0.1:1 --admin=127.0.0.1:2 --dir=d --region=a --region-id=9 --workers=3 --maxmemory=1gb",
            "--maxmemory-policy=allkeys-lfu --requirepass=p --tls-listen=127.0.0.1:3 --tls-cert=c --tls-key=k --tls-ca=a",
            "--cluster-listen=127.0.0.1:5 --cluster-announce=n --cluster-seed=n:5 --cluster-cert=c --cluster-key=k",
            "--cluster-ca=a --cluster-proxy=127.0.0.1:6",
            "--gateway-listen=127.0.0.1:4 --gateway-cert=c --gateway-key=k --gateway-ca=a --peer=b=2@b:7",
            "--clock-offset=-1s --log-level=debug --log-format=json",
        ];
        let args: Vec<_> = args.iter().flat_map(|line| line.split(' ')).collect();
        let flags = Overrides::augment_args(Command::new("meridian")).get_arguments().count() - 1;
        assert_eq!(args.len(), flags);
        let (mut config, mut problems) = (NodeConfig::default(), crate::Problems::default());
        for arg in &args {
            let before = config.clone();
            overrides(&[arg]).apply_to(&mut config, &mut problems);
            assert_ne!(config, before, "{arg} changes nothing");
        }
        // All at once but for one: a node of a cluster has no gateway inside.
        let args: Vec<_> = args.into_iter().filter(|arg| !arg.starts_with("--gateway-listen")).collect();
        config.gateway.listen = NodeConfig::default().gateway.listen;
        assert_eq!(overrides(&args).apply(NodeConfig::default()).unwrap(), config);
        assert_eq!(config.memory.maxmemory, Size::gib(1));
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        fs::write(&file, "[memory]\nmaxmemory = \"1GiB\"\nmaxmemory_samples = 7\n[log]\nlevel = \"warn\"").unwrap();
        let config = overrides(&["--config", file.to_str().unwrap(), "--maxmemory", "2GiB"]).load().unwrap();
        assert_eq!(config.memory.maxmemory, Size::gib(2));
        assert_eq!(config.memory.maxmemory_samples, 7);
        assert_eq!(config.limits, NodeConfig::default().limits);
    }

    #[test]
    fn flag_completes_a_file_that_is_invalid_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        fs::write(&file, "[tls]\nlisten = \"127.0.0.1:9\"\ncert = \"c.pem\"").unwrap();
        let path = file.to_str().unwrap();
        assert!(overrides(&["--config", path]).load().is_err());
        assert!(overrides(&["--config", path, "--tls-key", "k.pem"]).load().is_ok());
    }

    #[test]
    fn error_names_the_flag_that_caused_it() {
        let report = overrides(&["--workers", "0"]).apply(NodeConfig::default()).unwrap_err().to_string();
        assert!(report.contains("--workers or MERIDIAN_WORKERS"), "{report}");
    }

    #[test]
    fn repeated_peers_replace_those_of_the_file() {
        let args = ["--peer", "b=2@b:7", "--peer", "c=3@[fd00::1]:7", "--gateway-listen=127.0.0.1:7"];
        let files = ["--gateway-cert=c", "--gateway-key=k", "--gateway-ca=a", "--dir=d"];
        let config = overrides(&[&args[..], &files[..]].concat()).apply(NodeConfig::default()).unwrap();
        let peers: Vec<_> = config
            .peers
            .iter()
            .map(|peer| format!("{}={}@{}", peer.region, peer.id, peer.addr.single().unwrap()))
            .collect();
        assert_eq!(peers, ["b=2@b:7", "c=3@[fd00::1]:7"]);
    }
}
