"""A model that runs in this process and keeps its states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lumina_jax._native import _lumina

from ._errors import quoted
from ._graph import Graph, Port, states_of
from ._run import array_of, given, returned


class Session:
    """What `Model.session` returns: a model with states of its own.

    ```python
    session = model.session()
    logits = session.run("prefill", prompt)
    logits = session.run("decode", token)
    ```

    States, such as the cache of a transformer, begin as exported and change with each run. Calls
    from several threads wait for each other; sessions of their own run beside each other.
    """

    def __init__(self, graphs: Sequence[Graph], chunks: list[bytes | memoryview]) -> None:
        self._graphs = {graph.name: graph for graph in graphs}
        self._entries = {graph.name: number for number, graph in enumerate(graphs)}
        self._states = states_of(graphs)
        self._runtime = _lumina.Session(chunks)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """What the first entry point returns, as `Model.__call__` does."""
        return self.run(next(iter(self._graphs)), *args, **options)

    def run(self, entry: str, /, *args: Any, **options: Any) -> Any:
        """What the entry point of that name returns.

        Raises:
          TypeError, ValueError: the arguments are not those of its function, or have shapes that it
            does not take; or there is no such entry point.
        """
        if entry not in self._graphs:
            known = quoted(self._graphs)
            raise ValueError(f"session: there is no entry point `{entry}`, expected {known}")
        graph = self._graphs[entry]
        inputs = given(graph.inputs, args, options)
        names = [port.name for port in graph.outputs]
        return returned(names, self._runtime.run(inputs, entry=self._entries[entry]))

    @property
    def states(self) -> dict[str, np.ndarray]:
        """A copy of each state as it is now, by its name."""
        return {name: self._runtime.state(name) for name in self._states}

    def set_states(self, **states: Any) -> None:
        """Gives states other values: those of `states` of another session, by their names.

        Raises:
          TypeError, ValueError: there is no such state, or it has another type or shape.
        """
        arrays = {}
        for name, value in states.items():
            if name not in self._states:
                known = quoted(self._states) or "none"
                raise ValueError(f"session: there is no state `{name}`; the model has {known}")
            state = self._states[name]
            arrays[name] = array_of(Port(state.before, name), value)
        for name, array in arrays.items():
            self._runtime.set_state(name, array)

    def reset(self) -> None:
        """Gives the states the values again that they have in a new session."""
        self._runtime.reset()
