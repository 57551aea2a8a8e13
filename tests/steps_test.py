"""The training step: micro-batches, and what the devices exchange."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_cnn import mesh, steps
from tests.conftest import make_config, real_data
from tests.devices_test import make_run


def quadratic(params, shared, batch):
    """A loss of one micro-batch that notices its number and the rows it holds."""
    error = batch["x"] @ params["w"] - shared["target"]
    return jnp.sum(error**2), {"rows": jnp.float32(batch["x"].shape[0]), "sum": batch["x"].sum()}


@pytest.mark.parametrize("one_by_one", [True, False])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_gradients_are_the_sum_over_micro_batches_on_any_number_of_devices(count, one_by_one):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3, 5)).astype(np.float32)
    params = {"w": jnp.asarray(rng.normal(size=5), jnp.float32)}
    shared = {"target": jnp.float32(0.5)}
    grads, (loss, results) = jax.jit(
        lambda params, batches: steps.summed_gradients(
            quadratic,
            params,
            shared,
            batches,
            mesh=mesh.make_mesh(jax.devices()[:count]),
            one_by_one=one_by_one,
        )
    )(params, {"x": x})
    error = x.reshape(24, 5).astype(np.float64) @ np.asarray(params["w"], np.float64) - 0.5
    np.testing.assert_allclose(loss, (error**2).sum(), rtol=1e-5)
    np.testing.assert_allclose(grads["w"], 2 * error @ x.reshape(24, 5), rtol=1e-5)
    assert results["rows"] == 24
    np.testing.assert_allclose(results["sum"], x.sum(), rtol=1e-4)


def convolutions_of_flax(platform):
    """How many there are in the gradient of two layers of flax's own."""
    net, images = nn.Sequential([nn.Conv(16, (3, 3)), nn.Conv(16, (3, 3))]), jnp.ones((1, 8, 8, 3))
    params = jax.eval_shape(net.init, jax.random.key(0), images)
    gradient = jax.jit(jax.grad(lambda params: (net.apply(params, images) ** 2).sum()))
    text = jax.export.export(gradient, platforms=[platform])(params).mlir_module()
    return text.count("stablehlo.convolution")


@real_data("cifar10")
@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_a_step_exchanges_one_sum_and_convolutions_are_plain_off_the_cpu(platform, monkeypatch):
    if platform != "cpu":
        monkeypatch.setattr(mesh, "platform_of", lambda _: platform)
    config = make_config({"model.plain.batch_norm": True, "model.plain.filters": ((16,), (16,))})
    # 100 a step and 250 in all: micro-batches are padded, and the last step of an epoch is short.
    run, examples = make_run(4, 250, config)
    arguments = (run.init(), examples, run.epoch_order(examples, 0))
    step = jax.jit(lambda *arguments: run.train_chunk(*arguments, jnp.int32(2)))
    if platform == "cpu":
        # XLA makes one of the many sums of the program that it is given.
        text = step.lower(*arguments).compile().as_text()
        assert text.count(" all-reduce(") == 1
        return
    text = jax.export.export(step, platforms=[platform])(*arguments).mlir_module()
    assert text.count("stablehlo.all_reduce") == 1
    assert "bf16" not in text
    # Forward and gradients as flax and jax have them, and none of them twice. Only a gradient of
    # the images may stand there too, by the version of jax: nothing reads it, and XLA drops it.
    more = text.count("stablehlo.convolution") - convolutions_of_flax(platform)
    assert 0 <= more <= 1
