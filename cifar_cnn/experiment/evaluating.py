"""The evaluation of a network on parts of the data: at once, or in calls of about a second."""

import functools
import time
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from cifar_cnn import augment as augment_lib
from cifar_cnn import data as data_lib
from cifar_cnn import hosts, steps
from cifar_cnn import mesh as mesh_lib
from cifar_cnn.experiment.parts import Config
from cifar_cnn.metrics import Metrics
from cifar_cnn.window import Pace

Views = Sequence[tuple[float, augment_lib.View]]
PLAIN: Views = ((1.0, lambda images: images),)


class Evaluator:
    """Evaluates a network; its programs are compiled when first called."""

    def __init__(
        self, config: Config, facts: data_lib.Facts, model: nn.Module, mesh: Mesh, views: Views
    ):
        """Compiles nothing.

        Args:
          views: see `steps.eval_batches`.
        """
        self._size, self._classes = config["eval"]["batch_size"], len(facts.class_names)
        one_by_one = mesh_lib.platform_of(mesh) == "cpu"
        # As in training, for the sake of the cache; the rows of an evaluation share nothing.
        share = -(-self._size // mesh.size)
        piece = min(config["train"]["micro_batch_size"], share) if one_by_one else 1
        self._batches = functools.partial(
            steps.eval_batches,
            model=model,
            mean=jnp.asarray(facts.mean),
            std=jnp.asarray(facts.std),
            padded_size=mesh_lib.padded_size(self._size, mesh, piece),
            micro_batch_size=piece,
            mesh=mesh,
            one_by_one=one_by_one,
        )
        jit = functools.partial(jax.jit, out_shardings=mesh_lib.replicated(mesh))
        self._begin = jit(self._empty, static_argnums=0)
        self._advance = jit(functools.partial(self._batches, views=views), donate_argnums=2)
        self._finish = jit(steps.Evaluation.finish, static_argnums=1)
        self._pace = Pace()

    def __call__(
        self, variables: steps.Variables, examples: data_lib.Examples
    ) -> tuple[Metrics, jax.Array]:
        """The metrics, and the logits float32 [n, K] in the order of examples.indices (with
        several views: the logarithm of the mean probabilities)."""
        evaluation = self._begin(self._count(examples))
        stop = jnp.int32(self._count(examples))
        evaluation = self._advance(variables, examples, evaluation, jnp.int32(0), stop)
        return self._finish(evaluation, examples.indices.size)

    def over(
        self, views: Views, variables: steps.Variables, examples: data_lib.Examples
    ) -> tuple[Metrics, jax.Array]:
        """The same over given views, to be traced within a program of the caller's."""
        count = self._count(examples)
        evaluation = self._batches(variables, examples, self._empty(count), 0, count, views=views)
        return evaluation.finish(examples.indices.size)

    def compile(self, variables: steps.Variables, examples: data_lib.Examples) -> None:
        """Compiles what evaluates these examples, and computes nothing."""
        evaluation, none = self._begin(self._count(examples)), jnp.int32(0)
        evaluation = self._advance(variables, examples, evaluation, none, none)
        jax.block_until_ready(self._finish(evaluation, examples.indices.size))

    def in_calls(
        self,
        variables: steps.Variables,
        examples: data_lib.Examples,
        is_ended: Callable[[], int],
    ) -> tuple[Metrics, jax.Array] | None:
        """As `__call__`, to the bit, in calls of `window.CALL_SECONDS`, or of one batch where that
        takes longer.

        Args:
          is_ended: asked before each call, in all processes, which have to get the same answer;
            the evaluation is given up, and None returned, once it holds.
        """
        evaluation, batch = self._begin(self._count(examples)), 0
        while batch < self._count(examples):
            if is_ended():
                return None
            stop = min(self._count(examples), batch + hosts.from_first(self._pace.steps))
            start = time.monotonic()
            evaluation = self._advance(
                variables, examples, evaluation, jnp.int32(batch), jnp.int32(stop)
            )
            jax.block_until_ready(evaluation)
            self._pace.update(stop - batch, time.monotonic() - start)
            batch = stop
        return self._finish(evaluation, examples.indices.size)

    def _count(self, examples: data_lib.Examples) -> int:
        """Batches."""
        return -(-examples.indices.size // self._size)

    def _empty(self, batches: int) -> steps.Evaluation:
        return steps.Evaluation.begin(batches, self._size, self._classes)
