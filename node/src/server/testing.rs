//! A server without sockets, and clients that talk to its worker directly; for tests of this crate.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clock::{Incarnation, Offset, Origin, OsClock, Time};
use config::NodeConfig;
use node_core::{
    cluster::Regions,
    resp::{ArgsBuf, Protocol, Value, value::Decoder},
    store::{Store, StoreOptions},
};

use super::{Server, ServerParts, execute::Flow, session::Session, worker::Worker};
use crate::{cluster::Cluster, mark::Mark, parameters::Parameters, regions::OtherRegions};

/// The worker of a server that has one, in this cluster or in none.
pub(crate) fn worker_of(cluster: impl Into<Option<Arc<Cluster>>>) -> Worker {
    let config = NodeConfig::parse("test.toml", "[node]\nworkers = 1\n").unwrap_or_else(|report| panic!("{report}"));
    let clock = Arc::new(OsClock::with_offset(Offset::from_nanos(0)));
    let store = Arc::new(Store::new(&StoreOptions {
        origin: Origin::new(config.region.id, Incarnation::FIRST),
        start: clock.now().wall,
        peers: vec![],
        stripes: 4,
        log_records: 1_024,
        hash_seed: 1,
    }));
    let parts = ServerParts {
        parameters: Parameters::new(&config, None),
        config,
        config_file: None,
        store,
        clock,
        cluster: cluster.into(),
        mark: Arc::new(Mark::new(Time::MAX)),
        regions: OtherRegions::new(Vec::new(), &Regions::new()),
        address: Some(SocketAddr::from(([127, 0, 0, 1], 6_379))),
    };
    Worker::new(Arc::new(Server::new(parts)), 0)
}

/// A client of a worker.
pub(crate) struct Client<'w> {
    pub(crate) worker: &'w Worker,
    pub(crate) session: Session,
}

impl<'w> Client<'w> {
    pub(crate) fn of(worker: &'w Worker) -> Self {
        let (server, address) = (&worker.server, SocketAddr::from(([127, 0, 0, 1], 1)));
        let admission = server.clients.admit(address, address, -1, Duration::ZERO, usize::MAX).unwrap();
        Self { worker, session: Session::new(admission.client.clone(), true) }
    }

    /// In RESP3.
    pub(crate) fn of_resp3(worker: &'w Worker) -> Self {
        let mut client = Self::of(worker);
        client.session.protocol = Protocol::Resp3;
        client
    }

    /// Has a turn with one request, words with blanks in between. Returns the bytes of the reply, and what follows.
    pub(crate) fn turn(&mut self, request: &str) -> (Vec<u8>, Flow) {
        let args: ArgsBuf = request.split(' ').collect();
        let (mut output, mut turn) = (Vec::new(), self.worker.begin_turn(&self.session));
        let flow = self.worker.execute(&mut self.session, args.as_args(), &mut output, &mut turn);
        (output, flow)
    }

    /// Sends a request and returns the reply as it is on the wire.
    pub(crate) fn raw(&mut self, request: &str) -> String {
        let (output, flow) = self.turn(request);
        assert_ne!(flow, Flow::Wait, "{request} has to wait");
        String::from_utf8(output).unwrap()
    }

    /// Sends a request and returns the reply.
    pub(crate) fn ask(&mut self, request: &str) -> Value {
        let reply = self.raw(request);
        Decoder::default().decode(reply.as_bytes()).unwrap().value.unwrap()
    }

    /// Sends requests and compares the replies, a line each without its end.
    #[track_caller]
    pub(crate) fn gives(&mut self, exchanges: &[(&str, &str)]) {
        for (request, reply) in exchanges {
            assert_eq!(self.raw(request).trim_end().replace("\r\n", " "), *reply, "{request}");
        }
    }
}
