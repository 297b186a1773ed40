// Ctrl-C while the main thread computes without the GIL.
#pragma once

#include <lumina.h>
#include <pthread.h>

namespace lumina {

/// While it lives, a signal that interrupts Python also cancels the run of `session`, if this is the
/// main thread: Python handles signals there alone, and not before the run has ended.
class Interruptible {
public:
    explicit Interruptible(lumina_session *session);
    ~Interruptible();
    Interruptible(const Interruptible &) = delete;
    Interruptible &operator=(const Interruptible &) = delete;

    /// Takes that thread for the main thread from now on.
    static void set_main_thread(pthread_t thread);

private:
    bool installed_ = false;
};

} // namespace lumina
