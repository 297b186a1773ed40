#include "interrupt.h"

#include <atomic>
#include <csignal>
#include <sched.h>

namespace lumina {

namespace {

// Signal handlers may read what is atomic without locks.
std::atomic<lumina_session *> running{nullptr};
// Threads that are in the handler, which may be any.
std::atomic<unsigned> handling{0};
static_assert(std::atomic<lumina_session *>::is_always_lock_free);
static_assert(std::atomic<unsigned>::is_always_lock_free);

struct sigaction previous;
pthread_t main_thread;

void on_interrupt(int signal, siginfo_t *info, void *context) {
    ++handling;
    if (lumina_session *session = running.load()) lumina_session_cancel(session);
    --handling;
    // Python's own handler notes that the signal has come.
    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(signal, info, context);
    } else {
        previous.sa_handler(signal);
    }
}

} // namespace

void Interruptible::set_main_thread(pthread_t thread) { main_thread = thread; }

Interruptible::Interruptible(lumina_session *session) {
    if (!pthread_equal(pthread_self(), main_thread)) return;
    struct sigaction action = {};
    if (sigaction(SIGINT, nullptr, &previous) != 0) return;
    // Where the signal is ignored, or ends the program, it stays so.
    const bool handles = (previous.sa_flags & SA_SIGINFO) ||
                         (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN);
    if (!handles) return;
    running.store(session);
    action.sa_sigaction = on_interrupt;
    action.sa_flags = SA_SIGINFO | (previous.sa_flags & (SA_ONSTACK | SA_RESTART));
    action.sa_mask = previous.sa_mask;
    installed_ = sigaction(SIGINT, &action, nullptr) == 0;
}

Interruptible::~Interruptible() {
    if (!installed_) return;
    sigaction(SIGINT, &previous, nullptr);
    running.store(nullptr);
    // The session may end with this call.
    while (handling.load() != 0) sched_yield();
}

} // namespace lumina
