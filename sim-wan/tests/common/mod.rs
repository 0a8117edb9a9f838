//! A small WAN to test against: two regions, one route, and a target that the test itself plays.
//!
//! Tests wait for conditions, each with [`PATIENCE`], and assert lower bounds of time alone: a busy machine makes them
//! slower, never wrong.

// Each test file uses a part of this.
#![allow(dead_code)]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use sim_wan::{
    Wan,
    model::{Change, Delay, LineChange, State},
    topology::{LinkSpec, RouteSpec, Topology},
};

/// How long a test waits for anything before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Where who connects is taken to be.
pub(crate) const HERE: &str = "us-east";
/// Where the target is.
pub(crate) const THERE: &str = "eu-west";

/// A running WAN with a route from [`HERE`] to a target [`THERE`].
pub(crate) struct Lab {
    pub(crate) wan: Wan,
    pub(crate) target: TcpListener,
}

/// A loopback address with any free port.
pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// The topology of a lab, with this link both ways.
pub(crate) fn topology(link: LinkSpec, target: SocketAddr) -> Topology {
    let route = RouteSpec { from: HERE.to_owned(), to: THERE.to_owned(), listen: any_port(), target: target.into() };
    Topology { seed: 7, control: any_port(), links: vec![LinkSpec { both_ways: true, ..link }], routes: vec![route] }
}

/// A link with nothing but a delay.
pub(crate) fn link(delay_ms: u32) -> LinkSpec {
    LinkSpec::with_delay(HERE, THERE, Delay::from_ms(f64::from(delay_ms)).unwrap())
}

impl Lab {
    /// A lab whose two lines have this delay.
    pub(crate) fn start(delay_ms: u32) -> Self {
        Self::with_link(link(delay_ms))
    }

    /// A lab whose two lines are like this link.
    pub(crate) fn with_link(link: LinkSpec) -> Self {
        let target = TcpListener::bind(any_port()).unwrap();
        let wan = Wan::start(&topology(link, target.local_addr().unwrap())).unwrap();
        Self { wan, target }
    }

    /// Connects to the route.
    pub(crate) fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(self.wan.route_addr(HERE, THERE).unwrap()).unwrap())
    }

    /// Takes the connection that the route makes to the target.
    pub(crate) fn accept(&self) -> TcpStream {
        patient(self.target.accept().unwrap().0)
    }

    /// A connection through the WAN, established: the client's end and the target's.
    pub(crate) fn pair(&self) -> (TcpStream, TcpStream) {
        let (mut client, mut server) = (self.connect(), self.accept());
        send(&mut client, b"!");
        assert_eq!(receive(&mut server, 1), b"!");
        (client, server)
    }

    /// Changes the state of one line.
    pub(crate) fn set(&self, from: &str, to: &str, state: State) {
        let change = LineChange::state(state);
        self.wan.change(&Change::Line { from: from.to_owned(), to: to.to_owned(), change }).unwrap();
    }

    /// Waits until the line from here to there has lost this many chunks.
    pub(crate) fn wait_for_drops(&self, drops: u64) {
        wait_until("chunks are lost", || self.wan.stats(HERE, THERE).unwrap().drops >= drops);
    }
}

/// A socket that fails a test instead of hanging it.
pub(crate) fn patient(socket: TcpStream) -> TcpStream {
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub(crate) fn send(socket: &mut TcpStream, bytes: &[u8]) {
    socket.write_all(bytes).unwrap();
}

pub(crate) fn receive(socket: &mut TcpStream, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    socket.read_exact(&mut bytes).unwrap();
    bytes
}

/// Looks again and again until it holds.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(1));
    }
}
