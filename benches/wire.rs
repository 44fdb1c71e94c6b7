//! Bytes to headers and back: what one segment costs before anybody looks at its connection.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use synfin::proto::wire::{Flags, OptionLayout, Options, SackBlock, Segment, SeqNum, Sum, Timestamps, tcp};

fn segment(sack_blocks: u32) -> Segment {
    let mut options = Options { timestamps: Some(Timestamps { value: 7, echo: 9 }), ..Options::default() };
    for block in 0..sack_blocks {
        options.sack.push(SackBlock { left: SeqNum(block * 3000), right: SeqNum(block * 3000 + 1448) });
    }
    Segment {
        source_port: 40_000,
        destination_port: 80,
        seq: SeqNum(1),
        ack: SeqNum(2),
        flags: Flags::ACK,
        window: 500,
        options,
        ..Segment::default()
    }
}

fn headers(criterion: &mut Criterion) {
    for (name, blocks) in [("timestamps", 0), ("timestamps and 3 SACK blocks", 3)] {
        let segment = segment(blocks);
        let mut out = [0; tcp::HEADER_LEN_MAX];
        let len = segment.emit(OptionLayout::Linux, &mut out);
        criterion.bench_function(&format!("wire/parse/{name}"), |bencher| bencher.iter(|| Segment::parse(black_box(&out[..len]))));
        criterion.bench_function(&format!("wire/emit/{name}"), |bencher| {
            bencher.iter(|| black_box(&segment).emit(OptionLayout::Linux, black_box(&mut out)));
        });
    }
}

fn checksums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire/checksum");
    for len in [40, 1448, 65_000] {
        let bytes = vec![0x5a; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("{len} B"), |bencher| bencher.iter(|| Sum::of(black_box(&bytes)).complete()));
    }
    group.finish();
}

criterion_group!(benches, headers, checksums);
criterion_main!(benches);
