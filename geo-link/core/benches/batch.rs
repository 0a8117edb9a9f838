//! What a record costs on a link: into the batch, out of it, and on the wire.
//!
//! Values are JSON as caches hold it: the same fields, other contents. Stamps are a millisecond's worth of writes.

use clock::{Incarnation, Origin, RegionId, Stamp, Time};
use divan::{Bencher, black_box, counter::ItemsCount};
use geo_link_core::{BodyWriter, Envelope, Packer, TimeRange, Unpacker};
use node_core::{
    slot::Slot,
    store::{Expiry, FeedItem, Record, State},
};
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// About 64 KiB of records of each size, as one batch holds them.
const CASES: [(usize, usize); 3] = [(32, 600), (200, 250), (1_000, 60)];

fn main() {
    for (length, count) in CASES {
        let records = records(length, count);
        let (mut body, mut frame) = (BodyWriter::new(), Vec::new());
        fill(&mut body, &records);
        let packed = Packer::new().pack(&envelope(), &mut body, &mut frame);
        let plain: usize = records.iter().map(|(key, value, _)| key.len() + value.len()).sum();
        println!(
            "values of {length} B: {} records, {:.1} B key and value, {:.1} B raw, {:.1} B wire, ratio {:.2}",
            count,
            plain as f64 / count as f64,
            packed.raw_bytes as f64 / count as f64,
            packed.wire_bytes as f64 / count as f64,
            packed.raw_bytes as f64 / packed.wire_bytes as f64,
        );
    }
    divan::main();
}

type Owned = (Vec<u8>, Vec<u8>, Time);

fn records(length: usize, count: usize) -> Vec<Owned> {
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let start = Time::from_unix_ms(1_800_000_000_000);
    let mut time = start.ntp64();
    (0..count)
        .map(|_| {
            time += random.random_range(16..20_000) & !0xf;
            let key = format!("session:{:08x}", random.next_u32());
            let mut value = String::from("{");
            while value.len() < length {
                let (id, name) = (random.next_u32(), random.next_u32() % 1_000);
                value += &format!("\"user_id\":{id},\"name\":\"user-{name}\",\"plan\":\"standard\",\"active\":true,");
            }
            value.truncate(length);
            (key.into_bytes(), value.into_bytes(), Time::from_ntp64(time))
        })
        .collect()
}

fn fill(body: &mut BodyWriter, records: &[Owned]) {
    let origin = Origin::new(RegionId::MIN, Incarnation::FIRST);
    let expiry = Some(Expiry::at_unix_ms(1_800_000_100_000));
    for (key, bytes, time) in records {
        let stamp = Stamp { time: *time, origin };
        let record = Record { key, stamp, state: State::Value { bytes, expiry } };
        // The slot is not part of what is written; a feed knows it.
        body.push(&FeedItem::Record { slot: SLOT, record });
    }
}

const SLOT: Slot = match Slot::new(0) {
    Some(slot) => slot,
    None => panic!("there is a slot 0"),
};

fn envelope() -> Envelope {
    let origin = Origin::new(RegionId::MIN, Incarnation::FIRST);
    Envelope { origin, epoch: 1, sequence: 1, round: 1, sent: Time::MAX, range: TimeRange::EMPTY, seen: None }
}

#[divan::bench(args = CASES)]
fn encode(bencher: Bencher, (length, count): (usize, usize)) {
    let records = records(length, count);
    let (mut body, mut packer, mut frame) = (BodyWriter::new(), Packer::new(), Vec::new());
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        frame.clear();
        fill(&mut body, black_box(&records));
        packer.pack(&envelope(), &mut body, &mut frame)
    });
}

#[divan::bench(args = CASES)]
fn encode_columns_only(bencher: Bencher, (length, count): (usize, usize)) {
    let records = records(length, count);
    let (mut body, mut raw) = (BodyWriter::new(), Vec::new());
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        fill(&mut body, black_box(&records));
        body.finish(&mut raw);
    });
}

#[divan::bench(args = CASES)]
fn decode(bencher: Bencher, (length, count): (usize, usize)) {
    let records = records(length, count);
    let (mut body, mut frame) = (BodyWriter::new(), Vec::new());
    fill(&mut body, &records);
    Packer::new().pack(&envelope(), &mut body, &mut frame);
    let mut unpacker = Unpacker::new();
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        let batch = unpacker.unpack(black_box(&frame[5..]), 1 << 24).expect("it was just packed");
        let items = batch.items().map(|item| black_box(item).is_ok()).filter(|is_ok| *is_ok).count();
        unpacker.recycle(batch);
        items
    });
}
