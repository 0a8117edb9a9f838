//! The configuration of a gateway that is a process of its own: the end of the links of a region that is a cluster.
//!
//! It knows two sides. The *bus* of its region, where nodes reach it and it reaches them, is in `[cluster]`, as it is for
//! nodes. The links of other regions are in `[gateway]` and `[[peer]]`, as they are for a node with its gateway inside. It
//! holds nothing, so there is no folder, and nothing to size.
//!
//! What makes a gateway must be said: who it is, where its nodes are, which regions there are besides. One that began
//! without being told would only look as if it worked.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Clock, GatewayName, Host, Listen, Log, Peer, PeerAddress, Problems, Region, Report, TlsFiles};

/// A gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// The region whose gateway it is.
    pub region: Region,
    /// Its end of the links.
    pub gateway: LinkEnd,
    /// The nodes of its region, and how they reach it.
    #[serde(default)]
    pub cluster: Bus,
    /// Its HTTP.
    #[serde(default)]
    pub admin: Admin,
    /// How far clocks are trusted.
    #[serde(default)]
    pub clock: Clock,
    /// The other regions.
    #[serde(rename = "peer", default)]
    pub peers: Vec<Peer>,
    /// What the process says of itself.
    #[serde(default)]
    pub log: Log,
}

impl GatewayConfig {
    /// Loads and checks a file. Relative paths in it are relative to the file.
    ///
    /// # Errors
    /// A [`Report`] of everything that is wrong with it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Report> {
        let path = path.as_ref();
        crate::load_with(path, |config: Self, problems| config.finished(path, problems))
    }

    /// Parses and checks a text; `file_name` is how errors call it, and what relative paths are relative to.
    ///
    /// # Errors
    /// A [`Report`] of everything that is wrong with it.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, Report> {
        crate::parse_with(file_name, text, |config: Self, problems| config.finished(Path::new(file_name), problems))
    }

    fn finished(mut self, file: &Path, problems: &mut Problems) -> Self {
        self.rebase(file);
        self.check(problems);
        self
    }

    /// Makes the relative paths relative to the folder that `file` is in.
    fn rebase(&mut self, file: &Path) {
        let Some(folder) = file.parent() else { return };
        let Self { gateway, cluster, .. } = self;
        let gateway = [&mut gateway.cert, &mut gateway.key, &mut gateway.ca];
        let cluster = [&mut cluster.cert, &mut cluster.key, &mut cluster.ca];
        for path in gateway.into_iter().chain(cluster).flatten() {
            *path = folder.join(&path);
        }
    }
}

/// `[gateway]`: the end of the region's links. Both ends of a link show a certificate, always.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkEnd {
    /// Its name among the gateways of its region.
    pub name: GatewayName,
    /// Where the links of other regions arrive.
    #[serde(default)]
    pub listen: Listen,
    /// The chain of the region's certificate, PEM; it bears the name of the region.
    #[serde(default)]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// The authorities of the regions' certificates, PEM.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

impl LinkEnd {
    /// The files of this end, which are all there if the whole was checked.
    pub fn files(&self) -> Option<TlsFiles<'_>> {
        TlsFiles::all(&self.cert, &self.key, &self.ca)
    }
}

/// `[cluster]`: the nodes of the region, and how they reach this gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bus {
    /// Where nodes of the region connect.
    pub listen: Listen,
    /// The host that nodes are told to reach this gateway by; none is the address of `listen`.
    pub announce: Option<Host>,
    /// Nodes to find the cluster by.
    pub seeds: Vec<PeerAddress>,
    /// The chain of the gateway's certificate on the bus, PEM; it bears the name of the region.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// The authorities of the nodes' certificates, PEM.
    pub ca: Option<PathBuf>,
}

impl Bus {
    /// The files, if all three are there.
    pub fn files(&self) -> Option<TlsFiles<'_>> {
        TlsFiles::all(&self.cert, &self.key, &self.ca)
    }
}

/// `[admin]`: metrics, health and status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Where they are served over HTTP, in plain text and to anybody.
    pub listen: Listen,
}

impl Admin {
    /// The port: one above that of nodes, so that the two get along on one machine.
    pub const PORT: u16 = crate::Node::ADMIN_PORT + 1;
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: Listen::At(SocketAddr::from((Ipv4Addr::LOCALHOST, Self::PORT))) }
    }
}
