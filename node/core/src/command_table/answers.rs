//! What COMMAND and its subcommands reply, and the HELP of every container, made from the table.
//!
//! The shapes are those of Redis 7.0 in both protocols, down to which aggregate is a set and which an array. The order
//! is the table's; Redis promises none.

use super::keys::{self, KeySpec};
use super::syntax::{self, Argument, Kind};
use super::{Categories, Command, CommandId, TABLE, find_full, identify};
use crate::glob::{self, Case};
use crate::resp::{Args, Reply};

/// Answers a request that [`resolve`](super::resolve) found to be for COMMAND or one of its subcommands.
///
/// Any other command is answered as COMMAND is.
pub fn answer(command: &Command, args: Args<'_>, reply: &mut Reply<'_>) {
    match command.id {
        CommandId::CommandCount => reply.count(plain().count()),
        CommandId::CommandDocs => docs(args.from(2), reply),
        CommandId::CommandGetkeys => key_list(args.from(2), reply, false),
        CommandId::CommandGetkeysandflags => key_list(args.from(2), reply, true),
        CommandId::CommandHelp => write_help(Command::of(CommandId::CommandTable), reply),
        CommandId::CommandInfo if args.len() > 2 => some_infos(args.from(2), reply),
        CommandId::CommandList => list(args.from(2), reply),
        _ => all_infos(reply),
    }
}

/// All commands, without subcommands.
fn plain() -> impl Iterator<Item = &'static Command> {
    TABLE.iter().filter(|command| !command.is_subcommand())
}

fn all_infos(reply: &mut Reply<'_>) {
    reply.array(plain().count());
    plain().for_each(|command| info(command, reply));
}

fn some_infos(names: Args<'_>, reply: &mut Reply<'_>) {
    reply.array(names.len());
    for name in names.iter() {
        match find_full(name) {
            Some(command) => info(command, reply),
            None => reply.null(),
        }
    }
}

/// The row as COMMAND INFO shows it.
fn info(command: &Command, reply: &mut Reply<'_>) {
    reply.array(10);
    reply.text(command.name);
    reply.integer(command.arity.into());
    words(command.flags.words(), reply);
    let (first, last, step) = keys::first_last_step(command.keys);
    [first, last, step].into_iter().for_each(|number| reply.integer(number));
    let categories = command.categories().words().map(|word| format!("@{word}"));
    words(categories, reply);
    reply.set(command.tips.len());
    command.tips.iter().for_each(|tip| reply.text(tip));
    reply.set(command.keys.len());
    command.keys.iter().for_each(|spec| key_spec(spec, reply));
    reply.set(command.subcommands().len());
    command.subcommands().iter().for_each(|subcommand| info(subcommand, reply));
}

/// A set of words, each as a simple string.
fn words<W: AsRef<str>>(words: impl Iterator<Item = W>, reply: &mut Reply<'_>) {
    let words: Vec<W> = words.collect();
    reply.set(words.len());
    words.iter().for_each(|word| reply.simple(word.as_ref()));
}

fn key_spec(spec: &KeySpec, reply: &mut Reply<'_>) {
    reply.map(3);
    reply.text("flags");
    words(spec.flags.iter(), reply);
    reply.text("begin_search");
    typed_spec("index", &[("index", spec.first.into())], reply);
    reply.text("find_keys");
    let range = [("lastkey", spec.last.into()), ("keystep", spec.step.into()), ("limit", 0)];
    typed_spec("range", &range, reply);
}

fn typed_spec(kind: &str, fields: &[(&str, i64)], reply: &mut Reply<'_>) {
    reply.map(2);
    reply.text("type");
    reply.text(kind);
    reply.text("spec");
    reply.map(fields.len());
    for &(name, value) in fields {
        reply.text(name);
        reply.integer(value);
    }
}

fn docs(names: Args<'_>, reply: &mut Reply<'_>) {
    let commands: Vec<&Command> =
        if names.is_empty() { plain().collect() } else { names.iter().filter_map(find_full).collect() };
    reply.map(commands.len());
    commands.into_iter().for_each(|command| doc(command, reply));
}

/// The row as COMMAND DOCS shows it, its name in front.
fn doc(command: &Command, reply: &mut Reply<'_>) {
    let arguments = syntax::parse(command.syntax);
    let subcommands = command.subcommands();
    reply.text(command.name);
    reply.map(4 + usize::from(!arguments.is_empty()) + usize::from(!subcommands.is_empty()));
    for (field, text) in [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group.name()),
        ("complexity", command.complexity),
    ] {
        reply.text(field);
        reply.text(text);
    }
    if !arguments.is_empty() {
        reply.text("arguments");
        let mut keys_seen = 0;
        argument_list(&arguments, &mut keys_seen, command.keys.len(), reply);
    }
    if !subcommands.is_empty() {
        reply.text("subcommands");
        reply.map(subcommands.len());
        subcommands.iter().for_each(|subcommand| doc(subcommand, reply));
    }
}

fn argument_list(arguments: &[Argument], keys_seen: &mut usize, key_specs: usize, reply: &mut Reply<'_>) {
    reply.array(arguments.len());
    arguments.iter().for_each(|argument| one_argument(argument, keys_seen, key_specs, reply));
}

/// One argument. The nth that is a key belongs to the nth of the command's key specifications.
fn one_argument(argument: &Argument, keys_seen: &mut usize, key_specs: usize, reply: &mut Reply<'_>) {
    let is_key = argument.kind == Kind::Value("key") && *keys_seen < key_specs;
    let flags: Vec<&str> =
        [(argument.optional, "optional"), (argument.multiple, "multiple"), (argument.multiple_token, "multiple_token")]
            .into_iter()
            .filter_map(|(set, word)| set.then_some(word))
            .collect();
    let optional_fields = [is_key, argument.token.is_some(), !flags.is_empty(), !argument.parts.is_empty()];
    reply.map(2 + optional_fields.into_iter().filter(|present| *present).count());
    reply.text("name");
    reply.text(&argument.name);
    reply.text("type");
    reply.text(argument.kind.name());
    if is_key {
        reply.text("key_spec_index");
        reply.count(*keys_seen);
        *keys_seen += 1;
    }
    if let Some(token) = argument.token {
        reply.text("token");
        reply.text(token);
    }
    if !flags.is_empty() {
        reply.text("flags");
        words(flags.iter(), reply);
    }
    if !argument.parts.is_empty() {
        reply.text("arguments");
        argument_list(&argument.parts, keys_seen, key_specs, reply);
    }
}

/// COMMAND GETKEYS and GETKEYSANDFLAGS for the request `args`.
fn key_list(args: Args<'_>, reply: &mut Reply<'_>, with_flags: bool) {
    let Ok(command) = identify(args) else {
        return reply.error("ERR Invalid command specified");
    };
    if command.keys.is_empty() {
        return reply.error("ERR The command has no key arguments");
    }
    if !command.takes(args.len()) {
        return reply.error("ERR Invalid number of arguments specified for command");
    }
    reply.array(command.key_indexes(args.len()).count());
    for spec in command.keys {
        for key in spec.indexes(args.len()).filter_map(|index| args.get(index)) {
            if with_flags {
                reply.array(2);
            }
            reply.bulk(key);
            if with_flags {
                words(spec.flags.iter(), reply);
            }
        }
    }
}

/// COMMAND LIST: all names, or `FILTERBY MODULE|ACLCAT|PATTERN what`, which looks at subcommands too.
fn list(args: Args<'_>, reply: &mut Reply<'_>) {
    let all = || TABLE.iter();
    let named = |names: Vec<&Command>, reply: &mut Reply<'_>| {
        reply.array(names.len());
        names.into_iter().for_each(|command| reply.text(command.name));
    };
    let [filter_by, filter, what] = [0, 1, 2].map(|index| args.get(index).unwrap_or_default());
    if args.is_empty() {
        return named(plain().collect(), reply);
    }
    if args.len() != 3 || !filter_by.eq_ignore_ascii_case(b"filterby") {
        return reply.error("ERR syntax error");
    }
    match filter.to_ascii_lowercase().as_slice() {
        b"module" => reply.array(0),
        b"aclcat" => match Categories::from_word(what) {
            Some(category) => named(all().filter(|command| command.categories().contains(category)).collect(), reply),
            None => reply.array(0),
        },
        b"pattern" => {
            let matching = |name: &str| glob::matches(what, name.as_bytes(), Case::Insensitive);
            named(all().filter(|command| matching(command.name)).collect(), reply);
        }
        _ => reply.error("ERR syntax error"),
    }
}

/// Writes the help of a container: how to call each subcommand, and below it what that does.
pub fn write_help(container: &Command, reply: &mut Reply<'_>) {
    let alone = container.id == CommandId::CommandTable;
    let subcommands = container.subcommands();
    let help_last = || {
        let (help, others): (Vec<_>, Vec<_>) = subcommands.iter().partition(|command| command.word() == "help");
        others.into_iter().chain(help)
    };
    reply.array(1 + 2 * (subcommands.len() + usize::from(alone)));
    let name = container.name.to_ascii_uppercase();
    reply.simple(&format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    if alone {
        reply.simple("(no subcommand)");
        reply.simple(&format!("    {}.", container.summary));
    }
    for command in help_last() {
        let arguments = syntax::join(&syntax::parse(command.syntax), " ");
        reply.simple(format!("{} {arguments}", command.word().to_ascii_uppercase()).trim_end());
        reply.simple(&format!("    {}.", command.summary));
    }
}
