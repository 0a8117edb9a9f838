//! A running WAN: how it is put together, and how it ends.
//!
//! It starts all or nothing: the topology is checked, every socket is bound, and only then the first connection taken.
//! It ends in this order: the control API and the routes stop listening, open connections are reset, the thread of the
//! sockets ends, the pacer ends.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread,
};

use tokio::{net::TcpListener, runtime, sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{control, hub::Hub, pacer, route::Route};
use crate::{
    model::{Change, InvalidChange, LineId, LineSettings, LineStats},
    topology::{RouteSpec, Target, Topology, TopologyError},
};

/// A simulated WAN that runs until it is shut down or dropped.
///
/// Dropping it ends it too, and blocks for the moment that this takes.
#[derive(Debug)]
pub struct Wan {
    hub: Arc<Hub>,
    control: SocketAddr,
    routes: Vec<BoundRoute>,
    stop: CancellationToken,
    /// Resolves when the thread of the sockets has reset the last connection.
    stopped: Option<oneshot::Receiver<()>>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// A route and the address that it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundRoute {
    /// The region of those who connect.
    pub from: String,
    /// The region of the target.
    pub to: String,
    /// Where it listens.
    pub listen: SocketAddr,
    /// What connections reach.
    pub target: Target,
}

/// Why a WAN did not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The topology does not fit together.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// An address cannot be listened at.
    #[error("cannot listen at {address} for {purpose}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What would have listened.
        purpose: String,
        /// What the system says.
        source: io::Error,
    },
    /// A thread or its runtime cannot be started.
    #[error("cannot start the threads of the WAN")]
    Thread(#[source] io::Error),
}

impl Wan {
    /// Checks a topology, binds its sockets and starts to carry connections. Needs no runtime, and may be called in one.
    ///
    /// # Errors
    /// [`StartError`] if the topology is wrong, an address taken, or the system out of threads.
    pub fn start(topology: &Topology) -> Result<Self, StartError> {
        let hub = Arc::new(Hub::new(topology.network()?));
        let stop = CancellationToken::new();
        let (ready, is_ready) = mpsc::channel();
        let (ended, stopped) = oneshot::channel();
        let io_thread = {
            let (topology, hub, stop) = (topology.clone(), Arc::clone(&hub), stop.clone());
            let run = move || {
                run_sockets(&topology, &hub, stop, &ready);
                // Nobody waits if the WAN was dropped.
                let _ = ended.send(());
            };
            thread::Builder::new().name("wan-io".to_owned()).spawn(run).map_err(StartError::Thread)?
        };
        let bound = match is_ready.recv() {
            Ok(Ok(bound)) => bound,
            failed => {
                // Failing is the last thing it does, so this does not wait.
                let _ = io_thread.join();
                let died = || StartError::Thread(io::Error::other("the thread of the sockets died"));
                return Err(failed.ok().and_then(Result::err).unwrap_or_else(died));
            }
        };
        let mut wan = Self {
            hub,
            control: bound.control,
            routes: bound.routes,
            stop,
            stopped: Some(stopped),
            threads: vec![io_thread],
        };
        // From here on a failure drops the WAN, which ends the first thread again.
        wan.threads.push(pacer::start(Arc::clone(&wan.hub)).map_err(StartError::Thread)?);
        Ok(wan)
    }

    /// Where the control API listens.
    pub fn control_addr(&self) -> SocketAddr {
        self.control
    }

    /// All routes, in the order of the topology.
    pub fn routes(&self) -> &[BoundRoute] {
        &self.routes
    }

    /// Where the first route from one region to another listens.
    pub fn route_addr(&self, from: &str, to: &str) -> Option<SocketAddr> {
        let mut routes = self.routes.iter();
        routes.find(|route| route.from == from && route.to == to).map(|route| route.listen)
    }

    /// Changes links, cuts regions off or heals all, at once; the same as through the control API.
    ///
    /// # Errors
    /// [`InvalidChange`] if it names what there is not; nothing is changed then.
    pub fn change(&self, change: &Change) -> Result<(), InvalidChange> {
        self.hub.change(change)
    }

    /// What is asked of a link at present.
    pub fn settings(&self, from: &str, to: &str) -> Option<LineSettings> {
        self.hub.view(|network| network.links().find(|link| link.from == from && link.to == to).map(|link| link.detail))
    }

    /// What went over a link so far.
    pub fn stats(&self, from: &str, to: &str) -> Option<LineStats> {
        self.hub.view(|network| network.stats().find(|link| link.from == from && link.to == to).map(|link| link.detail))
    }

    /// Stops listening, resets what is open, and ends the threads.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(stopped) = self.stopped.take() {
            // An error means that the thread has ended already.
            let _ = stopped.await;
        }
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.stop.cancel();
        self.hub.alarm().stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the wan panicked");
            }
        }
    }
}

/// The addresses that were bound.
struct Bound {
    control: SocketAddr,
    routes: Vec<BoundRoute>,
}

type Ready = mpsc::Sender<Result<Bound, StartError>>;

/// The thread of the sockets.
fn run_sockets(topology: &Topology, hub: &Arc<Hub>, stop: CancellationToken, ready: &Ready) {
    // Whoever started the thread waits for the answer, so none of these sends fails.
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(StartError::Thread(error)))),
    };
    runtime.block_on(async {
        match bind(topology, hub).await {
            Ok((bound, control, routes)) => {
                let _ = ready.send(Ok(bound));
                serve(Arc::clone(hub), control, routes, stop).await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
    // Dropping the runtime ends the control API's connections with it.
}

async fn serve(hub: Arc<Hub>, control: TcpListener, routes: Vec<Route>, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    for route in routes {
        tasks.spawn(route.run(stop.clone()));
    }
    tokio::select! {
        () = stop.cancelled() => {}
        ended = axum::serve(control, control::router(hub)) => tracing::error!(?ended, "control api ended"),
    }
    while tasks.join_next().await.is_some() {}
}

async fn bind(topology: &Topology, hub: &Arc<Hub>) -> Result<(Bound, TcpListener, Vec<Route>), StartError> {
    let (control, control_addr) = listen(topology.control, || "the control api".to_owned()).await?;
    let mut bound = Bound { control: control_addr, routes: Vec::with_capacity(topology.routes.len()) };
    let mut routes = Vec::with_capacity(topology.routes.len());
    for RouteSpec { from, to, listen: address, target } in &topology.routes {
        let (listener, listen) = listen(*address, || format!("route {from} -> {to}")).await?;
        let [there, back] = lines_of(hub, from, to);
        routes.push(Route { hub: Arc::clone(hub), there, back, target: target.clone(), listener });
        bound.routes.push(BoundRoute { from: from.clone(), to: to.clone(), listen, target: target.clone() });
    }
    Ok((bound, control, routes))
}

async fn listen(
    address: SocketAddr,
    purpose: impl FnOnce() -> String,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = match TcpListener::bind(address).await {
        Ok(listener) => listener.local_addr().map(|bound| (listener, bound)),
        Err(error) => Err(error),
    };
    bound.map_err(|source| StartError::Bind { address, purpose: purpose(), source })
}

fn lines_of(hub: &Hub, from: &str, to: &str) -> [LineId; 2] {
    let line = |from, to| hub.view(|network| network.line(from, to));
    [line(from, to), line(to, from)].map(|line| line.expect("a checked route has its lines both ways"))
}
