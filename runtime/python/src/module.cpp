// The module lumina_runtime._native.

#include "errors.h"
#include "fork.h"
#include "interrupt.h"
#include "session.h"

namespace nb = nanobind;
using namespace nb::literals;
using lumina::Entry;
using lumina::Model;
using lumina::Options;
using lumina::Port;
using lumina::Session;

namespace {

nb::tuple ports(const std::vector<Port> &ports) {
    nb::list all;
    for (const Port &port : ports) all.append(port);
    return nb::tuple(all);
}

nb::tuple entry_names(const Model &model) {
    nb::list names;
    for (const Entry &entry : model.entries()) names.append(entry.name);
    return nb::tuple(names);
}

/// "float32[batch, 8]".
std::string type_of(const Port &port) {
    std::string text = std::string(port.dtype_name()) + "[";
    for (size_t axis = 0; axis < port.shape.size(); ++axis) {
        if (axis > 0) text += ", ";
        text += nb::str(nb::handle(port.shape[axis])).c_str();
    }
    return text + "]";
}

std::string signature(const Entry &entry) {
    const auto listed = [](const std::vector<Port> &ports) {
        std::string text;
        for (const Port &port : ports) {
            text += (text.empty() ? "" : ", ") + port.name + ": " + type_of(port);
        }
        return text;
    };
    return entry.name + "(" + listed(entry.inputs) + ") -> " + listed(entry.outputs);
}

std::string model_repr(const Model &model) {
    std::string text;
    for (const Entry &entry : model.entries()) {
        text += (text.empty() ? "" : "; ") + signature(entry);
    }
    return "<Model " + text + ">";
}

/// Tells the garbage collector of the model that a session keeps, which may be of a subclass that keeps
/// the session.
int visit_session(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    if (nb::inst_ready(self)) {
        const nb::object model = nb::find(nb::inst_ptr<Session>(self)->model());
        Py_VISIT(model.ptr());
    }
    return 0;
}

PyType_Slot session_slots[] = {{Py_tp_traverse, (void *)visit_session}, {0, nullptr}};

} // namespace

NB_MODULE(_native, m) {
    m.doc() = "The runtime of `.lmn` files.";
    m.attr("version") = lumina_version();
    // Threads that still run a model when Python ends keep it.
    nb::set_leak_warnings(false);
    // Whichever thread imports this, signals are handled by that one.
    const nb::object main_thread = nb::module_::import_("threading").attr("main_thread")();
    lumina::Interruptible::set_main_thread(
        (pthread_t)nb::cast<unsigned long>(main_thread.attr("ident")));
    lumina::watch_forks();

    nb::class_<Port>(m, "TensorInfo", "Name and type of an input, an output or a state.")
        .def_ro("name", &Port::name)
        .def_prop_ro("dtype", &Port::dtype_name, "Name of the element type in NumPy.")
        .def_prop_ro(
            "shape", [](const Port &port) { return port.shape; },
            nb::sig("def shape(self) -> tuple[int | str, ...]"),
            "Extents; a text, such as 'batch', is one that the inputs of a run decide.")
        .def_ro("is_noise_seed", &Port::is_seed,
                "Whether it is the seed of the analog noise: an int, or two words of 32 bits,\n"
                "the high one first.")
        .def("__repr__",
             [](const Port &port) { return "<" + port.name + ": " + type_of(port) + ">"; });

    const char *call_doc =
        "Outputs of the first entry point: an array, or a tuple of them in the order of\n"
        "`model.outputs`.\n\n"
        "Inputs are given in the order of `model.inputs` or by their names: NumPy arrays and what\n"
        "has the buffer protocol or DLPack, used where they lie, or lists and numbers. An int is a\n"
        "noise seed. Other element types are converted where no number is lost that the type has.\n"
        "Results are new arrays; with `out`, an array or a tuple of as many as there are outputs,\n"
        "the elements are written there, and the same objects are returned.\n\n"
        "The GIL is released meanwhile, and Ctrl-C ends a run of the main thread between two of its\n"
        "steps.\n\n"
        "Raises:\n"
        "  TypeError: inputs are missing or unknown, or have other element types.\n"
        "  ValueError: shapes do not fit, or a state was lost in a run that failed.\n"
        "  MemoryError: the run takes more memory than the session may.\n"
        "  RuntimeError: the loops of the model make more trips than the session allows.";

    nb::class_<Model>(
        m, "Model",
        "A `.lmn` file, all of which has been checked.\n\n"
        "`source` is a path, or an object with the bytes of a file, which are copied. With\n"
        "`mapped` a file stays on the disk, and weights come from there as they are needed;\n"
        "nothing may change or shorten it meanwhile.\n\n"
        "Raises:\n"
        "  OSError: the file cannot be read.\n"
        "  ValueError: it is no file that this runtime runs; the text says why.")
        .def(nb::init<nb::object, bool>(), "source"_a, nb::kw_only(), "mapped"_a = false,
             nb::sig("def __init__(self, source: str | os.PathLike[str] | bytes | bytearray | "
                     "memoryview, *, mapped: bool = False) -> None"))
        .def_prop_ro("entries", &entry_names, nb::sig("def entries(self) -> tuple[str, ...]"),
                     "Names of the functions in the file; the only one may have an empty name.")
        .def_prop_ro(
            "inputs", [](const Model &model) { return ports(model.entries()[0].inputs); },
            nb::sig("def inputs(self) -> tuple[TensorInfo, ...]"), "Those of the first entry point.")
        .def_prop_ro(
            "outputs", [](const Model &model) { return ports(model.entries()[0].outputs); },
            nb::sig("def outputs(self) -> tuple[TensorInfo, ...]"),
            "Those of the first entry point.")
        .def(
            "inputs_of",
            [](const Model &model, const std::string &entry) {
                return ports(model.entry(entry).inputs);
            },
            "entry"_a, nb::sig("def inputs_of(self, entry: str) -> tuple[TensorInfo, ...]"),
            "Those of the entry point of that name. Raises ValueError if there is none.")
        .def(
            "outputs_of",
            [](const Model &model, const std::string &entry) {
                return ports(model.entry(entry).outputs);
            },
            "entry"_a, nb::sig("def outputs_of(self, entry: str) -> tuple[TensorInfo, ...]"),
            "Those of the entry point of that name. Raises ValueError if there is none.")
        .def_prop_ro(
            "states", [](const Model &model) { return ports(model.states()); },
            nb::sig("def states(self) -> tuple[TensorInfo, ...]"),
            "What a session keeps from one run to the next.")
        .def(
            "__call__",
            [](Model &model, const nb::args &args, const nb::kwargs &named) {
                return model.own_session().run(0, args, named);
            },
            nb::sig("def __call__(self, *inputs: typing.Any, out: typing.Any = None, "
                    "**named: typing.Any) -> typing.Any"),
            call_doc)
        .def("__repr__", &model_repr);

    nb::class_<Session>(
        m, "Session", nb::type_slots(session_slots),
        "A model with states, buffers and threads of its own.\n\n"
        "Sessions of one model share its weights. Calls from several threads wait for each other;\n"
        "sessions of their own run beside each other.\n\n"
        "There are at most 1024 `threads`; 0 is one per core. `memory_limit` is the most bytes that\n"
        "buffers, states and weights in another form may take, 4 GiB unless given; `trip_limit` the\n"
        "most trips that all loops of a run may make.")
        .def(
            "__init__",
            [](Session *self, Model &model, size_t threads, std::optional<uint64_t> memory_limit,
               std::optional<uint64_t> trip_limit) {
                new (self) Session(model, Options{threads, memory_limit, trip_limit});
            },
            nb::keep_alive<1, 2>(), "model"_a, nb::kw_only(), "threads"_a = 0,
            "memory_limit"_a = nb::none(), "trip_limit"_a = nb::none())
        .def_prop_ro("model", &Session::model, nb::rv_policy::reference)
        .def(
            "__call__",
            [](Session &session, const nb::args &args, const nb::kwargs &named) {
                return session.run(0, args, named);
            },
            nb::sig("def __call__(self, *inputs: typing.Any, out: typing.Any = None, "
                    "**named: typing.Any) -> typing.Any"),
            call_doc)
        .def(
            "run",
            [](Session &session, const std::string &entry, const nb::args &args,
               const nb::kwargs &named) {
                return session.run(session.model().entry_number(entry), args, named);
            },
            nb::sig("def run(self, entry: str, /, *inputs: typing.Any, out: typing.Any = None, "
                    "**named: typing.Any) -> typing.Any"),
            "As a call, of the entry point of that name. Raises ValueError if there is none.")
        .def_prop_ro("states", &Session::states,
                     nb::sig("def states(self) -> dict[str, numpy.typing.NDArray[typing.Any]]"),
                     "A copy of each state as it is now, by its name.")
        .def("set_states", &Session::set_states,
             nb::sig("def set_states(self, **states: typing.Any) -> None"),
             "Gives states other values, by their names.\n\n"
             "Raises:\n"
             "  TypeError, ValueError: there is no such state, or it has another type or shape.")
        .def("reset", &Session::reset,
             "Gives the states the values again that they have in a new session.");
}
