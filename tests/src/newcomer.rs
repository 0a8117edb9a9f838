//! A node beside those of the lab, as an operator would add it: a file like theirs, and a process.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::{Lab, Node, meridian, until};

impl Lab {
    /// Starts an empty node that is in no cluster yet, configured as the first node of a region; and where its bus is.
    /// It ends when it is dropped, and belongs before the lab.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start_newcomer(&self, region: usize, name: &str) -> Result<(Node, SocketAddr)> {
        let first = &self.regions[region].nodes[0];
        let dir = self.dir.path().to_owned();
        let mut config: Table = fs::read_to_string(dir.join(format!("{}.toml", first.name)))?.parse()?;
        let [redis, admin, bus] = free_addresses()?;
        let first_bus = config["cluster"]["listen"].clone();
        set(&mut config, "node", "listen", redis.to_string().into())?;
        set(&mut config, "node", "admin", admin.to_string().into())?;
        set(&mut config, "node", "dir", format!("{name}.state").into())?;
        set(&mut config, "cluster", "listen", bus.to_string().into())?;
        set(&mut config, "cluster", "seeds", Value::Array(vec![first_bus]))?;
        let file = dir.join(format!("{name}.toml"));
        fs::write(&file, toml::to_string(&config)?)?;
        let command = format!("{} node --config {}", meridian()?.display(), file.display());
        fs::write(dir.join(format!("{name}.cmd")), command)?;
        let mut node = Node {
            id: name.to_owned(),
            name: name.to_owned(),
            role: "none".to_owned(),
            addr: redis.to_string(),
            admin: admin.to_string(),
            pid: 0,
            dir,
            restarted: None,
        };
        node.launch()?;
        until(&format!("{name} says how it is"), || node.status().map(Some))?;
        Ok((node, bus))
    }
}

fn set(config: &mut Table, section: &str, key: &str, value: Value) -> Result<()> {
    let section =
        config.get_mut(section).and_then(Value::as_table_mut).context("the file of a node has no such section")?;
    section.insert(key.to_owned(), value);
    Ok(())
}

/// Addresses of this machine at which nobody listens. All are held until all are found, so that each is another.
fn free_addresses() -> Result<[SocketAddr; 3]> {
    let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners = [listener()?, listener()?, listener()?];
    let [one, two, three] = listeners.each_ref().map(TcpListener::local_addr);
    Ok([one?, two?, three?])
}
