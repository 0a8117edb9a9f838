//! The table agrees with Redis 7.0, and finds what clients ask for.

use proptest::prelude::{any, proptest};

use super::{Command, CommandId, KeySpec, Rejection, TABLE, answer, find, keys, resolve, write_help};
use crate::resp::value::Decoder;
use crate::resp::{ArgsBuf, Protocol, Reply, Value};

/// What `COMMAND` of Redis 7.0.15 says of the commands that are in our table too: name, arity, flags, first:last:step,
/// categories, tips, key specifications.
const REDIS: &str = include_str!("redis-7.0.txt");

/// Rows that differ from Redis's on purpose: there DEBUG hides its subcommands.
const DIFFERENT: [&str; 1] = ["debug"];

fn request(line: &str) -> ArgsBuf {
    line.split(' ').collect()
}

fn replied(protocol: Protocol, write: impl FnOnce(&mut Reply<'_>)) -> Value {
    let mut out = Vec::new();
    write(&mut Reply::new(&mut out, protocol));
    let decoded = Decoder::default().decode(&out).unwrap();
    assert_eq!(decoded.consumed, out.len(), "exactly one reply was written");
    decoded.value.unwrap()
}

/// The reply to a request for COMMAND, in RESP3.
fn answered(line: &str) -> Value {
    let args = request(line);
    replied(Protocol::Resp3, |reply| answer(resolve(args.as_args()).unwrap(), args.as_args(), reply))
}

fn rejected(args: &ArgsBuf) -> String {
    match replied(Protocol::Resp2, |reply| resolve(args.as_args()).unwrap_err().write(args.as_args(), reply)) {
        Value::Error(error) => String::from_utf8_lossy(&error).into_owned(),
        other => panic!("{other:?} is no error"),
    }
}

fn row_as_redis_shows_it(command: &Command) -> String {
    let list = |words: Vec<String>| if words.is_empty() { "-".to_owned() } else { words.join(",") };
    let spec = |spec: &KeySpec| format!("{}:{}:{}:{}", spec.first, spec.last, spec.step, spec.flags.join("+"));
    let (first, last, step) = keys::first_last_step(command.keys);
    format!(
        "{} {} {} {first}:{last}:{step} {} {} {}",
        command.name,
        command.arity,
        list(command.flags.words().map(str::to_owned).collect()),
        list(command.categories().words().map(str::to_owned).collect()),
        list(command.tips.iter().map(|&tip| tip.to_owned()).collect()),
        list(command.keys.iter().map(spec).collect()),
    )
}

#[test]
fn rows_agree_with_redis() {
    for line in REDIS.lines() {
        let name = line.split(' ').next().unwrap();
        let command = super::find_full(name.as_bytes()).unwrap_or_else(|| panic!("{name} is missing"));
        if !DIFFERENT.contains(&name) {
            assert_eq!(row_as_redis_shows_it(command), line);
        }
    }
}

#[test]
fn every_command_is_found_by_its_name_in_any_case_and_by_its_id() {
    for command in &TABLE {
        assert_eq!(Command::of(command.id).name, command.name);
        for name in [command.name.to_owned(), command.name.to_ascii_uppercase()] {
            assert_eq!(super::find_full(name.as_bytes()).map(|found| found.id), Some(command.id), "{name}");
        }
    }
    for name in ["", "g", "gett", "ge", "get ", "client|id", "\0", "GET\r", "incrbyfloatincrbyfloat"] {
        assert!(find(name.as_bytes()).is_none(), "{name:?}");
    }
}

#[test]
fn subcommands_stand_behind_their_container() {
    for command in TABLE.iter().filter(|command| command.is_subcommand()) {
        let (container, word) = command.name.split_once('|').unwrap();
        let found = find(container.as_bytes()).unwrap().subcommand(word.as_bytes()).unwrap();
        assert_eq!((found.id, found.word()), (command.id, word));
    }
    for container in TABLE.iter().filter(|command| command.is_container()) {
        assert!(container.subcommand(b"HELP").is_some(), "{} has no help", container.name);
    }
}

#[test]
fn requests_resolve_to_the_subcommand() {
    for (line, id) in [
        ("get k", CommandId::Get),
        ("Client ID", CommandId::ClientId),
        ("COMMAND", CommandId::CommandTable),
        ("command docs get", CommandId::CommandDocs),
        ("ping", CommandId::Ping),
        ("region wait 1 100", CommandId::RegionWait),
    ] {
        assert_eq!(resolve(request(line).as_args()).unwrap().id, id, "{line}");
    }
}

#[test]
fn rejections_are_in_redis_words() {
    for (line, error) in [
        ("get", "ERR wrong number of arguments for 'get' command"),
        ("GET a b", "ERR wrong number of arguments for 'get' command"),
        ("client", "ERR wrong number of arguments for 'client' command"),
        ("client ID x", "ERR wrong number of arguments for 'client|id' command"),
        ("client foo bar", "ERR unknown subcommand 'foo'. Try CLIENT HELP."),
        ("command FOO", "ERR unknown subcommand 'FOO'. Try COMMAND HELP."),
        ("foo", "ERR unknown command 'foo', with args beginning with: "),
        ("foo a b", "ERR unknown command 'foo', with args beginning with: 'a' 'b' "),
    ] {
        assert_eq!(rejected(&request(line)), error);
    }
}

#[test]
fn rejections_repeat_no_more_than_a_little_and_on_one_line() {
    let long: ArgsBuf = ["foo".to_owned(), "x".repeat(100), "y".repeat(50), "a".to_owned()].iter().collect();
    let expected = format!("'{}' '{}' ", "x".repeat(100), "y".repeat(25));
    assert_eq!(rejected(&long), format!("ERR unknown command 'foo', with args beginning with: {expected}"));
    let longer: ArgsBuf = ["z".repeat(300), "x".repeat(200), "a".to_owned()].iter().collect();
    let expected = format!("'{}', with args beginning with: '{}' ", "z".repeat(128), "x".repeat(128));
    assert_eq!(rejected(&longer), format!("ERR unknown command {expected}"));
    assert_eq!(rejected(&request("f\no a\r\nb")), "ERR unknown command 'f o', with args beginning with: 'a  b' ");
}

#[test]
fn keys_are_where_the_table_says() {
    for (line, keys) in [
        ("get k", &["k"][..]),
        ("set k v ex 10", &["k"]),
        ("mset a 1 b 2", &["a", "b"]),
        ("mset a 1 b", &["a", "b"]),
        ("del a b c", &["a", "b", "c"]),
        ("rename a b", &["a", "b"]),
        ("copy a b replace", &["a", "b"]),
        ("object encoding k", &["k"]),
        ("memory usage k samples 5", &["k"]),
        ("ping k", &[]),
    ] {
        let args = request(line);
        let found: Vec<&[u8]> = resolve(args.as_args()).unwrap().keys_of(args.as_args()).collect();
        assert_eq!(found, keys.iter().map(|key| key.as_bytes()).collect::<Vec<_>>(), "{line}");
    }
}

#[test]
fn command_getkeys_answers_and_refuses_as_redis_does() {
    let error = |text: &str| Value::Error(text.as_bytes().to_vec());
    let bulk = |text: &str| Value::Bulk(text.as_bytes().to_vec());
    assert_eq!(answered("command getkeys mset a 1 b"), Value::Array(vec![bulk("a"), bulk("b")]));
    assert_eq!(answered("command getkeys object encoding k"), Value::Array(vec![bulk("k")]));
    assert_eq!(answered("command getkeys foo bar"), error("ERR Invalid command specified"));
    assert_eq!(answered("command getkeys object foo k"), error("ERR Invalid command specified"));
    assert_eq!(answered("command getkeys ping x"), error("ERR The command has no key arguments"));
    assert_eq!(answered("command getkeys get a b"), error("ERR Invalid number of arguments specified for command"));
    let flags = |words: &[&str]| Value::Set(words.iter().map(|word| Value::Simple(word.as_bytes().to_vec())).collect());
    let expected = vec![
        Value::Array(vec![bulk("a"), flags(&["RW", "access", "delete"])]),
        Value::Array(vec![bulk("b"), flags(&["OW", "update"])]),
    ];
    assert_eq!(answered("command getkeysandflags rename a b"), Value::Array(expected));
}

#[test]
fn command_list_filters() {
    let names = |line: &str| match answered(line) {
        Value::Array(names) => names.len(),
        other => panic!("{other:?}"),
    };
    let plain = TABLE.iter().filter(|command| !command.is_subcommand()).count();
    assert_eq!(answered("command count"), Value::Integer(plain as i64));
    assert_eq!(names("command list"), plain);
    assert_eq!(names("command list filterby pattern CL*G*name"), 1);
    assert_eq!(names("command list filterby aclcat transaction"), 5);
    assert_eq!(names("command list filterby aclcat nosuch"), 0);
    assert_eq!(names("command list filterby module x"), 0);
    assert_eq!(answered("command list foo"), Value::Error(b"ERR syntax error".to_vec()));
}

#[test]
fn command_info_and_docs_are_well_formed_in_both_protocols() {
    for line in
        ["command", "command docs", "command info get nosuch client|id", "command docs nosuch set", "command help"]
    {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let args = request(line);
            let _ = replied(protocol, |reply| answer(resolve(args.as_args()).unwrap(), args.as_args(), reply));
        }
    }
    let Value::Array(rows) = answered("command info get nosuch") else { panic!() };
    assert_eq!((rows.len(), &rows[1]), (2, &Value::Null));
    let Value::Map(docs) = answered("command docs nosuch set") else { panic!() };
    assert_eq!((docs.len(), &docs[0].0), (1, &Value::Bulk(b"set".to_vec())));
}

#[test]
fn help_names_every_subcommand() {
    let help = replied(Protocol::Resp2, |reply| write_help(Command::of(CommandId::Memory), reply));
    let Value::Array(lines) = help else { panic!("{help:?}") };
    assert_eq!(lines.len(), 13);
    assert!(lines.contains(&Value::Simple(b"USAGE <key> [SAMPLES <count>]".to_vec())));
    assert_eq!(lines[11], Value::Simple(b"HELP".to_vec()));
}

proptest! {
    #[test]
    fn any_name_is_looked_up_without_panic(name in any::<Vec<u8>>()) {
        if let Some(found) = find(&name) {
            assert!(found.name.as_bytes().eq_ignore_ascii_case(&name));
        }
    }

    #[test]
    fn a_name_with_any_other_byte_is_another_name(row in 0..TABLE.len(), at in any::<usize>(), byte in any::<u8>()) {
        let mut name = TABLE[row].name.as_bytes().to_vec();
        let at = at % name.len();
        name[at] = byte;
        let expected = TABLE
            .iter()
            .find(|command| !command.is_subcommand() && command.name.as_bytes().eq_ignore_ascii_case(&name));
        assert_eq!(find(&name).map(|found| found.id), expected.map(|command| command.id));
    }

    #[test]
    fn key_indexes_lie_within_the_request(row in 0..TABLE.len(), arguments in 0..9_usize) {
        assert!(TABLE[row].key_indexes(arguments).all(|index| 0 < index && index < arguments));
    }
}

#[test]
fn a_request_without_arguments_is_unknown() {
    assert!(matches!(resolve(ArgsBuf::new().as_args()), Err(Rejection::UnknownCommand)));
}
