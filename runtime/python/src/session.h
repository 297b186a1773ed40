// Sessions, as Python sees them.
#pragma once

#include "model.h"

#include <mutex>

namespace lumina {

/// How a session runs; what has no value is what the library says.
struct Options {
    size_t threads = 0;
    std::optional<uint64_t> memory_limit;
    std::optional<uint64_t> trip_limit;
};

/// A model with states, buffers and threads of its own.
class Session {
public:
    /// Of a model that lives as long as the session.
    Session(Model &model, const Options &options);
    ~Session();
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;

    Model &model() const { return model_; }

    /// Whether a process before this one made it, whose threads are not here.
    bool is_of_parent() const;

    /// What an entry point returns: an array, or a tuple of them. `named` may have `out`.
    nb::object run(size_t entry, const nb::args &args, const nb::kwargs &named);

    /// A copy of each state by its name.
    nb::dict states();
    void set_states(const nb::kwargs &values);
    void reset();

private:
    using Shape = std::vector<size_t>;

    /// The shapes of the inputs of a call, and those of its outputs.
    struct Seen {
        std::vector<Shape> inputs;
        std::vector<Shape> outputs;
    };

    /// Calls the library without the GIL, and alone.
    template <typename Body> void alone(Body body);
    lumina_status set_entry(size_t number);
    std::shared_ptr<const Seen> prepare(size_t entry, const std::vector<lumina_tensor> &inputs);

    Model &model_;
    const unsigned forks_;
    lumina_session *handle_ = nullptr;
    /// Held while the library is called. Whoever waits for it does not hold the GIL, which its owner
    /// may want.
    std::mutex mutex_;
    /// The entry point that the library runs; under the mutex.
    size_t entry_ = 0;
    /// The last call of each entry point; under the GIL. What a run writes to is made before it.
    std::vector<std::shared_ptr<const Seen>> seen_;
};

} // namespace lumina
