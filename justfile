# The commands of this repository; `just` lists them.

default:
    @just --list

# Run the main job.
flood:
    cargo run --release -- run scenarios/two-am-flood.yaml

# Run the tests that need no servers.
test:
    cargo test --workspace

# Run what every change must pass: all steps, or the named ones.
ci *steps:
    .ci/run {{steps}}

# Write the JSON schemas.
schema:
    cargo run --release -- schema

# Search for counterexamples for longer than the tests do.
hunt cases="6000":
    PROPTEST_CASES={{cases}} cargo test --release --test properties

# Build the servers of the local world.
setup-local:
    cargo run --release --features live -- setup local

# Make the agent's image for the kind world (needs Docker).
setup-kind:
    cargo run --release --features live -- setup kind

# Run the conformance suite against the twin and the local servers (needs `setup-local`).
conformance:
    cargo test --workspace --features live --test conformance -- --include-ignored --skip kind:: --test-threads=2

# Run every fault at every moment of a run on local servers, and print the table (needs `setup-local`). `only` has parts of cases' names, separated by `|`.
chaos only="":
    ALERTSTORM_CHAOS='{{only}}' cargo test --workspace --features live --test chaos -- --ignored --nocapture matrix_on_local::whole

# Run every fault in pods of one kind cluster, one after another (needs Docker, kind and `setup-kind`). `only` as above.
chaos-kind only="":
    ALERTSTORM_CHAOS='{{only}}' cargo test --workspace --features live --test chaos -- --ignored --nocapture matrix_in_pods::whole

# Run the conformance suite in real pods (needs Docker, kind and `setup-kind`).
conformance-kind:
    cargo test --workspace --features live --test conformance -- --ignored kind:: --test-threads=1

# Measure 300 to 10,000 Jobs on real servers, against KWOK and a plain client (needs the servers and Go).
ladder *steps:
    cargo build --release --features live
    benches/ladder/measure.sh {{steps}}

# Measure the gate's false alarms between identical runs, and how many planted slowdowns it finds (needs the servers).
gate-noise runs="24" planted="12":
    cargo build --release --features live
    benches/gate-noise/measure.sh {{runs}} {{planted}}

# Benchmark the event queue against others.
bench-engine:
    cargo bench --bench engine

# Benchmark the whole twin.
bench-twin:
    cargo bench --bench twin

# Check licences and sources of the dependencies.
deny:
    .ci/run deny
