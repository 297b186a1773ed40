//! One body, compiled once for each CPU level and picked at run time; portable but for what it asks of
//! `vector`.

use std::sync::OnceLock;

/// The instruction sets that a body is compiled for. A value above the baseline is proof that
/// this CPU has them: only [`Level::detect`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// What every CPU of the target has: SSE2 on x86-64, NEON on AArch64.
    Baseline,
    /// The same, and dotprod of AArch64: sums of 8-bit products.
    NeonDotprod,
    /// AVX2 and FMA.
    Avx2,
    /// The same, and AVX-VNNI: sums of 8-bit products.
    Avx2Vnni,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same, and AVX-512 VNNI.
    Avx512Vnni,
    /// The same, and AVX-512 BF16: sums of bfloat16 products.
    Avx512Brain,
}

/// The levels by the names that `LUMINA_MAX_SIMD` takes, best first.
const LEVELS: [(&str, Level); 7] = [
    ("avx512bf16", Level::Avx512Brain),
    ("avx512vnni", Level::Avx512Vnni),
    ("avx512", Level::Avx512),
    ("avx2vnni", Level::Avx2Vnni),
    ("avx2", Level::Avx2),
    ("dotprod", Level::NeonDotprod),
    ("baseline", Level::Baseline),
];

impl Level {
    /// The best level of this CPU, or the best one up to that which `LUMINA_MAX_SIMD` names: a
    /// test's way to run every variant on one machine.
    pub(crate) fn detect() -> Self {
        static LEVEL: OnceLock<Level> = OnceLock::new();
        *LEVEL.get_or_init(|| {
            let name = std::env::var("LUMINA_MAX_SIMD").unwrap_or_default();
            let highest =
                LEVELS.iter().find(|(of, _)| *of == name).map_or(LEVELS[0].1, |(_, level)| *level);
            let levels = LEVELS.into_iter().map(|(_, level)| level);
            levels
                .filter(|level| *level <= highest)
                .find(|level| level.is_of_this_cpu())
                .unwrap_or(Self::Baseline)
        })
    }

    /// Whether one instruction multiplies and sums 8-bit integers.
    pub(crate) fn has_byte_products(self) -> bool {
        matches!(self, Self::NeonDotprod | Self::Avx2Vnni | Self::Avx512Vnni | Self::Avx512Brain)
    }

    #[cfg(target_arch = "x86_64")]
    fn is_of_this_cpu(self) -> bool {
        match self {
            Self::Baseline => true,
            Self::NeonDotprod => false,
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Self::Avx2Vnni => Self::Avx2.is_of_this_cpu() && is_x86_feature_detected!("avxvnni"),
            Self::Avx512 => {
                Self::Avx2.is_of_this_cpu()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            Self::Avx512Vnni => {
                Self::Avx512.is_of_this_cpu() && is_x86_feature_detected!("avx512vnni")
            }
            Self::Avx512Brain => {
                Self::Avx512Vnni.is_of_this_cpu() && is_x86_feature_detected!("avx512bf16")
            }
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn is_of_this_cpu(self) -> bool {
        match self {
            Self::Baseline => true,
            Self::NeonDotprod => std::arch::is_aarch64_feature_detected!("dotprod"),
            _ => false,
        }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn is_of_this_cpu(self) -> bool {
        self == Self::Baseline
    }
}

/// A value that starts at a cache line: a vector that lies across two of them takes two loads.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Aligned<T>(pub(crate) T);

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

/// Asks for the cache line of `address`, which is used soon: by itself an x86 CPU does not look
/// ahead beyond a page. The address need not be valid.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint does not access memory, and every x86-64 CPU has the instruction.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The same for all lines of `values`.
#[inline(always)]
pub(crate) fn prefetch_all<T>(values: &[T]) {
    for line in values.chunks(64 / size_of::<T>()) {
        prefetch(line.as_ptr());
    }
}

/// Defines `fn name(level, args)`, which runs `body(args)` compiled for that level, or, of `fn
/// name(level; args)`, `body(level, args)`.
///
/// `body` must be `#[inline(always)]`.
macro_rules! for_each_level {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident(level; $($arg:ident: $ty:ty),* $(,)?) = $body:ident
    ) => {
        $(#[$meta])*
        $vis fn $name(level: $crate::simd::Level, $($arg: $ty),*) {
            $crate::simd::for_each_level! {
                fn dispatch(of: $crate::simd::Level, $($arg: $ty),*) = $body
            }
            dispatch(level, level, $($arg),*);
        }
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        $vis fn $name(level: $crate::simd::Level, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::simd::Level;

                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) {
                    $body($($arg),*)
                }

                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) {
                    $body($($arg),*)
                }

                match level {
                    Level::Avx512 | Level::Avx512Vnni | Level::Avx512Brain => {
                        // SAFETY: these levels exist only where `detect` saw the features.
                        unsafe { avx512($($arg),*) }
                    }
                    // SAFETY: these levels exist only where `detect` saw the features.
                    Level::Avx2 | Level::Avx2Vnni => unsafe { avx2($($arg),*) },
                    Level::Baseline | Level::NeonDotprod => $body($($arg),*),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            {
                let _ = level;
                $body($($arg),*)
            }
        }
    };
}

pub(crate) use for_each_level;
