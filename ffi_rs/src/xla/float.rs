//! The float environment of a thread that runs kernels but does not belong to them.

use lumina_kernels::flush_denormals_on_this_thread;

/// While it lives, this thread treats denormal floats as zero; then the former setting returns.
///
/// XLA's own threads do so already; the guard makes the bits of a result independent of which
/// thread XLA calls from.
pub(super) struct FlushDenormals {
    saved: Control,
}

impl FlushDenormals {
    pub(super) fn new() -> Self {
        let saved = read();
        flush_denormals_on_this_thread();
        Self { saved }
    }
}

impl Drop for FlushDenormals {
    fn drop(&mut self) {
        write(self.saved);
    }
}

#[cfg(target_arch = "x86_64")]
type Control = u32;

#[cfg(target_arch = "x86_64")]
fn read() -> Control {
    let mut control = 0;
    // SAFETY: stores MXCSR in `control`, which lives across the instruction.
    unsafe {
        std::arch::asm!("stmxcsr [{0}]", in(reg) &raw mut control, options(nostack));
    }
    control
}

#[cfg(target_arch = "x86_64")]
fn write(control: Control) {
    // SAFETY: `control` came from `read`, so no reserved bit is set.
    unsafe {
        std::arch::asm!("ldmxcsr [{0}]", in(reg) &raw const control, options(nostack, readonly));
    }
}

#[cfg(target_arch = "aarch64")]
type Control = u64;

#[cfg(target_arch = "aarch64")]
fn read() -> Control {
    let control;
    // SAFETY: FPCR is readable at EL0.
    unsafe {
        std::arch::asm!("mrs {0}, fpcr", out(reg) control, options(nomem, nostack));
    }
    control
}

#[cfg(target_arch = "aarch64")]
fn write(control: Control) {
    // SAFETY: FPCR is writable at EL0, and `control` came from `read`.
    unsafe {
        std::arch::asm!("msr fpcr, {0}", in(reg) control, options(nomem, nostack));
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Control = ();

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn read() -> Control {}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn write((): Control) {}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use std::hint::black_box;

    use super::FlushDenormals;

    fn half_of_the_smallest_normal() -> f32 {
        black_box(f32::MIN_POSITIVE) * black_box(0.5)
    }

    #[test]
    fn denormals_are_flushed_inside_only() {
        assert!(half_of_the_smallest_normal() > 0.0);
        let guard = FlushDenormals::new();
        assert_eq!(half_of_the_smallest_normal(), 0.0);
        drop(guard);
        assert!(half_of_the_smallest_normal() > 0.0);
    }
}
