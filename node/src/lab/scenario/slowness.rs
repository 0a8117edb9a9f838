//! A process that gets but a share of its time.
//!
//! It is stopped and goes on in turns, so to the others it is a machine that is overloaded: everything is answered, late. A limit of a
//! control group would be smoother, and takes privileges.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use scenario::timeline::Percent;
use tokio::{task::JoinHandle, time};

use super::limits;

/// It is slow until this is dropped.
#[derive(Debug)]
pub(super) struct Slowed {
    pid: Pid,
    turns: JoinHandle<()>,
}

impl Slowed {
    /// Slows a process down.
    pub(super) fn new(pid: Pid, share: Percent) -> Self {
        let running = limits::TURN * u32::from(share.number()) / 100;
        Self { pid, turns: tokio::spawn(take_turns(pid, running, limits::TURN - running)) }
    }
}

impl Drop for Slowed {
    fn drop(&mut self) {
        // It takes no further turn, since nothing else runs on this thread meanwhile.
        self.turns.abort();
        // One that has ended needs none.
        let _ = kill_process(self.pid, Signal::CONT);
    }
}

async fn take_turns(pid: Pid, running: Duration, stopped: Duration) {
    // It ends with the process.
    while kill_process(pid, Signal::STOP).is_ok() {
        time::sleep(stopped).await;
        if kill_process(pid, Signal::CONT).is_err() {
            return;
        }
        time::sleep(running).await;
    }
}
