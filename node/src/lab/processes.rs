//! The children of a lab: started, watched, and ended.
//!
//! Each child is held by one task, which waits for whatever comes first: that the child ends, or that the lab stops.
//! Stopping closes the child's leash (see [`leash`](super::leash)), which it takes as SIGTERM; who has not ended after
//! [`limits::GRACE`] is killed. A task ends only after its child has been waited for, so no zombie stays either.
//!
//! A child gets a process group of its own. Otherwise Ctrl-C at a terminal would reach it at the same time as the lab,
//! and the lab could not tell a child that was stopped from one that died.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use anyhow::Context;
use tokio::{
    process::{Child, ChildStdin, Command},
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;

use super::{limits, machines::Machines};

/// The flag that puts a child on its leash.
pub(super) const LEASH_FLAG: &str = "--until-stdin-closes";

/// What the environment variables of `meridian node` begin with.
const ENV_PREFIX: &str = "MERIDIAN_";

/// All children.
#[derive(Debug)]
pub(super) struct Processes {
    binary: PathBuf,
    watchers: JoinSet<Ended>,
    stop: CancellationToken,
    /// Whether a write beyond a limit of files is an error to them, and does not end them.
    survive_full_disks: bool,
    /// The networks of the children, if each has its own.
    machines: Option<Machines>,
}

/// A child that ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// What it was.
    pub(super) name: String,
    /// Its process id.
    pub(super) pid: u32,
    /// How it ended; none if the system does not say.
    pub(super) status: Option<ExitStatus>,
    /// Where its messages are.
    pub(super) log: PathBuf,
}

/// Where the files of one child are.
#[derive(Debug)]
pub(super) struct Files {
    /// Its configuration.
    pub(super) config: PathBuf,
    /// What it says.
    pub(super) log: PathBuf,
    /// The command that starts it again.
    pub(super) command: PathBuf,
}

impl Processes {
    /// No children yet. They will be instances of this very program.
    ///
    /// # Errors
    /// If the system does not say which program this is.
    pub(super) fn new() -> anyhow::Result<Self> {
        let binary = env::current_exe().context("cannot find this program's own file")?;
        Ok(Self {
            binary,
            watchers: JoinSet::new(),
            stop: CancellationToken::new(),
            survive_full_disks: false,
            machines: None,
        })
    }

    /// Starts `meridian SUBCOMMAND --config FILE`, and returns its process id.
    ///
    /// # Errors
    /// If it cannot be started, or its files cannot be written.
    pub(super) fn start(&mut self, name: &str, subcommand: &str, files: &Files) -> anyhow::Result<u32> {
        let log = File::create(&files.log).with_context(|| format!("cannot write {}", files.log.display()))?;
        self.spawn(name, subcommand, files, log)
    }

    /// Starts a child that has ended once more; its log goes on.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub(super) fn start_again(&mut self, name: &str, subcommand: &str, files: &Files) -> anyhow::Result<u32> {
        let log = File::options().create(true).append(true).open(&files.log);
        let log = log.with_context(|| format!("cannot write {}", files.log.display()))?;
        self.spawn(name, subcommand, files, log)
    }

    /// Says whether a write that a limit of files forbids is to fail as on a full disk. As a rule it ends a process (SIGXFSZ); a
    /// signal that is ignored stays so across exec, so a shell does that for those that are started from now on.
    pub(super) fn survive_full_disks(&mut self, survive: bool) {
        self.survive_full_disks = survive;
    }

    /// Says on which machines children are started from now on.
    pub(super) fn start_on(&mut self, machines: Machines) {
        self.machines = Some(machines);
    }

    /// The machines of the children, if each has its own.
    pub(super) fn machines(&mut self) -> Option<&mut Machines> {
        self.machines.as_mut()
    }

    fn spawn(&mut self, name: &str, subcommand: &str, files: &Files, log: File) -> anyhow::Result<u32> {
        self.write_command(subcommand, files)?;
        let mut command = self.program(name);
        command.arg(subcommand).arg("--config").arg(&files.config).arg(LEASH_FLAG);
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        command.process_group(0);
        // What configures nodes would win over the files of all of them.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(ENV_PREFIX)) {
            command.env_remove(name);
        }
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let leash = child.stdin.take().context("a child has no standard input")?;
        let pid = child.id().context("a child ended before it began")?;
        let (name, log, stop) = (name.to_owned(), files.log.clone(), self.stop.clone());
        self.watchers.spawn(async move { Ended { name, pid, status: watch(child, leash, stop).await, log } });
        Ok(pid)
    }

    /// This program, by way of whatever has to come before it.
    fn program(&self, name: &str) -> Command {
        let mut words = Vec::<OsString>::new();
        if self.machines.is_some() {
            words.extend(Machines::at(name).map(OsString::from));
        }
        if self.survive_full_disks {
            words.extend(["sh", "-c", r#"trap "" XFSZ; exec "$0" "$@""#].map(OsString::from));
        }
        words.push(self.binary.clone().into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// Writes down how to start the child by hand: without its leash, so that it runs in any terminal.
    fn write_command(&self, subcommand: &str, files: &Files) -> anyhow::Result<()> {
        let [binary, config] = [&self.binary, &files.config].map(|path| shell_quoted(path));
        fs::write(&files.command, format!("{binary} {subcommand} --config {config}\n"))
            .with_context(|| format!("cannot write {}", files.command.display()))
    }

    /// The next child that ends. Pends for ever when none is left.
    pub(super) async fn next_ended(&mut self) -> Ended {
        loop {
            match self.watchers.join_next().await {
                Some(Ok(ended)) => return ended,
                Some(Err(error)) => tracing::error!(%error, "the task of a child failed"),
                None => std::future::pending().await,
            }
        }
    }

    /// How many are running.
    pub(super) fn running(&self) -> usize {
        self.watchers.len()
    }

    /// Ends all that are running; who does not end in time is killed.
    pub(super) async fn stop(mut self) {
        self.stop.cancel();
        while self.watchers.join_next().await.is_some() {}
    }
}

async fn watch(mut child: Child, leash: ChildStdin, stop: CancellationToken) -> Option<ExitStatus> {
    tokio::select! {
        status = child.wait() => status.ok(),
        () = stop.cancelled() => {
            drop(leash);
            if let Ok(status) = time::timeout(limits::GRACE, child.wait()).await {
                return status.ok();
            }
            // It may have ended by itself between the two, which is just as well.
            let _ = child.kill().await;
            child.wait().await.ok()
        }
    }
}

/// A path as a shell takes it for one word.
fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The last lines of a log, each indented; empty if there is none.
pub(super) fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let start = file.metadata()?.len().saturating_sub(limits::TAIL_LEN);
        file.seek(SeekFrom::Start(start))?;
        let mut end = Vec::new();
        file.take(limits::TAIL_LEN).read_to_end(&mut end)?;
        Ok(end)
    };
    // What cannot be read cannot be shown; whoever asks already reports a failure.
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(limits::TAIL_LINES)..].iter().map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{limits, shell_quoted, tail};

    #[test]
    fn paths_stay_one_word() {
        assert_eq!(shell_quoted(Path::new("/tmp/lab-1/us-east.toml")), "/tmp/lab-1/us-east.toml");
        assert_eq!(shell_quoted(Path::new("/my lab/it's")), r"'/my lab/it'\''s'");
    }

    #[test]
    fn tail_shows_the_last_lines_of_a_log_of_any_length() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(tail(file.path()), "");
        fs::write(file.path(), "one\ntwo\n").unwrap();
        assert_eq!(tail(file.path()), "    one\n    two\n");
        fs::write(file.path(), "a line\n".repeat(100_000) + "the last").unwrap();
        let end = tail(file.path());
        assert!(end.ends_with("    the last\n"));
        assert_eq!(end.lines().count(), limits::TAIL_LINES);
        assert_eq!(tail(Path::new("/there/is/no/such/log")), "");
    }
}
