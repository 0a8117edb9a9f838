//! REGION ADD and REGION REMOVE: the other regions come and go, without anybody being restarted.

use clock::RegionId;
use config::{PeerAddress, RegionName};
use node_core::{
    cluster::{Peer, RegionChange},
    number,
    resp::Args,
};

use crate::{
    command::{Context, Done, Failure, replication::is_replica, words::utf8},
    regions::Wish,
    server::Server,
};

/// `REGION ADD name id [host:port …]`: there is such a region, whose gateways are dialled there. One that is known already is
/// dialled there from now on. OK says that it is under way; `REGION STATUS` shows it when it is there.
pub(in crate::command) fn add(call: Context<'_, '_, '_>) -> Done {
    let server = call.server();
    can_change(server)?;
    let peer = peer(call.args)?;
    if peer.id == server.config.region.id || peer.name == server.config.region.name.as_str() {
        return Err(Failure::text("ERR that is this region"));
    }
    let others = server.regions.all();
    if let Some(other) = others.iter().find(|other| (other.id == peer.id) != (other.name == peer.name)) {
        return Err(format!("ERR region {} has the name '{}' already", other.id, other.name).into());
    }
    want(call, Wish::Change(RegionChange::Add(peer)))
}

/// `REGION REMOVE name`: there is no such region any more. It holds back nobody's forgetting, links with it end, and if it returns it
/// is new.
pub(in crate::command) fn remove(call: Context<'_, '_, '_>) -> Done {
    let server = call.server();
    can_change(server)?;
    if is_replica(server) {
        return Err(Failure::text("ERR ask a primary: a replica has not heard the lives of other regions"));
    }
    let (name, others) = (utf8(&call.args[2]), server.regions.all());
    let Some(peer) = others.iter().find(|peer| peer.name == name) else {
        return Err(format!("ERR no such region '{name}'").into());
    };
    let (region, last) = (peer.id, server.store.matrix().youngest(peer.id));
    want(call, Wish::Change(RegionChange::Remove { region, last }))
}

/// Has something done, and says that it is under way.
pub(super) fn want(call: Context<'_, '_, '_>, wish: Wish) -> Done {
    call.server().regions.want(wish).map_err(|busy| Failure::from(format!("ERR {busy}")))?;
    call.reply.ok();
    Ok(())
}

/// Whether this node has anything that links could arrive at, and where to remember what is said.
pub(super) fn can_change(server: &Server) -> Result<(), Failure> {
    if server.cluster.is_some() {
        return Ok(());
    }
    let config = &server.config;
    if !config.gateway.listen.is_on() {
        return Err(Failure::text("ERR this node has no gateway, see [gateway] in its file"));
    }
    if config.node.dir.is_none() {
        return Err(Failure::text("ERR this node has no folder to remember other regions in, see dir in its file"));
    }
    Ok(())
}

fn peer(args: Args<'_>) -> Result<Peer, Failure> {
    let name: RegionName = utf8(&args[2]).parse().map_err(|error| Failure::from(format!("ERR {error}")))?;
    let id = number::parse_i64(&args[3]).and_then(|id| RegionId::new(u8::try_from(id).ok()?).ok());
    let id = id.ok_or(Failure::text("ERR the id of a region is a number from 1 to 63"))?;
    let addr = |text: &[u8]| {
        let addr: Result<PeerAddress, _> = utf8(text).parse();
        addr.map(|addr| addr.to_string()).map_err(|error| Failure::from(format!("ERR {error}")))
    };
    let addrs = (4..args.len()).map(|at| addr(&args[at])).collect::<Result<_, _>>()?;
    Ok(Peer { name: name.to_string(), id, addrs, retired: None })
}
