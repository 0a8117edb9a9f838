//! Processes by their ids, and processes that end with the test.

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::{
    process::{Pid, Signal, kill_process, test_kill_process},
    thread::{CpuSet, sched_setaffinity},
};

use crate::until;

/// Ends a process at once, as a power cut would, and waits until it is gone.
///
/// # Errors
/// If there is no such process, or it does not go.
pub fn kill(pid: u32) -> Result<()> {
    kill_process(id(pid)?, Signal::KILL).with_context(|| format!("cannot kill {pid}"))?;
    until_gone(pid)
}

/// Asks a process to end.
///
/// # Errors
/// If there is no such process.
pub fn terminate(pid: u32) -> Result<()> {
    kill_process(id(pid)?, Signal::TERM).with_context(|| format!("cannot terminate {pid}"))
}

/// A process that is stopped (SIGSTOP) and goes on (SIGCONT) when this is dropped, so that it can be ended whatever becomes
/// of the test. To everybody else it looks like a machine that hangs: its connections stay open and nobody answers.
#[derive(Debug)]
pub struct Frozen(Pid);

impl Frozen {
    /// Stops a process.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn freeze(pid: u32) -> Result<Self> {
        let pid_to_stop = id(pid)?;
        kill_process(pid_to_stop, Signal::STOP).with_context(|| format!("cannot stop {pid}"))?;
        Ok(Self(pid_to_stop))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // One that was killed meanwhile has nothing to go on with.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Waits until a process is gone.
///
/// # Errors
/// If it is still there at the deadline.
pub fn until_gone(pid: u32) -> Result<()> {
    until(&format!("process {pid} is gone"), || Ok((!is_running(pid)).then_some(())))
}

/// Whether a process runs. One that ended, and that nobody waited for yet, does not.
///
/// Its first thread may have ended before the others, which hold its files, locks and sockets until they have ended too.
pub fn is_running(pid: u32) -> bool {
    let exists = id(pid).is_ok_and(|pid| test_kill_process(pid).is_ok());
    // Orphans are waited for by whoever is process 1, which in a container is often nobody. The state stands behind
    // the name, which is in parentheses and can contain anything. Without /proc every process that exists counts.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    exists && !(state.starts_with(['Z', 'X']) && threads <= 1)
}

/// Keeps all threads that a process has on one core. Those that it starts later are where the one that starts them is.
///
/// # Errors
/// If there is no such process, or no such core.
pub fn pin(pid: u32, core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    let path = format!("/proc/{pid}/task");
    for thread in fs::read_dir(&path).with_context(|| format!("cannot read {path}"))? {
        let thread = thread?.file_name().to_string_lossy().parse()?;
        sched_setaffinity(Some(id(thread)?), &cores).with_context(|| format!("cannot pin {pid} to core {core}"))?;
    }
    Ok(())
}

/// The processor time that a process took so far, all its threads together, by the kernel's account: in steps of 10 ms.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    /// In its own code.
    pub user: Duration,
    /// In the kernel, on its behalf.
    pub kernel: Duration,
}

impl CpuTime {
    /// Of a process.
    ///
    /// # Errors
    /// If there is no such process, or no /proc.
    pub fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        // The second field, in parentheses, may hold blanks; utime and stime are the 14th and 15th of all.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let times: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().with_context(|| path.clone())?;
        let [user, kernel] = times[..] else { bail!("{path} has no times") };
        let time = |ticks: u64| Duration::from_millis(ticks * MILLIS_PER_TICK);
        Ok(Self { user: time(user), kernel: time(kernel) })
    }

    /// What came since.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { user: self.user - before.user, kernel: self.kernel - before.kernel }
    }

    /// Both.
    pub fn sum(self) -> Duration {
        self.user + self.kernel
    }
}

/// The unit of the times in /proc, the same on every Linux.
const MILLIS_PER_TICK: u64 = 10;

fn id(pid: u32) -> Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).with_context(|| format!("{pid} is no process id"))
}

/// A process that ends when this is dropped, and also when the test process is killed: its standard input is a pipe
/// that closes then, and it is told to look out for that.
#[derive(Debug)]
pub struct Leashed {
    child: Child,
}

impl Leashed {
    /// Starts a command, whose messages go to a file.
    ///
    /// # Errors
    /// If it cannot be started, or the file not be written.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command.stdin(Stdio::piped()).stderr(log).spawn();
        Ok(Self { child: child.with_context(|| format!("cannot start {command:?}"))? })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// If it is still there at the deadline.
    pub fn until_ended(&mut self) -> Result<ExitStatus> {
        until("the process ends", || Ok(self.child.try_wait()?))
    }

    fn end(&mut self) -> io::Result<()> {
        drop(self.child.stdin.take());
        // Whoever was killed or has ended is waited for here as well, so that no zombie stays.
        if until("the process ends", || Ok(self.child.try_wait()?)).is_err() {
            self.child.kill()?;
            self.child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            crate::note(&format!("process {} cannot be ended: {error}", self.pid()));
        }
    }
}
