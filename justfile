# The few commands of this repository; `just` lists them.

default:
    @just --list

# Run the main job.
flood:
    cargo run --release -- run scenarios/two-am-flood.yaml

# Pass the tests.
test:
    cargo test --workspace

# What every submission must pass.
ci:
    .ci/run

# Write the JSON schemas anew.
schema:
    cargo run --release -- schema

# Look for counterexamples for longer than the tests do.
hunt cases="6000":
    PROPTEST_CASES={{cases}} cargo test --release --test properties

# Build the servers of the local world.
setup-local:
    cargo run --release -- setup local

# Hold twin and local servers to the same promises (needs the servers).
conformance:
    cargo test --workspace --test conformance -- --include-ignored --skip kind:: --test-threads=2

# Hold real pods to the same promises (needs Docker, kind and `setup kind`).
conformance-kind:
    cargo test --workspace --test conformance -- --ignored kind:: --test-threads=1

# 1,000 Jobs on real servers, beside KWOK and a plain client (needs the servers and Go).
beside-kwok jobs="1000":
    cargo build --release
    benches/beside-kwok/measure.sh {{jobs}}

# False alarms of the gate between identical runs, and planted slowdowns caught (needs the servers).
gate-noise runs="24" planted="12":
    cargo build --release
    benches/gate-noise/measure.sh {{runs}} {{planted}}

# The event queue alone, beside others.
bench-engine:
    cargo bench --bench engine

# The whole twin.
bench-twin:
    cargo bench --bench twin

# Licences and advisories of what is built in (needs cargo-deny).
deny:
    cargo deny check
