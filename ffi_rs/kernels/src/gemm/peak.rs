//! Nothing but products: what the micro-kernels reach at most.

use std::hint::black_box;

use super::micro_kernel::{MicroKernel, run};
use super::operands::LINE;
use super::tile::step;
use crate::isa::{Aligned, Isa};
use crate::packing::Arithmetic;
use crate::vector::DotIsa;

/// Adds products to sums that stay in registers, and returns how often a word was multiplied.
pub(crate) fn add_products(isa: Isa, arithmetic: Arithmetic) -> usize {
    run(isa, arithmetic, AddProducts)
}

/// Times that a product is added to each sum.
const ROUNDS: usize = 20_000;
/// Lines of factors: at most eight rows of a tile, and three registers of columns.
const LINES: usize = 8 + 3;

/// Tiles whose sums registers hold at once: AArch64 has twice as many as a tile takes, and pipes for
/// more sums than those of one.
const TILES: usize = if cfg!(target_arch = "aarch64") { 2 } else { 1 };

struct AddProducts;

impl MicroKernel for AddProducts {
    type Output = usize;

    #[inline(always)]
    unsafe fn run<D: DotIsa, const R: usize, const N: usize>(self) -> usize {
        const { assert!(R + N <= LINES) };
        // Zeros, whichever numbers these are: no sum leaves its range.
        let words = Aligned([0u32; LINES * LINE]);
        let mut out = [0.0; LINE];
        // SAFETY: as this function's; a register has no more words than a line, of which there is one
        // for each row and for each register of columns.
        unsafe {
            let mut tiles = [[[D::zero(); N]; R]; TILES];
            for _ in 0..ROUNDS {
                for sums in &mut tiles {
                    // Read again each time, as products that stay the same would be multiplied only
                    // once.
                    let words = black_box(words.0.as_ptr());
                    let line = |index: usize| words.add(index * LINE);
                    let right = std::array::from_fn(|n| D::words(line(R + n)));
                    step::<D, R, N>(sums, std::array::from_fn(line), 0, right);
                }
            }
            for sum in tiles.into_iter().flatten().flatten() {
                D::store(sum, out.as_mut_ptr());
                black_box(&out);
            }
        }
        ROUNDS * TILES * R * N * D::LEN
    }
}
