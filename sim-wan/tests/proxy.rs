//! The WAN between real sockets: what a client and a target see of delays, cuts, resets and ends of streams.

mod common;

use std::{
    io::{ErrorKind, Read},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use common::{HERE, Lab, THERE, any_port, link, patient, receive, send, topology, wait_until};
use sim_wan::{
    StartError, Wan,
    limits::{CONTROL_ALLOWANCE, WINDOW},
    model::{Change, Delay, Loss, Rate, State},
    topology::LinkSpec,
};

/// Bytes that tell where they stand.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index / 7 + index) as u8).collect()
}

/// Whether a read finds the connection reset, after whatever was on its way.
fn is_reset(socket: &mut TcpStream) -> bool {
    match socket.read_to_end(&mut Vec::new()) {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        Err(error) => panic!("neither end nor reset: {error}"),
    }
}

/// Sends through the pair in both directions at once, and checks what comes out.
fn exchange(client: &mut TcpStream, server: &mut TcpStream, size: usize) {
    let bytes = pattern(size);
    let mut echo = server.try_clone().unwrap();
    let copied = thread::spawn(move || {
        let received = receive(&mut echo, size);
        send(&mut echo, &received);
    });
    let mut sender = client.try_clone().unwrap();
    let sent = bytes.clone();
    let sending = thread::spawn(move || send(&mut sender, &sent));
    assert!(receive(client, size) == bytes, "what came back is not what was sent");
    sending.join().unwrap();
    copied.join().unwrap();
}

#[test]
fn bytes_arrive_whole_and_in_order_over_a_rough_link() {
    let rough = LinkSpec {
        jitter: Delay::from_ms(10.0).unwrap(),
        rate: Some(Rate::from_mbit(200.0).unwrap()),
        loss: Loss::new(0.001).unwrap(),
        ..link(5)
    };
    let lab = Lab::with_link(rough);
    let (mut client, mut server) = lab.pair();
    exchange(&mut client, &mut server, 1 << 20);
}

#[test]
fn connections_of_one_link_do_not_mix() {
    let lab = Lab::start(2);
    thread::scope(|threads| {
        for _ in 0..8 {
            let (mut client, mut server) = lab.pair();
            threads.spawn(move || exchange(&mut client, &mut server, 200_000));
        }
    });
    assert_eq!(lab.wan.stats(HERE, THERE).unwrap().connections_opened, 8);
}

#[test]
fn a_message_never_takes_less_than_the_delay() {
    let lab = Lab::start(20);
    let (mut client, mut server) = lab.pair();
    for _ in 0..20 {
        let sent_at = Instant::now();
        send(&mut client, b"there");
        assert_eq!(receive(&mut server, 5), b"there");
        assert!(sent_at.elapsed() >= Duration::from_millis(20));
        send(&mut server, b"back");
        assert_eq!(receive(&mut client, 4), b"back");
        assert!(sent_at.elapsed() >= Duration::from_millis(40));
    }
}

#[test]
fn a_handshake_crosses_the_lines_before_any_byte() {
    let one_way = Duration::from_millis(50);
    let lab = Lab::start(50);
    let started = Instant::now();
    let mut client = lab.connect();
    send(&mut client, b"first");
    let mut server = lab.accept();
    assert!(started.elapsed() >= one_way, "the target was dialled before the handshake could reach it");
    send(&mut server, b"hello");
    assert_eq!(receive(&mut server, 5), b"first");
    assert!(started.elapsed() >= 3 * one_way, "bytes were let in before the round trip");
    assert_eq!(receive(&mut client, 5), b"hello");
    assert!(started.elapsed() >= 4 * one_way, "the target spoke before it could know of the client");
}

#[test]
fn a_cut_of_one_direction_silences_that_one_alone_and_loses_nothing() {
    let lab = Lab::start(5);
    let (mut client, mut server) = lab.pair();
    lab.set(HERE, THERE, State::Blackhole);
    send(&mut client, b"held up");
    lab.wait_for_drops(1);
    send(&mut server, b"passes");
    assert_eq!(receive(&mut client, 6), b"passes");
    send(&mut client, b", and behind it");
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    server.set_nonblocking(false).unwrap();
    lab.wan.change(&Change::Heal).unwrap();
    assert_eq!(receive(&mut server, 22), b"held up, and behind it");
}

#[test]
fn a_cut_amid_a_large_transfer_loses_nothing() {
    let lab = Lab::start(5);
    let (mut client, mut server) = lab.pair();
    thread::scope(|threads| {
        threads.spawn(|| {
            let crossed = |wanted| lab.wan.stats(HERE, THERE).unwrap().bytes >= wanted;
            wait_until("some of it has crossed", || crossed(1 << 20));
            lab.wan.change(&Change::Partition(vec![HERE.to_owned()])).unwrap();
            lab.wait_for_drops(1);
            lab.wan.change(&Change::Heal).unwrap();
        });
        // More than the buffers of the sockets hold, so that some of it is always still to come.
        exchange(&mut client, &mut server, 32 << 20);
    });
}

#[test]
fn a_handshake_stalls_on_a_cut_line_and_is_made_after_it() {
    let lab = Lab::start(5);
    lab.set(HERE, THERE, State::Blackhole);
    let mut client = lab.connect();
    send(&mut client, b"patient");
    lab.wait_for_drops(1);
    lab.target.set_nonblocking(true).unwrap();
    assert_eq!(lab.target.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    lab.target.set_nonblocking(false).unwrap();
    lab.set(HERE, THERE, State::Up);
    assert_eq!(receive(&mut lab.accept(), 7), b"patient");
}

#[test]
fn a_reset_line_kills_connections_and_refuses_new_ones_until_it_is_up() {
    for (from, to) in [(HERE, THERE), (THERE, HERE)] {
        let lab = Lab::start(5);
        let (mut client, mut server) = lab.pair();
        lab.set(from, to, State::Reset);
        assert!(is_reset(&mut client) && is_reset(&mut server));
        assert!(is_reset(&mut lab.connect()));
        lab.set(from, to, State::Up);
        lab.pair();
    }
}

#[test]
fn an_end_of_stream_passes_after_its_data_and_leaves_the_other_way_open() {
    let lab = Lab::start(5);
    let (mut client, mut server) = lab.pair();
    send(&mut client, b"request");
    client.shutdown(Shutdown::Write).unwrap();
    let mut request = Vec::new();
    server.read_to_end(&mut request).unwrap();
    assert_eq!(request, b"request");
    send(&mut server, b"response");
    drop(server);
    let mut response = Vec::new();
    client.read_to_end(&mut response).unwrap();
    assert_eq!(response, b"response");
    wait_until("the connection is forgotten", || lab.wan.stats(HERE, THERE).unwrap().connections == 0);
}

#[test]
fn a_reset_passes_to_the_other_end() {
    let lab = Lab::start(5);
    for client_resets in [true, false] {
        let (client, server) = lab.pair();
        let (goes, mut stays) = if client_resets { (client, server) } else { (server, client) };
        socket2::SockRef::from(&goes).set_linger(Some(Duration::ZERO)).unwrap();
        drop(goes);
        assert!(is_reset(&mut stays));
    }
    wait_until("the connections are forgotten", || lab.wan.stats(HERE, THERE).unwrap().connections == 0);
}

#[test]
fn a_target_that_refuses_resets_the_client_after_a_round_trip() {
    let lab = Lab::start(20);
    let Lab { wan, target } = lab;
    drop(target);
    let started = Instant::now();
    let mut client = patient(TcpStream::connect(wan.route_addr(HERE, THERE).unwrap()).unwrap());
    assert!(is_reset(&mut client));
    assert!(started.elapsed() >= Duration::from_millis(40));
}

#[test]
fn a_receiver_that_does_not_read_holds_up_its_sender_and_nobody_else() {
    let lab = Lab::start(1);
    let (mut client, mut server) = lab.pair();
    let size = WINDOW + (64 << 20);
    let sending = thread::spawn(move || send(&mut client, &vec![1; size]));
    let queued = || lab.wan.stats(HERE, THERE).unwrap().queued_bytes;
    wait_until("the window is used up", || queued() >= WINDOW);
    let (mut other, mut other_server) = lab.pair();
    exchange(&mut other, &mut other_server, 100_000);
    assert!(queued() <= WINDOW + CONTROL_ALLOWANCE);
    assert!(!sending.is_finished());
    assert_eq!(receive(&mut server, size).len(), size);
    sending.join().unwrap();
}

#[test]
fn dropping_a_wan_resets_connections_and_frees_its_addresses() {
    let lab = Lab::start(5);
    let (mut client, mut server) = lab.pair();
    let addresses = [lab.wan.control_addr(), lab.wan.route_addr(HERE, THERE).unwrap()];
    drop(lab);
    assert!(is_reset(&mut client) && is_reset(&mut server));
    for address in addresses {
        TcpListener::bind(address).unwrap();
    }
}

#[tokio::test]
async fn a_wan_starts_and_shuts_down_inside_a_runtime() {
    let lab = Lab::start(5);
    let (mut client, _server) = lab.pair();
    lab.wan.shutdown().await;
    assert!(is_reset(&mut client));
}

#[test]
fn an_address_that_is_taken_is_named_and_nothing_stays_behind() {
    let taken = TcpListener::bind(any_port()).unwrap();
    let mut topology = topology(link(5), any_port());
    let free = TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
    topology.control = free;
    topology.routes[0].listen = taken.local_addr().unwrap();
    let error = Wan::start(&topology).unwrap_err();
    assert!(matches!(&error, StartError::Bind { address, .. } if *address == taken.local_addr().unwrap()));
    assert!(error.to_string().ends_with("for route us-east -> eu-west"), "{error}");
    TcpListener::bind(free).unwrap();
}
