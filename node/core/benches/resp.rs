//! What the protocol costs per request: parsing, looking up the command, writing the reply.
//!
//! `cargo bench -p meridian-node-core --bench resp`. Each number stands for one connection's steady state: the parser
//! and the output buffer have their memory already.

use divan::{Bencher, black_box};
use node_core::command_table::{Command, CommandId, find, resolve};
use node_core::resp::{ArgsBuf, Limits, Parsed, Parser, Protocol, Reply};

fn main() {
    divan::main();
}

fn multibulk(arguments: &[&[u8]]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        request.extend_from_slice(argument);
        request.extend_from_slice(b"\r\n");
    }
    request
}

fn parse(bencher: Bencher<'_, '_>, request: &[u8]) {
    let mut parser = Parser::new();
    bencher.bench_local(|| match parser.parse(black_box(request), &Limits::DEFAULT) {
        Ok(Parsed::Request { args, consumed }) => args.len() + args[0].len() + consumed,
        _ => unreachable!("the request is whole"),
    });
}

#[divan::bench]
fn parse_get(bencher: Bencher<'_, '_>) {
    parse(bencher, &multibulk(&[b"GET", b"key:000000012345"]));
}

#[divan::bench]
fn parse_set(bencher: Bencher<'_, '_>) {
    parse(bencher, &multibulk(&[b"SET", b"key:000000012345", &[b'x'; 100]]));
}

#[divan::bench]
fn parse_mset_of_100(bencher: Bencher<'_, '_>) {
    let arguments: Vec<&[u8]> = std::iter::once(&b"MSET"[..]).chain([&b"key:000000012345"[..]; 200]).collect();
    parse(bencher, &multibulk(&arguments));
}

#[divan::bench]
fn parse_inline_ping(bencher: Bencher<'_, '_>) {
    parse(bencher, b"PING\r\n");
}

/// One call of the parser for each 16 KiB of a 16 MiB value: a thousandth of this is what one read costs.
#[divan::bench]
fn parse_16_mib_in_1024_reads(bencher: Bencher<'_, '_>) {
    let request = multibulk(&[b"SET", b"key", &vec![b'x'; 16 << 20]]);
    let mut parser = Parser::new();
    bencher.bench_local(|| {
        let reads = (1..=request.len() / (16 << 10)).map(|read| read * (16 << 10));
        for arrived in reads.chain([request.len()]) {
            black_box(parser.parse(black_box(&request[..arrived]), &Limits::DEFAULT)).expect("the request is valid");
        }
    });
}

fn reply(bencher: Bencher<'_, '_>, write: impl Fn(&mut Reply<'_>)) {
    let mut out = Vec::with_capacity(4096);
    bencher.bench_local(|| {
        out.clear();
        write(&mut Reply::new(black_box(&mut out), Protocol::Resp2));
        out.len()
    });
}

#[divan::bench]
fn reply_ok(bencher: Bencher<'_, '_>) {
    reply(bencher, |reply| reply.ok());
}

#[divan::bench]
fn reply_bulk_of_100(bencher: Bencher<'_, '_>) {
    reply(bencher, |reply| reply.bulk(black_box(&[b'x'; 100])));
}

#[divan::bench]
fn reply_integer(bencher: Bencher<'_, '_>) {
    reply(bencher, |reply| reply.integer(black_box(1_234_567)));
}

fn look_up(bencher: Bencher<'_, '_>, name: &[u8]) {
    bencher.bench_local(|| find(black_box(name)).map(|command| command.id));
}

#[divan::bench]
fn look_up_get(bencher: Bencher<'_, '_>) {
    look_up(bencher, b"GET");
}

#[divan::bench]
fn look_up_incrbyfloat_in_lower_case(bencher: Bencher<'_, '_>) {
    look_up(bencher, b"incrbyfloat");
}

#[divan::bench]
fn look_up_unknown(bencher: Bencher<'_, '_>) {
    look_up(bencher, b"ZADD");
}

#[divan::bench]
fn resolve_set(bencher: Bencher<'_, '_>) {
    let args: ArgsBuf = ["SET", "key", "value"].into_iter().collect();
    bencher.bench_local(|| resolve(black_box(args.as_args())).map(|command| command.id).ok());
}

#[divan::bench]
fn keys_of_mset_of_100(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| Command::of(CommandId::Mset).key_indexes(black_box(201)).sum::<usize>());
}
