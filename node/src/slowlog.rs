//! The slow log: commands that took long, with their arguments cut short; SLOWLOG.
//!
//! Written rarely by definition, so one lock serves all workers. The bound on entries is the operator's
//! (`slowlog-max-len`), those on an entry are constants; the oldest entry makes room.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use clock::Now;
use node_core::{
    command_table::{Command, Flags},
    resp::Args,
};

use crate::{
    clients::Client,
    limits::{SLOWLOG_ARGUMENT_BYTES, SLOWLOG_ARGUMENTS},
    server::Server,
};

/// A command that took long.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    /// When it began, in seconds since the Unix epoch.
    pub(crate) unix_seconds: u64,
    pub(crate) took: Duration,
    pub(crate) arguments: Vec<Vec<u8>>,
    pub(crate) address: String,
    pub(crate) name: String,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct Slowlog(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    next_id: u64,
    newest_first: VecDeque<Entry>,
}

impl Slowlog {
    /// The latest entries, newest first.
    pub(crate) fn latest(&self, count: usize) -> Vec<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).newest_first.iter().take(count).cloned().collect()
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).newest_first.len()
    }

    /// Forgets all entries; their ids are not given out again.
    pub(crate) fn reset(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).newest_first.clear();
    }

    fn push(&self, entry: Entry, max: usize) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = entries.next_id;
        entries.next_id += 1;
        entries.newest_first.push_front(Entry { id, ..entry });
        entries.newest_first.truncate(max);
    }
}

/// Notes a command that took long, in the slow log and with the latency monitor, each by its own threshold.
#[cold]
pub(crate) fn note(server: &Server, client: &Client, command: &'static Command, args: Args<'_>, nanos: u64, now: Now) {
    let took = Duration::from_nanos(nanos);
    if server.parameters.latency_from().is_some_and(|least| took >= least) {
        let event = if command.is(Flags::FAST) { "fast-command" } else { "command" };
        server.latency.note(event, now, took);
    }
    let slow = server.parameters.slowlog_from().is_some_and(|least| took >= least);
    if slow && !command.is(Flags::SKIP_SLOWLOG) {
        let entry = Entry {
            id: 0,
            unix_seconds: now.unix_ms() / 1_000,
            took,
            arguments: shorten(command, args),
            address: client.address.to_string(),
            name: client.labels().name,
        };
        server.slowlog.push(entry, server.parameters.slowlog_max.load(Relaxed) as usize);
    }
}

/// The arguments as they are kept: no secrets, none too long, not too many.
fn shorten(command: &Command, args: Args<'_>) -> Vec<Vec<u8>> {
    let secret = command.is(Flags::NO_AUTH) || args.iter().any(|word| word.eq_ignore_ascii_case(b"requirepass"));
    if secret {
        return vec![command.name.as_bytes().to_vec(), b"(redacted)".to_vec()];
    }
    let kept = if args.len() > SLOWLOG_ARGUMENTS { SLOWLOG_ARGUMENTS - 1 } else { args.len() };
    let mut arguments: Vec<_> = args.iter().take(kept).map(cut).collect();
    if kept < args.len() {
        arguments.push(format!("... ({} more arguments)", args.len() - kept).into_bytes());
    }
    arguments
}

fn cut(argument: &[u8]) -> Vec<u8> {
    match argument.len().checked_sub(SLOWLOG_ARGUMENT_BYTES) {
        None | Some(0) => argument.to_vec(),
        Some(more) => {
            let note = format!("... ({more} more bytes)");
            [&argument[..SLOWLOG_ARGUMENT_BYTES], note.as_bytes()].concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use node_core::{
        command_table::{Command, CommandId},
        resp::ArgsBuf,
    };

    use super::shorten;

    #[test]
    fn long_arguments_and_long_lists_are_cut() {
        let args: ArgsBuf = std::iter::repeat_n(vec![b'x'; 200], 40).collect();
        let kept = shorten(Command::of(CommandId::Mset), args.as_args());
        assert_eq!(kept.len(), 32);
        assert!(kept[0].ends_with(b"... (72 more bytes)"));
        assert_eq!(kept[31], b"... (9 more arguments)");
    }

    #[test]
    fn secrets_are_not_kept() {
        for (id, words) in [
            (CommandId::Auth, &["AUTH", "hunter2"][..]),
            (CommandId::ConfigSet, &["CONFIG", "SET", "requirepass", "hunter2"]),
        ] {
            let args: ArgsBuf = words.iter().collect();
            let kept = shorten(Command::of(id), args.as_args()).concat();
            assert!(!kept.windows(7).any(|part| part == b"hunter2"));
        }
    }
}
