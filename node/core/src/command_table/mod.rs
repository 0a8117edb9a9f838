//! The command table: what Meridian knows about each command before it is executed.
//!
//! One row per command and subcommand, all of them in `table`: arity, flags, where the keys are, and what COMMAND
//! says about it. Everything that asks "which command is this", "may it run now", "which slots does it touch" asks
//! here and nowhere else; what a command *does* is a `match` over [`CommandId`], so a row that nobody implements does
//! not compile.
//!
//! The rows agree with `COMMAND INFO` of Redis 7.0, the reference for names, arity, flags and keys (a test holds them
//! against its output), since smart clients route by them. Later additions that clients use at connect (CLIENT
//! SETINFO, CLIENT NO-TOUCH) and our own REGION are in the same table.
//!
//! A subcommand is a row too, named `client|id` as in Redis; its container stands directly before the first of its
//! subcommands. Commands of types that Meridian does not store, scripts, pub/sub and replication are left out: they
//! are unknown, and say so in Redis's words.

mod answers;
mod keys;
mod lookup;
mod syntax;
mod table;

use crate::resp::{Args, Reply};

pub use answers::{answer, write_help};
pub use keys::{KeyIndexes, KeySpec};
pub use lookup::find;
pub use table::{CommandId, TABLE};

/// Bytes of a client's own words that an error repeats; as in Redis. Policy: cut.
const ECHO_BYTES_MAX: usize = 128;

/// What is known about one command. A row of [`TABLE`].
#[derive(Debug)]
pub struct Command {
    /// Which it is: the index of its row.
    pub id: CommandId,
    /// Lower case; a subcommand's with its container's in front: `client|id`.
    pub name: &'static str,
    /// How many arguments it takes, its name (and a subcommand's container) included; `-n` means `n` or more.
    pub arity: i8,
    /// What it does and when it may run.
    pub flags: Flags,
    /// Categories of access beyond those that follow from the flags.
    extra_categories: Categories,
    /// The chapter of the documentation.
    pub group: Group,
    /// Where its keys are.
    pub keys: &'static [KeySpec],
    /// Redis's hints for clients that route requests.
    pub tips: &'static [&'static str],
    /// The version that brought it; of Redis, or of Meridian for the group [`Group::Region`].
    pub since: &'static str,
    /// In terms of what.
    pub complexity: &'static str,
    /// Its arguments, in the notation that the module `syntax` describes.
    syntax: &'static str,
    /// One sentence without a full stop.
    pub summary: &'static str,
    /// How many rows after this one are its subcommands.
    subcommand_count: u8,
}

/// Why a request cannot be executed at all.
#[derive(Clone, Copy, Debug)]
pub enum Rejection {
    /// There is no such command.
    UnknownCommand,
    /// This container has no such subcommand.
    UnknownSubcommand(&'static Command),
    /// Too few or too many arguments for this command.
    WrongArity(&'static Command),
}

/// Finds the command that a request is for, down to the subcommand, and checks the number of its arguments.
///
/// # Errors
/// [`Rejection`], which can [write](Rejection::write) itself as Redis would. Also for a request without arguments,
/// which the parser never makes.
#[inline]
pub fn resolve(args: Args<'_>) -> Result<&'static Command, Rejection> {
    let command = identify(args)?;
    if command.takes(args.len()) { Ok(command) } else { Err(Rejection::WrongArity(command)) }
}

/// Finds the command that a request is for, whatever the number of its arguments.
#[inline]
fn identify(args: Args<'_>) -> Result<&'static Command, Rejection> {
    let command = args.get(0).and_then(find).ok_or(Rejection::UnknownCommand)?;
    if !command.is_container() {
        return Ok(command);
    }
    match args.get(1) {
        Some(word) => command.subcommand(word).ok_or(Rejection::UnknownSubcommand(command)),
        None => Ok(command),
    }
}

/// Finds a command by its full name, `client|id` for a subcommand, as COMMAND INFO takes it.
fn find_full(name: &[u8]) -> Option<&'static Command> {
    match memchr::memchr(b'|', name) {
        Some(bar) => find(&name[..bar])?.subcommand(&name[bar + 1..]),
        None => find(name),
    }
}

impl Command {
    /// The row of a command.
    #[inline]
    pub fn of(id: CommandId) -> &'static Self {
        &TABLE[id as usize]
    }

    /// Whether a request of `arguments` arguments, the name included, fits the arity.
    #[inline]
    pub fn takes(&self, arguments: usize) -> bool {
        let least = usize::from(self.arity.unsigned_abs());
        arguments == least || (self.arity < 0 && arguments > least)
    }

    /// Whether it has all of these flags.
    #[inline]
    pub fn is(&self, flags: Flags) -> bool {
        self.flags.contains(flags)
    }

    /// Whether its first argument selects a subcommand.
    #[inline]
    pub fn is_container(&self) -> bool {
        self.subcommand_count > 0
    }

    /// Whether it is a part of a container.
    pub fn is_subcommand(&self) -> bool {
        self.name.contains('|')
    }

    /// Its subcommands, if it is a container.
    pub fn subcommands(&self) -> &'static [Self] {
        &TABLE[self.id as usize + 1..][..usize::from(self.subcommand_count)]
    }

    /// The subcommand of that name, in any case.
    pub fn subcommand(&self, word: &[u8]) -> Option<&'static Self> {
        self.subcommands().iter().find(|command| command.word().as_bytes().eq_ignore_ascii_case(word))
    }

    /// Its name without that of its container.
    pub fn word(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, word)| word)
    }

    /// The categories of access that it belongs to: what follows from its flags, and its own.
    pub fn categories(&self) -> Categories {
        let mut categories = self.extra_categories;
        for (flag, implied) in [
            (Flags::WRITE, Categories::WRITE),
            (Flags::READONLY, Categories::READ),
            (Flags::ADMIN, Categories::ADMIN.with(Categories::DANGEROUS)),
            (Flags::FAST, Categories::FAST),
        ] {
            if self.is(flag) {
                categories = categories.with(implied);
            }
        }
        if self.is(Flags::FAST) { categories } else { categories.with(Categories::SLOW) }
    }

    /// The indexes of its keys among `arguments` arguments, the name included.
    pub fn key_indexes(&self, arguments: usize) -> KeyIndexes {
        KeyIndexes::new(self.keys, arguments)
    }

    /// The keys of a request for it.
    pub fn keys_of<'a>(&self, args: Args<'a>) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.key_indexes(args.len()).filter_map(move |index| args.get(index))
    }
}

impl Rejection {
    /// Writes the error reply to the request `args`.
    pub fn write(self, args: Args<'_>, reply: &mut Reply<'_>) {
        let clip = |argument: Option<&'_ [u8]>| {
            let argument = argument.unwrap_or_default();
            argument[..argument.len().min(ECHO_BYTES_MAX)].to_vec()
        };
        let mut error = Vec::new();
        match self {
            Self::WrongArity(command) => {
                return reply.error(format_args!("ERR wrong number of arguments for '{}' command", command.name));
            }
            Self::UnknownSubcommand(container) => {
                error.extend_from_slice(b"ERR unknown subcommand '");
                error.extend(clip(args.get(1)));
                error.extend_from_slice(b"'. Try ");
                error.extend(container.name.bytes().map(|byte| byte.to_ascii_uppercase()));
                error.extend_from_slice(b" HELP.");
            }
            Self::UnknownCommand => {
                error.extend_from_slice(b"ERR unknown command '");
                error.extend(clip(args.get(0)));
                error.extend_from_slice(b"', with args beginning with: ");
                echo(args.from(1), &mut error);
            }
        }
        reply.error_bytes(&error);
    }
}

/// Appends as many of `args`, quoted, as an error repeats.
fn echo(args: Args<'_>, error: &mut Vec<u8>) {
    let start = error.len();
    for argument in args.iter() {
        let Some(room) = ECHO_BYTES_MAX.checked_sub(error.len() - start).filter(|&room| room > 0) else { break };
        error.push(b'\'');
        error.extend_from_slice(&argument[..argument.len().min(room)]);
        error.extend_from_slice(b"' ");
    }
}

/// What a command does and when it may run, as a set of bits. The names are Redis's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u16);

/// Defines a set of bits and the words for them, in the order in which Redis lists them.
macro_rules! bits {
    ($set:ident { $($(#[$doc:meta])* $name:ident = $bit:literal $word:literal),* $(,)? }) => {
        impl $set {
            /// None of them.
            pub const NONE: Self = Self(0);
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*
            const WORDS: &[(Self, &'static str)] = &[$((Self::$name, $word)),*];

            /// Both sets together.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Whether all of `other` is in the set.
            #[inline]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// The words for what is in the set.
            pub fn words(self) -> impl Iterator<Item = &'static str> {
                Self::WORDS.iter().filter(move |(bit, _)| self.contains(*bit)).map(|(_, word)| *word)
            }

            /// What Redis calls by this word.
            pub fn from_word(word: &[u8]) -> Option<Self> {
                Self::WORDS.iter().find(|(_, name)| name.as_bytes().eq_ignore_ascii_case(word)).map(|(bit, _)| *bit)
            }
        }
    };
}

bits!(Flags {
    /// May change keys: is stamped, replicated, and refused by a replica.
    WRITE = 0 "write",
    /// Reads keys and changes none.
    READONLY = 1 "readonly",
    /// May need memory: is refused when there is none.
    DENYOOM = 2 "denyoom",
    /// For operators.
    ADMIN = 3 "admin",
    /// Not from scripts. Kept because clients show it.
    NOSCRIPT = 4 "noscript",
    /// Runs while the node is still receiving its data.
    LOADING = 5 "loading",
    /// Runs on a replica that has lost its primary.
    STALE = 6 "stale",
    /// Is never in the slow log.
    SKIP_SLOWLOG = 7 "skip_slowlog",
    /// Constant or logarithmic time.
    FAST = 8 "fast",
    /// Runs before the client has authenticated.
    NO_AUTH = 9 "no_auth",
    /// Not while data is received in the background. Kept because clients show it.
    NO_ASYNC_LOADING = 10 "no_async_loading",
    /// Not inside a transaction.
    NO_MULTI = 11 "no_multi",
    /// Runs also while a script is busy. Kept because clients show it.
    ALLOW_BUSY = 12 "allow_busy",
});

/// Categories of access control, as a set of bits. The names are Redis's, without their `@`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Categories(u16);

bits!(Categories {
    /// Keys of any type.
    KEYSPACE = 0 "keyspace",
    /// Reads keys.
    READ = 1 "read",
    /// Writes keys.
    WRITE = 2 "write",
    /// Strings.
    STRING = 3 "string",
    /// For operators.
    ADMIN = 4 "admin",
    /// Constant or logarithmic time.
    FAST = 5 "fast",
    /// All that is not fast.
    SLOW = 6 "slow",
    /// To be used with care.
    DANGEROUS = 7 "dangerous",
    /// The connection itself.
    CONNECTION = 8 "connection",
    /// MULTI and what belongs to it.
    TRANSACTION = 9 "transaction",
});

/// Chapters of the documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Strings.
    String,
    /// Keys of any type.
    Generic,
    /// The connection.
    Connection,
    /// The server.
    Server,
    /// Transactions.
    Transactions,
    /// The cluster of this region.
    Cluster,
    /// The other regions.
    Region,
}

impl Group {
    /// Redis's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Generic => "generic",
            Self::Connection => "connection",
            Self::Server => "server",
            Self::Transactions => "transactions",
            Self::Cluster => "cluster",
            Self::Region => "region",
        }
    }
}

#[cfg(test)]
mod tests;
