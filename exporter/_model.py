"""The exported model: a graph, its test vectors, and how to save and load it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lumina_jax._arguments import file_path, integer, number
from lumina_jax._files import write
from lumina_jax._native import _lumina

from . import _container
from ._bench import Benchmark, bench
from ._decode import decode
from ._device import Device
from ._encode import encode
from ._errors import LoadError, SaveError
from ._graph import Graph, Port, Role, TestVector, constants_of, every_node, states_of
from ._report import WeightsReport, report, size, values
from ._schedule import Schedule, schedule
from ._session import Session
from ._verify import verify


@dataclass(frozen=True, repr=False)
class Model:
    """A function that has been exported, as it goes into a `.lmn` file."""

    graphs: tuple[Graph, ...]
    """Nodes, constants, inputs, outputs and states of each entry point."""
    tests: tuple[TestVector, ...]
    """What `lumina verify` recomputes."""
    producer: str
    """Who wrote the file: "lumina-jax 0.1.0"."""
    device: Device | None = None
    """The processor that it was exported for; None where none was named."""

    @property
    def graph(self) -> Graph:
        """The first entry point, which runs where none is named."""
        return self.graphs[0]

    @property
    def entries(self) -> tuple[str, ...]:
        """Names of the entry points; the only one of a model may be called ""."""
        return tuple(graph.name for graph in self.graphs)

    @property
    def inputs(self) -> dict[str, str]:
        """Type of each input of the first entry point by its name: {"x": "f32[batch, 64]"}."""
        return {port.name: str(port.value) for port in self.graph.inputs}

    @property
    def outputs(self) -> dict[str, str]:
        """Type of each output of the first entry point by its name."""
        return {port.name: str(port.value) for port in self.graph.outputs}

    @property
    def states(self) -> dict[str, str]:
        """Type of each value that a session keeps between runs, by its name."""
        return {name: str(state.before) for name, state in states_of(self.graphs).items()}

    @property
    def ops(self) -> dict[str, int]:
        """Number of nodes of each op, those in loops once, the most frequent first."""
        nodes = (node for graph in self.graphs for node in every_node(graph.nodes))
        return dict(Counter(node.op for node in nodes).most_common())

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """Parameters by their path; constants that folding made have none and are left out.

        Of codes it is what they stand for: the levels of the weight.
        """
        return values(self.graphs)

    def weights_report(self) -> WeightsReport:
        """Bits and bytes of each constant, as a table where it is printed."""
        return report(self.graphs)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all constants."""
        return sum(tensor.data.nbytes for tensor in constants_of(self.graphs).values())

    def __call__(self, *args: Any, **options: Any) -> Any:
        """What the exported function returns for such arguments, computed by the runtime.

        ```python
        model = export.load("net.lmn")
        y = model(x)
        ```

        Arguments are those of the exported function, by position or by name, pytrees where it
        takes pytrees, of arrays of NumPy or of any library that NumPy reads; a noise seed is a PRNG
        key or an int. Results are NumPy arrays, in dicts and tuples where it returns some.

        The first call loads the model into the runtime of this process, which holds another copy of
        the weights. Calls from several threads wait for each other.

        A model with states runs in a `session`, which keeps them.

        Raises:
          TypeError, ValueError: the arguments are not those of the exported function, or have
            shapes that it does not take.
        """
        if self.states:
            raise TypeError(
                "model: has states, which a call would forget; call the session that "
                "`model.session()` returns"
            )
        return self._session(os.getpid())(*args, **options)

    def bench(
        self,
        *,
        entry: str | None = None,
        batch: int | None = None,
        symbols: Mapping[str, int] | None = None,
        seconds: float = 2.0,
        nodes: bool = False,
        threads: int = 0,
    ) -> Benchmark:
        """How fast the model runs in this process, and what this machine could do.

        ```python
        found = model.bench(batch=64, nodes=True)
        print(found)
        print(found.steady.p50_ms, found.limit.share)
        ```

        Inputs are those of the first test vector of the entry point where its shapes are asked for;
        else its elements, repeated; without a vector, normal deviates for floats and zeros for the
        rest. States go from run to run, and begin anew after 64 runs. docs/bench.md says what the
        figures are; `lumina bench` tells the same of a file.

        Args:
          entry: name of the entry point; None is the first one.
          batch: rows of the batch, the symbol that is axis 0 of the first input that has one there.
          symbols: values of symbols by name; the others are as in the first test vector, or 1.
          seconds: for how long runs are measured; there are ten at least.
          nodes: whether nodes are timed, for half as long again.
          threads: 0 is one per core.

        Raises:
          TypeError, ValueError: an argument is none, there is no such entry point or symbol, or a
            symbol has two values, or one that fits no shape.
        """
        return bench(
            list(self._chunks()),
            entry=entry,
            batch=None if batch is None else _extent("bench", "batch", batch),
            symbols=_extents("bench", symbols),
            seconds=number("Model.bench", "seconds", seconds),
            nodes=bool(nodes),
            threads=integer("Model.bench", "threads", threads, at_least=0, at_most=1024),
        )

    def session(self) -> Session:
        """A new session: the model with states of its own, which holds a copy of the weights."""
        return Session(self.graphs, list(self._chunks()))

    def schedule(self, symbols: Mapping[str, int] | None = None) -> Schedule:
        """What the processor of the model does in a call: passes, time and energy.

        ```python
        model = export.export(fn, x, batch="batch", profile="lumina_nano_v1")
        print(model.schedule({"batch": 32}))
        ```

        Args:
          symbols: values of symbols by name; the others are as in the first test vector, or 1.

        Raises:
          ValueError: the model was exported without a `profile`, a name is no symbol, or the graph
            does not take such sizes.
        """
        return schedule(list(self._chunks()), _extents("schedule", symbols))

    def _session(self, process: int) -> Session:
        """The model in the runtime. A child that was forked has no threads of its parent's."""
        known = self.__dict__.get("_known")
        if known is None or known[0] != process:
            known = process, self.session()
            self.__dict__["_known"] = known
        return known[1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_known"}

    def to_bytes(self) -> bytes:
        """The contents of the file, not verified. The same model gives the same bytes."""
        return b"".join(self._chunks())

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the file at `path`, and returns the path.

        Before that, the runtime recomputes the test vectors, which takes memory for another copy
        of the model. A file that is there is replaced only once the new one is complete on disk,
        and keeps its mode. A symbolic link stays, and its target is written; a device or a pipe is
        written to.

        Raises:
          VerifyError: the runtime computes something else than JAX did; the message says where.
          SaveError: the directory is missing, or the system refuses to write.
          TypeError, ValueError: `path` is no path, or one that no file can have.
        """
        target = file_path("Model.save", "path", path)
        chunks = list(self._chunks())
        if self.tests:
            verify(chunks, target.name)
        return _written(target, chunks)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        entry: str | None = None,
        symbols: Mapping[str, int] | None = None,
        bench: Benchmark | None = None,
    ) -> Path:
        """Writes a page about the model for a browser, one HTML file, and returns its path.

        ```python
        model.report("net.html", symbols={"batch": 32})
        ```

        It shows the graph, histograms of the weights, ranges of converters, and the memory of a
        run; docs/report.md has all of it. `lumina report` writes the same of a file. The file is
        put in its place as `save` does it.

        Args:
          path: where the page goes.
          entry: name of the entry point that alone is shown; None is all of them.
          symbols: values of symbolic extents by name, for which shapes and memory are shown; else
            those of the first test vector, or 1.
          bench: what `bench(nodes=True)` has measured of this model, for the time of each node.

        Raises:
          ValueError: there is no such entry point or symbol, the values fit no shape, or `bench`
            is of another model.
          SaveError: the directory is missing, or the system refuses to write.
          TypeError: an argument is of another type.
        """
        target = file_path("Model.report", "path", path)
        extents = _extents("report", symbols)
        pieces = list(self._chunks())
        measured = None if bench is None else bench.to_json()
        page = _lumina.report(
            pieces, title=target.stem, entry=entry, symbols=extents, bench=measured
        )
        return _written(target, [page.encode()])

    def _chunks(self) -> Iterator[bytes | memoryview]:
        return _container.pack(encode(self.graphs, self.tests, self.producer, self.device))

    def __repr__(self) -> str:
        tensors, taken = len(constants_of(self.graphs)), size(self.weight_bytes)
        lines = [
            f"Model({_count(sum(self.ops.values()), 'node')}, "
            f"{_count(tensors, 'constant')} of {taken}, "
            f"{_count(len(self.tests), 'test vector')})"
        ]
        for graph in self.graphs:
            if len(self.graphs) > 1:
                lines.append(f"  entry   {graph.name}")
            lines += [f"  input   {_port(port)}" for port in graph.inputs]
            lines += [f"  output  {_port(port)}" for port in graph.outputs]
        lines += [f"  state   {name}: {value}" for name, value in self.states.items()]
        if (device := self.device) is not None:
            bank = f"{device.bank_rows} x {device.bank_columns}"
            lines.append(f"  device  {device.name}: {_count(device.banks, 'bank')} of {bank}")
        ops = _counted(self.ops.items())
        lines.append(f"  ops     {ops or 'none'}")
        nodes = (node for graph in self.graphs for node in every_node(graph.nodes))
        fused = Counter(node.op for node in nodes if node.fused)
        if fused:
            lines.append(f"  fused   {_counted(fused.most_common())}")
        return "\n".join(lines)


def load(path: str | os.PathLike[str]) -> Model:
    """The model in a `.lmn` file, which saves to the same bytes again.

    ```python
    model = export.load("net.lmn")
    print(model, model.weights["params['Dense_0']['kernel']"].shape)
    ```

    Arrays are read-only. `model(x)` runs it in this process, as `lumina run` does in its own.

    Raises:
      LoadError: the runtime refuses the file, or it holds what only the runtime reads; the message
        names what is wrong.
      OSError: the system cannot read the file.
    """
    data = file_path("load", "path", path).read_bytes()
    try:
        _lumina.check_model(data)
        return Model(*decode(_container.unpack(data)))
    except ValueError as fault:
        raise LoadError(f"cannot load `{path}`: {fault}") from fault


def _written(target: Path, chunks: Iterable[bytes | memoryview]) -> Path:
    """The path, once a file of these bytes is there."""
    try:
        write(target, chunks)
    except SaveError:
        raise
    except OSError as fault:
        reason = f"cannot save `{target}`: {fault.strerror}"
        raise SaveError(fault.errno, reason) from fault
    return target


def _extents(of: str, symbols: Mapping[str, int] | None) -> list[tuple[str, int]]:
    return [(name, _extent(of, f"symbols[{name!r}]", n)) for name, n in (symbols or {}).items()]


def _extent(of: str, name: str, value: int) -> int:
    return integer(f"Model.{of}", name, value, at_least=0, at_most=2**64 - 1)


def _port(port: Port) -> str:
    note = ", the noise seed" if port.role is Role.NOISE_SEED else ""
    return f"{port.name}: {port.value}{note}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _counted(ops: Iterable[tuple[str, int]]) -> str:
    return ", ".join(op if number == 1 else f"{op} x{number}" for op, number in ops)
