//! Which ports a lab takes.
//!
//! Ports should be the same each time, so that what stands in a README works, and a lab should start also when they
//! are taken, say by another lab. So ports come in blocks with a fixed layout, and a lab takes the first block that is
//! free:
//!
//! ```text
//! BASE        held by the lab as long as it runs: the block is taken
//! BASE+i      Redis of node i, counted from 1
//! BASE+100    Prometheus, if the lab has one
//! BASE+100+i  admin of node i
//! BASE+200+i  gateway i, for the links of other regions; that of node i, if it is inside
//! BASE+300    control of the WAN
//! BASE+301... routes of the WAN
//! BASE+700+i  bus of node i, if its region is a cluster
//! BASE+800+i  bus of gateway i, if it is a process
//! BASE+900+i  admin of gateway i, if it is a process
//! ```
//!
//! A port that was found free is not yet ours: the process that will listen there starts a moment later, and a node
//! that is killed comes back to the same port. Between labs the port at BASE itself settles that. Against the rest of the
//! machine all blocks lie below 32768, where systems begin to give ports to whoever asks for any.
//!
//! Where processes are [`machines`](super::machines) of their own each has an address of its own besides; else all are on loopback.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use super::{limits, machines::Host};

/// The first block, and how far the blocks lie apart.
const FIRST_BASE: u16 = 7_000;
const BASE_STEP: u16 = 1_000;
const BASE_MAX: u16 = 32_000;

const ADMIN: u16 = 100;
const GATEWAY: u16 = 200;
const CONTROL: u16 = 300;
const ROUTES: u16 = 301;
const BUS: u16 = 700;
const GATEWAY_BUS: u16 = 800;
const GATEWAY_ADMIN: u16 = 900;

/// How many ports of a kind a lab needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Nodes, at most [`limits::NODES_MAX`].
    pub(super) nodes: u16,
    /// Gateways, as many at most, whether inside nodes or not.
    pub(super) gateways: u16,
    /// Routes of the WAN.
    pub(super) routes: u16,
    /// Whether the nodes have a bus. Gateways then are processes, and have one too.
    pub(super) has_bus: bool,
    /// Whether there is a Prometheus.
    pub(super) has_prometheus: bool,
    /// Whether each process is a machine of its own.
    pub(super) are_machines: bool,
}

/// A block of ports. It is this lab's as long as this value lives.
#[derive(Debug)]
pub(super) struct Block {
    layout: Layout,
    _held: TcpListener,
}

/// Why there is no block.
#[derive(Debug, thiserror::Error)]
pub(super) enum PortError {
    /// The block that was asked for is not free.
    #[error("port {port} is taken: {source}; give another --port, or none to take the first free block")]
    Taken {
        /// The first port that is taken.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// The block that was asked for goes beyond the last port.
    #[error("--port {base} leaves no room for ports up to {base} + {needed}; give a lower one")]
    TooHigh {
        /// The base that was asked for.
        base: u16,
        /// How far the block reaches.
        needed: u16,
    },
    /// No block is free.
    #[error("no free block of ports at {FIRST_BASE}, {}, ... {BASE_MAX}; give a --port", FIRST_BASE + BASE_STEP)]
    NoneFree,
}

impl Block {
    /// Takes the block at `base`, or without one the first that is free, for all that is wanted.
    ///
    /// # Errors
    /// [`PortError`] if a port of it is taken.
    pub(super) fn take(base: Option<u16>, wanted: Wanted) -> Result<Self, PortError> {
        if let Some(base) = base {
            return Self::take_at(base, wanted);
        }
        let bases = (FIRST_BASE..=BASE_MAX).step_by(usize::from(BASE_STEP));
        bases.into_iter().find_map(|base| Self::take_at(base, wanted).ok()).ok_or(PortError::NoneFree)
    }

    fn take_at(base: u16, wanted: Wanted) -> Result<Self, PortError> {
        let Wanted { nodes, gateways, routes, has_bus, has_prometheus, are_machines } = wanted;
        let layout = Layout { base, has_bus, are_machines };
        let needed = match (has_bus, gateways) {
            (false, _) => ROUTES + routes,
            (true, 0) => BUS + nodes,
            (true, gateways) => GATEWAY_ADMIN + gateways,
        };
        if base.checked_add(needed).is_none() {
            return Err(PortError::TooHigh { base, needed });
        }
        let listen = |port| TcpListener::bind(local(port)).map_err(|source| PortError::Taken { port, source });
        let held = listen(base)?;
        let of_nodes = (0..nodes).flat_map(|index| [layout.redis(index), layout.admin(index)]);
        let of_wan = (0..routes).map(|index| layout.route(index)).chain([layout.control()]);
        let of_links = (0..gateways).map(|index| layout.gateway(index));
        let of_buses = (0..nodes).filter(|_| has_bus).map(|index| layout.bus(index));
        let of_gateways = (0..gateways).filter(|_| has_bus);
        let of_gateways = of_gateways.flat_map(|index| [layout.gateway_bus(index), layout.gateway_admin(index)]);
        let of_prometheus = has_prometheus.then(|| layout.prometheus());
        let all = of_nodes.chain(of_wan).chain(of_links).chain(of_buses).chain(of_gateways).chain(of_prometheus);
        for address in all {
            listen(address.port())?;
        }
        Ok(Self { layout, _held: held })
    }

    /// Where what is.
    pub(super) fn layout(&self) -> Layout {
        self.layout
    }
}

/// Where what is in a block. Nodes, gateways and routes are counted from 0 here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    base: u16,
    has_bus: bool,
    are_machines: bool,
}

impl Layout {
    /// Redis of a node.
    pub(super) fn redis(self, index: u16) -> SocketAddr {
        self.at(Host::Node(index), 1 + index)
    }

    /// Admin of a node.
    pub(super) fn admin(self, index: u16) -> SocketAddr {
        self.at(Host::Node(index), ADMIN + 1 + index)
    }

    /// A gateway, for the links of other regions.
    pub(super) fn gateway(self, index: u16) -> SocketAddr {
        let host = if self.has_bus { Host::Gateway(index) } else { Host::Node(index) };
        self.at(host, GATEWAY + 1 + index)
    }

    /// The bus of a node.
    pub(super) fn bus(self, index: u16) -> SocketAddr {
        self.at(Host::Node(index), BUS + 1 + index)
    }

    /// The bus of a gateway that is a process.
    pub(super) fn gateway_bus(self, index: u16) -> SocketAddr {
        self.at(Host::Gateway(index), GATEWAY_BUS + 1 + index)
    }

    /// Admin of a gateway that is a process.
    pub(super) fn gateway_admin(self, index: u16) -> SocketAddr {
        self.at(Host::Gateway(index), GATEWAY_ADMIN + 1 + index)
    }

    /// The Prometheus that looks at all admins.
    pub(super) fn prometheus(self) -> SocketAddr {
        local(self.base + ADMIN)
    }

    /// Control of the WAN.
    pub(super) fn control(self) -> SocketAddr {
        self.at(Host::Wan, CONTROL)
    }

    /// A route of the WAN.
    pub(super) fn route(self, index: u16) -> SocketAddr {
        self.at(Host::Wan, ROUTES + index)
    }

    fn at(self, host: Host, offset: u16) -> SocketAddr {
        let port = self.base + offset;
        if self.are_machines { (host.address(), port).into() } else { local(port) }
    }
}

// What is of each kind must end where the next begins.
const _: () = assert!(limits::NODES_MAX < ADMIN && ROUTES + limits::ROUTES_MAX <= BUS);
const _: () = assert!(GATEWAY_ADMIN + limits::NODES_MAX < BASE_STEP);

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use super::{Block, PortError, Wanted};

    const WANTED: Wanted =
        Wanted { nodes: 3, gateways: 3, routes: 6, has_bus: true, has_prometheus: true, are_machines: false };

    #[test]
    fn block_is_taken_once_and_free_again_afterwards() {
        let block = Block::take(None, WANTED).unwrap();
        let base = block.layout().redis(0).port() - 1;
        assert!(matches!(Block::take(Some(base), WANTED), Err(PortError::Taken { port, .. }) if port == base));
        let other = Block::take(None, WANTED).unwrap();
        assert_ne!(other.layout().control(), block.layout().control());
        drop(block);
        // Whoever else runs a lab may be faster, which is no fault.
        match Block::take(Some(base), WANTED) {
            Ok(_) | Err(PortError::Taken { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn block_beyond_the_last_port_is_refused() {
        assert!(matches!(Block::take(Some(65_400), WANTED), Err(PortError::TooHigh { .. })));
    }
}
