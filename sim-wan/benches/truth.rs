//! Does the WAN do what it says? Measures the error of the delay, and what goes through one link.
//!
//! `cargo bench -p sim-wan --bench truth` prints, after some half a minute:
//!
//! - how much later than asked messages arrive at 1,000 a second (the aim: less than 1 ms at the 99th percentile). What
//!   is measured is all that a user of the proxy sees: two loopback sockets and the wake-up of the receiver included;
//! - the throughput of one connection over 200 ms (the aim: at least 1 Gbit/s), in large writes and in writes of 200
//!   bytes, and through a line that is asked to carry 1 Gbit/s and no more.
//!
//! With `-- delay` or `-- throughput` only one of the two. A delay is only as true as the scheduler: on a machine whose
//! cores are all busy, waking up costs milliseconds at times, and that is then what shows.
//!
//! A harness of its own, since what is measured here are distributions over seconds, not the cost of a call.

use std::{
    env,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use sim_wan::{
    Wan,
    model::{Delay, Rate},
    topology::{LinkSpec, RouteSpec, Topology},
};

/// Messages of the delay measurement: ten seconds of them.
const MESSAGES: usize = 10_000;
const MESSAGE_SIZE: usize = 64;
const MESSAGE_EVERY: Duration = Duration::from_millis(1);
/// How long a throughput measurement sends.
const SENDING: Duration = Duration::from_secs(4);

fn main() {
    // Cargo adds flags of its own; a word chooses what is measured.
    let chosen: Vec<_> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_chosen = |what: &str| chosen.is_empty() || chosen.iter().any(|word| word == what);
    if is_chosen("delay") {
        print_delay_errors();
    }
    if is_chosen("throughput") {
        print_throughputs();
    }
}

fn print_delay_errors() {
    println!("delay error of {MESSAGES} messages of {MESSAGE_SIZE} bytes at 1,000/s, in microseconds:");
    println!("{:>12} {:>8} {:>8} {:>8} {:>8}", "asked", "min", "p50", "p99", "max");
    for delay_ms in [5.0, 50.0, 200.0] {
        let errors = delay_errors(delay_ms);
        let [p50, p99] = [0.5, 0.99].map(|quantile| errors.value_at_quantile(quantile) / 1_000);
        let [min, max] = [errors.min(), errors.max()].map(|ns| ns / 1_000);
        println!("{delay_ms:>9} ms {min:>8} {p50:>8} {p99:>8} {max:>8}");
    }
}

fn print_throughputs() {
    println!("throughput of one connection over 200 ms:");
    let gigabit = Rate::from_mbit(1_000.0).expect("a gigabit is a rate");
    for (what, write_size, rate) in [
        ("unlimited, writes of 256 KiB", 256 << 10, None),
        ("unlimited, writes of 200 bytes", 200, None),
        ("asked for 1 Gbit/s, writes of 256 KiB", 256 << 10, Some(gigabit)),
    ] {
        println!("{what:>40}: {:.3} Gbit/s", throughput(write_size, rate));
    }
}

/// A WAN of two regions with one route, to a socket of ours: what connects through it, and what is connected to.
fn connect(delay_ms: f64, rate: Option<Rate>) -> (Wan, TcpStream, TcpStream) {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let target = TcpListener::bind(any_port).expect("loopback has a free port");
    let delay = Delay::from_ms(delay_ms).expect("the delay is one");
    let link = LinkSpec { rate, both_ways: true, ..LinkSpec::with_delay("here", "there", delay) };
    let route = RouteSpec {
        from: "here".to_owned(),
        to: "there".to_owned(),
        listen: any_port,
        target: target.local_addr().expect("it is bound").into(),
    };
    let topology = Topology { seed: 1, control: any_port, links: vec![link], routes: vec![route] };
    let wan = Wan::start(&topology).expect("the topology is right");
    let client = TcpStream::connect(wan.routes()[0].listen).expect("the route listens");
    let (server, _) = target.accept().expect("the route dials");
    for socket in [&client, &server] {
        socket.set_nodelay(true).expect("the socket is open");
    }
    (wan, client, server)
}

/// How many nanoseconds later than asked each message arrived.
fn delay_errors(delay_ms: f64) -> Histogram<u64> {
    let (_wan, mut client, mut server) = connect(delay_ms, None);
    let started = Instant::now();
    let since_start = move || u64::try_from(started.elapsed().as_nanos()).expect("a bench ends within centuries");
    let sender = thread::spawn(move || {
        let mut message = [0; MESSAGE_SIZE];
        for number in 0..MESSAGES as u32 {
            thread::sleep((MESSAGE_EVERY * number).saturating_sub(started.elapsed()));
            message[..8].copy_from_slice(&since_start().to_le_bytes());
            client.write_all(&message).expect("the connection holds");
        }
    });
    let asked_ns = (delay_ms * 1e6) as u64;
    let mut errors = Histogram::new(3).expect("three digits are fine");
    let mut message = [0; MESSAGE_SIZE];
    // The first tenth warms up: caches, the windows of loopback sockets, and the handshake that held it up.
    for number in 0..MESSAGES {
        server.read_exact(&mut message).expect("the connection holds");
        let arrived_at = since_start();
        let sent_at = u64::from_le_bytes(message[..8].try_into().expect("eight bytes"));
        let error = (arrived_at - sent_at).checked_sub(asked_ns).expect("nothing arrives early");
        if number >= MESSAGES / 10 {
            errors.record(error).expect("the histogram grows");
        }
    }
    sender.join().expect("the sender does not panic");
    errors
}

/// Gbit/s at the receiver, from its first byte to its last.
fn throughput(write_size: usize, rate: Option<Rate>) -> f64 {
    let (_wan, mut client, mut server) = connect(200.0, rate);
    let sender = thread::spawn(move || {
        let chunk = vec![7; write_size];
        let started = Instant::now();
        while started.elapsed() < SENDING {
            client.write_all(&chunk).expect("the connection holds");
        }
        // Dropped here: the receiver reads to the end.
    });
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = server.read(&mut buffer).expect("the connection holds");
    let started = Instant::now();
    loop {
        match server.read(&mut buffer).expect("the connection holds") {
            0 => break,
            read => bytes += read,
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    sender.join().expect("the sender does not panic");
    bytes as f64 * 8.0 / 1e9 / seconds
}
