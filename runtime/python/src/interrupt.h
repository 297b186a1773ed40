// Ctrl-C while the main thread computes without the GIL.
#pragma once

#include <lumina.h>

namespace lumina {

/// While it lives, a signal that interrupts Python also cancels the run of `session`, if this is the
/// main thread: Python handles signals there alone, and not before the run has ended.
class Interruptible {
public:
    explicit Interruptible(lumina_session *session);
    ~Interruptible();
    Interruptible(const Interruptible &) = delete;
    Interruptible &operator=(const Interruptible &) = delete;

    /// Whether the signal has come.
    bool has_come() const;

    /// Takes the calling thread for the main thread from now on.
    static void is_main_thread();

private:
    bool installed_ = false;
};

} // namespace lumina
