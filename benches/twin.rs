//! The whole twin, including events, measures, ledger and digest.
//!
//! `cargo bench --bench twin`. For a million alerts: `cargo run --release -- run scenarios/million.yaml`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::ops::ControlFlow;

use alertstorm_analysis::measure::Measures;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn scenarios(c: &mut Criterion) {
    let mut group = c.benchmark_group("twin");
    for name in ["two-am-flood.yaml", "defaults-300.yaml", "tuned-1000.yaml", "vault-outage.yaml"] {
        let plan = common::shipped(name, &[]);
        let run = || {
            let mut measures = Measures::default();
            alertstorm_twin::run(&plan, &mut measures, &mut |_| ControlFlow::Continue(()))
        };
        group.throughput(Throughput::Elements(run().events));
        group.bench_function(BenchmarkId::from_parameter(name), |b| b.iter(run));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = scenarios
}
criterion_main!(benches);
