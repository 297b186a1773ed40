// What a status of the C ABI is in Python.
#pragma once

#include <lumina.h>
#include <nanobind/nanobind.h>
#include <stdexcept>
#include <string>

namespace lumina {

namespace nb = nanobind;

/// Raises the Python exception of that type with a text.
[[noreturn]] inline void raise(PyObject *type, const std::string &text) {
    PyErr_SetString(type, text.c_str());
    throw nb::python_error();
}

/// Raises what a status other than success is, with the text that the library gave for it.
[[noreturn]] inline void raise_status(lumina_status status, const std::string &text) {
    switch (status) {
    case LUMINA_STATUS_OUT_OF_MEMORY:
        raise(PyExc_MemoryError, text);
    case LUMINA_STATUS_BAD_TENSOR_DTYPE:
        raise(PyExc_TypeError, text);
    case LUMINA_STATUS_BAD_FILE:
    case LUMINA_STATUS_BAD_PARAM:
    case LUMINA_STATUS_BAD_TENSOR_SHAPE:
    case LUMINA_STATUS_BAD_TENSOR_STRIDES:
        raise(PyExc_ValueError, text);
    default:
        raise(PyExc_RuntimeError, text);
    }
}

/// Raises for a status other than success of a call that this thread has just made.
inline void check(lumina_status status) {
    if (status != LUMINA_STATUS_SUCCESS) raise_status(status, lumina_last_error());
}

} // namespace lumina
