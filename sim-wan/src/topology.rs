//! What a simulated WAN consists of, as it stands in a file: links, and the routes of TCP connections across them.
//!
//! ```toml
//! seed = 7                        # chooses jitter and losses; the same seed draws the same ones
//! control = "127.0.0.1:7900"      # where the control API listens; port 0 takes a free one
//!
//! [[links]]
//! from = "us-east"
//! to = "eu-west"
//! delay_ms = 50                   # one way
//! jitter_ms = 2                   # 0 to this is added for each chunk; default 0
//! rate_mbit = 1000                # shared by all connections of the link; default unlimited
//! loss = 0.0001                   # chance of a segment to be lost; default 0
//! both_ways = true                # stands for eu-west -> us-east too; default false
//!
//! [[routes]]
//! from = "us-east"                # who connects here is taken to be in us-east,
//! to = "eu-west"
//! listen = "127.0.0.1:7911"
//! target = "127.0.0.1:7102"       # and reaches this in eu-west
//! ```
//!
//! Each value is checked where it stands, by its type, so that a TOML reader can point at it; what concerns several of
//! them is checked by [`Topology::validate`], before any socket is opened. A link is an ordered pair of regions. A
//! route needs the links both ways, since what is answered comes back.

use std::{collections::BTreeSet, fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    limits,
    model::{AddLineError, Bounds, Delay, LineSettings, Loss, Network, Rate, State},
};

/// A whole simulated WAN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Chooses jitter and losses.
    #[serde(default)]
    pub seed: u64,
    /// Where the control API listens.
    pub control: SocketAddr,
    /// The links.
    pub links: Vec<LinkSpec>,
    /// The routes of connections across them.
    #[serde(default)]
    pub routes: Vec<RouteSpec>,
}

/// One link, or with `both_ways` a pair of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkSpec {
    /// The region where it begins.
    pub from: String,
    /// The region where it ends.
    pub to: String,
    /// How long each byte takes at the least, one way.
    #[serde(rename = "delay_ms")]
    pub delay: Delay,
    /// The greatest addition to the delay.
    #[serde(default, rename = "jitter_ms")]
    pub jitter: Delay,
    /// What it carries; none for no limit.
    #[serde(default, rename = "rate_mbit", skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The chance of a segment to be lost.
    #[serde(default)]
    pub loss: Loss,
    /// Whether the same holds from `to` to `from`.
    #[serde(default)]
    pub both_ways: bool,
}

impl LinkSpec {
    /// A link that does nothing but delay.
    pub fn with_delay(from: &str, to: &str, delay: Delay) -> Self {
        Self {
            from: from.to_owned(),
            to: to.to_owned(),
            delay,
            jitter: Delay::ZERO,
            rate: None,
            loss: Loss::NONE,
            both_ways: false,
        }
    }

    /// What its line begins with.
    pub fn settings(&self) -> LineSettings {
        LineSettings { delay: self.delay, jitter: self.jitter, rate: self.rate, loss: self.loss, state: State::Up }
    }
}

/// A listening socket in front of one address of another region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// The region of those who connect.
    pub from: String,
    /// The region of the target.
    pub to: String,
    /// Where connections are taken. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// What they reach.
    pub target: Target,
}

/// An address to connect to: `host:port`. A host name is looked up anew for each connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target(String);

impl Target {
    /// The address as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Target {
    type Error = InvalidTarget;

    fn try_from(address: String) -> Result<Self, InvalidTarget> {
        if address.parse::<SocketAddr>().is_ok() {
            return Ok(Self(address));
        }
        let named = address.rsplit_once(':').filter(|(host, port)| {
            let port = port.parse::<u16>().ok().filter(|&port| port != 0);
            port.is_some() && !host.is_empty() && !host.contains([':', '/', '[', ']', ' '])
        });
        if named.is_some() { Ok(Self(address)) } else { Err(InvalidTarget { address }) }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self(address.to_string())
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.0
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address:?} is no target: give host:port, such as 127.0.0.1:7000, [::1]:7000 or node-1:7000")]
pub struct InvalidTarget {
    /// What was given.
    pub address: String,
}

/// Why a topology cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// A link is wrong.
    #[error(transparent)]
    Link(#[from] AddLineError),
    /// There is nothing to simulate.
    #[error("a WAN needs at least one link")]
    NoLinks,
    /// A route lacks a link.
    #[error("route {from} -> {to} needs link {missing_from} -> {missing_to}: add it, or set both_ways on the other")]
    RouteWithoutLink {
        /// Where the route begins.
        from: String,
        /// Where it ends.
        to: String,
        /// Where the missing link begins.
        missing_from: String,
        /// Where it ends.
        missing_to: String,
    },
    /// Two sockets would listen at one address.
    #[error("{0} is listened at twice")]
    ListenedTwice(SocketAddr),
    /// More than [`limits::ROUTES`].
    #[error("{0} routes are too many: a WAN has at most {max}", max = limits::ROUTES)]
    TooManyRoutes(usize),
}

impl Topology {
    /// Checks what no single value can tell.
    ///
    /// # Errors
    /// [`TopologyError`]: the first thing that is wrong.
    pub fn validate(&self) -> Result<(), TopologyError> {
        self.network::<()>().map(drop)
    }

    /// Builds the lines, all of them up, after the same checks.
    ///
    /// # Errors
    /// [`TopologyError`]: the first thing that is wrong.
    pub fn network<T>(&self) -> Result<Network<T>, TopologyError> {
        let mut network = Network::new(self.seed, Bounds::default());
        for link in &self.links {
            network.add_line(&link.from, &link.to, link.settings())?;
            if link.both_ways {
                network.add_line(&link.to, &link.from, link.settings())?;
            }
        }
        if self.links.is_empty() {
            return Err(TopologyError::NoLinks);
        }
        self.check_routes(&network)?;
        Ok(network)
    }

    fn check_routes<T>(&self, network: &Network<T>) -> Result<(), TopologyError> {
        if self.routes.len() > limits::ROUTES {
            return Err(TopologyError::TooManyRoutes(self.routes.len()));
        }
        let mut listening = BTreeSet::from([self.control]);
        for RouteSpec { from, to, listen, .. } in &self.routes {
            for (missing_from, missing_to) in [(from, to), (to, from)] {
                if network.line(missing_from, missing_to).is_none() {
                    let [from, to, missing_from, missing_to] = [from, to, missing_from, missing_to].map(String::clone);
                    return Err(TopologyError::RouteWithoutLink { from, to, missing_from, missing_to });
                }
            }
            if !listening.insert(*listen) && listen.port() != 0 {
                return Err(TopologyError::ListenedTwice(*listen));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Target, Topology, TopologyError};

    const WHOLE: &str = r#"
        seed = 7
        control = "127.0.0.1:0"
        [[links]]
        from = "us-east"
        to = "eu-west"
        delay_ms = 6.5
        jitter_ms = 2
        rate_mbit = 1000
        loss = 0.001
        both_ways = true
        [[routes]]
        from = "us-east"
        to = "eu-west"
        listen = "127.0.0.1:0"
        target = "127.0.0.1:7102"
    "#;

    fn error(text: &str) -> String {
        match toml::from_str::<Topology>(text) {
            Err(error) => error.message().to_owned(),
            Ok(topology) => topology.validate().expect_err("the topology is wrong").to_string(),
        }
    }

    #[test]
    fn a_file_reads_and_writes_back_the_same() {
        let topology: Topology = toml::from_str(WHOLE).unwrap();
        topology.validate().unwrap();
        assert_eq!(topology.links[0].delay.ms(), 6.5);
        let written = toml::to_string(&topology).unwrap();
        assert_eq!(toml::from_str::<Topology>(&written).unwrap(), topology);
    }

    #[test]
    fn values_that_no_line_can_have_are_refused_where_they_stand() {
        assert!(error(&WHOLE.replace("6.5", "-1")).contains("-1 is no delay: give 0 to 60000 milliseconds"));
        assert!(error(&WHOLE.replace("1000", "0")).contains("0 is no rate"));
        assert!(error(&WHOLE.replace("0.001", "2")).contains("2 is no loss"));
        assert!(error(&WHOLE.replace("jitter_ms", "jiter_ms")).contains("unknown field"));
        assert!(error(&WHOLE.replace("127.0.0.1:7102", "7102")).contains("is no target"));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        assert!(error(&WHOLE.replace("both_ways = true", "")).contains("needs link eu-west -> us-east"));
        assert!(error(&WHOLE.replace("to = \"eu-west\"", "to = \"us-east\"")).contains("leads nowhere"));
        assert!(error(&WHOLE.replace("127.0.0.1:0", "127.0.0.1:7900")).contains("listened at twice"));
        let twice = format!("{WHOLE}\n[[links]]\nfrom = \"eu-west\"\nto = \"us-east\"\ndelay_ms = 1");
        assert!(error(&twice).contains("given twice"));
        let empty = Topology { links: Vec::new(), ..toml::from_str(WHOLE).unwrap() };
        assert_eq!(empty.validate(), Err(TopologyError::NoLinks));
    }

    #[test]
    fn a_target_is_an_address_or_a_name_with_a_port() {
        for good in ["127.0.0.1:1", "[::1]:7000", "node-1:7000", "node.eu-west.example:7000"] {
            assert_eq!(Target::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        for bad in ["", "node", ":7000", "node:", "node:0", "node:70000", "::1:7000", "http://node:7000"] {
            assert!(Target::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
