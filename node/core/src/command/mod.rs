//! The commands on keys: one file for each, or for a few that are variants of one another.
//!
//! Such a file has the command's syntax, its parsing, its execution and its tests. A command is a function from a
//! [`Call`] to a reply written into the call, or an error. Nothing here knows of connections, sockets or threads; what
//! concerns those (CLIENT, CONFIG, INFO, MULTI and the like) belongs to the shell. [`execute`] is the way in. Replies,
//! errors and corners are those of Redis 7.0; `tests/redis_oracle.rs` compares them with the real one, byte for byte.
//!
//! # Before a call
//! The shell has resolved the command and its arity by the table, routed its keys, and, for a command with the flag
//! `denyoom`, made room with [`Store::make_room`](crate::store::Store::make_room). It must do that *before* any stripe
//! is held, of a transaction before the first of its commands: making room locks stripes one after the other, in an
//! order of its own.
//!
//! In a transaction the shell holds what all the commands will touch: the stripes of their keys, or all of them if
//! [`is_of_whole_keyspace`] says so of any. Every command here works both ways, holding for itself or being held.
//!
//! # Writing one
//! - Parse all arguments before touching the store: a syntax error changes nothing.
//! - What reads replies while the stripe is locked, straight from the heap into the connection's buffer. What writes
//!   replies after the last thing that can fail, so that no half of a reply stands before an error.
//! - On several keys, [`hold`](crate::keyspace::Keyspace::hold) them first.
//! - What changes nothing writes nothing; DEL alone does, see [`key`].

pub mod error;
pub mod expire;
pub mod get;
pub mod incr;
pub mod key;
pub mod keyspace_wide;
pub mod mset;
pub mod object;
pub mod rename;
pub mod scan;
pub mod set;
pub mod substring;
#[cfg(test)]
mod testing;
pub mod ttl;

use crate::{
    command_table::{self, Command, CommandId},
    keyspace::Keyspace,
    number,
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
    /// Longest value that a command may make, in bytes: `proto-max-bulk-len`. What is above
    /// [`VALUE_BYTES_MAX`](crate::limits::VALUE_BYTES_MAX) counts as that.
    pub value_bytes_max: usize,
    /// 64 random bits, drawn for this call. RANDOMKEY alone looks at them.
    pub random: u64,
}

/// What a command comes to: the reply is written, or this error is the reply and nothing was changed.
///
/// The one exception is [`CommandError::HeapFull`] of a command on several keys, whose first ones may have been written.
/// It means that a stripe holds all that its heap can name, 16 GiB of small entries.
pub type Done = Result<(), CommandError>;

/// Executes a command on keys. `None`, and nothing was done, if it is another, which the shell has to see to.
#[inline]
pub fn execute(id: CommandId, call: &mut Call<'_, '_, '_>) -> Option<Done> {
    Some(match id {
        CommandId::Get => get::get(call),
        CommandId::Set => set::set(call),
        CommandId::Mget => get::mget(call),
        CommandId::Getdel => get::getdel(call),
        CommandId::Getex => get::getex(call),
        CommandId::Setnx => set::setnx(call),
        CommandId::Setex => set::setex(call),
        CommandId::Psetex => set::psetex(call),
        CommandId::Getset => set::getset(call),
        CommandId::Mset => mset::mset(call),
        CommandId::Msetnx => mset::msetnx(call),
        CommandId::Strlen => substring::strlen(call),
        CommandId::Getrange | CommandId::Substr => substring::getrange(call),
        CommandId::Setrange => substring::setrange(call),
        CommandId::Append => substring::append(call),
        CommandId::Incr => incr::incr(call),
        CommandId::Decr => incr::decr(call),
        CommandId::Incrby => incr::incrby(call),
        CommandId::Decrby => incr::decrby(call),
        CommandId::Incrbyfloat => incr::incrbyfloat(call),
        CommandId::Del | CommandId::Unlink => key::del(call),
        CommandId::Exists => key::exists(call),
        CommandId::Touch => key::touch(call),
        CommandId::Type => key::type_of(call),
        CommandId::Rename => rename::rename(call),
        CommandId::Renamenx => rename::renamenx(call),
        CommandId::Copy => rename::copy(call),
        CommandId::Expire => expire::expire(call),
        CommandId::Pexpire => expire::pexpire(call),
        CommandId::Expireat => expire::expireat(call),
        CommandId::Pexpireat => expire::pexpireat(call),
        CommandId::Ttl => ttl::ttl(call),
        CommandId::Pttl => ttl::pttl(call),
        CommandId::Expiretime => ttl::expiretime(call),
        CommandId::Pexpiretime => ttl::pexpiretime(call),
        CommandId::Persist => ttl::persist(call),
        _ => return execute_seldom(id, call),
    })
}

/// The commands that nobody's speed depends on.
fn execute_seldom(id: CommandId, call: &mut Call<'_, '_, '_>) -> Option<Done> {
    Some(match id {
        CommandId::Scan => scan::scan(call),
        CommandId::Keys => scan::keys(call),
        CommandId::Randomkey => keyspace_wide::randomkey(call),
        CommandId::Dbsize => keyspace_wide::dbsize(call),
        CommandId::Flushdb | CommandId::Flushall => keyspace_wide::flush(call),
        CommandId::ObjectEncoding => object::encoding(call),
        CommandId::ObjectFreq => object::freq(call),
        CommandId::ObjectIdletime => object::idletime(call),
        CommandId::ObjectRefcount => object::refcount(call),
        CommandId::ObjectHelp => {
            command_table::write_help(Command::of(CommandId::Object), call.reply);
            Ok(())
        }
        CommandId::MemoryUsage => object::memory_usage(call),
        _ => return None,
    })
}

/// Whether a command touches keys that its arguments do not name, so that a transaction with it has to hold all stripes.
pub const fn is_of_whole_keyspace(id: CommandId) -> bool {
    matches!(
        id,
        CommandId::Scan
            | CommandId::Keys
            | CommandId::Randomkey
            | CommandId::Dbsize
            | CommandId::Flushdb
            | CommandId::Flushall
    )
}

fn integer(text: &[u8]) -> Result<i64, CommandError> {
    number::parse_i64(text).ok_or(CommandError::NotAnInteger)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_assert, prop_oneof, proptest};

    use super::{is_of_whole_keyspace, testing::Server};
    use crate::{
        command_table::{Command, CommandId, Flags, TABLE},
        resp::ArgsBuf,
    };

    /// The commands that [`execute`](super::execute) executes: those on keys and on all keys.
    fn is_ours(command: &Command) -> bool {
        let other = [
            CommandId::Watch,
            CommandId::DebugObject,
            CommandId::ObjectHelp,
            CommandId::RegionFetch,
            CommandId::RegionMerge,
        ];
        !command.is_container()
            && !other.contains(&command.id)
            && (!command.keys.is_empty() || is_of_whole_keyspace(command.id))
    }

    fn argument() -> impl Strategy<Value = Vec<u8>> {
        let options = "a b {a} 0 1 -1 10 ex px nx xx gt get keepttl persist match count type replace samples * inf 1.5";
        let options: Vec<_> = options.split(' ').map(|option| option.as_bytes().to_vec()).collect();
        prop_oneof![
            8 => proptest::sample::select(options),
            1 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
            1 => proptest::collection::vec(any::<u8>(), 0..10),
        ]
    }

    fn request() -> impl Strategy<Value = (&'static Command, ArgsBuf)> {
        let ours: Vec<_> = TABLE.iter().filter(|command| is_ours(command)).collect();
        let arguments = proptest::collection::vec(argument(), 0..6);
        (proptest::sample::select(ours), arguments).prop_map(|(command, arguments)| {
            let words = command.name.split('|').map(|word| word.as_bytes().to_vec());
            (command, words.chain(arguments).collect())
        })
    }

    proptest! {
        #[test]
        fn every_request_has_one_reply_and_only_writes_write(
            requests in proptest::collection::vec((request(), 0..2_u64), 1..50),
        ) {
            let mut server = Server::new();
            // Else a single SETRANGE could ask for half a gigabyte.
            server.value_bytes_max = 1_000;
            for ((command, args), pause_ms) in requests {
                let before = server.writes();
                let reply = server.answer(&args);
                let may_write = command.is(Flags::WRITE) && !reply.starts_with("-ERR");
                prop_assert!(may_write || server.writes() == before, "{args:?} writes");
                server.wait_ms(pause_ms);
            }
        }
    }

    #[test]
    fn what_touches_all_keys_names_none() {
        for command in TABLE.iter().filter(|command| is_of_whole_keyspace(command.id)) {
            assert!(command.keys.is_empty(), "{}", command.name);
        }
    }
}
