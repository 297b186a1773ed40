// Work without the GIL.
#pragma once

#include <nanobind/nanobind.h>
#include <unistd.h>

namespace lumina {

/// Gives the GIL away while it lives.
///
/// A daemon thread may come back when Python has ended. Before Python 3.14 it is ended then by
/// `pthread_exit`, which unwinds its stack as an exception does, and so aborts the process at the first
/// function that may not throw. Such a thread waits for the process to end, as it does from 3.14 on.
class WithoutGil {
public:
    WithoutGil() : state_(PyEval_SaveThread()) {}
    ~WithoutGil() {
        try {
            PyEval_RestoreThread(state_);
        } catch (...) {
            for (;;) pause();
        }
    }
    WithoutGil(const WithoutGil &) = delete;
    WithoutGil &operator=(const WithoutGil &) = delete;

private:
    PyThreadState *state_;
};

} // namespace lumina
