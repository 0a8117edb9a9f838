//! The processes of a lab as machines of their own, whose cables can be cut.
//!
//! On loopback a process can be ended or stopped, but it cannot be cut off, and least of all one way. So a lab whose scenario asks
//! for that gives each process a network namespace with an address and a cable, and joins the cables by a bridge. The lab itself,
//! with the clients of the scenario, is one more machine, which all others reach whatever is cut.
//!
//! # How
//! Who has no privileges may have some in a user namespace of their own, so [`enter`] runs the lab anew in one, with a network and
//! mounts of its own, of which nothing is left when it ends. There `ip` makes a namespace and a veth pair for each process, and
//! `nsenter` starts it there. A namespace stays when its process is killed, so who is started again has the address that it had.
//!
//! A cut is, at whoever sends, a neighbour with a hardware address that nobody has: what is sent there is lost without a word, and what
//! comes from there still arrives. Namespaces of Linux, `unshare`, `nsenter` and `ip` are needed; without them it is said so.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    env,
    net::{IpAddr, Ipv4Addr},
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context, anyhow, ensure};
use futures_util::future::try_join_all;
use scenario::timeline::Way;
use tokio::io::AsyncWriteExt as _;

use super::plan::Plan;

/// The flag that tells a lab that it is in namespaces of its own.
pub(super) const INSIDE_FLAG: &str = "--inside-namespaces";

/// New namespaces, in which whoever asks is root.
const UNSHARE: [&str; 4] = ["--user", "--map-root-user", "--net", "--mount"];
/// Named namespaces are remembered below `/run`, which is nobody's to write to, so there is another.
const PREPARE: &str = r#"mount -t tmpfs none /run && ip link set lo up && exec "$0" "$@""#;
const BRIDGE: &str = "bridge";
/// Where the lab itself is, in the network of [`PREFIX`] bits that all addresses are in.
const LAB: Ipv4Addr = Ipv4Addr::new(10, 77, 255, 254);
const PREFIX: u8 = 16;
/// A hardware address that nobody has.
const NOWHERE: &str = "02:00:00:00:00:fe";

/// What a machine is for. Each number is counted from 0.
#[derive(Clone, Copy, Debug)]
pub(super) enum Host {
    /// A node.
    Node(u16),
    /// A gateway that is a process.
    Gateway(u16),
    /// The WAN.
    Wan,
}

impl Host {
    /// Its address.
    pub(super) fn address(self) -> Ipv4Addr {
        let (third, number) = match self {
            Self::Node(number) => (0, number),
            Self::Gateway(number) => (1, number),
            Self::Wan => (2, 0),
        };
        let last = u8::try_from(number + 1).expect("limits::NODES_MAX fits");
        Ipv4Addr::new(10, 77, third, last)
    }
}

/// Runs this very program anew with the same arguments, in namespaces of its own. It is the same process, so whoever waits for
/// it or sends it signals notices nothing.
///
/// # Errors
/// If that cannot be had here. Else it does not return.
pub(super) fn enter() -> anyhow::Result<Infallible> {
    let inside = || {
        let mut unshare = Command::new("unshare");
        unshare.args(UNSHARE).args(["sh", "-c", PREPARE]);
        unshare
    };
    let needed = "cutting the cables of processes takes Linux, the commands unshare, nsenter and ip, and leave to make namespaces";
    let tried = inside().args(["nsenter", "--net=/proc/self/ns/net", "ip", "link"]).stdin(Stdio::null()).output();
    let tried = tried.context(needed)?;
    ensure!(tried.status.success(), "{needed}: {}", String::from_utf8_lossy(&tried.stderr).trim());
    let error = inside().arg(env::current_exe()?).args(env::args_os().skip(1)).arg(INSIDE_FLAG).exec();
    Err(error).context("cannot run in namespaces")
}

/// The machines of all processes, by their names.
#[derive(Debug)]
pub(super) struct Machines {
    addresses: BTreeMap<String, IpAddr>,
    cuts: BTreeMap<String, Way>,
}

impl Machines {
    /// Makes a machine for each process of a plan, and joins them.
    ///
    /// # Errors
    /// If that cannot be done.
    pub(super) async fn lay(plan: &Plan) -> anyhow::Result<Self> {
        let nodes = plan.nodes().map(|node| (node.name.clone(), node.redis.ip()));
        let gateways = plan.gateways().map(|gateway| (gateway.name.clone(), gateway.links.ip()));
        let wan = plan.topology.iter().map(|topology| (plan.wan_name().to_owned(), topology.control.ip()));
        let addresses: BTreeMap<_, _> = nodes.chain(gateways).chain(wan).collect();
        let mut lines = vec![
            format!("link add {BRIDGE} type bridge"),
            format!("address add {LAB}/{PREFIX} dev {BRIDGE}"),
            format!("link set {BRIDGE} up"),
        ];
        for (number, name) in addresses.keys().enumerate() {
            lines.push(format!("netns add {name}"));
            lines.push(format!("link add cable{number} type veth peer name eth0 netns {name}"));
            lines.push(format!("link set cable{number} master {BRIDGE} up"));
        }
        ip(&[], &lines).await?;
        let machines = addresses.iter().map(async |(name, address)| {
            let address = format!("address add {address}/{PREFIX} dev eth0");
            ip(&["-n", name], &["link set lo up".to_owned(), address, "link set eth0 up".to_owned()]).await
        });
        try_join_all(machines).await?;
        Ok(Self { addresses, cuts: BTreeMap::new() })
    }

    /// The words before a command that is to run on a machine.
    pub(super) fn at(name: &str) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/run/netns/{name}")]
    }

    /// Cuts a machine off from all others but the lab; what was cut there before is mended.
    ///
    /// # Errors
    /// If a cable cannot be cut.
    pub(super) async fn cut(&mut self, name: &str, way: Way) -> anyhow::Result<()> {
        self.change(|cuts| cuts.insert(name.to_owned(), way)).await
    }

    /// Mends the cables of a machine, as far as the others are not cut off themselves.
    ///
    /// # Errors
    /// If a cable cannot be mended.
    pub(super) async fn mend(&mut self, name: &str) -> anyhow::Result<()> {
        self.change(|cuts| cuts.remove(name)).await
    }

    async fn change(&mut self, change: impl FnOnce(&mut BTreeMap<String, Way>) -> Option<Way>) -> anyhow::Result<()> {
        let before = self.lost();
        change(&mut self.cuts);
        let after = self.lost();
        let mut lines = BTreeMap::<String, Vec<String>>::new();
        for pair @ (from, to) in before.symmetric_difference(&after) {
            let address = self.addresses.get(to).ok_or_else(|| anyhow!("there is no machine {to}"))?;
            let line = if after.contains(pair) {
                format!("neighbour replace {address} lladdr {NOWHERE} nud permanent dev eth0")
            } else {
                format!("neighbour delete {address} dev eth0")
            };
            lines.entry(from.clone()).or_default().push(line);
        }
        try_join_all(lines.iter().map(async |(from, lines)| ip(&["-n", from], lines).await)).await?;
        Ok(())
    }

    /// From whom to whom everything is lost.
    fn lost(&self) -> BTreeSet<(String, String)> {
        let is_cut = |name: &String, ways: [Way; 2]| self.cuts.get(name).is_some_and(|way| ways.contains(way));
        let pairs = self.addresses.keys().flat_map(|from| self.addresses.keys().map(move |to| (from, to)));
        let is_lost = |(from, to): &(&String, &String)| {
            from != to && (is_cut(from, [Way::Out, Way::Both]) || is_cut(to, [Way::In, Way::Both]))
        };
        pairs.filter(is_lost).map(|(from, to)| (from.clone(), to.clone())).collect()
    }
}

/// Runs these lines as one batch of `ip`.
async fn ip(flags: &[&str], lines: &[String]) -> anyhow::Result<()> {
    let mut command = tokio::process::Command::new("ip");
    command.args(flags).args(["-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("cannot start ip")?;
    let mut stdin = child.stdin.take().context("ip has no standard input")?;
    stdin.write_all(lines.join("\n").as_bytes()).await?;
    stdin.write_all(b"\n").await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "ip fails: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Host, Machines, Way};

    fn lost(cuts: &[(&str, Way)]) -> Vec<(String, String)> {
        let hosts = [("a", Host::Node(0)), ("b", Host::Node(1)), ("g", Host::Gateway(0))];
        let addresses = hosts.map(|(name, host)| (name.to_owned(), host.address().into())).into();
        let cuts: BTreeMap<_, _> = cuts.iter().map(|(name, way)| ((*name).to_owned(), *way)).collect();
        Machines { addresses, cuts }.lost().into_iter().collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
    }

    #[test]
    fn what_is_lost_goes_the_way_that_is_cut() {
        assert_eq!(lost(&[]), []);
        assert_eq!(lost(&[("a", Way::Out)]), pairs(&[("a", "b"), ("a", "g")]));
        assert_eq!(lost(&[("a", Way::In)]), pairs(&[("b", "a"), ("g", "a")]));
        assert_eq!(lost(&[("a", Way::Both)]), pairs(&[("a", "b"), ("a", "g"), ("b", "a"), ("g", "a")]));
    }

    #[test]
    fn a_cable_between_two_that_are_cut_off_is_cut_as_long_as_either_is() {
        let both = lost(&[("a", Way::Out), ("b", Way::In)]);
        assert_eq!(both, pairs(&[("a", "b"), ("a", "g"), ("g", "b")]));
        assert!(lost(&[("b", Way::In)]).contains(&("a".to_owned(), "b".to_owned())));
    }

    #[test]
    fn no_two_machines_have_one_address() {
        let addresses = [Host::Node(0), Host::Node(98), Host::Gateway(0), Host::Wan].map(Host::address);
        let distinct: std::collections::BTreeSet<_> = addresses.into_iter().chain([super::LAB]).collect();
        assert_eq!(distinct.len(), 5);
    }
}
