#include "fork.h"

#include "interrupt.h"

#include <pthread.h>

namespace lumina {

namespace {

// Written by the only thread that a new process has.
unsigned count = 0;

void in_child() {
    ++count;
    // For Python, too, the thread that forks is the main thread of the new process.
    Interruptible::set_main_thread(pthread_self());
}

} // namespace

void watch_forks() { pthread_atfork(nullptr, nullptr, in_child); }

unsigned forks() { return count; }

} // namespace lumina
