"""The walker of jaxprs: what it enters, and what it knows of where an equation stands."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.custom_batching import custom_vmap

from lumina_jax._jaxpr import Interpreter, Site, evaluate, sites

X = np.linspace(-1, 1, 4, dtype=np.float32)


class Recorder(Interpreter[Any]):
    """Evaluates a jaxpr, and writes down the primitives that are no calls."""

    def __init__(self) -> None:
        self.seen: list[Site] = []

    def constant(self, array: Any) -> Any:
        return array

    def equation(self, site: Site, operands: list[Any]) -> Sequence[Any]:
        self.seen.append(site)
        return evaluate(site.eqn, operands)


def with_jvp(f):
    wrapped = jax.custom_jvp(f)
    wrapped.defjvp(lambda x, t: (f(*x), t[0]))
    return wrapped


def with_vjp(f):
    wrapped = jax.custom_vjp(f)
    wrapped.defvjp(lambda x: (f(x), None), lambda _, g: (g,))
    return wrapped


def with_vmap(f):
    wrapped = custom_vmap(f)
    wrapped.def_vmap(lambda size, batched, x: (f(x), batched[0]))
    return wrapped


@pytest.mark.parametrize(
    "wrap",
    [jax.jit, jax.checkpoint, with_jvp, with_vjp, with_vmap],
    ids=["jit", "checkpoint", "custom_jvp", "custom_vjp", "custom_vmap"],
)
def test_calls_are_entered_with_their_constants(wrap) -> None:
    table = jnp.arange(4.0)

    def fn(x):
        return wrap(lambda x: jnp.sin(x) * 2.0 + table)(wrap(jnp.cos)(x))

    recorder = Recorder()
    (got,) = recorder.run(jax.make_jaxpr(fn)(X), [X])
    np.testing.assert_array_equal(got, np.sin(np.cos(X)) * 2 + table)
    assert [site.name for site in recorder.seen] == ["cos", "sin", "mul", "add"]
    names = {site.name for site in sites(jax.make_jaxpr(fn)(X))}
    assert {"cos", "sin", "mul", "add"} < names


def test_runs_scopes_and_lines() -> None:
    def body(c, _):
        with jax.named_scope("inner"):
            return jnp.sin(c), None

    def fn(x):
        with jax.named_scope("outer"):
            repeated = jax.lax.scan(lambda c, _: jax.lax.scan(body, c, length=3), x, length=5)[0]
        return jnp.cos(repeated)

    found = {site.name: site for site in sites(jax.make_jaxpr(fn)(X))}
    assert (found["sin"].runs, found["cos"].runs) == (15, 1)
    assert (found["sin"].scope, found["cos"].scope) == ("outer/inner", "")
    assert found["sin"].shapes == [(4,)]
    frame = found["sin"].frame
    assert frame is not None
    assert (frame.file, frame.line) == (__file__, body.__code__.co_firstlineno + 2)


def test_branches_come_all_or_as_chosen() -> None:
    def fn(x):
        return jax.lax.cond(x[0] > 0, lambda: jnp.sin(x), lambda: jnp.cos(jnp.exp(x)))

    jaxpr = jax.make_jaxpr(fn)(X)
    assert {"sin", "cos", "exp"} <= {site.name for site in sites(jaxpr)}
    shortest = {site.name for site in sites(jaxpr, lambda branches: min(branches, key=len))}
    assert shortest & {"sin", "cos", "exp"} == {"sin"}
