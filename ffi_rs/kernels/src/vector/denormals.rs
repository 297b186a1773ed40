//! The float environment of kernel threads.

/// While it lives, this thread treats denormal floats as zero, as XLA's CPU threads do; then the
/// former setting returns. The bits of a result so do not depend on the thread that computes it.
pub struct FlushDenormals {
    saved: Control,
}

impl FlushDenormals {
    /// Starts flushing on this thread.
    #[expect(clippy::new_without_default, reason = "it has an effect")]
    pub fn new() -> Self {
        let saved = read();
        write(saved | FLUSH);
        Self { saved }
    }

    /// Runs `work` while this thread flushes.
    pub fn during<R>(work: impl FnOnce() -> R) -> R {
        let _flush = Self::new();
        work()
    }
}

impl Drop for FlushDenormals {
    fn drop(&mut self) {
        write(self.saved);
    }
}

#[cfg(target_arch = "x86_64")]
type Control = u32;

/// FTZ and DAZ of MXCSR.
#[cfg(target_arch = "x86_64")]
const FLUSH: Control = 0x8040;

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
    // SAFETY: `control` came from `read`, but for the bits of FLUSH, so no
    // reserved bit is set and no exception is unmasked.
    unsafe {
        std::arch::asm!("ldmxcsr [{0}]", in(reg) &raw const control, options(nostack, readonly));
    }
}

#[cfg(target_arch = "aarch64")]
type Control = u64;

/// FZ of FPCR.
#[cfg(target_arch = "aarch64")]
const FLUSH: Control = 1 << 24;

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
    // SAFETY: FPCR is writable at EL0, and `control` came from `read`, but for the bits of FLUSH.
    unsafe {
        std::arch::asm!("msr fpcr, {0}", in(reg) control, options(nomem, nostack));
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Control = u32;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const FLUSH: Control = 0;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn read() -> Control {
    0
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn write(_: Control) {}

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
