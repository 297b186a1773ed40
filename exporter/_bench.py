"""How fast a model runs in this process: the figures of `lumina bench`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lumina_jax import _html
from lumina_jax._native import _lumina

_HEAD = ("node", "op", "outputs", "calls", "time", "share", "GFLOP/s", "GB/s", "of limit", "source")


@dataclass(frozen=True, kw_only=True)
class InputUsed:
    """An input of the runs."""

    name: str
    """Its name."""
    type: str
    """Its type: "f32[4,64]"."""
    bytes: int
    """Its bytes."""
    source: str
    """Where its elements come from: "test vector 0", "normal deviates"."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """From the bytes of the file to the first outputs, ms."""

    read_ms: float
    """The bytes are copied, and their checksums compared."""
    check_ms: float
    """The graph is decoded and checked."""
    session_ms: float
    """Threads start."""
    plan_ms: float
    """Shapes are inferred, buffers allocated and weights prepared."""
    first_run_ms: float
    """The first run."""
    total_ms: float
    """All of it."""


@dataclass(frozen=True, kw_only=True)
class Steady:
    """How long runs take after some to warm up."""

    runs: int
    """Runs that were measured."""
    warm_up_runs: int
    """Runs before them."""
    mean_ms: float
    """Mean, ms."""
    min_ms: float
    """The shortest, ms."""
    p50_ms: float
    """Median, ms."""
    p90_ms: float
    """90 % take no longer, ms."""
    p99_ms: float
    """99 % take no longer, ms."""
    max_ms: float
    """The longest, ms."""
    runs_per_s: float
    """One over the mean."""
    rows_per_s: float | None
    """Rows of the batch per second; None where no symbol is the batch."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes."""

    file_bytes: int
    """Of the file."""
    buffer_bytes: int
    """Of the values of a run."""
    state_bytes: int
    """Of the states."""
    kept_bytes: int
    """Of what the session keeps of weights beside the file."""
    process_peak_bytes: int | None
    """That this process has had at most, all of it; None where the system does not tell."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run computes and moves."""

    flops: float
    """Operations; a product that is added to a sum counts as two."""
    bytes: float
    """Bytes of operands and results, moved once for each step."""
    gflop_per_s: float | None
    """Operations in the median run, 10⁹/s."""
    gb_per_s: float | None
    """Bytes in the median run, 10⁹/s."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What all threads can do at most, measured in this process."""

    float32_gflop_per_s: float
    """Operations with float32, 10⁹/s."""
    int8_gflop_per_s: float
    """Operations with codes of 8 bits, 10⁹/s."""
    memory_gb_per_s: float
    """Bytes read from beyond the caches, 10⁹/s."""
    memory_buffer_bytes: int
    """Bytes of the buffer by which that was measured."""
    working_set_bytes: int
    """Bytes that runs go over."""
    working_set_gb_per_s: float
    """Bytes read of a buffer of that size, over and over, 10⁹/s."""
    run_ms: float
    """What a run takes at least by these: for each step the longer one of its operations and its
    bytes, ms."""
    share: float | None
    """The part of the median that this is."""


@dataclass(frozen=True, kw_only=True)
class NodeCost:
    """What one step of a run costs: a node, or a copy that the plan makes for one."""

    node: str
    """Its number in its scope, behind the nodes and regions it lies in: "3", "3.body.1"."""
    op: str
    """The op; "copy" for a copy of the plan."""
    source: str
    """Where the node comes from."""
    outputs: str
    """Types of its results."""
    calls_per_run: float
    """How often it runs."""
    ms_per_run: float
    """How long that takes, without the nodes in its regions, ms."""
    share: float | None
    """The part of the run that this is."""
    flops_per_call: int
    """Operations."""
    bytes_per_call: int
    """Bytes of operands and results, moved once."""
    numbers: str
    """The numbers whose peak is its limit: "float32" or "int8"."""
    gflop_per_s: float | None
    """Operations, 10⁹/s."""
    gb_per_s: float | None
    """Bytes, 10⁹/s."""
    limit_ms_per_call: float
    """What a call takes at least, ms."""
    limit_share: float | None
    """The part of its time that this is; more than 1 where its operands lie in a nearer cache than
    all that a run goes over."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What `Model.bench` has measured; `str` is what `lumina bench` prints."""

    entry: str
    """Name of the entry point."""
    threads: int
    """Threads that computed."""
    symbols: Mapping[str, int]
    """Value of each symbol."""
    inputs: tuple[InputUsed, ...]
    """What the model ran on."""
    states: int
    """Number of states, which go from run to run, and begin anew after 64 runs."""
    start: Start
    """From the bytes of the file to the first outputs."""
    steady: Steady
    """Runs after some to warm up."""
    memory: Memory
    """Bytes."""
    work: Work
    """What a run computes and moves."""
    limit: Limit
    """What the machine can do."""
    nodes: tuple[NodeCost, ...]
    """The steps of a run in order, with `nodes=True`."""
    idle_nodes: int
    """Nodes that take no time: views, and what was computed once for all runs."""
    profiled_runs: int
    """Runs in which the nodes were timed."""
    profiled_ms_per_run: float
    """How long these took, ms."""
    text: str
    """What `lumina bench` prints."""

    def to_json(self) -> str:
        """The figures as JSON, the keys being the names of the fields."""
        content = asdict(self)
        del content["text"]
        return json.dumps(content, indent=2, ensure_ascii=False)

    def __repr__(self) -> str:
        share = self.limit.share
        limit = (
            "" if share is None else f", {100 * share:.3g} % of the limit of {self.threads} threads"
        )
        return f"Benchmark of {self.steady.runs} runs: median {self.steady.p50_ms:.4g} ms{limit}"

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        rows = [
            (
                node.node,
                node.op,
                node.outputs,
                f"{node.calls_per_run:.4g}",
                f"{1e3 * node.ms_per_run:.4g} µs",
                _percent(node.share),
                _figure(node.gflop_per_s),
                _figure(node.gb_per_s),
                _percent(node.limit_share),
                node.source,
            )
            for node in self.nodes
        ]
        summary = self.text.partition("\n\nnodes")[0]
        return _html.table(summary, _HEAD if rows else (), rows)


def bench(chunks: Sequence[bytes | memoryview], **request: Any) -> Benchmark:
    """The figures of a file, in pieces, for these arguments of `_lumina.bench`."""
    data, text = _lumina.bench(chunks, **request)
    content = json.loads(data)
    return Benchmark(
        entry=content["entry"],
        threads=content["threads"],
        symbols=content["symbols"],
        inputs=tuple(InputUsed(source=used.pop("from"), **used) for used in content["inputs"]),
        states=content["states"],
        start=Start(**content["start"]),
        steady=Steady(**content["steady"]),
        memory=Memory(**content["memory"]),
        work=Work(**content["work"]),
        limit=Limit(**content["limit"]),
        nodes=tuple(NodeCost(**node) for node in content["nodes"]),
        idle_nodes=content["idle_nodes"],
        profiled_runs=content["profiled_runs"],
        profiled_ms_per_run=content["profiled_ms_per_run"],
        text=text,
    )


def _figure(number: float | None) -> str:
    return "-" if number is None else f"{number:.3g}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.3g} %"
