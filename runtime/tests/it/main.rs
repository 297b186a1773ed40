//! Files made in Rust, loaded and run through the public surface alone.

mod build;
mod cli;
mod container;
mod corpus;
mod dependencies;
mod graph;
mod mutation;
mod ops;
mod ops_float;
mod ops_shape;
mod optical;
mod session;
mod verify;
