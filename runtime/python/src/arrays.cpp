#include "arrays.h"

#include "errors.h"

#include <array>

namespace lumina {

namespace {

/// The number of the type that a format of the buffer protocol stands for, or 0.
int32_t dtype_of_format(const char *format, size_t size) {
    if (format == nullptr) return LUMINA_DTYPE_U8;
    // All of these are little endian where this runs.
    if (*format == '<' || *format == '=' || *format == '@' || *format == '|') ++format;
    const bool is_complex = *format == 'Z';
    if (is_complex) ++format;
    if (format[0] == '\0' || format[1] != '\0') return 0;
    if (is_complex) {
        return *format == 'f' ? LUMINA_DTYPE_C64 : *format == 'd' ? LUMINA_DTYPE_C128 : 0;
    }
    switch (*format) {
    case 'f':
        return LUMINA_DTYPE_F32;
    case 'd':
        return LUMINA_DTYPE_F64;
    case 'e':
        return LUMINA_DTYPE_F16;
    case '?':
        return LUMINA_DTYPE_BOOL;
    case 'b':
        return LUMINA_DTYPE_I8;
    case 'B':
        return LUMINA_DTYPE_U8;
    case 'h':
        return LUMINA_DTYPE_I16;
    // How large these are depends on the system.
    case 'i':
    case 'l':
    case 'q':
        return size == 4 ? LUMINA_DTYPE_I32 : size == 8 ? LUMINA_DTYPE_I64 : 0;
    case 'I':
    case 'L':
        return size == 4 ? LUMINA_DTYPE_U32 : 0;
    default:
        return 0;
    }
}

/// The number of a type of DLPack, or 0.
int32_t dtype_of_dlpack(nb::dlpack::dtype dtype) {
    using Code = nb::dlpack::dtype_code;
    if (dtype.lanes != 1) return 0;
    const int bits = dtype.bits;
    switch (static_cast<Code>(dtype.code)) {
    case Code::Float:
        return bits == 32 ? LUMINA_DTYPE_F32
             : bits == 64 ? LUMINA_DTYPE_F64
             : bits == 16 ? LUMINA_DTYPE_F16
                          : 0;
    case Code::Bfloat:
        return bits == 16 ? LUMINA_DTYPE_BF16 : 0;
    case Code::Complex:
        return bits == 64 ? LUMINA_DTYPE_C64 : bits == 128 ? LUMINA_DTYPE_C128 : 0;
    case Code::Bool:
        return bits == 8 ? LUMINA_DTYPE_BOOL : 0;
    case Code::Int:
        return bits == 8  ? LUMINA_DTYPE_I8
             : bits == 16 ? LUMINA_DTYPE_I16
             : bits == 32 ? LUMINA_DTYPE_I32
             : bits == 64 ? LUMINA_DTYPE_I64
                          : 0;
    case Code::UInt:
        return bits == 8 ? LUMINA_DTYPE_U8 : bits == 32 ? LUMINA_DTYPE_U32 : 0;
    default:
        return 0;
    }
}

/// A function of a module, which is imported when it is first asked for: `import lumina_runtime`
/// imports no NumPy, so that it is fast. What is found stays in `cache` for good.
///
/// This is no static variable with an initializer: threads that wait for one hold the GIL, which the
/// import may give away.
nb::handle imported(nb::handle &cache, const char *module, const char *name) {
    if (!cache.is_valid()) {
        cache = nb::object(nb::module_::import_(module).attr(name)).release();
    }
    return cache;
}

/// Whether it is a tensor of PyTorch. It may still be to be conjugated or negated, of which its memory knows
/// nothing, and have a history for gradients, which ends here.
bool is_torch(nb::handle value) {
    return !PyObject_CheckBuffer(value.ptr()) && nb::hasattr(value, "resolve_conj");
}

nb::handle converted, writable, memory_type, as_bfloat16, empty;
constexpr const char *ARRAYS = "lumina_runtime._arrays";

} // namespace

const char *Port::dtype_name() const { return lumina_dtype_name(dtype); }

Lent::~Lent() {
    if (buffer_.obj != nullptr) PyBuffer_Release(&buffer_);
}

void Lent::read(const Port &port, nb::handle value) {
    nb::object plain = nb::borrow(value);
    if (is_torch(value)) plain = value.attr("detach")().attr("resolve_conj")().attr("resolve_neg")();
    if (borrow(plain, port.dtype, false)) return;
    const nb::handle convert = imported(converted, ARRAYS, "converted");
    borrow_bits(port, convert(port.name, port.dtype_name(), port.is_seed, plain), false);
}

void Lent::write(const Port &port, nb::handle value) {
    const bool is_plain = !is_torch(value) || (!nb::cast<bool>(value.attr("requires_grad")) &&
                                               !nb::cast<bool>(value.attr("is_conj")()) &&
                                               !nb::cast<bool>(value.attr("is_neg")()));
    if (is_plain && borrow(value, port.dtype, true)) return;
    const nb::handle check = imported(writable, ARRAYS, "writable");
    borrow_bits(port, check(port.name, port.dtype_name(), value), true);
}

void Lent::borrow_bits(const Port &port, nb::handle array, bool writable) {
    // Memory of BF16 is lent as that of 16-bit integers.
    const int32_t bits = port.dtype == LUMINA_DTYPE_BF16 ? LUMINA_DTYPE_I16 : port.dtype;
    if (!borrow_buffer(array, bits, writable)) {
        raise(PyExc_ValueError, "`" + port.name + "`: NumPy does not lend the memory of its array");
    }
    tensor_.dtype = port.dtype;
}

bool Lent::borrow(nb::handle value, int32_t dtype, bool writable) {
    if (PyObject_CheckBuffer(value.ptr())) return borrow_buffer(value, dtype, writable);
    return writable ? borrow_dlpack(value, dtype, writable_)
                    : borrow_dlpack(value, dtype, read_only_);
}

bool Lent::borrow_buffer(nb::handle value, int32_t dtype, bool writable) {
    if (PyObject_GetBuffer(value.ptr(), &buffer_, writable ? PyBUF_FULL : PyBUF_FULL_RO) != 0) {
        // Types that the protocol lacks, and memory that is read-only; what is asked next says why.
        if (!PyErr_ExceptionMatches(PyExc_Exception)) throw nb::python_error();
        PyErr_Clear();
        buffer_.obj = nullptr;
        return false;
    }
    const auto refuse = [this] {
        PyBuffer_Release(&buffer_);
        return false;
    };
    const Py_ssize_t size = buffer_.itemsize;
    // The format alone does not tell the size: whoever implements the protocol gives both.
    if (dtype_of_format(buffer_.format, static_cast<size_t>(size)) != dtype ||
        static_cast<size_t>(size) != lumina_dtype_size(dtype) || buffer_.suboffsets != nullptr) {
        return refuse();
    }
    const size_t rank = static_cast<size_t>(buffer_.ndim);
    if (rank > MAX_RANK) return refuse();
    // Arrays of ctypes have no strides, and are row-major.
    const ptrdiff_t *strides = buffer_.strides != nullptr ? strides_ : nullptr;
    for (size_t axis = 0; axis < rank; ++axis) {
        shape_[axis] = static_cast<size_t>(buffer_.shape[axis]);
        if (strides == nullptr) continue;
        if (buffer_.strides[axis] % size != 0) return refuse();
        strides_[axis] = buffer_.strides[axis] / size;
    }
    tensor_ = {buffer_.buf, rank, shape_, strides, dtype};
    return true;
}

template <typename Array>
bool Lent::borrow_dlpack(nb::handle value, int32_t dtype, Array &array) {
    if (!nb::hasattr(value, "__dlpack__") || !nb::try_cast(value, array)) return false;
    const size_t rank = array.ndim();
    if (dtype_of_dlpack(array.dtype()) != dtype || rank > MAX_RANK) return false;
    for (size_t axis = 0; axis < rank; ++axis) {
        shape_[axis] = array.shape(axis);
        strides_[axis] = static_cast<ptrdiff_t>(array.stride(axis));
    }
    // The library does not write what it only reads.
    tensor_ = {const_cast<void *>(static_cast<const void *>(array.data())), rank, shape_, strides_,
               dtype};
    return true;
}

Made make_array(int32_t dtype, const size_t *shape, size_t rank) {
    static std::array<nb::handle, 32> types;
    nb::handle &type = types.at(static_cast<size_t>(dtype));
    if (!type.is_valid()) {
        type = imported(memory_type, ARRAYS, "memory_type")(lumina_dtype_name(dtype)).release();
    }
    nb::object extents = nb::steal(PyTuple_New(static_cast<Py_ssize_t>(rank)));
    if (!extents.is_valid()) throw nb::python_error();
    for (size_t axis = 0; axis < rank; ++axis) {
        PyObject *extent = PyLong_FromSize_t(shape[axis]);
        if (extent == nullptr) throw nb::python_error();
        PyTuple_SetItem(extents.ptr(), static_cast<Py_ssize_t>(axis), extent);
    }
    nb::object array = imported(empty, "numpy", "empty")(extents, type);
    Py_buffer buffer;
    if (PyObject_GetBuffer(array.ptr(), &buffer, PyBUF_WRITABLE) != 0) throw nb::python_error();
    void *data = buffer.buf;
    // The array has its memory for as long as it lives; the buffer only told where it is.
    PyBuffer_Release(&buffer);
    if (dtype == LUMINA_DTYPE_BF16) {
        array = imported(as_bfloat16, ARRAYS, "as_bfloat16")(array);
    }
    return {array, data};
}

} // namespace lumina
