//! One portable body, compiled once for each CPU level and picked at run time.

use std::sync::OnceLock;

use crate::vector::{self, Vector};

/// The instruction sets that a body is compiled for. A value above the baseline is proof that
/// this CPU has them: only [`Level::detect`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// What every CPU of the target has: SSE2 on x86-64, NEON on AArch64.
    Baseline,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same, and VNNI: sums of 8-bit products.
    Avx512Vnni,
}

impl Level {
    /// The best level of this CPU, or the lower one that `LUMINA_MAX_SIMD` names: a test's way to
    /// run every variant on one machine.
    pub(crate) fn detect() -> Self {
        static LEVEL: OnceLock<Level> = OnceLock::new();
        *LEVEL.get_or_init(|| {
            let highest = match std::env::var("LUMINA_MAX_SIMD").as_deref() {
                Ok("baseline") => Self::Baseline,
                Ok("avx2") => Self::Avx2,
                Ok("avx512") => Self::Avx512,
                _ => Self::Avx512Vnni,
            };
            Self::of_this_cpu().min(highest)
        })
    }

    fn of_this_cpu() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("fma")
            {
                return if is_x86_feature_detected!("avx512vnni") {
                    Self::Avx512Vnni
                } else {
                    Self::Avx512
                };
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Baseline
    }
}

/// Σ term(index) for `index < count`, summed in 16 lanes whatever the level.
#[inline(always)]
pub(crate) fn lane_sum(count: usize, term: impl Fn(usize) -> f32) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0; LANES];
    let whole = count / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(first + lane);
        }
    }
    for index in whole..count {
        lanes[index - whole] += term(index);
    }
    lanes.iter().sum()
}

/// Columns of the widest panel of any level.
pub(crate) const MAX_COLUMNS: usize = 48;

/// Columns of a register tile at `level`, and so of a packed panel.
pub(crate) fn panel_width(level: Level) -> usize {
    match level {
        Level::Avx512 | Level::Avx512Vnni => MAX_COLUMNS,
        Level::Avx2 => 24,
        Level::Baseline => 3 * <vector::Baseline as Vector>::LEN,
    }
}

/// Defines `fn name(level, args)`, which runs `body(args)` compiled for that level.
///
/// `body` must be `#[inline(always)]`. A body marked `tiled` takes the vector type of the level
/// and the rows of its register tile, which is three vectors wide.
macro_rules! for_each_level {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = tiled $body:ident) => {
        $crate::simd::for_each_level! {
            @define [$(#[$meta])*] [$vis] $name [$($arg: $ty),*]
            [$body::<$crate::vector::Avx512, 8>] [$body::<$crate::vector::Avx2, 4>]
            [$body::<$crate::vector::Baseline, 4>]
        }
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $crate::simd::for_each_level! {
            @define [$(#[$meta])*] [$vis] $name [$($arg: $ty),*] [$body] [$body] [$body]
        }
    };
    (@define [$($meta:tt)*] [$vis:vis] $name:ident [$($arg:ident: $ty:ty),*]
     [$avx512:expr] [$avx2:expr] [$baseline:expr]) => {
        $($meta)*
        $vis fn $name(level: $crate::simd::Level, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) {
                    $avx2($($arg),*)
                }

                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) {
                    $avx512($($arg),*)
                }

                match level {
                    $crate::simd::Level::Avx512 | $crate::simd::Level::Avx512Vnni => {
                        // SAFETY: these levels exist only where `detect` saw the features.
                        unsafe { avx512($($arg),*) }
                    }
                    // SAFETY: `Level::Avx2` exists only where `detect` saw these features.
                    $crate::simd::Level::Avx2 => unsafe { avx2($($arg),*) },
                    $crate::simd::Level::Baseline => $baseline($($arg),*),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            {
                let _ = level;
                $baseline($($arg),*)
            }
        }
    };
}

pub(crate) use for_each_level;
