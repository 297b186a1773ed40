//! Instruction sets: one body is compiled once for each of them, and picked at run time. It is
//! portable but for what it asks of `vector`.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The instruction sets that a body is compiled for. A value above the baseline is proof that
/// this CPU has them: only [`Isa::detect`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Isa {
    /// What every CPU of the target has: SSE2 on x86-64, NEON on AArch64.
    Baseline,
    /// The same, and dotprod of AArch64: sums of 8-bit products.
    NeonDotprod,
    /// The same, and i8mm of AArch64: products of matrices of 8-bit integers.
    NeonI8mm,
    /// AVX2, FMA and F16C.
    Avx2,
    /// The same, and AVX-VNNI: sums of 8-bit products.
    Avx2Vnni,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same, and AVX-512 VNNI.
    Avx512Vnni,
    /// The same, and AVX-512 BF16: sums of bfloat16 products.
    Avx512Bf16,
}

/// The instruction sets by the names that `LUMINA_MAX_SIMD` takes, best first.
const ISAS: [(&str, Isa); 8] = [
    ("avx512bf16", Isa::Avx512Bf16),
    ("avx512vnni", Isa::Avx512Vnni),
    ("avx512", Isa::Avx512),
    ("avx2vnni", Isa::Avx2Vnni),
    ("avx2", Isa::Avx2),
    ("i8mm", Isa::NeonI8mm),
    ("dotprod", Isa::NeonDotprod),
    ("baseline", Isa::Baseline),
];

impl Isa {
    /// The best one of this CPU, or the best up to that which `LUMINA_MAX_SIMD` names: a
    /// test's way to run every variant on one machine.
    pub(crate) fn detect() -> Self {
        // Found again by whoever comes before it is stored: a lock would be held for good in a
        // process that is forked meanwhile.
        static FOUND: AtomicUsize = AtomicUsize::new(usize::MAX);
        if let Some((_, isa)) = ISAS.get(FOUND.load(Ordering::Relaxed)) {
            return *isa;
        }
        let name = std::env::var("LUMINA_MAX_SIMD").unwrap_or_default();
        let first = ISAS.iter().position(|(of, _)| *of == name).unwrap_or(0);
        let last = ISAS.len() - 1;
        let index = (first..last).find(|&index| ISAS[index].1.is_available()).unwrap_or(last);
        FOUND.store(index, Ordering::Relaxed);
        ISAS[index].1
    }

    /// Whether one instruction multiplies and sums 8-bit integers.
    pub(crate) fn has_byte_products(self) -> bool {
        matches!(
            self,
            Self::NeonDotprod
                | Self::NeonI8mm
                | Self::Avx2Vnni
                | Self::Avx512Vnni
                | Self::Avx512Bf16
        )
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        match self {
            Self::Baseline => true,
            Self::NeonDotprod | Self::NeonI8mm => false,
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            Self::Avx2Vnni => Self::Avx2.is_available() && is_x86_feature_detected!("avxvnni"),
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            Self::Avx512Vnni => {
                Self::Avx512.is_available() && is_x86_feature_detected!("avx512vnni")
            }
            Self::Avx512Bf16 => {
                Self::Avx512Vnni.is_available() && is_x86_feature_detected!("avx512bf16")
            }
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn is_available(self) -> bool {
        match self {
            Self::Baseline => true,
            Self::NeonDotprod => std::arch::is_aarch64_feature_detected!("dotprod"),
            Self::NeonI8mm => {
                Self::NeonDotprod.is_available() && std::arch::is_aarch64_feature_detected!("i8mm")
            }
            _ => false,
        }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn is_available(self) -> bool {
        self == Self::Baseline
    }
}

/// A value that starts at a cache line: a vector that lies across two of them takes two loads.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Aligned<T>(pub(crate) T);

/// Lanes of sums over a row, whatever the instruction set.
pub(crate) const LANES: usize = 16;

/// Σ term of an element of each slice, over the shortest of them, summed in lanes.
///
/// Lanes are taken from arrays of their number, as sums by index would not be compiled to vectors.
#[inline(always)]
pub(crate) fn lane_sum<T: Copy, const N: usize>(
    slices: [&[T]; N],
    term: impl Fn([T; N]) -> f32,
) -> f32 {
    let count = slices.iter().map(|slice| slice.len()).min().unwrap_or(0);
    let parts = slices.map(|slice| slice[..count].as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for group in 0..count / LANES {
        let groups = parts.map(|(groups, _)| &groups[group]);
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(groups.map(|group| group[lane]));
        }
    }
    for (lane, sum) in lanes.iter_mut().enumerate().take(count % LANES) {
        *sum += term(parts.map(|(_, rest)| rest[lane]));
    }
    lanes.iter().sum()
}

/// Defines `fn name(isa, args)`, which runs `body(args)` compiled for that instruction set, or, of `fn
/// name(isa; args)`, `body(isa, args)`.
///
/// `body` must be `#[inline(always)]`.
macro_rules! for_each_isa {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident(isa; $($arg:ident: $ty:ty),* $(,)?) = $body:ident
    ) => {
        $(#[$meta])*
        $vis fn $name(isa: $crate::isa::Isa, $($arg: $ty),*) {
            $crate::isa::for_each_isa! {
                fn dispatch(of: $crate::isa::Isa, $($arg: $ty),*) = $body
            }
            dispatch(isa, isa, $($arg),*);
        }
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        $vis fn $name(isa: $crate::isa::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::isa::Isa;

                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) {
                    $body($($arg),*)
                }

                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) {
                    $body($($arg),*)
                }

                match isa {
                    Isa::Avx512 | Isa::Avx512Vnni | Isa::Avx512Bf16 => {
                        // SAFETY: these values exist only where `detect` saw the features.
                        unsafe { avx512($($arg),*) }
                    }
                    // SAFETY: these values exist only where `detect` saw the features.
                    Isa::Avx2 | Isa::Avx2Vnni => unsafe { avx2($($arg),*) },
                    Isa::Baseline | Isa::NeonDotprod | Isa::NeonI8mm => $body($($arg),*),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            {
                let _ = isa;
                $body($($arg),*)
            }
        }
    };
}

pub(crate) use for_each_isa;
