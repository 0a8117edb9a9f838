//! A child that ends with its parent, however the parent ends.
//!
//! The lab must leave nothing behind, also when it is killed and can do nothing any more. So each of its children has
//! a pipe as standard input, whose other end the lab holds and never writes to. When the lab ends, in whatever way, the
//! system closes that end, and the child reads the end of its input. It then stops as if it had been sent SIGTERM.
//!
//! The ways not taken: `PR_SET_PDEATHSIG` exists on Linux alone, counts threads as parents, and needs unsafe code; a
//! process that watches the others can be killed like any other.

use std::{io, process, thread};

use tokio::sync::oneshot;

use super::limits;

/// Begins to watch standard input, and returns what resolves when it ends.
///
/// Whoever does not stop within a few seconds from then is made to exit with code 1: nobody is left who could kill it.
/// The thread cannot be joined, since nothing interrupts its read; it ends with the process, and holds nothing.
///
/// # Errors
/// If the system gives no thread.
pub(crate) fn until_stdin_closes() -> io::Result<oneshot::Receiver<()>> {
    let (closed, is_closed) = oneshot::channel();
    let watch = move || {
        // An input that cannot be read any more is one that has ended.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = closed.send(());
        thread::sleep(limits::ORPHAN_GRACE);
        process::exit(1);
    };
    thread::Builder::new().name("leash".to_owned()).spawn(watch)?;
    Ok(is_closed)
}
