//! Files made in Rust, loaded and run through the public surface alone.

mod build;
mod changes;
mod cli;
mod cli_batch;
mod cli_bench;
mod cli_convert;
mod cli_inputs;
mod cli_mmap;
mod cli_outputs;
mod cli_schedule;
mod cli_state;
mod cli_steps;
mod codes;
mod container;
mod corpus;
mod dependencies;
mod device;
mod diff;
mod graph;
mod hostile;
mod hostile_codes;
mod inspect;
mod looping;
mod mutants;
mod mutation;
mod networks;
mod ops;
mod ops_complex;
mod ops_float;
mod ops_fused;
mod ops_order;
mod ops_shape;
mod optical;
mod program;
#[allow(dead_code, missing_docs, unreachable_pub, clippy::all)]
#[rustfmt::skip]
mod proto;
mod report;
mod schedule;
mod session;
mod verify;
