"""Takes ResNet-18 and GPT-2, written in plain Flax, to a photonic chip.

For each: `convert`, the report, a few steps of training under the noise of the chip on one small
batch, and a checkpoint from which training goes on bit for bit.

    python examples/convert_flax_model.py [--out DIR] [--steps N] [--depth N] [--model NAME]

GPT-2 has the width, the heads and the vocabulary of the small one, and as many blocks as --depth
says; 12 are all of it, and want 4 GB of memory. The images are those of the digits in scikit-learn,
enlarged to 32x32; the text is the Zen of Python, which the standard library ships.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import digits
import flax.linen as nn
import jax
import jax.numpy as jnp
import linen_models
import numpy as np
import optax
import orbax.checkpoint as ocp

from lumina_jax import ConversionRule, HardwareProfile, NoiseModel, convert
from lumina_jax.hardware import Converters

CHIP = HardwareProfile(
    name="8 bit, 5 % noise", converters=Converters.all(8), noise=NoiseModel(relative=0.05)
)
MUTABLE = ("ranges", "batch_stats")

Loss = Callable[[jax.Array], jax.Array]


def resnet() -> tuple[nn.Module, list[ConversionRule], jax.Array, Loss]:
    """ResNet-18 on sixteen digits; its first and its last layer stay digital, as is usual."""
    rules = [ConversionRule("stem|head", digital=True), ConversionRule(profile=CHIP)]
    train, _ = digits.load()
    images = jnp.asarray(train.images[:16]).reshape(-1, 8, 8, 1)
    images = jnp.tile(images.repeat(4, axis=1).repeat(4, axis=2), (1, 1, 1, 3))
    labels = jnp.asarray(train.digits[:16])

    def loss(logits: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return linen_models.ResNet(), rules, images, loss


def gpt(depth: int) -> tuple[nn.Module, list[ConversionRule], jax.Array, Loss]:
    """GPT-2 on the bytes of a text, which are tokens of its vocabulary as well."""
    with contextlib.redirect_stdout(io.StringIO()):
        import this
    text = codecs.decode(this.s, "rot13").encode()[:128]
    tokens = jnp.asarray(np.frombuffer(text, np.uint8).astype(np.int32)).reshape(4, 32)

    def loss(logits: jax.Array) -> jax.Array:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], tokens[:, 1:])
        return losses.mean()

    model = linen_models.Gpt(depth=depth, context=32)
    return model, [ConversionRule(profile=CHIP)], tokens, loss


def trainer(model: nn.Module, x: jax.Array, loss_of: Loss, optimizer: Any) -> Any:
    """One step of training on `x`, from a state to the next and its loss."""

    @jax.jit
    def step(state: dict[str, Any]) -> tuple[dict[str, Any], jax.Array]:
        rngs = {"noise": jax.random.fold_in(jax.random.key(1), state["step"])}

        def loss(params: Any) -> tuple[jax.Array, Any]:
            logits, changed = model.apply(
                {**state["variables"], "params": params},
                x,
                train=True,
                rngs=rngs,
                mutable=list(MUTABLE),
            )
            return loss_of(logits), changed

        params = state["variables"]["params"]
        (value, changed), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = optimizer.update(grads, state["optimizer"], params)
        variables = {"params": optax.apply_updates(params, updates), **changed}
        return {"variables": variables, "optimizer": moments, "step": state["step"] + 1}, value

    return step


def run(
    name: str,
    out: Path,
    steps: int,
    plain: nn.Module,
    rules: list[ConversionRule],
    x: jax.Array,
    loss: Loss,
) -> list[float]:
    """Converts and trains one model; its losses."""
    model = convert(plain, rules)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    print(f"\n{name}: {count / 1e6:.1f} million parameters\n\n{model.report}\n")
    assert jax.tree.structure(variables["params"]) == jax.tree.structure(
        jax.eval_shape(plain.init, jax.random.key(0), x)["params"]
    )

    optimizer = optax.adam(1e-3)
    step = trainer(model, x, loss, optimizer)
    state = {
        "variables": variables,
        "optimizer": optimizer.init(variables["params"]),
        "step": jnp.int32(0),
    }
    losses = []
    for i in range(steps):
        began = time.perf_counter()
        state, value = step(state)
        losses.append(float(value))
        print(f"step {i}: loss {losses[-1]:.3f}, {time.perf_counter() - began:.1f} s", flush=True)

    folder = (out / name).absolute()
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, state, force=True)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(folder, state)
    resumed, straight = step(restored), step(state)
    equal = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), resumed, straight)
    assert jax.tree.all(equal), "a restored run differs"
    print(f"saved to {folder}, restored, and one step on: equal bit for bit")
    return losses


def main() -> None:
    """Runs from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build/convert"), help="for checkpoints")
    parser.add_argument("--steps", type=int, default=6, help="of training")
    parser.add_argument("--depth", type=int, default=1, help="blocks of GPT-2, of 12")
    parser.add_argument("--model", choices=("resnet", "gpt", "both"), default="both")
    args = parser.parse_args()
    chosen = {"resnet": resnet, "gpt": lambda: gpt(args.depth)}
    for name, make in chosen.items():
        if args.model in (name, "both"):
            losses = run(name, args.out, args.steps, *make())
            assert losses[-1] < losses[0], losses


if __name__ == "__main__":
    main()
