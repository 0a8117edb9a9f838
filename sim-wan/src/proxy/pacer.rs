//! The thread that keeps the time: it sleeps until something is due on any line, and delivers it.
//!
//! A thread of its own, since the thread that moves bytes between sockets may be busy with a large one when a small
//! one is due, and since tokio's timers are too coarse: see [`alarm`](super::alarm).

use std::{io, sync::Arc, thread, time::Duration};

use super::hub::Hub;

/// Starts the thread. It ends when the hub's alarm is stopped.
pub(super) fn start(hub: Arc<Hub>) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("wan-pacer".to_owned()).spawn(move || run(&hub))
}

fn run(hub: &Hub) {
    loop {
        hub.alarm().rearm();
        let next = hub.deliver_due();
        if !hub.alarm().wait_until(next.unwrap_or(Duration::MAX)) {
            return;
        }
    }
}
