//! The rows.
//!
//! A row reads: variant, name, arity, flags, categories that do not follow from the flags, group, keys, tips; then the
//! version that brought it, its complexity, its arguments (the notation is in the module `syntax`) and a summary.
//! The variants of [`CommandId`] number the rows, so a row is found by its id without a search.

use super::keys::KeySpec;
use super::{Categories, Command, Flags, Group};

const NO_KEYS: &[KeySpec] = &[];
const READ: &[KeySpec] = &[KeySpec::one(1, &["RO", "access"])];
const LOOK: &[KeySpec] = &[KeySpec::one(1, &["RO"])];
const LOOK_SECOND: &[KeySpec] = &[KeySpec::one(2, &["RO"])];
const PUT: &[KeySpec] = &[KeySpec::one(1, &["OW", "update"])];
const PUT_NEW: &[KeySpec] = &[KeySpec::one(1, &["OW", "insert"])];
const PUT_OR_GET: &[KeySpec] = &[KeySpec::one(1, &["RW", "access", "update", "variable_flags"])];
const MODIFY: &[KeySpec] = &[KeySpec::one(1, &["RW", "access", "update"])];
const PATCH: &[KeySpec] = &[KeySpec::one(1, &["RW", "update"])];
const EXTEND: &[KeySpec] = &[KeySpec::one(1, &["RW", "insert"])];
const TAKE: &[KeySpec] = &[KeySpec::one(1, &["RW", "access", "delete"])];
const MERGE_SECOND: &[KeySpec] = &[KeySpec::one(2, &["RW", "update"])];
const READ_ALL: &[KeySpec] = &[KeySpec::every(1, &["RO", "access"])];
const LOOK_ALL: &[KeySpec] = &[KeySpec::every(1, &["RO"])];
const REMOVE_ALL: &[KeySpec] = &[KeySpec::every(1, &["RM", "delete"])];
const PUT_PAIRS: &[KeySpec] = &[KeySpec::every(2, &["OW", "update"])];
const PUT_NEW_PAIRS: &[KeySpec] = &[KeySpec::every(2, &["OW", "insert"])];
const MOVE: &[KeySpec] = &[KeySpec::one(1, &["RW", "access", "delete"]), KeySpec::one(2, &["OW", "update"])];
const MOVE_NEW: &[KeySpec] = &[KeySpec::one(1, &["RW", "access", "delete"]), KeySpec::one(2, &["OW", "insert"])];
const DUPLICATE: &[KeySpec] = &[KeySpec::one(1, &["RO", "access"]), KeySpec::one(2, &["OW", "update"])];

const NO_TIPS: &[&str] = &[];
const VARIES: &[&str] = &["nondeterministic_output"];
const ORDER_VARIES: &[&str] = &["nondeterministic_output_order"];
const SPLIT: &[&str] = &["request_policy:multi_shard"];
const SPLIT_SUM: &[&str] = &["request_policy:multi_shard", "response_policy:agg_sum"];
const SPLIT_MIN: &[&str] = &["request_policy:multi_shard", "response_policy:agg_min"];
const SPLIT_ALL_OK: &[&str] = &["request_policy:multi_shard", "response_policy:all_succeeded"];
const SHARDS_SUM: &[&str] = &["request_policy:all_shards", "response_policy:agg_sum"];
const SHARDS_MIN: &[&str] = &["request_policy:all_shards", "response_policy:agg_min"];
const SHARDS_ALL_OK: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];
const SHARDS_VARY: &[&str] = &["request_policy:all_shards", "nondeterministic_output"];
const SHARDS_ORDER_VARIES: &[&str] = &["request_policy:all_shards", "nondeterministic_output_order"];
const SHARDS_SPECIAL: &[&str] = &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];
const SCAN_TIPS: &[&str] = &["nondeterministic_output", "request_policy:special"];
const NODES_ALL_OK: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];
const NODES_SUM: &[&str] = &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"];
const NODES_VARY: &[&str] = &["request_policy:all_nodes", "nondeterministic_output"];
const NODES_SPECIAL: &[&str] = &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];

macro_rules! table {
    ($(
        $id:ident $name:literal $arity:literal [$($flag:ident)*] [$($category:ident)*] $group:ident $keys:ident $tips:ident
            $since:literal $complexity:literal $syntax:literal $summary:literal;
    )*) => {
        /// Which command: dense, from 0, the index into [`TABLE`]. Containers and subcommands have one each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum CommandId {
            $(#[doc = $summary] $id,)*
        }

        const ROWS: [Command; [$($name),*].len()] = [$(Command {
            id: CommandId::$id,
            name: $name,
            arity: $arity,
            flags: Flags::NONE$(.with(Flags::$flag))*,
            extra_categories: Categories::NONE$(.with(Categories::$category))*,
            group: Group::$group,
            keys: $keys,
            tips: $tips,
            since: $since,
            complexity: $complexity,
            syntax: $syntax,
            summary: $summary,
            subcommand_count: 0,
        }),*];
    };
}

/// All commands, in the order of [`CommandId`].
pub static TABLE: [Command; ROWS.len()] = count_subcommands(ROWS);

/// Tells each container how many of the rows after it are its subcommands.
const fn count_subcommands(mut rows: [Command; ROWS.len()]) -> [Command; ROWS.len()] {
    let mut container = 0;
    while container < rows.len() {
        let mut next = container + 1;
        while next < rows.len() && is_in(rows[next].name, rows[container].name) {
            next += 1;
        }
        rows[container].subcommand_count = (next - container - 1) as u8;
        container = next;
    }
    rows
}

/// Whether `name` is the full name of a subcommand of `container`.
const fn is_in(name: &str, container: &str) -> bool {
    let (name, container) = (name.as_bytes(), container.as_bytes());
    if name.len() <= container.len() || name[container.len()] != b'|' {
        return false;
    }
    let mut at = 0;
    while at < container.len() {
        if name[at] != container[at] {
            return false;
        }
        at += 1;
    }
    true
}

table! {
    // Strings.
    Append "append" 3 [WRITE DENYOOM FAST] [STRING] String EXTEND NO_TIPS
        "2.0.0" "O(N), where N is the length of the result" "key:key value"
        "Appends to the value of a key, and creates it if there is none";
    Decr "decr" 2 [WRITE DENYOOM FAST] [STRING] String MODIFY NO_TIPS
        "1.0.0" "O(1)" "key:key" "Subtracts one from the integer at a key; an absent key counts as 0";
    Decrby "decrby" 3 [WRITE DENYOOM FAST] [STRING] String MODIFY NO_TIPS
        "1.0.0" "O(1)" "key:key decrement:integer" "Subtracts from the integer at a key; an absent key counts as 0";
    Get "get" 2 [READONLY FAST] [STRING] String READ NO_TIPS
        "1.0.0" "O(1)" "key:key" "Returns the value of a key";
    Getdel "getdel" 2 [WRITE FAST] [STRING] String TAKE NO_TIPS
        "6.2.0" "O(1)" "key:key" "Returns the value of a key and deletes the key";
    Getex "getex" -2 [WRITE FAST] [STRING] String MODIFY NO_TIPS
        "6.2.0" "O(1)" "key:key [expiration=(EX seconds:integer | PX milliseconds:integer | \
            EXAT unix-time-seconds:unix-time | PXAT unix-time-milliseconds:unix-time | PERSIST)]"
        "Returns the value of a key and sets or removes its expiry";
    Getrange "getrange" 4 [READONLY] [STRING] String READ NO_TIPS
        "2.4.0" "O(N), where N is the length of the result" "key:key start:integer end:integer"
        "Returns a part of the value of a key";
    Getset "getset" 3 [WRITE DENYOOM FAST] [STRING] String MODIFY NO_TIPS
        "1.0.0" "O(1)" "key:key value" "Sets the value of a key and returns the one it had";
    Incr "incr" 2 [WRITE DENYOOM FAST] [STRING] String MODIFY NO_TIPS
        "1.0.0" "O(1)" "key:key" "Adds one to the integer at a key; an absent key counts as 0";
    Incrby "incrby" 3 [WRITE DENYOOM FAST] [STRING] String MODIFY NO_TIPS
        "1.0.0" "O(1)" "key:key increment:integer" "Adds to the integer at a key; an absent key counts as 0";
    Incrbyfloat "incrbyfloat" 3 [WRITE DENYOOM FAST] [STRING] String MODIFY NO_TIPS
        "2.6.0" "O(1)" "key:key increment:double" "Adds to the number at a key; an absent key counts as 0";
    Mget "mget" -2 [READONLY FAST] [STRING] String READ_ALL SPLIT
        "1.0.0" "O(N), where N is the number of keys" "key:key..." "Returns the values of several keys";
    Mset "mset" -3 [WRITE DENYOOM] [STRING] String PUT_PAIRS SPLIT_ALL_OK
        "1.0.1" "O(N), where N is the number of keys" "key_value=(key:key value)..." "Sets several keys";
    Msetnx "msetnx" -3 [WRITE DENYOOM] [STRING] String PUT_NEW_PAIRS SPLIT_MIN
        "1.0.1" "O(N), where N is the number of keys" "key_value=(key:key value)..."
        "Sets several keys, if none of them is there";
    Psetex "psetex" 4 [WRITE DENYOOM] [STRING] String PUT NO_TIPS
        "2.6.0" "O(1)" "key:key milliseconds:integer value" "Sets a key and its time to live in milliseconds";
    Set "set" -3 [WRITE DENYOOM] [STRING] String PUT_OR_GET NO_TIPS
        "1.0.0" "O(1)" "key:key value [condition=(NX | XX)] [GET] \
            [expiration=(EX seconds:integer | PX milliseconds:integer | \
            EXAT unix-time-seconds:unix-time | PXAT unix-time-milliseconds:unix-time | KEEPTTL)]"
        "Sets the value of a key, whatever it held before";
    Setex "setex" 4 [WRITE DENYOOM] [STRING] String PUT NO_TIPS
        "2.0.0" "O(1)" "key:key seconds:integer value" "Sets a key and its time to live in seconds";
    Setnx "setnx" 3 [WRITE DENYOOM FAST] [STRING] String PUT_NEW NO_TIPS
        "1.0.0" "O(1)" "key:key value" "Sets a key, if it is not there";
    Setrange "setrange" 4 [WRITE DENYOOM] [STRING] String PATCH NO_TIPS
        "2.2.0" "O(N), where N is the length of the result" "key:key offset:integer value"
        "Overwrites a part of the value of a key, and fills a gap with zero bytes";
    Strlen "strlen" 2 [READONLY FAST] [STRING] String LOOK NO_TIPS
        "2.2.0" "O(1)" "key:key" "Returns the length of the value of a key, in bytes";
    Substr "substr" 4 [READONLY] [STRING] String READ NO_TIPS
        "1.0.0" "O(N), where N is the length of the result" "key:key start:integer end:integer"
        "Returns a part of the value of a key; the former name of GETRANGE";

    // Keys of any type.
    Copy "copy" -3 [WRITE DENYOOM] [KEYSPACE] Generic DUPLICATE NO_TIPS
        "6.2.0" "O(1)" "source:key destination:key [DB destination-db:integer] [REPLACE]"
        "Copies the value of a key to another key";
    Del "del" -2 [WRITE] [KEYSPACE] Generic REMOVE_ALL SPLIT_SUM
        "1.0.0" "O(N), where N is the number of keys" "key:key..." "Deletes keys";
    Exists "exists" -2 [READONLY FAST] [KEYSPACE] Generic LOOK_ALL SPLIT_SUM
        "1.0.0" "O(N), where N is the number of keys" "key:key..." "Counts how many of the keys are there";
    Expire "expire" -3 [WRITE FAST] [KEYSPACE] Generic PATCH NO_TIPS
        "1.0.0" "O(1)" "key:key seconds:integer [condition=(NX | XX | GT | LT)]"
        "Sets the time to live of a key, in seconds";
    Expireat "expireat" -3 [WRITE FAST] [KEYSPACE] Generic PATCH NO_TIPS
        "1.2.0" "O(1)" "key:key unix-time-seconds:unix-time [condition=(NX | XX | GT | LT)]"
        "Sets the expiry of a key, as a Unix time in seconds";
    Expiretime "expiretime" 2 [READONLY FAST] [KEYSPACE] Generic READ NO_TIPS
        "7.0.0" "O(1)" "key:key" "Returns the expiry of a key, as a Unix time in seconds";
    Keys "keys" 2 [READONLY] [KEYSPACE DANGEROUS] Generic NO_KEYS SHARDS_ORDER_VARIES
        "1.0.0" "O(N), where N is the number of keys of the node" "pattern:pattern"
        "Returns all keys that match a pattern";
    Object "object" -2 [] [] Generic NO_KEYS NO_TIPS
        "2.2.3" "Depends on the subcommand" "" "Tells how a key is stored";
    ObjectEncoding "object|encoding" 3 [READONLY] [KEYSPACE] Generic LOOK_SECOND VARIES
        "2.2.3" "O(1)" "key:key" "Returns the form in which the value of a key is stored";
    ObjectFreq "object|freq" 3 [READONLY] [KEYSPACE] Generic LOOK_SECOND VARIES
        "4.0.0" "O(1)" "key:key" "Returns how often a key is used, on a logarithmic scale";
    ObjectHelp "object|help" 2 [LOADING STALE] [KEYSPACE] Generic NO_KEYS NO_TIPS
        "6.2.0" "O(1)" "" "Prints this help";
    ObjectIdletime "object|idletime" 3 [READONLY] [KEYSPACE] Generic LOOK_SECOND VARIES
        "2.2.3" "O(1)" "key:key" "Returns the seconds since a key was last used";
    ObjectRefcount "object|refcount" 3 [READONLY] [KEYSPACE] Generic LOOK_SECOND VARIES
        "2.2.3" "O(1)" "key:key" "Returns the number of references to the value of a key";
    Persist "persist" 2 [WRITE FAST] [KEYSPACE] Generic PATCH NO_TIPS
        "2.2.0" "O(1)" "key:key" "Removes the expiry of a key";
    Pexpire "pexpire" -3 [WRITE FAST] [KEYSPACE] Generic PATCH NO_TIPS
        "2.6.0" "O(1)" "key:key milliseconds:integer [condition=(NX | XX | GT | LT)]"
        "Sets the time to live of a key, in milliseconds";
    Pexpireat "pexpireat" -3 [WRITE FAST] [KEYSPACE] Generic PATCH NO_TIPS
        "2.6.0" "O(1)" "key:key unix-time-milliseconds:unix-time [condition=(NX | XX | GT | LT)]"
        "Sets the expiry of a key, as a Unix time in milliseconds";
    Pexpiretime "pexpiretime" 2 [READONLY FAST] [KEYSPACE] Generic READ NO_TIPS
        "7.0.0" "O(1)" "key:key" "Returns the expiry of a key, as a Unix time in milliseconds";
    Pttl "pttl" 2 [READONLY FAST] [KEYSPACE] Generic READ VARIES
        "2.6.0" "O(1)" "key:key" "Returns the time that a key has left to live, in milliseconds";
    Randomkey "randomkey" 1 [READONLY] [KEYSPACE] Generic NO_KEYS SHARDS_VARY
        "1.0.0" "O(1)" "" "Returns some key";
    Rename "rename" 3 [WRITE] [KEYSPACE] Generic MOVE NO_TIPS
        "1.0.0" "O(1)" "key:key newkey:key" "Gives a key another name, and overwrites what had it";
    Renamenx "renamenx" 3 [WRITE FAST] [KEYSPACE] Generic MOVE_NEW NO_TIPS
        "1.0.0" "O(1)" "key:key newkey:key" "Gives a key another name, if no key has it";
    Scan "scan" -2 [READONLY] [KEYSPACE] Generic NO_KEYS SCAN_TIPS
        "2.8.0" "O(1) for each call, O(N) for all N keys of the node"
        "cursor:integer [MATCH pattern:pattern] [COUNT count:integer] [TYPE type]" "Returns the keys, some at a time";
    Touch "touch" -2 [READONLY FAST] [KEYSPACE] Generic LOOK_ALL SPLIT_SUM
        "3.2.1" "O(N), where N is the number of keys" "key:key..."
        "Counts as a use of each key, and returns how many are there";
    Ttl "ttl" 2 [READONLY FAST] [KEYSPACE] Generic READ VARIES
        "1.0.0" "O(1)" "key:key" "Returns the time that a key has left to live, in seconds";
    Type "type" 2 [READONLY FAST] [KEYSPACE] Generic LOOK NO_TIPS
        "1.0.0" "O(1)" "key:key" "Returns the type of the value of a key";
    Unlink "unlink" -2 [WRITE FAST] [KEYSPACE] Generic REMOVE_ALL SPLIT_SUM
        "4.0.0" "O(N), where N is the number of keys" "key:key..." "Deletes keys; the same as DEL here";
    Wait "wait" 3 [NOSCRIPT] [CONNECTION] Generic NO_KEYS SHARDS_MIN
        "3.0.0" "O(1)" "numreplicas:integer timeout:integer"
        "Waits until so many replicas have the writes of this connection";

    // The connection.
    Auth "auth" -2 [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [CONNECTION] Connection NO_KEYS NO_TIPS
        "1.0.0" "O(1)" "[username] password" "Authenticates the connection";
    Client "client" -2 [] [] Connection NO_KEYS NO_TIPS
        "2.4.0" "Depends on the subcommand" "" "Shows and changes client connections";
    ClientGetname "client|getname" 2 [NOSCRIPT LOADING STALE] [CONNECTION] Connection NO_KEYS NO_TIPS
        "2.6.9" "O(1)" "" "Returns the name of this connection";
    ClientGetredir "client|getredir" 2 [NOSCRIPT LOADING STALE] [CONNECTION] Connection NO_KEYS NO_TIPS
        "6.0.0" "O(1)" "" "Returns the client that gets the invalidations of this connection";
    ClientHelp "client|help" 2 [LOADING STALE] [CONNECTION] Connection NO_KEYS NO_TIPS
        "5.0.0" "O(1)" "" "Prints this help";
    ClientId "client|id" 2 [NOSCRIPT LOADING STALE] [CONNECTION] Connection NO_KEYS NO_TIPS
        "5.0.0" "O(1)" "" "Returns the number of this connection";
    ClientInfo "client|info" 2 [NOSCRIPT LOADING STALE] [CONNECTION] Connection NO_KEYS VARIES
        "6.2.0" "O(1)" "" "Describes this connection";
    ClientKill "client|kill" -3 [ADMIN NOSCRIPT LOADING STALE] [CONNECTION] Connection NO_KEYS NO_TIPS
        "2.4.0" "O(N), where N is the number of connections"
        "filter=(address | new-format=(ID client-id:integer | TYPE type=(NORMAL | MASTER | SLAVE | REPLICA | PUBSUB) | \
            USER username | ADDR address | LADDR address | SKIPME yes-no)...)"
        "Closes connections";
    ClientList "client|list" -2 [ADMIN NOSCRIPT LOADING STALE] [CONNECTION] Connection NO_KEYS VARIES
        "2.4.0" "O(N), where N is the number of connections"
        "[TYPE type=(NORMAL | MASTER | REPLICA | PUBSUB)] [ID client-id:integer...]" "Describes connections";
    ClientNoEvict "client|no-evict" 3 [ADMIN NOSCRIPT LOADING STALE] [CONNECTION] Connection NO_KEYS NO_TIPS
        "7.0.0" "O(1)" "enabled=(ON | OFF)" "Exempts this connection from being closed for memory";
    ClientNoTouch "client|no-touch" 3 [NOSCRIPT LOADING STALE] [CONNECTION] Connection NO_KEYS NO_TIPS
        "7.2.0" "O(1)" "enabled=(ON | OFF)" "Keeps the reads of this connection from counting as uses of keys";
    ClientPause "client|pause" -3 [ADMIN NOSCRIPT LOADING STALE] [CONNECTION] Connection NO_KEYS NO_TIPS
        "2.9.50" "O(1)" "timeout:integer [mode=(WRITE | ALL)]" "Holds commands back for a time";
    ClientReply "client|reply" 3 [NOSCRIPT LOADING STALE] [CONNECTION] Connection NO_KEYS NO_TIPS
        "3.2.0" "O(1)" "on_off_skip=(ON | OFF | SKIP)" "Tells whether this connection wants replies";
    ClientSetinfo "client|setinfo" 4 [NOSCRIPT LOADING STALE] [CONNECTION] Connection NO_KEYS NO_TIPS
        "7.2.0" "O(1)" "attr=(LIB-NAME libname | LIB-VER libver)" "Names the library behind this connection";
    ClientSetname "client|setname" 3 [NOSCRIPT LOADING STALE] [CONNECTION] Connection NO_KEYS NO_TIPS
        "2.6.9" "O(1)" "connection-name" "Names this connection";
    ClientTracking "client|tracking" -3 [NOSCRIPT LOADING STALE] [CONNECTION] Connection NO_KEYS NO_TIPS
        "6.0.0" "O(1)"
        "status=(ON | OFF) [REDIRECT client-id:integer] [PREFIX prefix]... [BCAST] [OPTIN] [OPTOUT] [NOLOOP]"
        "Asks for invalidations of the keys that this connection reads";
    ClientUnblock "client|unblock" -3 [ADMIN NOSCRIPT LOADING STALE] [CONNECTION] Connection NO_KEYS NO_TIPS
        "5.0.0" "O(1)" "client-id:integer [timeout_error=(TIMEOUT | ERROR)]" "Ends the waiting of a connection";
    ClientUnpause "client|unpause" 2 [ADMIN NOSCRIPT LOADING STALE] [CONNECTION] Connection NO_KEYS NO_TIPS
        "6.2.0" "O(N), where N is the number of waiting connections" "" "Ends what CLIENT PAUSE began";
    Echo "echo" 2 [LOADING STALE FAST] [CONNECTION] Connection NO_KEYS NO_TIPS
        "1.0.0" "O(1)" "message" "Returns its argument";
    Hello "hello" -1 [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [CONNECTION] Connection NO_KEYS NO_TIPS
        "6.0.0" "O(1)"
        "[arguments=(protover:integer [AUTH username_password=(username password)] [SETNAME clientname])]"
        "Agrees on the protocol, and describes the server";
    Ping "ping" -1 [FAST] [CONNECTION] Connection NO_KEYS SHARDS_ALL_OK
        "1.0.0" "O(1)" "[message]" "Returns PONG, or its argument";
    Quit "quit" -1 [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [CONNECTION] Connection NO_KEYS NO_TIPS
        "1.0.0" "O(1)" "" "Closes the connection";
    Reset "reset" 1 [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [CONNECTION] Connection NO_KEYS NO_TIPS
        "6.2.0" "O(1)" "" "Makes the connection as good as new";
    Select "select" 2 [LOADING STALE FAST] [CONNECTION] Connection NO_KEYS NO_TIPS
        "1.0.0" "O(1)" "index:integer" "Chooses the database; there is only 0";

    // The server.
    CommandTable "command" -1 [LOADING STALE] [CONNECTION] Server NO_KEYS ORDER_VARIES
        "2.8.13" "O(N), where N is the number of commands" "" "Describes the commands";
    CommandCount "command|count" 2 [LOADING STALE] [CONNECTION] Server NO_KEYS NO_TIPS
        "2.8.13" "O(1)" "" "Returns the number of commands";
    CommandDocs "command|docs" -2 [LOADING STALE] [CONNECTION] Server NO_KEYS ORDER_VARIES
        "7.0.0" "O(N), where N is the number of commands" "[command-name]..." "Documents commands";
    CommandGetkeys "command|getkeys" -4 [LOADING STALE] [CONNECTION] Server NO_KEYS NO_TIPS
        "2.8.13" "O(N), where N is the number of arguments" "command arg..." "Returns the keys of a request";
    CommandGetkeysandflags "command|getkeysandflags" -4 [LOADING STALE] [CONNECTION] Server NO_KEYS NO_TIPS
        "7.0.0" "O(N), where N is the number of arguments" "command arg..."
        "Returns the keys of a request and what it does with each";
    CommandHelp "command|help" 2 [LOADING STALE] [CONNECTION] Server NO_KEYS NO_TIPS
        "5.0.0" "O(1)" "" "Prints this help";
    CommandInfo "command|info" -2 [LOADING STALE] [CONNECTION] Server NO_KEYS ORDER_VARIES
        "2.8.13" "O(N), where N is the number of commands" "[command-name]..."
        "Returns arity, flags and keys of commands";
    CommandList "command|list" -2 [LOADING STALE] [CONNECTION] Server NO_KEYS ORDER_VARIES
        "7.0.0" "O(N), where N is the number of commands"
        "[FILTERBY filterby=(MODULE module-name | ACLCAT category | PATTERN pattern:pattern)]"
        "Returns the names of commands";
    Config "config" -2 [] [] Server NO_KEYS NO_TIPS
        "2.0.0" "Depends on the subcommand" "" "Shows and changes the configuration";
    ConfigGet "config|get" -3 [ADMIN NOSCRIPT LOADING STALE] [] Server NO_KEYS NO_TIPS
        "2.0.0" "O(N), where N is the number of parameters" "parameter..."
        "Returns the parameters that match a pattern, and their values";
    ConfigHelp "config|help" 2 [LOADING STALE] [] Server NO_KEYS NO_TIPS
        "5.0.0" "O(1)" "" "Prints this help";
    ConfigResetstat "config|resetstat" 2 [ADMIN NOSCRIPT LOADING STALE] [] Server NO_KEYS NO_TIPS
        "2.0.0" "O(1)" "" "Sets the statistics of INFO to zero";
    ConfigRewrite "config|rewrite" 2 [ADMIN NOSCRIPT LOADING STALE] [] Server NO_KEYS NO_TIPS
        "2.8.0" "O(1)" "" "Writes the running configuration to its file";
    ConfigSet "config|set" -4 [ADMIN NOSCRIPT LOADING STALE] [] Server NO_KEYS NODES_ALL_OK
        "2.0.0" "O(N), where N is the number of parameters" "parameter_value=(parameter value)..."
        "Changes parameters of the running server";
    Dbsize "dbsize" 1 [READONLY FAST] [KEYSPACE] Server NO_KEYS SHARDS_SUM
        "1.0.0" "O(1)" "" "Returns the number of keys of the node";
    Debug "debug" -2 [ADMIN NOSCRIPT LOADING STALE] [] Server NO_KEYS NO_TIPS
        "1.0.0" "Depends on the subcommand" "" "Does what tests of a server need and nobody else";
    DebugHelp "debug|help" 2 [ADMIN NOSCRIPT LOADING STALE] [] Server NO_KEYS NO_TIPS
        "5.0.0" "O(1)" "" "Prints this help";
    DebugObject "debug|object" 3 [ADMIN NOSCRIPT LOADING STALE] [] Server LOOK_SECOND NO_TIPS
        "1.0.0" "O(1)" "key:key" "Describes how a key is stored, its stamp included";
    DebugSetActiveExpire "debug|set-active-expire" 3 [ADMIN NOSCRIPT LOADING STALE] [] Server NO_KEYS NO_TIPS
        "2.8.0" "O(1)" "enabled:integer" "Tells whether expired keys that nobody reads are looked for";
    DebugSleep "debug|sleep" 3 [ADMIN NOSCRIPT LOADING STALE] [] Server NO_KEYS NO_TIPS
        "2.6.0" "O(1)" "seconds:double" "Delays the reply";
    Flushall "flushall" -1 [WRITE] [KEYSPACE DANGEROUS] Server NO_KEYS SHARDS_ALL_OK
        "1.0.0" "O(N), where N is the number of keys of the node" "[async=(ASYNC | SYNC)]" "Deletes all keys";
    Flushdb "flushdb" -1 [WRITE] [KEYSPACE DANGEROUS] Server NO_KEYS SHARDS_ALL_OK
        "1.0.0" "O(N), where N is the number of keys of the node" "[async=(ASYNC | SYNC)]"
        "Deletes all keys of the database, of which there is one";
    Info "info" -1 [LOADING STALE] [DANGEROUS] Server NO_KEYS SHARDS_SPECIAL
        "1.0.0" "O(1)" "[section]..." "Describes the state of the server";
    Latency "latency" -2 [] [] Server NO_KEYS NO_TIPS
        "2.8.13" "Depends on the subcommand" "" "Shows what took long";
    LatencyDoctor "latency|doctor" 2 [ADMIN NOSCRIPT LOADING STALE] [] Server NO_KEYS NODES_SPECIAL
        "2.8.13" "O(1)" "" "Explains in words what took long";
    LatencyGraph "latency|graph" 3 [ADMIN NOSCRIPT LOADING STALE] [] Server NO_KEYS NODES_SPECIAL
        "2.8.13" "O(1)" "event" "Draws the history of an event";
    LatencyHelp "latency|help" 2 [LOADING STALE] [] Server NO_KEYS NO_TIPS
        "2.8.13" "O(1)" "" "Prints this help";
    LatencyHistogram "latency|histogram" -2 [ADMIN NOSCRIPT LOADING STALE] [] Server NO_KEYS NODES_SPECIAL
        "7.0.0" "O(N), where N is the number of commands" "[command]..." "Returns how long commands took, cumulated";
    LatencyHistory "latency|history" 3 [ADMIN NOSCRIPT LOADING STALE] [] Server NO_KEYS NODES_SPECIAL
        "2.8.13" "O(1)" "event" "Returns when an event happened and how long it took";
    LatencyLatest "latency|latest" 2 [ADMIN NOSCRIPT LOADING STALE] [] Server NO_KEYS NODES_SPECIAL
        "2.8.13" "O(1)" "" "Returns the latest of each event";
    LatencyReset "latency|reset" -2 [ADMIN NOSCRIPT LOADING STALE] [] Server NO_KEYS NODES_ALL_OK
        "2.8.13" "O(1)" "[event]..." "Forgets events";
    Lolwut "lolwut" -1 [READONLY FAST] [] Server NO_KEYS NO_TIPS
        "5.0.0" "O(1)" "[VERSION version:integer]" "Shows the version, and something to look at";
    Memory "memory" -2 [] [] Server NO_KEYS NO_TIPS
        "4.0.0" "Depends on the subcommand" "" "Shows where memory goes";
    MemoryDoctor "memory|doctor" 2 [] [] Server NO_KEYS SHARDS_SPECIAL
        "4.0.0" "O(1)" "" "Explains in words what is wrong with memory";
    MemoryHelp "memory|help" 2 [LOADING STALE] [] Server NO_KEYS NO_TIPS
        "4.0.0" "O(1)" "" "Prints this help";
    MemoryMallocStats "memory|malloc-stats" 2 [] [] Server NO_KEYS SHARDS_SPECIAL
        "4.0.0" "Depends on the allocator" "" "Returns what the allocator says about itself";
    MemoryPurge "memory|purge" 2 [] [] Server NO_KEYS SHARDS_ALL_OK
        "4.0.0" "Depends on the allocator" "" "Asks the allocator to give memory back";
    MemoryStats "memory|stats" 2 [] [] Server NO_KEYS SHARDS_SPECIAL
        "4.0.0" "O(1)" "" "Returns where memory goes";
    MemoryUsage "memory|usage" -3 [READONLY] [] Server LOOK_SECOND NO_TIPS
        "4.0.0" "O(1)" "key:key [SAMPLES count:integer]" "Returns the bytes that a key and its value take";
    Role "role" 1 [NOSCRIPT LOADING STALE FAST] [ADMIN DANGEROUS] Server NO_KEYS NO_TIPS
        "2.8.12" "O(1)" "" "Returns whether the node is a primary or a replica, and of whom";
    Shutdown "shutdown" -1 [ADMIN NOSCRIPT LOADING STALE NO_MULTI ALLOW_BUSY] [] Server NO_KEYS NO_TIPS
        "1.0.0" "O(1)" "[save=(NOSAVE | SAVE)] [NOW] [FORCE] [ABORT]" "Stops the server";
    Slowlog "slowlog" -2 [] [] Server NO_KEYS NO_TIPS
        "2.2.12" "Depends on the subcommand" "" "Shows commands that took long";
    SlowlogGet "slowlog|get" -2 [ADMIN LOADING STALE] [] Server NO_KEYS NODES_VARY
        "2.2.12" "O(N), where N is the number of entries" "[count:integer]" "Returns the latest entries";
    SlowlogHelp "slowlog|help" 2 [LOADING STALE] [] Server NO_KEYS NO_TIPS
        "6.2.0" "O(1)" "" "Prints this help";
    SlowlogLen "slowlog|len" 2 [ADMIN LOADING STALE] [] Server NO_KEYS NODES_SUM
        "2.2.12" "O(1)" "" "Returns the number of entries";
    SlowlogReset "slowlog|reset" 2 [ADMIN LOADING STALE] [] Server NO_KEYS NODES_ALL_OK
        "2.2.12" "O(N), where N is the number of entries" "" "Forgets all entries";
    Time "time" 1 [LOADING STALE FAST] [] Server NO_KEYS VARIES
        "2.6.0" "O(1)" "" "Returns the time of the server";

    // Transactions.
    Discard "discard" 1 [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [TRANSACTION] Transactions NO_KEYS NO_TIPS
        "2.0.0" "O(N), where N is the number of queued commands" "" "Gives a transaction up";
    Exec "exec" 1 [NOSCRIPT LOADING STALE SKIP_SLOWLOG] [TRANSACTION] Transactions NO_KEYS NO_TIPS
        "1.2.0" "Depends on the queued commands" "" "Executes a transaction";
    Multi "multi" 1 [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [TRANSACTION] Transactions NO_KEYS NO_TIPS
        "1.2.0" "O(1)" "" "Begins a transaction";
    Unwatch "unwatch" 1 [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [TRANSACTION] Transactions NO_KEYS NO_TIPS
        "2.2.0" "O(N), where N is the number of watched keys" "" "Watches no key any more";
    Watch "watch" -2 [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [TRANSACTION] Transactions LOOK_ALL NO_TIPS
        "2.2.0" "O(N), where N is the number of keys" "key:key..."
        "Makes the next transaction depend on keys not being changed";

    // The cluster of this region.
    Asking "asking" 1 [FAST] [CONNECTION] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(1)" "" "Announces a request that was redirected by ASK";
    Cluster "cluster" -2 [] [] Cluster NO_KEYS NO_TIPS
        "3.0.0" "Depends on the subcommand" "" "Shows the cluster of this region";
    ClusterAddslots "cluster|addslots" -3 [ADMIN STALE NO_ASYNC_LOADING] [] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(1)" "slot:integer..." "Refused: `meridian cluster create` gives slots to nodes";
    ClusterAddslotsrange "cluster|addslotsrange" -4 [ADMIN STALE NO_ASYNC_LOADING] [] Cluster NO_KEYS NO_TIPS
        "7.0.0" "O(1)" "range=(start-slot:integer end-slot:integer)..."
        "Refused: `meridian cluster create` gives slots to nodes";
    ClusterBumpepoch "cluster|bumpepoch" 2 [ADMIN STALE NO_ASYNC_LOADING] [] Cluster NO_KEYS VARIES
        "3.0.0" "O(1)" "" "Refused: the epoch counts the changes of the map";
    ClusterCountFailureReports "cluster|count-failure-reports" 3 [ADMIN STALE] [] Cluster NO_KEYS VARIES
        "3.0.0" "O(N), where N is the number of reports" "node-id" "Returns how many nodes suspect a node";
    ClusterCountkeysinslot "cluster|countkeysinslot" 3 [STALE] [] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(1)" "slot:integer" "Returns the number of keys in a slot";
    ClusterDelslots "cluster|delslots" -3 [ADMIN STALE NO_ASYNC_LOADING] [] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(1)" "slot:integer..." "Refused: `meridian cluster rebalance` moves slots";
    ClusterDelslotsrange "cluster|delslotsrange" -4 [ADMIN STALE NO_ASYNC_LOADING] [] Cluster NO_KEYS NO_TIPS
        "7.0.0" "O(1)" "range=(start-slot:integer end-slot:integer)..." "Refused: `meridian cluster rebalance` moves slots";
    ClusterFailover "cluster|failover" -2 [ADMIN STALE NO_ASYNC_LOADING] [] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(1)" "[options=(FORCE | TAKEOVER)]" "Makes this replica the primary of its shard";
    ClusterFlushslots "cluster|flushslots" 2 [ADMIN STALE NO_ASYNC_LOADING] [] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(1)" "" "Refused: `meridian cluster rebalance` moves slots";
    ClusterForget "cluster|forget" 3 [ADMIN STALE NO_ASYNC_LOADING] [] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(1)" "node-id" "Refused: `meridian cluster remove-node` lets a node leave";
    ClusterGetkeysinslot "cluster|getkeysinslot" 4 [STALE] [] Cluster NO_KEYS VARIES
        "3.0.0" "O(N), where N is the number of keys asked for" "slot:integer count:integer" "Returns keys of a slot";
    ClusterHelp "cluster|help" 2 [LOADING STALE] [] Cluster NO_KEYS NO_TIPS
        "5.0.0" "O(1)" "" "Prints this help";
    ClusterInfo "cluster|info" 2 [STALE] [] Cluster NO_KEYS VARIES
        "3.0.0" "O(1)" "" "Describes the state of the cluster";
    ClusterKeyslot "cluster|keyslot" 3 [STALE] [] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(N), where N is the length of the key" "key" "Returns the slot of a key";
    ClusterLinks "cluster|links" 2 [STALE] [] Cluster NO_KEYS VARIES
        "7.0.0" "O(N), where N is the number of nodes" "" "Returns the connections to other nodes";
    ClusterMeet "cluster|meet" -4 [ADMIN STALE NO_ASYNC_LOADING] [] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(1)" "ip port:integer [cluster-bus-port:integer]"
        "Refused: `meridian cluster add-node` lets a node join";
    ClusterMyid "cluster|myid" 2 [STALE] [] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(1)" "" "Returns the id of this node";
    ClusterMyshardid "cluster|myshardid" 2 [STALE] [] Cluster NO_KEYS VARIES
        "7.2.0" "O(1)" "" "Returns the id of this node's shard";
    ClusterNodes "cluster|nodes" 2 [STALE] [] Cluster NO_KEYS VARIES
        "3.0.0" "O(N), where N is the number of nodes" "" "Returns the nodes, as a text of one line for each";
    ClusterReplicas "cluster|replicas" 3 [ADMIN STALE] [] Cluster NO_KEYS VARIES
        "5.0.0" "O(N), where N is the number of replicas" "node-id" "Returns the replicas of a node";
    ClusterReplicate "cluster|replicate" 3 [ADMIN STALE NO_ASYNC_LOADING] [] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(1)" "node-id" "Refused: `meridian cluster add-node` says whose replica a node is";
    ClusterReset "cluster|reset" -2 [ADMIN NOSCRIPT STALE] [] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(1)" "[hard_soft=(HARD | SOFT)]" "Refused: `meridian cluster remove-node` lets a node leave";
    ClusterSaveconfig "cluster|saveconfig" 2 [ADMIN STALE NO_ASYNC_LOADING] [] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(1)" "" "Refused: the map is on disk before it takes effect";
    ClusterSetConfigEpoch "cluster|set-config-epoch" 3 [ADMIN STALE NO_ASYNC_LOADING] [] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(1)" "config-epoch:integer" "Refused: the epoch counts the changes of the map";
    ClusterSetslot "cluster|setslot" -4 [ADMIN STALE NO_ASYNC_LOADING] [] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(1)" "slot:integer subcommand=(IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE)"
        "Refused: `meridian cluster rebalance` moves slots";
    ClusterShards "cluster|shards" 2 [STALE] [] Cluster NO_KEYS VARIES
        "7.0.0" "O(N), where N is the number of nodes" "" "Returns the shards with their slots and nodes";
    ClusterSlaves "cluster|slaves" 3 [ADMIN STALE] [] Cluster NO_KEYS VARIES
        "3.0.0" "O(N), where N is the number of replicas" "node-id" "The former name of CLUSTER REPLICAS";
    ClusterSlots "cluster|slots" 2 [STALE] [] Cluster NO_KEYS VARIES
        "3.0.0" "O(N), where N is the number of nodes" "" "Returns the runs of slots with their nodes";
    Readonly "readonly" 1 [LOADING STALE FAST] [CONNECTION] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(1)" "" "Lets this connection read from a replica";
    Readwrite "readwrite" 1 [LOADING STALE FAST] [CONNECTION] Cluster NO_KEYS NO_TIPS
        "3.0.0" "O(1)" "" "Ends what READONLY began";

    // The other regions.
    Region "region" -2 [] [] Region NO_KEYS NO_TIPS
        "0.1.0" "Depends on the subcommand" "" "Shows, changes, waits for and compares the other regions";
    RegionAdd "region|add" -4 [ADMIN NOSCRIPT] [DANGEROUS] Region NO_KEYS NO_TIPS
        "0.1.0" "O(1)" "name id:integer [address ...]"
        "Links this region with another one from now on, whose gateways are dialled there";
    RegionAwait "region|await" 4 [NOSCRIPT] [CONNECTION] Region NO_KEYS NO_TIPS
        "0.1.0" "O(1)" "token timeout:integer"
        "Waits until this region has seen what a token of another one stands for";
    RegionConflicts "region|conflicts" -2 [LOADING STALE] [] Region NO_KEYS VARIES
        "0.1.0" "O(N), where N is the number of entries" "[what=(count:integer | RESET)]"
        "Returns the latest writes that lost against a concurrent write, or forgets them";
    RegionDigest "region|digest" -6 [READONLY ADMIN NO_MULTI] [] Region NO_KEYS VARIES
        "0.1.0" "O(N), where N is the number of keys in the slots, some thousand at a time"
        "first-slot:integer last-slot:integer at-ms:integer cursor:integer [parts=(SPAN slots:integer | BUCKETS buckets:integer)]"
        "Returns digests of what slots of this node hold, to compare with those of another region";
    RegionFetch "region|fetch" 3 [READONLY ADMIN] [] Region LOOK_SECOND NO_TIPS
        "0.1.0" "O(1)" "key:key" "Returns the record of a key: its stamp, its state, its expiry and its value";
    RegionHelp "region|help" 2 [LOADING STALE] [] Region NO_KEYS NO_TIPS
        "0.1.0" "O(1)" "" "Prints this help";
    RegionLag "region|lag" -2 [LOADING STALE] [] Region NO_KEYS VARIES
        "0.1.0" "O(N), where N is the number of regions" "[region]" "Returns how far this region is behind others";
    RegionMerge "region|merge" -5 [WRITE ADMIN NO_MULTI] [] Region MERGE_SECOND NO_TIPS
        "0.1.0" "O(1)" "key:key stamp state=(TOMBSTONE | EVICTED | held=(VALUE value [PXAT unix-time-milliseconds:unix-time]))"
        "Merges a record as if another region had sent it";
    RegionRemove "region|remove" 3 [ADMIN NOSCRIPT] [DANGEROUS] Region NO_KEYS NO_TIPS
        "0.1.0" "O(1)" "name" "Ends the links with a region for good; if it returns it is new";
    RegionRestamp "region|restamp" -2 [ADMIN NOSCRIPT NO_MULTI] [DANGEROUS] Region NO_KEYS VARIES
        "0.1.0" "O(N), where N is the number of keys in slots that hold stamps of the future" "[dryrun=(DRYRUN)]"
        "Stamps anew what this node holds from the future, or says how much that is";
    RegionRows "region|rows" -6 [READONLY ADMIN NO_MULTI] [] Region NO_KEYS VARIES
        "0.1.0" "O(N), where N is the number of keys in the slot, some thousand at a time"
        "slot:integer cursor:integer buckets:integer bucket:integer..."
        "Returns what a slot of this node knows of the keys in some of its buckets, but for their values";
    RegionStatus "region|status" 2 [LOADING STALE] [] Region NO_KEYS VARIES
        "0.1.0" "O(N), where N is the number of regions" "" "Describes the links to other regions";
    RegionToken "region|token" 2 [] [CONNECTION] Region NO_KEYS VARIES
        "0.1.0" "O(1)" "" "Returns a token for all that this connection has written";
    RegionWait "region|wait" 4 [NOSCRIPT] [CONNECTION] Region NO_KEYS NO_TIPS
        "0.1.0" "O(1)" "numregions:integer timeout:integer"
        "Waits until so many regions have the writes of this connection";
}
