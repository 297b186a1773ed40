//! The float environment of kernel threads.

/// Makes this thread treat denormal floats as zero, as XLA's CPU threads do.
///
/// For threads that run kernels and nothing else: the setting stays until the thread ends.
pub fn flush_denormals_on_this_thread() {
    #[cfg(target_arch = "x86_64")]
    {
        const FTZ_AND_DAZ: u32 = 0x8040;
        let mut control: u32 = 0;
        // SAFETY: both instructions move 32 bits between MXCSR and `control`, which lives across
        // them; setting FTZ and DAZ masks no exception and leaves the rounding mode alone.
        unsafe {
            std::arch::asm!("stmxcsr [{0}]", in(reg) &mut control, options(nostack));
            control |= FTZ_AND_DAZ;
            std::arch::asm!("ldmxcsr [{0}]", in(reg) &control, options(nostack, readonly));
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        const FZ: u64 = 1 << 24;
        // SAFETY: FPCR is readable and writable at EL0; FZ changes neither traps nor rounding.
        unsafe {
            let mut control: u64;
            std::arch::asm!("mrs {0}, fpcr", out(reg) control, options(nomem, nostack));
            control |= FZ;
            std::arch::asm!("msr fpcr, {0}", in(reg) control, options(nomem, nostack));
        }
    }
}
