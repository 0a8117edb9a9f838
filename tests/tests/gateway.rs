//! Gateways as processes beside a real cluster: who knows whom, whatever dies, hangs or comes back. They are led to a region
//! that is not there; what passes through them is tested where streams are.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use meridian_tests::{Frozen, Lab, Leashed, Node, kill, meridian, read_json, until, with_lab};
use serde_json::Value;

#[test]
fn nodes_know_the_gateways_that_live_and_no_others() {
    with_lab(&["--regions=us-east", "--primaries=2", "--replicas=0"], |lab| {
        let [mut one, two] = [Gateway::start(lab, "one")?, Gateway::start(lab, "two")?];
        one.until_attached_to(2)?;
        two.until_attached_to(2)?;
        until_known(lab, &["one", "two"])?;

        // One that hangs is forgotten, and known again when it goes on.
        let frozen = Frozen::freeze(two.process.pid())?;
        until_known(lab, &["one"])?;
        drop(frozen);
        until_known(lab, &["one", "two"])?;

        // One that is killed is forgotten, and let in again as another process.
        kill(two.process.pid())?;
        until_known(lab, &["one"])?;
        drop(two);
        let two = Gateway::start(lab, "two")?;
        until_known(lab, &["one", "two"])?;
        two.until_attached_to(2)?;

        // A node that has restarted learns of both.
        let last = lab.regions[0].nodes.len() - 1;
        kill(lab.regions[0].nodes[last].pid)?;
        one.until_attached_to(1)?;
        lab.regions[0].nodes[last].restart()?;
        one.until_attached_to(2)?;
        until_known(lab, &["one", "two"])?;

        // Told to end, it ends in order.
        meridian_tests::terminate(one.process.pid())?;
        ensure!(one.process.until_ended()?.success(), "a gateway that was told to end has not failed");
        until_known(lab, &["two"])
    });
}

#[test]
fn a_second_gateway_of_a_name_is_refused_and_says_so() {
    with_lab(&["--regions=us-east", "--primaries=2", "--replicas=0"], |lab| {
        let first = Gateway::start(lab, "same")?;
        first.until_attached_to(2)?;
        let second = Gateway::start_as(lab, "second", "same")?;
        until("the second says why it is not let in", || {
            Ok(second.status()?.to_string().contains("another gateway of that name").then_some(()))
        })?;
        let Gateway { admin, .. } = &second;
        ensure!(
            read_json::<Value>(&format!("http://{admin}/health/ready")).is_err(),
            "it is ready, and nobody knows it"
        );
        first.until_attached_to(2)?;
        drop(first);
        second.until_attached_to(2)
    });
}

#[test]
fn a_gateway_whose_file_is_wrong_does_not_start() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("gateway.toml");
    fs::write(&file, "[region]\nname = \"us-east\"\n[gateway]\nname = \"One\"\n")?;
    let output = Command::new(meridian()?).args(["gateway", "--config"]).arg(&file).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2), "{}: {said}", output.status);
    ensure!(said.contains("not a gateway's name"), "{said}");
    Ok(())
}

/// A gateway beside the first region of a lab.
struct Gateway {
    admin: SocketAddr,
    process: Leashed,
}

impl Gateway {
    fn start(lab: &Lab, name: &str) -> Result<Self> {
        Self::start_as(lab, name, name)
    }

    /// Starts one whose files have one name, and which has another.
    fn start_as(lab: &Lab, file_name: &str, name: &str) -> Result<Self> {
        let (region, dir) = (&lab.regions[0], lab.dir.path());
        let node: toml::Table = fs::read_to_string(dir.join(format!("{}.toml", region.nodes[0].name)))?.parse()?;
        let seed = node["cluster"]["listen"].as_str().context("a node has no bus")?.to_owned();
        let [bus, admin, nobody] = free_addresses()?;
        let files = format!("cert = \"certs/{0}.pem\"\nkey = \"certs/{0}.key\"\nca = \"certs/ca.pem\"\n", region.name);
        let config = format!(
            "region = {{ name = \"{}\", id = {} }}\n\
             [gateway]\nname = \"{name}\"\n{files}\
             [cluster]\nlisten = \"{bus}\"\nseeds = [\"{seed}\"]\n{files}\
             [admin]\nlisten = \"{admin}\"\n\
             [[peer]]\nregion = \"elsewhere\"\nid = 9\naddr = \"{nobody}\"\n",
            region.name, region.id
        );
        let file = dir.join(format!("gateway-{file_name}.toml"));
        fs::write(&file, config)?;
        let mut command = Command::new(meridian()?);
        command.args(["gateway", "--until-stdin-closes", "--config"]).arg(&file);
        let process = Leashed::start(&mut command, &file.with_extension("log"))?;
        Ok(Self { admin, process })
    }

    fn status(&self) -> Result<Value> {
        read_json(&format!("http://{}/status", self.admin))
    }

    fn until_attached_to(&self, count: usize) -> Result<()> {
        until(&format!("a gateway is attached to {count} nodes"), || {
            let status = self.status()?;
            let nodes = status["nodes"].as_array().context("no list of nodes")?;
            let attached = nodes.iter().filter(|node| node["attached"] == true).count();
            ensure!(attached == count, "{status}");
            read_json::<Value>(&format!("http://{}/health/ready", self.admin)).map(|_| Some(()))
        })
    }
}

/// Waits until each node that runs knows these gateways and no others.
fn until_known(lab: &Lab, names: &[&str]) -> Result<()> {
    let known = |node: &Node| -> Result<Vec<String>> {
        let status: Value = read_json(&format!("http://{}/status", node.admin))?;
        let gateways = status["cluster"]["gateways"].as_array().context("no list of gateways")?;
        Ok(gateways.iter().filter_map(|gateway| gateway["name"].as_str().map(str::to_owned)).collect())
    };
    until(&format!("nodes know {names:?}"), || {
        for node in &lab.regions[0].nodes {
            let known = known(node)?;
            ensure!(known == names, "{} knows {known:?}", node.name);
        }
        Ok(Some(()))
    })
}

/// Addresses of this machine at which nobody listens. All are held until all are found, so that each is another.
fn free_addresses() -> Result<[SocketAddr; 3]> {
    let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners = [listener()?, listener()?, listener()?];
    let [one, two, three] = listeners.each_ref().map(TcpListener::local_addr);
    Ok([one?, two?, three?])
}
