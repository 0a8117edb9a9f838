//! The commands on keys: one file for each, or for a few that are variants of one another.
//!
//! Such a file has the command's syntax, its parsing, its execution and its tests. A command is a function from a
//! [`Call`] to a reply written into the call, or an error. Nothing here knows of connections, sockets or threads; what
//! concerns those (CLIENT, CONFIG, INFO, MULTI and the like) belongs to the shell.
//!
//! # Writing one
//! - Parse all arguments before touching the store: a syntax error changes nothing.
//! - Write the reply while the stripe is locked, straight from the heap into the connection's buffer.
//! - On several keys, [`hold`](crate::keyspace::Keyspace::hold) them first.
//! - A command that may need memory has the flag `denyoom` in the table; room is made before it is called.

pub mod error;
pub mod get;

use crate::{
    keyspace::Keyspace,
    resp::{Args, Reply},
};

pub use error::CommandError;

/// One call of one command.
pub struct Call<'c, 's, 'r> {
    /// The command's name and its arguments, as the client sent them.
    pub args: Args<'c>,
    /// The keys.
    pub keyspace: &'c mut Keyspace<'s>,
    /// Where the answer goes.
    pub reply: &'c mut Reply<'r>,
}

/// What a command comes to: the reply is written, or this error is the reply and nothing was changed.
pub type Done = Result<(), CommandError>;
