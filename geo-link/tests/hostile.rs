//! A peer with a good certificate and bad manners: its connection ends, and nothing else does.

mod common;

use std::{sync::Arc, time::Duration};

use clock::{Incarnation, Origin, Stamp, Time};
use common::{Lab, TestRegion, log, runtime, wait_until};
use geo_link::TlsMaterial;
use geo_link_core::{
    BodyWriter, Envelope, Hello, Packer, TimeRange,
    limits::{FRAME_BYTES_MAX, PROTOCOL_VERSION},
};
use node_core::{
    slot::Slot,
    store::{Claim, FeedItem, Record, State},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Connects as the region that `material` is for, and speaks TLS but not yet the protocol.
async fn connect(victim: &TestRegion, material: &TlsMaterial) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&material.ca_pem).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(&material.cert_pem).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(&material.key_pem).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"meridian-link/1".to_vec()];
    let stream = TcpStream::connect(victim.gateway.local_addr()).await.unwrap();
    let name = ServerName::try_from(format!("{}.region.meridian", victim.name)).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// Sends `bytes` and returns when the other side has closed the connection.
fn send_and_be_closed(victim: &TestRegion, material: &TlsMaterial, bytes: &[u8]) {
    runtime().block_on(async {
        let mut stream = connect(victim, material).await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // However it is closed.
        let _ = stream.read_to_end(&mut answer).await;
    });
}

fn hello(origin: Origin, epoch: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let hello = Hello {
        version: PROTOCOL_VERSION,
        name: "mallory".into(),
        origin,
        birth: Time::from_ntp64(1),
        epoch,
        claim: Claim::all(),
        complete: false,
        frame_bytes_max: FRAME_BYTES_MAX,
    };
    hello.put(&mut out);
    out
}

fn batch(origin: Origin, epoch: u64, sequence: u64) -> Vec<u8> {
    batch_of(origin, epoch, sequence, &mut BodyWriter::new())
}

fn batch_of(origin: Origin, epoch: u64, sequence: u64, body: &mut BodyWriter) -> Vec<u8> {
    let mut out = Vec::new();
    let sent = Time::from_ntp64(1);
    let envelope = Envelope { origin, epoch, sequence, round: 1, sent, range: TimeRange::EMPTY, seen: None };
    Packer::new().pack(&envelope, body, &mut out);
    out
}

/// A batch that says of its body what it likes.
fn lie(origin: Origin, epoch: u64, codec: u8, raw_bytes: u32, body: &[u8]) -> Vec<u8> {
    let (version, count, range, hash, row) = (PROTOCOL_VERSION, 0_u32, (u64::MAX, 0_u64), 0_u64, [(); 0]);
    let payload = rmp_serde::to_vec(&(
        version,
        origin.bits(),
        epoch,
        1_u64,
        1_u32,
        count,
        range.0,
        range.1,
        codec,
        raw_bytes,
        hash,
        1_u64,
        row,
        serde_bytes::Bytes::new(body),
    ));
    let payload = payload.unwrap();
    let mut out = (payload.len() as u32 + 1).to_be_bytes().to_vec();
    out.push(4);
    out.extend_from_slice(&payload);
    out
}

/// Two regions that are linked, in a lab with room for one that means ill.
fn linked() -> (Lab, TestRegion, TestRegion) {
    let lab = Lab::new(["alice", "bob", "mallory"]);
    let (alice, bob) = (lab.start("alice"), lab.start("bob"));
    wait_until("the good link is up", || bob.out("alice").up && alice.out("bob").up);
    (lab, alice, bob)
}

#[test]
fn hostile_frames_end_their_own_connection_and_harm_no_other() {
    let (lab, alice, bob) = linked();
    let connects = bob.out("alice").connects;
    let (material, origin) = (lab.authority.issue("mallory"), Origin::new(lab.id("mallory"), Incarnation::FIRST));
    let mut epoch = 0;
    let mut greeted = |rest: &dyn Fn(u64) -> Vec<u8>| {
        epoch += 1;
        [hello(origin, epoch), rest(epoch)].concat()
    };
    let mut damaged = batch(origin, 1, 1);
    let end = damaged.len() - 1;
    damaged[end] ^= 1;
    let attacks = [
        ("a frame of four gigabytes", vec![0xff; 9]),
        ("noise", (0..2_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()),
        ("an empty frame", vec![0; 8]),
        ("a batch without a greeting", batch(origin, 1, 1)),
        ("a greeting as somebody else", hello(Origin::new(lab.id("bob"), Incarnation::new(9)), 1)),
        ("a greeting and noise", greeted(&|_| vec![0x77; 50])),
        ("a damaged body", greeted(&|_| damaged.clone())),
        ("a bomb", greeted(&|epoch| lie(origin, epoch, 1, 1 << 29, &[0; 64]))),
        ("a wrong checksum", greeted(&|epoch| lie(origin, epoch, 0, 9, &[0; 9]))),
        ("an unknown codec", greeted(&|epoch| lie(origin, epoch, 9, 9, &[0; 9]))),
        ("a batch out of turn", greeted(&|epoch| batch(origin, epoch, 5))),
        ("a batch of another connection", greeted(&|epoch| batch(origin, epoch + 1, 1))),
        ("two greetings", greeted(&|epoch| hello(origin, epoch))),
    ];
    for (number, (what, bytes)) in attacks.iter().enumerate() {
        send_and_be_closed(&alice, &material, bytes);
        bob.set("key", &number.to_string());
        alice.wait_for("key", Some(&number.to_string()));
        assert_eq!(bob.out("alice").connects, connects, "{what} has cost a good link");
    }
    wait_until("it shows in the status", || alice.incoming("mallory").last_error.is_some());
    assert!(!alice.incoming("mallory").up);
    wait_until("it is in the log", || log().contains("fails its checksum"));
}

#[test]
fn who_claims_to_have_seen_what_was_never_issued_ends_its_connection() {
    let (lab, alice, bob) = linked();
    let (material, origin) = (lab.authority.issue("mallory"), Origin::new(lab.id("mallory"), Incarnation::FIRST));
    let own = Origin::new(lab.id("alice"), Incarnation::FIRST);
    let slot = Slot::of(b"key");
    let mut epoch = 0;
    let mut claim = |origin_seen: Origin, ahead| {
        epoch += 1;
        let seen = [(origin_seen, alice.now().wall.after(Duration::from_millis(ahead)))].into_iter().collect();
        let mut body = BodyWriter::new();
        body.push(&FeedItem::SlotBegin { slot, whole: false });
        body.push(&FeedItem::SlotEnd { slot, floor: None, seen });
        [hello(origin, epoch), batch_of(origin, epoch, 1, &mut body)].concat()
    };
    // As with a stamp, the next one may not come too late.
    wait_until("it is in the log", || {
        send_and_be_closed(&alice, &material, &claim(own, 450));
        log().contains("claims to have seen")
    });
    let counted = alice.incoming("mallory").last_error;
    assert!(counted.is_some_and(|why| why.contains("which was never issued here")));
    // What alice writes after it still reaches bob, and what bob writes alice.
    alice.set("key", "of alice");
    bob.wait_for("key", Some("of alice"));
    bob.set("key", "of bob");
    alice.wait_for("key", Some("of bob"));
}

#[test]
fn a_stamp_in_our_own_name_that_we_never_issued_ends_the_connection() {
    let (lab, alice, bob) = linked();
    let connects = bob.out("alice").connects;
    let (material, origin) = (lab.authority.issue("mallory"), Origin::new(lab.id("mallory"), Incarnation::FIRST));
    let own = Origin::new(lab.id("alice"), Incarnation::FIRST);
    let mut epoch = 0;
    // Ahead of alice's clock, but not so far that her link would hold it. Should the machine be so slow that her clock has passed
    // it when it arrives, the next one may not be.
    wait_until("it is in the log", || {
        epoch += 1;
        let stamp = Stamp { time: alice.now().wall.after(Duration::from_millis(450)), origin: own };
        let mut body = BodyWriter::new();
        let record = Record { key: b"forged", stamp, state: State::Tombstone };
        body.push(&FeedItem::Record { slot: Slot::of(b"forged"), record });
        send_and_be_closed(&alice, &material, &[hello(origin, epoch), batch_of(origin, epoch, 1, &mut body)].concat());
        log().contains("in our own name, which was never issued here")
    });
    let why = alice.incoming("mallory").last_error;
    assert!(why.is_some_and(|why| why.contains("never issued here")));
    bob.set("key", "after");
    alice.wait_for("key", Some("after"));
    assert_eq!(bob.out("alice").connects, connects, "a forged stamp has cost a good link");
}
