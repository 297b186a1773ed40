#include "session.h"

#include "errors.h"
#include "fork.h"
#include "gil.h"
#include "interrupt.h"

#include <cstring>

namespace lumina {

namespace {

bool same_shape(const std::vector<size_t> &shape, const lumina_tensor &tensor) {
    return shape.size() == tensor.rank &&
           (tensor.rank == 0 ||
            std::memcmp(shape.data(), tensor.shape, tensor.rank * sizeof(size_t)) == 0);
}

std::vector<size_t> shape_of(const lumina_tensor &tensor) {
    return tensor.rank == 0 ? std::vector<size_t>()
                            : std::vector<size_t>(tensor.shape, tensor.shape + tensor.rank);
}

std::vector<std::string> names_of(const std::vector<Port> &ports) {
    std::vector<std::string> names;
    for (const Port &port : ports) names.push_back(port.name);
    return names;
}

std::optional<size_t> find(const std::vector<Port> &ports, std::string_view name) {
    for (size_t index = 0; index < ports.size(); ++index) {
        if (ports[index].name == name) return index;
    }
    return std::nullopt;
}

/// A text of Python. Raises UnicodeEncodeError if it has parts of characters.
std::string text_of(nb::handle text) {
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
    if (data == nullptr) throw nb::python_error();
    return {data, static_cast<size_t>(size)};
}

/// The inputs of an entry point, by their number, of the arguments of a call; takes `out` apart.
std::vector<nb::handle> arguments(const Entry &entry, const nb::args &args, const nb::kwargs &named,
                                  nb::object &out) {
    const std::vector<Port> &ports = entry.inputs;
    if (args.size() > ports.size()) {
        raise(PyExc_TypeError, "takes the arrays " + quoted(names_of(ports)) + ", got " +
                                   std::to_string(args.size()));
    }
    std::vector<nb::handle> values(ports.size());
    for (size_t index = 0; index < args.size(); ++index) values[index] = args[index];
    for (auto [key, value] : named) {
        const std::string name = text_of(key);
        const std::optional<size_t> index = find(ports, name);
        if (name == "out" && !index) {
            out = nb::borrow(value);
        } else if (!index) {
            raise(PyExc_TypeError,
                  "`" + name + "` is unknown, expected " + quoted(names_of(ports)));
        } else if (values[*index].is_valid()) {
            raise(PyExc_TypeError, "`" + name + "` is given twice");
        } else {
            values[*index] = value;
        }
    }
    std::vector<std::string> missing;
    for (size_t index = 0; index < ports.size(); ++index) {
        if (!values[index].is_valid()) missing.push_back(ports[index].name);
    }
    if (!missing.empty()) raise(PyExc_TypeError, quoted(missing) + " is missing");
    return values;
}

/// Whether no handler of a signal that has come raises.
bool is_to_go_on() {
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    return true;
}

/// The arrays of `out`: one, or a tuple or list of as many as there are outputs.
std::vector<nb::object> given_outputs(const Entry &entry, const nb::object &out) {
    const size_t count = entry.outputs.size();
    std::vector<nb::object> arrays;
    if (nb::isinstance<nb::tuple>(out) || nb::isinstance<nb::list>(out)) {
        for (nb::handle array : out) arrays.push_back(nb::borrow(array));
    } else {
        arrays.push_back(out);
    }
    if (arrays.size() != count) {
        raise(PyExc_ValueError, "`out` must have " + std::to_string(count) + " arrays, got " +
                                    std::to_string(arrays.size()));
    }
    return arrays;
}

} // namespace

Session::Session(Model &model, const Options &options)
    : model_(model), forks_(forks()), seen_(model.entries().size()) {
    lumina_session_options asked;
    check(lumina_session_options_init(&asked, sizeof asked));
    asked.threads = options.threads;
    if (options.memory_limit) asked.memory_limit = *options.memory_limit;
    if (options.trip_limit) asked.trip_limit = *options.trip_limit;
    check(lumina_session_create(model_.handle(), &asked, &handle_));
}

Session::~Session() {
    // Threads that are not there cannot be ended.
    if (!is_of_parent()) lumina_session_destroy(handle_);
}

bool Session::is_of_parent() const { return forks_ != forks(); }

template <typename Body> void Session::alone(Body body) {
    if (is_of_parent()) {
        raise(PyExc_RuntimeError,
              "the session was made before a fork, which has no threads of it: make a new one");
    }
    lumina_status status;
    std::string text;
    do {
        const WithoutGil without_gil;
        std::lock_guard lock(mutex_);
        Interruptible interruptible(handle_);
        status = body();
        if (status != LUMINA_STATUS_SUCCESS) text = lumina_last_error();
        // Where the signal's handler raises nothing, the call begins again, as system calls do. So it
        // does where a signal came when the call before was over.
    } while (status == LUMINA_STATUS_CANCELLED && is_to_go_on());
    if (status != LUMINA_STATUS_SUCCESS) raise_status(status, text);
}

nb::object Session::run(size_t number, const nb::args &args, const nb::kwargs &named) {
    const Entry &entry = model_.entries()[number];
    nb::object out;
    const std::vector<nb::handle> values = arguments(entry, args, named, out);

    // Neither vector grows: tensors point into those that lend them.
    std::vector<Lent> lent(values.size());
    std::vector<lumina_tensor> inputs(values.size());
    for (size_t index = 0; index < values.size(); ++index) {
        lent[index].read(entry.inputs[index], values[index]);
        inputs[index] = lent[index].tensor();
    }

    std::vector<lumina_tensor> outputs(entry.outputs.size());
    std::vector<nb::object> results;
    std::shared_ptr<const Seen> seen;
    std::vector<Lent> written(out.is_valid() && !out.is_none() ? outputs.size() : 0);
    if (!written.empty()) {
        results = given_outputs(entry, out);
        for (size_t index = 0; index < outputs.size(); ++index) {
            written[index].write(entry.outputs[index], results[index]);
            outputs[index] = written[index].tensor();
        }
    } else {
        seen = prepare(number, inputs);
        for (size_t index = 0; index < outputs.size(); ++index) {
            const Shape &shape = seen->outputs[index];
            const int32_t dtype = entry.outputs[index].dtype;
            Made made = make_array(dtype, shape.data(), shape.size());
            outputs[index] = {made.data, shape.size(), shape.data(), nullptr, dtype};
            results.push_back(std::move(made.array));
        }
    }

    alone(
        [&] {
            const lumina_status status = set_entry(number);
            if (status != LUMINA_STATUS_SUCCESS) return status;
            return lumina_session_run(handle_, inputs.data(), inputs.size(), outputs.data(),
                                      outputs.size());
        });

    if (results.size() == 1) return results[0];
    nb::list all;
    for (nb::object &result : results) all.append(result);
    return nb::tuple(all);
}

std::shared_ptr<const Session::Seen>
Session::prepare(size_t number, const std::vector<lumina_tensor> &inputs) {
    const std::shared_ptr<const Seen> &seen = seen_[number];
    bool known = seen != nullptr;
    for (size_t index = 0; known && index < inputs.size(); ++index) {
        known = same_shape(seen->inputs[index], inputs[index]);
    }
    if (known) return seen;
    const auto now = std::make_shared<Seen>();
    for (const lumina_tensor &input : inputs) now->inputs.push_back(shape_of(input));
    std::vector<lumina_tensor> outputs(model_.entries()[number].outputs.size());
    alone(
        [&] {
            lumina_status status = set_entry(number);
            if (status != LUMINA_STATUS_SUCCESS) return status;
            status = lumina_session_prepare(handle_, inputs.data(), inputs.size(), outputs.data(),
                                            outputs.size());
            if (status != LUMINA_STATUS_SUCCESS) return status;
            for (const lumina_tensor &output : outputs) now->outputs.push_back(shape_of(output));
            return status;
        });
    return seen_[number] = now;
}

lumina_status Session::set_entry(size_t number) {
    if (entry_ == number) return LUMINA_STATUS_SUCCESS;
    const lumina_status status = lumina_session_set_entry(handle_, number);
    if (status == LUMINA_STATUS_SUCCESS) entry_ = number;
    return status;
}

nb::dict Session::states() {
    nb::dict states;
    for (const Port &port : model_.states()) {
        std::vector<size_t> shape;
        for (nb::handle extent : port.shape) shape.push_back(nb::cast<size_t>(extent));
        Made made = make_array(port.dtype, shape.data(), shape.size());
        lumina_tensor tensor = {made.data, shape.size(), shape.data(), nullptr, port.dtype};
        alone([&] { return lumina_session_get_state(handle_, port.name.c_str(), &tensor); });
        states[port.name.c_str()] = made.array;
    }
    return states;
}

void Session::set_states(const nb::kwargs &values) {
    const std::vector<Port> &ports = model_.states();
    std::vector<Lent> lent(values.size());
    std::vector<const Port *> set;
    for (auto [key, value] : values) {
        const std::string name = text_of(key);
        const std::optional<size_t> index = find(ports, name);
        if (!index) {
            raise(PyExc_ValueError, "there is no state `" + name + "`; the model has " +
                                        quoted(names_of(ports)));
        }
        lent[set.size()].read(ports[*index], value);
        set.push_back(&ports[*index]);
    }
    for (size_t index = 0; index < set.size(); ++index) {
        const char *name = set[index]->name.c_str();
        alone([&] { return lumina_session_set_state(handle_, name, &lent[index].tensor()); });
    }
}

void Session::reset() {
    alone([&] { return lumina_session_reset(handle_); });
}

} // namespace lumina
