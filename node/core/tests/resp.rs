//! Laws of the protocol: requests, replies and values against redis-protocol, an independent implementation, and
//! against themselves under every cut of the input.

use node_core::resp::value::Decoder;
use node_core::resp::{Limits, Parsed, Parser, Protocol, ProtocolError, Reply, Value, keys_ahead};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use redis_protocol::resp2::types::{OwnedFrame as Frame2, Resp2Frame as _};
use redis_protocol::resp3::types::OwnedFrame as Frame3;

type Requests = Vec<Vec<Vec<u8>>>;

/// Feeds `input` to a parser as a connection would, in reads that end at `cuts`, and returns what came out.
fn parse_in_reads(input: &[u8], cuts: &[usize], limits: &Limits) -> (Requests, Result<(), ProtocolError>) {
    let (mut parser, mut buffer, mut requests) = (Parser::new(), Vec::new(), Vec::new());
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).chain([input.len()]).collect();
    ends.sort_unstable();
    let mut start = 0;
    for end in ends {
        buffer.extend_from_slice(&input[start..end]);
        start = end;
        loop {
            match parser.parse(&buffer, limits) {
                Ok(Parsed::Request { args, consumed }) => {
                    assert!(!args.is_empty() && consumed > 0);
                    requests.push(args.iter().map(<[u8]>::to_vec).collect());
                    buffer.drain(..consumed);
                }
                Ok(Parsed::Incomplete { consumed, missing }) => {
                    assert!(missing > 0);
                    buffer.drain(..consumed);
                    break;
                }
                Err(error) => return (requests, Err(error)),
            }
        }
        assert!(parser.memory() <= 64 + 8 * input.len(), "{} for {} bytes", parser.memory(), input.len());
    }
    (requests, Ok(()))
}

fn parse(input: &[u8]) -> (Requests, Result<(), ProtocolError>) {
    parse_in_reads(input, &[], &Limits::DEFAULT)
}

fn error(input: &[u8]) -> String {
    parse(input).1.expect_err("this is refused").to_string()
}

#[test]
fn requests_of_every_shape_are_understood() {
    let (requests, end) =
        parse(b"*1\r\n$4\r\nPING\r\n\r\n*0\r\n*-1\r\n \r\nset k \"a b\"\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n");
    assert_eq!(end, Ok(()));
    let text: Vec<Vec<&str>> =
        requests.iter().map(|request| request.iter().map(|a| std::str::from_utf8(a).unwrap()).collect()).collect();
    assert_eq!(text, [vec!["PING"], vec!["set", "k", "a b"], vec!["GET", ""]]);
}

#[test]
fn errors_are_redis_own() {
    for header in ["*x\r\n", "*01\r\n", "*+1\r\n", "* 1\r\n", "*\r\n", "*1048577\r\n", "*9999999999999999999999\r\n"] {
        assert_eq!(error(header.as_bytes()), "Protocol error: invalid multibulk length", "{header:?}");
    }
    for header in ["$x\r\n", "$-1\r\n", "$01\r\n", "$\r\n", "$536870913\r\n", "$99999999999\r\n"] {
        assert_eq!(error(format!("*1\r\n{header}").as_bytes()), "Protocol error: invalid bulk length", "{header:?}");
    }
    assert_eq!(error(b"*1\r\nx"), "Protocol error: expected '$', got 'x'");
    assert_eq!(error(b"set \"a\r\n"), "Protocol error: unbalanced quotes in request");
    let long = vec![b'1'; 65_537];
    assert_eq!(error(&[b"*", &long[..]].concat()), "Protocol error: too big mbulk count string");
    assert_eq!(error(&[b"*1\r\n$", &long[..]].concat()), "Protocol error: too big bulk count string");
    assert_eq!(error(&long), "Protocol error: too big inline request");
}

#[test]
fn strangers_get_little() {
    let limits = Limits { authenticated: false, ..Limits::DEFAULT };
    let error = |input: &[u8]| parse_in_reads(input, &[], &limits).1.map_err(|error| error.to_string());
    assert_eq!(error(b"*11\r\n"), Err("Protocol error: unauthenticated multibulk length".to_owned()));
    assert_eq!(error(b"*1\r\n$16385\r\n"), Err("Protocol error: unauthenticated bulk length".to_owned()));
    assert_eq!(error(b"*10\r\n$16384\r\n"), Ok(()));
    let limits = Limits { inline_bytes_max: 100_000, ..limits };
    let error = |input: &[u8]| parse_in_reads(input, &[], &limits).1.map_err(|error| error.to_string());
    assert_eq!(error(&[b'x'; 65_537]), Err("Protocol error: too big inline request".to_owned()));
}

#[test]
fn an_inline_command_is_bounded_however_it_arrives() {
    for most in [10, 100_000] {
        let limits = Limits { inline_bytes_max: most, ..Limits::DEFAULT };
        let fits = [&vec![b'x'; most as usize][..], b"\n"].concat();
        let exceeds = [b"x", &fits[..]].concat();
        for cuts in [&[][..], &[5]] {
            assert_eq!(parse_in_reads(&fits, cuts, &limits).1, Ok(()));
            assert_eq!(parse_in_reads(&exceeds, cuts, &limits).1, Err(ProtocolError::TooBigInline));
        }
    }
}

#[test]
fn requests_are_bounded_as_a_whole() {
    let limits = Limits { request_bytes_max: 30, ..Limits::DEFAULT };
    let (requests, end) = parse_in_reads(b"*1\r\n$4\r\nPING\r\n*2\r\n$10\r\n0123456789\r\n$10\r\n", &[], &limits);
    assert_eq!((requests.len(), end), (1, Err(ProtocolError::TooBigRequest)));
}

#[test]
fn headers_that_lie_allocate_nothing() {
    let mut parser = Parser::new();
    let parsed = parser.parse(b"*1048576\r\n$536870912\r\n", &Limits::DEFAULT);
    assert!(matches!(parsed, Ok(Parsed::Incomplete { consumed: 0, missing: 536_870_914 })));
    assert_eq!(parser.memory(), 0);
}

#[test]
fn memory_of_a_great_request_is_given_back() {
    let mut parser = Parser::new();
    let great = format!("*100000\r\n{}", "$1\r\nx\r\n".repeat(100_000));
    assert!(matches!(parser.parse(great.as_bytes(), &Limits::DEFAULT), Ok(Parsed::Request { .. })));
    let before = parser.memory();
    assert!(matches!(parser.parse(b"*1\r\n$1\r\nx\r\n", &Limits::DEFAULT), Ok(Parsed::Request { .. })));
    assert!(parser.memory() < before / 10);
}

/// Bytes that often make headers, quotes and ends of lines.
fn nearly_requests() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"*2\r\n".to_vec()),
        Just(b"*1\r\n$3\r\nabc\r\n".to_vec()),
        Just(b"$3\r\n".to_vec()),
        Just(b"$0\r\n\r\n".to_vec()),
        Just(b"$12\r\n".to_vec()),
        Just(b"get a\n".to_vec()),
        Just(b"\"".to_vec()),
        "[-*$0-9a '\r\n\\\\]{0,4}".prop_map(String::into_bytes),
        vec(any::<u8>(), 0..6),
    ];
    vec(pieces, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_cut_of_the_input_gives_the_same_requests(input in nearly_requests(), cuts in vec(any::<usize>(), 0..12)) {
        let byte_by_byte: Vec<usize> = (0..input.len()).collect();
        let whole = parse(&input);
        assert_eq!(parse_in_reads(&input, &cuts, &Limits::DEFAULT), whole);
        assert_eq!(parse_in_reads(&input, &byte_by_byte, &Limits::DEFAULT), whole);
    }

    #[test]
    fn keys_seen_ahead_are_those_of_the_requests(input in nearly_requests()) {
        let (requests, _) = parse(&input);
        for (place, key) in keys_ahead(&input).enumerate() {
            assert_eq!(requests[place].get(1).map(Vec::as_slice), Some(key));
        }
    }

    #[test]
    fn requests_written_by_an_independent_client_arrive(
        requests in vec(vec(vec(any::<u8>(), 0..40), 1..6), 0..6),
        cuts in vec(any::<usize>(), 0..6),
    ) {
        let mut wire = Vec::new();
        for request in &requests {
            let frame = Frame2::Array(request.iter().cloned().map(Frame2::BulkString).collect());
            let mut encoded = vec![0; frame.encode_len(false)];
            redis_protocol::resp2::encode::encode(&mut encoded, &frame, false).unwrap();
            wire.extend(encoded);
        }
        let keys: Vec<&[u8]> = requests.iter().map_while(|request| request.get(1)).map(Vec::as_slice).collect();
        assert_eq!(keys_ahead(&wire).collect::<Vec<_>>(), keys);
        assert_eq!(parse_in_reads(&wire, &cuts, &Limits::DEFAULT), (requests, Ok(())));
    }
}

/// Values as the reply writer can write them, in RESP3. The oracle takes no aggregates in sets and as keys of maps.
fn values() -> impl Strategy<Value = Value> {
    let line = || "[ -~]{0,12}".prop_map(String::into_bytes);
    let leaf = prop_oneof![
        line().prop_map(Value::Simple),
        line().prop_map(Value::Error),
        any::<i64>().prop_map(Value::Integer),
        vec(any::<u8>(), 0..20).prop_map(Value::Bulk),
        Just(Value::Null),
        any::<f64>().prop_filter("NaN is not equal to itself", |value| !value.is_nan()).prop_map(Value::Double),
        any::<bool>().prop_map(Value::Boolean),
        line().prop_map(|text| Value::Verbatim(*b"txt", text)),
        "-?[1-9][0-9]{0,30}".prop_map(|digits| Value::BigNumber(digits.into_bytes())),
    ];
    let member = || prop_oneof![any::<i64>().prop_map(Value::Integer), vec(any::<u8>(), 0..9).prop_map(Value::Bulk)];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec(member(), 0..4).prop_map(Value::Set),
            vec((member(), inner), 0..3).prop_map(Value::Map),
        ]
    })
}

fn write(value: &Value, reply: &mut Reply<'_>) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("only ASCII was generated");
    match value {
        Value::Simple(line) => reply.simple(&text(line)),
        Value::Error(line) => reply.error(text(line)),
        Value::Integer(value) => reply.integer(*value),
        Value::Bulk(bytes) => reply.bulk(bytes),
        Value::Null => reply.null(),
        Value::Double(value) => reply.double(*value),
        Value::Boolean(value) => reply.boolean(*value),
        Value::Verbatim(_, line) => reply.verbatim(&text(line)),
        Value::BigNumber(digits) => reply.big_number(&text(digits)),
        Value::Array(elements) => {
            reply.array(elements.len());
            elements.iter().for_each(|element| write(element, reply));
        }
        Value::Set(elements) => {
            reply.set(elements.len());
            elements.iter().for_each(|element| write(element, reply));
        }
        Value::Push(elements) => {
            reply.push(elements.len());
            elements.iter().for_each(|element| write(element, reply));
        }
        Value::Map(pairs) => {
            reply.map(pairs.len());
            for (key, value) in pairs {
                write(key, reply);
                write(value, reply);
            }
        }
    }
}

fn written(value: &Value, protocol: Protocol) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut Reply::new(&mut out, protocol));
    out
}

/// Decodes the replies in `wire`, which arrive in reads that end at `cuts`.
fn decode_in_reads(wire: &[u8], cuts: &[usize]) -> Vec<Value> {
    let (mut decoder, mut buffer, mut values) = (Decoder::default(), Vec::new(), Vec::new());
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (wire.len() + 1)).chain([wire.len()]).collect();
    ends.sort_unstable();
    let mut start = 0;
    for end in ends {
        buffer.extend_from_slice(&wire[start..end]);
        start = end;
        loop {
            let decoded = decoder.decode(&buffer).expect("these are replies");
            buffer.drain(..decoded.consumed);
            match decoded.value {
                Some(value) => values.push(value),
                None => break,
            }
        }
    }
    assert!(buffer.is_empty());
    values
}

/// What an independent decoder makes of a RESP2 reply.
fn from_frame2(frame: Frame2) -> Value {
    match frame {
        Frame2::SimpleString(line) => Value::Simple(line),
        Frame2::Error(line) => Value::Error(line.into_bytes()),
        Frame2::Integer(value) => Value::Integer(value),
        Frame2::BulkString(bytes) => Value::Bulk(bytes),
        Frame2::Array(elements) => Value::Array(elements.into_iter().map(from_frame2).collect()),
        Frame2::Null => Value::Null,
    }
}

/// Whether an independent decoder read a RESP3 reply as the same value. It keeps maps and sets in hash tables, so of
/// those only the size is compared, and big numbers and verbatim strings by their text.
fn same_as_frame3(value: &Value, frame: &Frame3) -> bool {
    match (value, frame) {
        (Value::Simple(line), Frame3::SimpleString { data, .. }) => line == data,
        (Value::Error(line), Frame3::SimpleError { data, .. }) => line == data.as_bytes(),
        (Value::Integer(value), Frame3::Number { data, .. }) => value == data,
        (Value::Bulk(bytes), Frame3::BlobString { data, .. }) => bytes == data,
        (Value::Null, Frame3::Null) => true,
        (Value::Double(value), Frame3::Double { data, .. }) => value == data,
        (Value::Boolean(value), Frame3::Boolean { data, .. }) => value == data,
        (Value::Verbatim(_, text), Frame3::VerbatimString { data, .. }) => text == data,
        (Value::BigNumber(digits), Frame3::BigNumber { data, .. }) => digits == data,
        (Value::Array(elements), Frame3::Array { data, .. }) => {
            elements.len() == data.len() && elements.iter().zip(data).all(|(value, frame)| same_as_frame3(value, frame))
        }
        (Value::Set(elements), Frame3::Set { data, .. }) => data.len() <= elements.len(),
        (Value::Map(pairs), Frame3::Map { data, .. }) => data.len() <= pairs.len(),
        _ => false,
    }
}

proptest! {
    #[test]
    fn replies_survive_a_round_trip_in_any_cut(values in vec(values(), 0..4), cuts in vec(any::<usize>(), 0..8)) {
        let wire: Vec<u8> = values.iter().flat_map(|value| written(value, Protocol::Resp3)).collect();
        assert_eq!(decode_in_reads(&wire, &cuts), values);
    }

    #[test]
    fn independent_decoder_reads_our_resp2(value in values()) {
        let wire = written(&value, Protocol::Resp2);
        let (frame, len) = redis_protocol::resp2::decode::decode(&wire).unwrap().expect("the reply is whole");
        assert_eq!(len, wire.len());
        assert_eq!(vec![from_frame2(frame)], decode_in_reads(&wire, &[]));
    }

    #[test]
    fn independent_decoder_reads_our_resp3(value in values()) {
        let wire = written(&value, Protocol::Resp3);
        let (frame, len) = redis_protocol::resp3::decode::complete::decode(&wire).unwrap().expect("the reply is whole");
        assert_eq!(len, wire.len());
        assert!(same_as_frame3(&value, &frame), "{value:?} is not {frame:?}");
    }

    #[test]
    fn any_bytes_are_decoded_without_panic(pieces in vec("[-+:$*%~>|_,#(=!][-0-9]{0,3}(\r\n)?", 0..20)) {
        let _ = Decoder::new(1_000).decode(pieces.concat().as_bytes());
    }
}
