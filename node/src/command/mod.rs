//! The commands that concern the server and its connections: one file for each family.
//!
//! Commands on keys are pure and live in [`node_core::command`]; what is here needs to know who asks, what is configured
//! or what was counted. [`execute`] is the one place that tells which is which.

mod connection;

use std::{borrow::Cow, sync::atomic::Ordering::Relaxed};

use node_core::{
    command::{Call, CommandError},
    command_table::{self, Command, CommandId},
    keyspace::Keyspace,
    resp::{Args, Reply},
};

use crate::{
    server::{Server, session::Session, worker::Worker},
    transaction,
};

/// One call of one command of the shell.
pub(crate) struct Context<'c, 's, 'r> {
    /// Who executes it.
    pub(crate) worker: &'c Worker,
    /// Who asks.
    pub(crate) session: &'c mut Session,
    /// The command's name and its arguments.
    pub(crate) args: Args<'c>,
    /// The keys; in a transaction some or all stripes are held, so the store is reached by no other way.
    pub(crate) keyspace: &'c mut Keyspace<'s>,
    /// Where the answer goes.
    pub(crate) reply: &'c mut Reply<'r>,
}

impl Context<'_, '_, '_> {
    /// What all threads of the node share.
    pub(crate) fn server(&self) -> &Server {
        &self.worker.server
    }
}

/// What a command comes to: the reply is written, or this error is the reply.
pub(crate) type Done = Result<(), Failure>;

/// An error reply, in Redis's words where Redis has any.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// Of a command on keys.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Of a command of the shell: its code and the text.
    #[error("{0}")]
    Text(Cow<'static, str>),
}

impl Failure {
    /// The arguments do not follow the syntax.
    pub(crate) const SYNTAX: Self = Self::Command(CommandError::Syntax);
    /// An argument is no integer.
    pub(crate) const NOT_AN_INTEGER: Self = Self::Command(CommandError::NotAnInteger);

    /// A constant text.
    pub(crate) const fn text(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

/// Executes a command that was found in the table, with as many arguments as it takes.
///
/// # Errors
/// [`Failure`], which is the reply.
#[inline]
pub(crate) fn execute(id: CommandId, call: Context<'_, '_, '_>) -> Done {
    let on_keys = node_core::command::execute(
        id,
        &mut Call {
            args: call.args,
            keyspace: call.keyspace,
            reply: call.reply,
            value_bytes_max: call.worker.server.parameters.bulk_bytes_max.load(Relaxed) as usize,
            random: if id == CommandId::Randomkey { rand::random() } else { 0 },
        },
    );
    match on_keys {
        Some(done) => Ok(done?),
        None => execute_here(id, call),
    }
}

/// The commands of the shell.
fn execute_here(id: CommandId, call: Context<'_, '_, '_>) -> Done {
    use CommandId as C;
    match id {
        C::Ping => connection::ping(call),
        C::Echo => connection::echo(call),
        C::Multi => transaction::multi(call),
        C::Exec => transaction::exec(call),
        C::Discard => transaction::discard(call),
        C::Watch => transaction::watch(call),
        C::Unwatch => transaction::unwatch(call),
        _ => {
            command_table::answer(Command::of(id), call.args, call.reply);
            Ok(())
        }
    }
}
