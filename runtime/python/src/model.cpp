#include "model.h"

#include "errors.h"
#include "gil.h"
#include "session.h"

#include <cerrno>
#include <sys/stat.h>
#include <unistd.h>

namespace lumina {

namespace {

/// The path that `source` is, or nothing where it is none.
std::optional<std::string> path_of(nb::handle source) {
    if (PyObject_CheckBuffer(source.ptr())) return std::nullopt;
    nb::object text = nb::steal(PyOS_FSPath(source.ptr()));
    if (!text.is_valid()) {
        if (!PyErr_ExceptionMatches(PyExc_TypeError)) throw nb::python_error();
        PyErr_Clear();
        std::string type = nb::cast<std::string>(nb::handle(source.type()).attr("__name__"));
        raise(PyExc_TypeError, "Model: expected a path or the bytes of a file, got " + type);
    }
    nb::object bytes = text;
    if (PyUnicode_Check(text.ptr())) bytes = nb::steal(PyUnicode_EncodeFSDefault(text.ptr()));
    char *data;
    Py_ssize_t size;
    if (!bytes.is_valid() || PyBytes_AsStringAndSize(bytes.ptr(), &data, &size) != 0) {
        throw nb::python_error();
    }
    std::string path(data, static_cast<size_t>(size));
    if (path.find('\0') != std::string::npos) {
        raise(PyExc_ValueError, "Model: the path has a NUL inside");
    }
    return path;
}

/// Raises what Python's `open` raises where a file is not there or not to be read.
void check_readable(const std::string &path, nb::handle source) {
    // A pipe must not be opened twice.
    struct stat found;
    if (access(path.c_str(), R_OK) == 0 && stat(path.c_str(), &found) == 0) {
        if (!S_ISDIR(found.st_mode)) return;
        errno = EISDIR;
    }
    PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, source.ptr());
    throw nb::python_error();
}

Port port_of(const lumina_tensor_info &info) {
    nb::list shape;
    for (size_t axis = 0; axis < info.rank; ++axis) {
        if (info.shape[axis] < 0) {
            shape.append(nb::str(info.symbols[axis]));
        } else {
            shape.append(nb::int_(info.shape[axis]));
        }
    }
    const bool is_seed = info.role == LUMINA_ROLE_NOISE_SEED;
    return {info.name, info.dtype, is_seed, nb::tuple(shape)};
}

lumina_tensor_info empty_info() {
    lumina_tensor_info info = {};
    info.struct_size = sizeof info;
    return info;
}

template <typename Count, typename Info>
std::vector<Port> ports_of(const lumina_model *model, size_t entry, Count count, Info info_of) {
    size_t n = 0;
    check(count(model, entry, &n));
    std::vector<Port> ports;
    for (size_t index = 0; index < n; ++index) {
        lumina_tensor_info info = empty_info();
        check(info_of(model, entry, index, &info));
        ports.push_back(port_of(info));
    }
    return ports;
}

} // namespace

Model::Model(nb::object source, bool mapped) {
    std::optional<std::string> path = path_of(source);
    lumina_status status;
    std::string text;
    if (path) {
        check_readable(*path, source);
        const WithoutGil without_gil;
        status = mapped ? lumina_model_map(path->c_str(), 0, &handle_)
                        : lumina_model_load(path->c_str(), &handle_);
        if (status != LUMINA_STATUS_SUCCESS) text = lumina_last_error();
    } else {
        if (mapped) raise(PyExc_ValueError, "Model: `mapped` is for a path, not for bytes");
        Py_buffer buffer;
        if (PyObject_GetBuffer(source.ptr(), &buffer, PyBUF_SIMPLE) != 0) throw nb::python_error();
        {
            const WithoutGil without_gil;
            const size_t size = static_cast<size_t>(buffer.len);
            status = lumina_model_from_memory(buffer.buf, size, &handle_);
            if (status != LUMINA_STATUS_SUCCESS) text = lumina_last_error();
        }
        PyBuffer_Release(&buffer);
    }
    if (status != LUMINA_STATUS_SUCCESS) raise_status(status, text);
    try {
        describe();
    } catch (...) {
        lumina_model_free(handle_);
        throw;
    }
}

Model::~Model() {
    own_session_.reset();
    lumina_model_free(handle_);
}

void Model::describe() {
    size_t count = 0;
    check(lumina_model_entry_count(handle_, &count));
    for (size_t entry = 0; entry < count; ++entry) {
        const char *name = nullptr;
        check(lumina_model_entry_name(handle_, entry, &name));
        entries_.push_back(
            {name,
             ports_of(handle_, entry, lumina_model_input_count, lumina_model_input_info),
             ports_of(handle_, entry, lumina_model_output_count, lumina_model_output_info)});
    }
    check(lumina_model_state_count(handle_, &count));
    for (size_t index = 0; index < count; ++index) {
        lumina_tensor_info info = empty_info();
        check(lumina_model_state_info(handle_, index, &info));
        states_.push_back(port_of(info));
    }
}

const Entry &Model::entry(const std::string &name) const { return entries_[entry_number(name)]; }

size_t Model::entry_number(const std::string &name) const {
    std::vector<std::string> names;
    for (size_t number = 0; number < entries_.size(); ++number) {
        if (entries_[number].name == name) return number;
        names.push_back(entries_[number].name);
    }
    raise(PyExc_ValueError, "there is no entry point `" + name + "`, expected " + quoted(names));
}

Session &Model::own_session() {
    // One that a fork has left without threads is replaced.
    if (!own_session_ || own_session_->is_of_parent()) {
        if (!states_.empty()) {
            raise(PyExc_ValueError,
                  "the model has states, which a call would forget; call a `Session` of it");
        }
        own_session_ = std::make_unique<Session>(*this, Options());
    }
    return *own_session_;
}

std::string quoted(const std::vector<std::string> &names) {
    if (names.empty()) return "none";
    std::string text;
    for (const std::string &name : names) text += (text.empty() ? "`" : ", `") + name + "`";
    return text;
}

} // namespace lumina
