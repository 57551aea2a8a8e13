"""Residual networks: what blocks begin as, and where dropout stands."""

import itertools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from tests.families import called, drawn, initial, intermediates, noise, small

STRIDED = {"resnet": ("BasicBlock_1",), "wide_resnet": ("PreActivationBlock_1",)}


def test_blocks_with_zero_scale_begin_as_the_identity():
    model = small("resnet", zero_init_residual=True, stage_sizes=(2,), widths=(4,))
    images = noise(2, 8, 8, 3)
    variables = drawn(model, images)
    for block in ("BasicBlock_0", "BasicBlock_1"):
        scale = initial(model, images, block, "BatchNorm_1", "scale")
        assert not scale.any()
        assert initial(model, images, block, "BatchNorm_0", "scale").all()
        variables["params"][block]["BatchNorm_1"] = {"scale": scale, "bias": jnp.zeros(4)}
    made = intermediates(model, variables, images)
    before, after = made["Activation_0"]["__call__"][0], made["BasicBlock_1"]["__call__"][0]
    assert np.abs(before).max() > 0
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("name", ["resnet", "wide_resnet"])
def test_kernels_begin_at_the_size_that_keeps_variances(name):
    kernel = initial(small(name), noise(1, 16, 16, 3), *STRIDED[name], "Conv_1", "kernel")
    # He et al. 2015: 2 / inputs of a filter. Some 600 draws or more are off by 6 %.
    np.testing.assert_allclose(kernel.var(), 2 / np.prod(kernel.shape[:3]), rtol=0.25)


def test_dropout_stands_before_the_second_convolution_of_a_wide_block():
    calls = called(small("wide_resnet", dropout=0.5), train=True)
    after = [second for first, second in itertools.pairwise(calls) if isinstance(first, nn.Dropout)]
    assert [layer.name for layer in after] == ["Conv_1"] * 3
