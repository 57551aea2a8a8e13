"""All optimizers alike: what stands in `optim.OPTIMIZERS` is tested with its section of the default
config."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cifar_cnn import mesh as mesh_lib
from cifar_cnn import steps
from cifar_cnn.augment import make_augment
from cifar_cnn.checks import UsageError
from cifar_cnn.data import Examples
from cifar_cnn.optim import OPTIMIZERS, make_optimizer
from cifar_cnn.state import init_state
from configs import default

STEPS, CLASSES = 6, 2


def section(name):
    sections = default.get_config().optim.to_dict()
    assert name in sections, f"configs/default.py has no section optim.{name} of optim.OPTIMIZERS"
    return sections[name]


def optimizer_of(name, *, weight_decay=0.0, rate=0.05, **changes):
    return make_optimizer(
        name,
        optax.constant_schedule(rate),
        learning_rate=rate,
        weight_decay=weight_decay,
        clip_norm=0.0,
        lr_mults=(),
        **section(name) | changes,
    )


def takes_weight_decay(name):
    try:
        optimizer_of(name, weight_decay=0.5)
    except UsageError:
        return False
    return True


class Net(nn.Module):
    """A kernel of each number of axes, with biases."""

    @nn.compact
    def __call__(self, images, *, train, mask=None):
        x = nn.relu(nn.Conv(4, (3, 3))(images))
        return nn.Dense(CLASSES)(x.mean(axis=(1, 2)))


def trained(name, devices):
    """State and losses after some steps on a few images, on so many devices."""
    model, optimizer = Net(), optimizer_of(name)
    mesh = mesh_lib.make_mesh(jax.devices()[:devices])
    labels = np.arange(8) % CLASSES
    images = (
        np.random.default_rng(0).integers(0, 156, (8, 6, 6, 3)) + 100 * labels[:, None, None, None]
    )
    examples = Examples(jnp.uint8(images), jnp.int32(labels), jnp.arange(8, dtype=jnp.int32))
    step = functools.partial(
        steps.train_step,
        model=model,
        optimizer=optimizer,
        augment=make_augment(()),
        image_size=0,
        mixup_alpha=0.0,
        mean=jnp.full(3, 0.5),
        std=jnp.full(3, 0.25),
        label_smoothing=0.0,
        ema_decay=0.0,
        micro_batch_size=2,
        mesh=mesh,
        one_by_one=True,
    )
    chunk = functools.partial(
        steps.train_chunk,
        step=step,
        batch_size=8,
        padded_size=8,
        steps_per_epoch=STEPS,
        longest=STEPS,
        mesh=mesh,
    )

    @functools.partial(jax.jit, out_shardings=mesh_lib.replicated(mesh))
    def run(examples):
        state = init_state(model, optimizer, jax.random.key(0), jnp.zeros((1, 6, 6, 3)), ema=False)
        # The same 8 examples in every step: a pass of one batch as long as all of them.
        order = jnp.tile(examples.indices, STEPS)
        return chunk(state, examples, order, jax.random.key(0), jnp.int32(STEPS))

    state, records = run(examples)
    return state, np.asarray(records["loss"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_loss_falls_in_the_same_way_on_any_number_of_devices(name):
    state, losses = trained(name, 1)
    assert losses[-1] < losses[0] - 0.01
    assert (np.diff(losses) < 0.1).all()
    others, again = trained(name, 4)
    np.testing.assert_allclose(again, losses, rtol=1e-4)
    # Sums in another order, which a division by small second moments makes larger.
    for a, b in zip(jax.tree.leaves(others), jax.tree.leaves(state), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def random_tree(seed):
    rng = np.random.default_rng(seed)
    shapes = {"conv": {"kernel": (3, 3, 2, 4), "bias": (4,)}, "head": {"kernel": (5, 3)}}
    shapes["norm"] = {"scale": (4,)}
    return jax.tree.map(
        lambda shape: rng.normal(size=shape).astype(np.float32),
        shapes,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_keeps_its_structure_and_parameters_their_dtype(name):
    params, optimizer = random_tree(0), optimizer_of(name)
    state = optimizer.init(params)
    updates, new = jax.eval_shape(optimizer.update, params, state, params)

    def described(tree):
        return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), tree)

    assert described(new) == described(state)
    assert described(updates) == described(params)
    # In bfloat16 nothing is lost that float32 keeps: the moments are those of the parameters.
    assert {leaf.dtype for leaf in jax.tree.leaves(new) if leaf.ndim} <= {jnp.dtype("float32")}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_takes_kernels_towards_0_and_nothing_else(name):
    if not takes_weight_decay(name):
        with pytest.raises(UsageError, match=r"does not read optim\.weight_decay"):
            optimizer_of(name, weight_decay=0.5)
        return
    optimizer = optimizer_of(name, weight_decay=0.5)
    params = random_tree(0)
    zeros = jax.tree.map(np.zeros_like, params)
    updates, _ = jax.jit(optimizer.update)(zeros, optimizer.init(params), params)
    for layer, leaf in (("conv", "bias"), ("norm", "scale")):
        np.testing.assert_array_equal(updates[layer][leaf], 0)
    decayed = np.asarray(updates["head"]["kernel"]) / params["head"]["kernel"]
    assert (decayed < 0).all()
    np.testing.assert_allclose(decayed, decayed.mean(), rtol=1e-4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_schedule_gives_every_step_its_rate(name):
    params, gradients = random_tree(0), random_tree(1)

    def second_update(rates):
        optimizer = make_optimizer(
            name, lambda step: jnp.array(rates)[step], learning_rate=0.1, weight_decay=0.0,
            clip_norm=0.0, lr_mults=(), **section(name),
        )  # fmt: skip
        _, state = optimizer.update(gradients, optimizer.init(params), params)
        return optimizer.update(gradients, state, params)[0]["head"]["kernel"]

    once, twice = jax.jit(lambda: (second_update([0.3, 0.1]), second_update([0.7, 0.2])))()
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_no_key_of_an_optimizer_takes_a_value_of_another_kind(name):
    for key in section(name):
        for value in (None, object(), "no_such_value", float("nan"), {}):
            with pytest.raises(UsageError, match=rf"optim\.{name}\.{key} ") as caught:
                optimizer_of(name, **{key: value})
            assert "\n" not in str(caught.value)
