//! Lines: one task with a queue for each peer and channel that is in use.
//!
//! A line is opened by the first item that is sent to it, and ends by itself when nothing was sent for a while. The
//! table knows which are open; that is the whole of what peers share.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    runtime::Handle,
    sync::mpsc::{self, error::TrySendError},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Channel,
    limits::{IDLE_MAX, LINES_MAX},
};

/// Where a line leads, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Line {
    pub(super) address: Arc<str>,
    pub(super) channel: Channel,
}

/// Why an item was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rejected {
    #[error("too much waits to be sent there already")]
    QueueFull,
    #[error("too many addresses are dialled already")]
    TooManyLines,
    #[error("the bus is shut down")]
    Shutdown,
}

/// All lines of one kind.
pub(super) struct Lines<T> {
    queue_length: usize,
    runtime: Handle,
    stopping: CancellationToken,
    table: Mutex<Table<T>>,
}

struct Table<T> {
    open: HashMap<Line, mpsc::Sender<T>>,
    tasks: JoinSet<()>,
}

impl<T: Send + 'static> Lines<T> {
    /// None yet; their tasks will run on the runtime that this is called in.
    pub(super) fn new(queue_length: usize) -> Self {
        let table = Mutex::new(Table { open: HashMap::new(), tasks: JoinSet::new() });
        Self { queue_length, runtime: Handle::current(), stopping: CancellationToken::new(), table }
    }

    /// Queues an item on its line, and opens that, with `run` as its task, if it is not open.
    pub(super) fn send<F: Future<Output = ()> + Send + 'static>(
        &self,
        line: Line,
        item: T,
        run: impl FnOnce(Queue<T>) -> F,
    ) -> Result<(), Rejected> {
        let mut table = self.table();
        // Under the lock: shutdown cancels first and takes the tasks then, so none is opened behind its back.
        if self.stopping.is_cancelled() {
            return Err(Rejected::Shutdown);
        }
        let item = match table.open.get(&line) {
            None => item,
            Some(queue) => match queue.try_send(item) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(_)) => return Err(Rejected::QueueFull),
                Err(TrySendError::Closed(item)) => item,
            },
        };
        self.open(&mut table, line, item, run)
    }

    fn open<F: Future<Output = ()> + Send + 'static>(
        &self,
        table: &mut Table<T>,
        line: Line,
        item: T,
        run: impl FnOnce(Queue<T>) -> F,
    ) -> Result<(), Rejected> {
        table.forget_ended();
        if table.open.len() >= LINES_MAX {
            return Err(Rejected::TooManyLines);
        }
        let (queue, items) = mpsc::channel(self.queue_length);
        queue.try_send(item).map_err(|_| Rejected::QueueFull)?;
        let (task, stopping) = (run(Queue { items }), self.stopping.clone());
        table.tasks.spawn_on(async move { _ = stopping.run_until_cancelled(task).await }, &self.runtime);
        table.open.insert(line, queue);
        Ok(())
    }

    /// Ends all lines, and waits for that.
    pub(super) async fn shutdown(&self) {
        self.stopping.cancel();
        let mut tasks = std::mem::take(&mut self.table().tasks);
        while tasks.join_next().await.is_some() {}
    }

    fn table(&self) -> MutexGuard<'_, Table<T>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: 'static> Table<T> {
    fn forget_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a connection to another node panicked");
            }
        }
        self.open.retain(|_, queue| !queue.is_closed());
    }
}

impl<T> fmt::Debug for Lines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

/// What waits on a line.
pub(super) struct Queue<T> {
    items: mpsc::Receiver<T>,
}

impl<T> Queue<T> {
    /// The next item; `None` when there was none for so long that the line ends. Loses nothing if it is dropped.
    pub(super) async fn next(&mut self) -> Option<T> {
        match timeout(IDLE_MAX, self.items.recv()).await {
            Ok(item) => item,
            Err(_) => {
                // Whoever was about to send opens the line anew; what was sent just now is still served.
                self.items.close();
                self.items.recv().await
            }
        }
    }

    /// The next item, if it is there.
    pub(super) fn try_next(&mut self) -> Option<T> {
        self.items.try_recv().ok()
    }
}
