//! A child that ends with its parent, however the parent ends.
//!
//! The lab must leave nothing behind, also when it is killed and can do nothing any more. So each of its children has
//! a pipe as standard input, whose other end the lab holds and never writes to. When the lab ends, in whatever way, the
//! system closes that end, and the child reads the end of its input. It then sends itself SIGTERM, so that there is but
//! one way to stop.
//!
//! The ways not taken: `PR_SET_PDEATHSIG` exists on Linux alone, counts threads as parents, and needs unsafe code; a
//! process that watches the others can be killed like any other.

use std::{io, process, thread};

use rustix::process::{Signal, getpid, kill_process};

use super::limits;

/// Watches standard input from now on, and sends this process SIGTERM when it ends.
///
/// Whoever has not stopped a few seconds later is made to exit with code 1: nobody is left who could kill it. The thread
/// cannot be joined, since nothing interrupts its read; it ends with the process, and holds nothing.
///
/// # Errors
/// If the system gives no thread.
pub(crate) fn until_stdin_closes() -> io::Result<()> {
    let watch = || {
        // An input that cannot be read any more is one that has ended.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        // Nothing can refuse a process a signal to itself, and if it does, the exit below comes all the same.
        let _ = kill_process(getpid(), Signal::TERM);
        thread::sleep(limits::ORPHAN_GRACE);
        process::exit(1);
    };
    thread::Builder::new().name("leash".to_owned()).spawn(watch).map(drop)
}
