//! Operators, through the functions of the C ABI, against slow loops in f64.

#[macro_use]
mod support;

mod attack;
mod elementwise;
mod optical;
mod products;
mod rows;
mod shapes;
mod statuses;
mod threads;
