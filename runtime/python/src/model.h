// Models, as Python sees them.
#pragma once

#include "arrays.h"

#include <memory>
#include <optional>

namespace lumina {

/// An entry point.
struct Entry {
    std::string name;
    std::vector<Port> inputs;
    std::vector<Port> outputs;
};

class Session;

/// A file that has been checked.
class Model {
public:
    /// Of a path, or of an object with the bytes of a file.
    Model(nb::object source, bool mapped);
    ~Model();
    Model(const Model &) = delete;
    Model &operator=(const Model &) = delete;

    const lumina_model *handle() const { return handle_; }
    const std::vector<Entry> &entries() const { return entries_; }
    const std::vector<Port> &states() const { return states_; }

    /// The entry point of that name.
    const Entry &entry(const std::string &name) const;
    size_t entry_number(const std::string &name) const;

    /// The session of calls of the model itself, which is made for the first of them.
    Session &own_session();

private:
    void describe();

    lumina_model *handle_ = nullptr;
    std::vector<Entry> entries_;
    std::vector<Port> states_;
    std::unique_ptr<Session> own_session_;
};

/// "`a`, `b`", or "none".
std::string quoted(const std::vector<std::string> &names);

} // namespace lumina
