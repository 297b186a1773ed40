// Arrays of Python as tensors of the C ABI, and the other way round.
#pragma once

#include <lumina.h>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
// Every file needs them, or none: casts of strings are templates.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <string>
#include <vector>

namespace lumina {

namespace nb = nanobind;

constexpr size_t MAX_RANK = 8;

/// An input, an output or a state of a model.
struct Port {
    std::string name;
    int32_t dtype;
    bool is_seed;
    /// Extents; what is decided by the inputs of a run is a text.
    nb::tuple shape;

    /// The name of the element type in NumPy.
    const char *dtype_name() const;
};

/// Memory of a Python object, which stays where it is while this lives.
class Lent {
public:
    Lent() = default;
    ~Lent();
    Lent(const Lent &) = delete;
    Lent &operator=(const Lent &) = delete;

    /// The elements of `value` where they lie, or those of an array that they are converted to.
    /// Raises what NumPy raises, or TypeError if they are not of the type of the port.
    void read(const Port &port, nb::handle value);

    /// The memory of `value`, which is written. Raises TypeError or ValueError if it is no array of
    /// the type of the port, or is read-only.
    void write(const Port &port, nb::handle value);

    const lumina_tensor &tensor() const { return tensor_; }

private:
    bool borrow(nb::handle value, int32_t dtype, bool writable);
    /// Of an array that is made for the port, in which BF16 is its bits.
    void borrow_bits(const Port &port, nb::handle array, bool writable);
    bool borrow_buffer(nb::handle value, int32_t dtype, bool writable);
    template <typename Array> bool borrow_dlpack(nb::handle value, int32_t dtype, Array &array);

    lumina_tensor tensor_ = {};
    size_t shape_[MAX_RANK];
    ptrdiff_t strides_[MAX_RANK];
    Py_buffer buffer_ = {};
    nb::ndarray<nb::ro, nb::device::cpu> read_only_;
    nb::ndarray<nb::device::cpu> writable_;
};

/// A new NumPy array.
struct Made {
    nb::object array;
    void *data;
};

/// A new NumPy array, whose elements are still to be written. BF16 needs the package `ml_dtypes`.
Made make_array(int32_t dtype, const size_t *shape, size_t rank);

} // namespace lumina
