//! A worker: one OS thread, one runtime, the connections that were handed to it, and what they share.
//!
//! All that its connections share is single-threaded: they run one at a time, and none holds it across an await.

use std::{cell::RefCell, io, rc::Rc, sync::Arc};

use tokio::{
    net::TcpStream,
    runtime::{Builder, LocalOptions},
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::timeout,
};

use super::{
    Server,
    acceptor::Arrival,
    connection::Connection,
    proxy::{Proxied, Upstreams},
    session::Session,
    stream::Stream,
};
use crate::{
    limits::{DRAIN_MAX, EVENT_INTERVAL, HANDSHAKE_MAX, OUTPUT_KEPT_BYTES, OUTPUTS_KEPT, READ_BYTES},
    stats::{self, WorkerStats},
};

/// What the connections of a worker share.
pub(crate) struct Worker {
    pub(crate) server: Arc<Server>,
    /// Its number among the workers.
    pub(crate) index: usize,
    pub(crate) stats: Arc<WorkerStats>,
    /// Where reads go.
    pub(crate) input: RefCell<Box<[u8]>>,
    /// Where replies collect: buffers that nobody uses, the last one the warmest.
    outputs: RefCell<Vec<Vec<u8>>>,
    /// Measures commands, cheaper than the clock and of no relation to it.
    pub(crate) ticks: quanta::Clock,
    /// From how many ticks on a call is long; see [`Run`](crate::stats::Run).
    pub(crate) long_ticks: u64,
    /// Where the proxy forwards to.
    pub(super) upstreams: Upstreams,
}

impl Worker {
    /// Serves what arrives until the acceptor is gone, then lets the connections finish.
    pub(crate) fn run(server: Arc<Server>, index: usize, arrivals: mpsc::Receiver<Arrival>) -> io::Result<()> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .event_interval(EVENT_INTERVAL)
            .build_local(LocalOptions::default())?;
        runtime.block_on(Rc::new(Self::new(server, index)).serve(arrivals));
        Ok(())
    }

    /// Without connections.
    pub(super) fn new(server: Arc<Server>, index: usize) -> Self {
        let ticks = quanta::Clock::new();
        Self {
            stats: server.stats.of_worker(index),
            server,
            index,
            input: RefCell::new(vec![0; READ_BYTES].into()),
            outputs: RefCell::default(),
            long_ticks: stats::long_ticks(&ticks),
            ticks,
            upstreams: Upstreams::default(),
        }
    }

    async fn serve(self: Rc<Self>, mut arrivals: mpsc::Receiver<Arrival>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                arrival = arrivals.recv() => match arrival {
                    Some(arrival) => drop(connections.spawn_local(connect(self.clone(), arrival))),
                    None => break,
                },
                Some(ended) = connections.join_next() => self.note_end(ended),
            }
        }
        let drained = timeout(DRAIN_MAX, async {
            while let Some(ended) = connections.join_next().await {
                self.note_end(ended);
            }
        });
        if drained.await.is_err() {
            tracing::warn!(connections = connections.len(), "connections did not finish in time and are cut");
            connections.shutdown().await;
        }
    }

    fn note_end(&self, ended: Result<io::Result<()>, JoinError>) {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "connection broke"),
            Err(error) => {
                self.server.stats.note_panic();
                tracing::error!(%error, "a command panicked; its connection is closed");
            }
        }
    }

    /// A buffer for the replies of a turn.
    #[inline]
    pub(crate) fn take_output(&self) -> Vec<u8> {
        self.outputs.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a buffer back when its replies are written.
    #[inline]
    pub(crate) fn give_back(&self, mut output: Vec<u8>) {
        output.clear();
        let mut outputs = self.outputs.borrow_mut();
        if output.capacity() > 0 && output.capacity() <= OUTPUT_KEPT_BYTES && outputs.len() < OUTPUTS_KEPT {
            outputs.push(output);
        }
    }
}

/// A connection from its handshake to its end. The client is counted out when this is dropped, however that comes.
async fn connect(worker: Rc<Worker>, arrival: Arrival) -> io::Result<()> {
    let Arrival { stream, admission, tls, proxied } = arrival;
    let stream = TcpStream::from_std(stream)?;
    let stream = match tls {
        None => Stream::Plain(stream),
        Some(tls) => Stream::Tls(Box::new(timeout(HANDSHAKE_MAX, tls.accept(stream)).await??)),
    };
    let mut session = Session::new(admission.client.clone(), !worker.server.parameters.needs_password());
    session.over_tls = matches!(stream, Stream::Tls(_));
    session.proxied = (proxied && worker.server.cluster.is_some()).then(Box::<Proxied>::default);
    Connection::new(stream, session).serve(worker).await
}
