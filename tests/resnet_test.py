"""Residual networks: blocks that begin as the identity, strides."""

import jax.numpy as jnp
import numpy as np

from tests.families import drawn, initial, intermediates, noise, small


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


def test_strided_convolutions_are_centred_on_the_pixels_of_the_shortcut():
    model = small("resnet", stage_sizes=(1, 1), widths=(4, 4))
    images = noise(1, 8, 8, 3)
    variables = drawn(model, images)
    block = variables["params"]["BasicBlock_1"]
    block["Conv_0"]["kernel"] = jnp.zeros((3, 3, 4, 4)).at[1, 1].set(jnp.eye(4))
    block["shortcut"]["kernel"] = jnp.eye(4).reshape(1, 1, 4, 4)
    made = intermediates(model, variables, images)["BasicBlock_1"]
    branch, shortcut = made["Conv_0"]["__call__"][0], made["shortcut"]["__call__"][0]
    assert branch.shape == (1, 4, 4, 4)
    assert np.abs(branch).max() > 0
    np.testing.assert_array_equal(branch, shortcut)
