//! The event queue in the hold model: pop the earliest event, push it again with a random delay. Compared
//! with std's `BinaryHeap` and with simcore.
//!
//! `cargo bench --bench engine`

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;

use alertstorm_model::seed::{Purpose, Stream};
use alertstorm_twin::engine::LadderQueue;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use simcore::Simulation;

const PENDING: [usize; 3] = [1_000, 100_000, 1_000_000];
/// Number of delays, drawn before the measurement: exponential, mean 1 s.
const DELAYS: usize = 1 << 16;

fn delays() -> Vec<u64> {
    let mut stream = Stream::new(1, Purpose::Backoff, 0);
    (0..DELAYS).map(|_| (stream.exponential() * 1e9) as u64).collect()
}

fn hold(c: &mut Criterion) {
    let delays = delays();
    let mut group = c.benchmark_group("hold");
    group.throughput(Throughput::Elements(1));
    for pending in PENDING {
        group.bench_function(BenchmarkId::new("ladder", pending), |b| {
            let mut queue = LadderQueue::default();
            (0..pending).for_each(|n| queue.push(delays[n % DELAYS], n as u64));
            let mut n = 0;
            // Every event once first, to measure the steady state.
            for _ in 0..pending {
                let (at, item) = queue.pop().expect("never empty");
                n += 1;
                queue.push(at + delays[n % DELAYS], item);
            }
            b.iter(|| {
                let (at, item) = queue.pop().expect("never empty");
                n += 1;
                queue.push(at + delays[n % DELAYS], black_box(item));
            });
        });
        group.bench_function(BenchmarkId::new("binary_heap", pending), |b| {
            let mut queue = BinaryHeap::new();
            let mut seq = 0_u64;
            for n in 0..pending {
                queue.push(Reverse((delays[n % DELAYS], seq, n as u64)));
                seq += 1;
            }
            b.iter(|| {
                let Reverse((at, _, item)) = queue.pop().expect("never empty");
                seq += 1;
                let after = delays[seq as usize % DELAYS];
                queue.push(Reverse((at + after, seq, black_box(item))));
            });
        });
        group.bench_function(BenchmarkId::new("simcore", pending), |b| {
            let mut simulation = Simulation::new(1);
            let context = simulation.create_context("one");
            for n in 0..pending {
                context.emit_self(n as u64, delays[n % DELAYS] as f64 / 1e9);
            }
            let mut n = 0;
            // Without a handler for its events: the smallest possible cost of a step.
            b.iter(|| {
                black_box(simulation.step());
                n += 1;
                context.emit_self(n as u64, delays[n % DELAYS] as f64 / 1e9);
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = hold
}
criterion_main!(benches);
