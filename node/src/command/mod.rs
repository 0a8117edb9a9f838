//! The commands that concern the server and its connections: one file for each family.
//!
//! Commands on keys are pure and live in [`node_core::command`]; what is here needs to know who asks, what is configured
//! or what was counted. [`execute`] is the one place that tells which is which.

mod client;
mod cluster;
mod config;
mod connection;
mod info;
mod latency;
mod memory;
mod region;
mod replication;
mod server;
mod slowlog;
mod waiting;
mod words;

use std::{borrow::Cow, sync::atomic::Ordering::Relaxed};

use node_core::{
    command::{Call, CommandError},
    command_table::{self, Command, CommandId},
    keyspace::Keyspace,
    resp::{Args, Reply},
};

pub(crate) use self::waiting::Waiting;
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
// Of the two that call it, transactions are the rare one; left to itself the compiler inlines it into neither.
#[inline(always)]
pub(crate) fn execute(id: CommandId, call: Context<'_, '_, '_>) -> Done {
    // Apart, so that a command on keys never has a `Context` in memory.
    let Context { worker, session, args, keyspace, reply } = call;
    let on_keys = node_core::command::execute(
        id,
        &mut Call {
            args,
            keyspace,
            reply,
            value_bytes_max: worker.server.parameters.bulk_bytes_max.load(Relaxed) as usize,
            random: if id == CommandId::Randomkey { rand::random() } else { 0 },
        },
    );
    match on_keys {
        Some(done) => Ok(done?),
        None => execute_here(id, Context { worker, session, args, keyspace, reply }),
    }
}

/// The commands of the shell. Each row of the table has its arm, here or in the core: a command that nobody implements
/// does not compile.
fn execute_here(id: CommandId, call: Context<'_, '_, '_>) -> Done {
    use CommandId as C;
    match id {
        C::Ping => connection::ping(call),
        C::Echo => connection::echo(call),
        C::Select => connection::select(call),
        C::Auth => connection::auth(call),
        C::Hello => connection::hello(call),
        C::Reset => connection::reset(call),
        C::Quit => connection::quit(call),
        C::Multi => transaction::multi(call),
        C::Exec => transaction::exec(call),
        C::Discard => transaction::discard(call),
        C::Watch => transaction::watch(call),
        C::Unwatch => transaction::unwatch(call),
        C::ClientId => client::id(call),
        C::ClientInfo => client::info(call),
        C::ClientList => client::list(call),
        C::ClientKill => client::kill(call),
        C::ClientGetname => client::getname(call),
        C::ClientSetname => client::setname(call),
        C::ClientSetinfo => client::setinfo(call),
        C::ClientReply => client::replies(call),
        C::ClientPause => client::pause(call),
        C::ClientUnpause => client::unpause(call),
        C::ClientUnblock => client::unblock(call),
        C::ClientTracking => client::tracking(call),
        C::ClientGetredir => client::getredir(call),
        C::ClientNoEvict => client::set_flag(call, |client| &client.no_evict),
        C::ClientNoTouch => client::set_flag(call, |client| &client.no_touch),
        C::ConfigGet => config::get(call),
        C::ConfigSet => config::set(call),
        C::ConfigResetstat => config::resetstat(call),
        C::ConfigRewrite => config::rewrite(call),
        C::Info => info::info(call),
        C::SlowlogGet => slowlog::get(call),
        C::SlowlogLen => slowlog::len(call),
        C::SlowlogReset => slowlog::reset(call),
        C::LatencyLatest => latency::latest(call),
        C::LatencyHistory => latency::history(call),
        C::LatencyReset => latency::reset(call),
        C::LatencyHistogram => latency::histogram(call),
        C::LatencyDoctor => latency::doctor(call),
        C::LatencyGraph => latency::graph(call),
        C::MemoryStats => memory::stats(call),
        C::MemoryDoctor => memory::doctor(call),
        C::MemoryMallocStats => memory::malloc_stats(call),
        C::MemoryPurge => memory::purge(call),
        C::Time => server::time(call),
        C::Role => replication::role(call),
        C::Wait => replication::wait(call),
        C::Lolwut => server::lolwut(call),
        C::Shutdown => server::shutdown(call),
        C::DebugSleep => server::debug_sleep(call),
        C::DebugObject => server::debug_object(call),
        C::DebugSetActiveExpire => server::debug_set_active_expire(call),
        C::Asking
        | C::ClusterAddslots
        | C::ClusterAddslotsrange
        | C::ClusterBumpepoch
        | C::ClusterCountFailureReports
        | C::ClusterCountkeysinslot
        | C::ClusterDelslots
        | C::ClusterDelslotsrange
        | C::ClusterFailover
        | C::ClusterFlushslots
        | C::ClusterForget
        | C::ClusterGetkeysinslot
        | C::ClusterHelp
        | C::ClusterInfo
        | C::ClusterKeyslot
        | C::ClusterLinks
        | C::ClusterMeet
        | C::ClusterMyid
        | C::ClusterMyshardid
        | C::ClusterNodes
        | C::ClusterReplicas
        | C::ClusterReplicate
        | C::ClusterReset
        | C::ClusterSaveconfig
        | C::ClusterSetConfigEpoch
        | C::ClusterSetslot
        | C::ClusterShards
        | C::ClusterSlaves
        | C::ClusterSlots
        | C::Readonly
        | C::Readwrite => cluster::execute(id, call),
        C::RegionStatus => region::status(call),
        C::RegionLag => region::lag(call),
        C::RegionWait => region::wait(call),
        C::RegionToken => region::token(call),
        C::RegionAwait => region::await_token(call),
        C::RegionConflicts => region::conflicts(call),
        C::RegionAdd => region::add(call),
        C::RegionRemove => region::remove(call),
        C::RegionRestamp => region::restamp(call),
        C::RegionDigest => region::digest(call),
        C::RegionRows => region::rows(call),
        C::RegionFetch => region::fetch(call),
        C::RegionMerge => region::merge(call),
        C::CommandTable
        | C::CommandCount
        | C::CommandDocs
        | C::CommandGetkeys
        | C::CommandGetkeysandflags
        | C::CommandHelp
        | C::CommandInfo
        | C::CommandList => {
            command_table::answer(Command::of(id), call.args, call.reply);
            Ok(())
        }
        C::ClientHelp => help(C::Client, call),
        C::ConfigHelp => help(C::Config, call),
        C::DebugHelp => help(C::Debug, call),
        C::LatencyHelp => help(C::Latency, call),
        C::MemoryHelp => help(C::Memory, call),
        C::RegionHelp => help(C::Region, call),
        C::SlowlogHelp => help(C::Slowlog, call),
        // Their arity asks for a subcommand, whose row is another.
        C::Client | C::Cluster | C::Config | C::Debug | C::Latency | C::Memory | C::Object | C::Region | C::Slowlog => {
            Err(Failure::SYNTAX)
        }
        C::Append
        | C::Copy
        | C::Dbsize
        | C::Decr
        | C::Decrby
        | C::Del
        | C::Exists
        | C::Expire
        | C::Expireat
        | C::Expiretime
        | C::Flushall
        | C::Flushdb
        | C::Get
        | C::Getdel
        | C::Getex
        | C::Getrange
        | C::Getset
        | C::Incr
        | C::Incrby
        | C::Incrbyfloat
        | C::Keys
        | C::MemoryUsage
        | C::Mget
        | C::Mset
        | C::Msetnx
        | C::ObjectEncoding
        | C::ObjectFreq
        | C::ObjectHelp
        | C::ObjectIdletime
        | C::ObjectRefcount
        | C::Persist
        | C::Pexpire
        | C::Pexpireat
        | C::Pexpiretime
        | C::Psetex
        | C::Pttl
        | C::Randomkey
        | C::Rename
        | C::Renamenx
        | C::Scan
        | C::Set
        | C::Setex
        | C::Setnx
        | C::Setrange
        | C::Strlen
        | C::Substr
        | C::Touch
        | C::Ttl
        | C::Type
        | C::Unlink => unreachable!("the core executes the commands on keys"),
    }
}

fn help(container: CommandId, call: Context<'_, '_, '_>) -> Done {
    command_table::write_help(Command::of(container), call.reply);
    Ok(())
}
