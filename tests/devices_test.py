"""The same training on any number of devices, and every example counted exactly once."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_cnn import data, experiment, mesh
from tests.conftest import make_config, real_data


def make_run(devices, count, config, name="cifar10", split="test", tta=False):
    """An experiment on the first `count` real images, on so many CPU devices."""
    builder = experiment.make_builder({**config, "data": {**config["data"], "name": name}})
    arrays = data.load_arrays(builder, split, experiment.cache_dir(config))
    rows = np.arange(count)
    mean, std = data.channel_statistics(arrays.images, rows)
    facts = data.Facts(
        name=name,
        fingerprint="",
        image_shape=arrays.images.shape[1:],
        class_names=arrays.class_names,
        mean=tuple(mean),
        std=tuple(std),
        train_examples=count,
        validation_examples=0,
    )
    devices = mesh.make_mesh(jax.devices()[:devices])
    run = experiment.build(config, facts, devices, tta=tta)
    return run, data.to_device(arrays, rows, mesh.replicated(devices))


def losses(devices, steps, config, count=2000):
    run, examples = make_run(devices, count, config)
    state = run.init(examples)
    order = run.epoch_order(examples, 0)
    state, records = run.train_chunk(state, examples, order, jnp.int32(steps))
    assert int(state.step) == steps
    return np.asarray(records["loss"])[:steps], state


@real_data("cifar10")
def test_any_number_of_devices_gives_the_same_losses():
    # With dropout and augmentation. 100 does not divide by 3: two rows of padding in every step.
    config = make_config({"model.plain.batch_norm": True, "optim.ema_decay": 0.9})
    one, state = losses(1, 20, config)
    assert one[-1] < one[0]
    many, other = losses(3, 20, config)
    np.testing.assert_allclose(many, one, rtol=1e-5)
    for a, b in zip(
        jax.tree.leaves(state.batch_stats), jax.tree.leaves(other.batch_stats), strict=True
    ):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


@real_data("cifar10")
def test_the_pieces_of_the_speed_recipe_are_the_same_on_any_number_of_devices():
    config = make_config(
        {
            "augment.names": ("flip", "crop"),
            "augment.flip.alternate": True,
            "model.name": "airbench",
            "model.precision": "bfloat16",
            "model.airbench.widths": (16,),
            "optim.name": "muon",
            "optim.learning_rate": 0.1,
            "optim.schedule": "linear",
            "optim.muon.sgd_learning_rate": 5.0,
            "optim.lr_mults": (("whitening/.*", 0.0),),
            "train.micro_batch_size": 16,
            "train.image_sizes": ((0, 20),),
            "train.mixup_alpha": 0.5,
        }
    )
    one, _ = losses(1, 6, config)
    assert one[-1] < one[0]
    many = losses(3, 6, config)[0]
    # The first update is made of the same factors: only the order of sums differs.
    np.testing.assert_allclose(many[:2], one[:2], rtol=1e-5)
    # From then on some factors round to the other neighbour of their 8 bits.
    np.testing.assert_allclose(many, one, rtol=1e-2)


@real_data("cifar10")
@pytest.mark.parametrize("tta", [False, True])
def test_evaluation_counts_9999_examples_once(tta):
    config = make_config({"eval.batch_size": 128})
    run, examples = make_run(3, 9999, config, tta=tta)
    variables = jax.device_get(run.init().eval_variables)
    metrics, logits = run.evaluate(variables, examples)
    result = metrics.compute()
    assert int(result["count"]) == 9999
    assert logits.shape == (9999, 10)
    labels = np.asarray(examples.labels)[:9999]
    assert float(result["accuracy"]) == pytest.approx(np.mean(logits.argmax(-1) == labels))
    np.testing.assert_array_equal(
        np.asarray(metrics.confusion).sum(1), np.bincount(labels, minlength=10)
    )
    # One device, other batches: the same logits for the same examples.
    config["eval"]["batch_size"] = 2000
    single, alone = make_run(1, 9999, config, tta=tta)
    np.testing.assert_allclose(single.evaluate(variables, alone)[1], logits, rtol=1e-4, atol=1e-5)


@real_data("cifar10")
def test_the_step_compiles_once_a_run_and_chunks_do_not_matter(caplog):
    run, examples = make_run(3, 1000, make_config({"train.batch_size": 128}))
    assert run.steps_per_epoch == 8

    def losses_by(stops):
        state, seen = run.init(), []
        for stop in stops:
            first = int(state.step)
            order = run.epoch_order(examples, first // run.steps_per_epoch)
            state, records = run.train_chunk(state, examples, order, jnp.int32(stop))
            seen += np.asarray(records["loss"])[: stop - first].tolist()
        return seen, records

    with jax.log_compiles():
        in_parts, records = losses_by((3, 8, 9, 16))
    assert sum("Compiling jit(train_chunk)" in r.getMessage() for r in caplog.records) == 1
    # The last batch of an epoch holds the 104 examples that are left.
    np.testing.assert_array_equal(records["count"][:7], [128] * 6 + [104])
    assert in_parts == losses_by((8, 16))[0]
    assert np.isfinite(in_parts).all()


def test_every_example_is_visited_once_an_epoch():
    order = jax.jit(data.epoch_order)(jax.random.key(1), jnp.arange(50, dtype=jnp.int32) * 2)
    rows, masks = zip(*[data.take_batch(order, i, 16, 18) for i in range(4)], strict=True)
    visited = np.concatenate(rows)[np.concatenate(masks)]
    np.testing.assert_array_equal(np.sort(visited), np.arange(50) * 2)
    assert not np.array_equal(visited, np.arange(50) * 2)


@real_data("cifar10")
def test_devices_exchange_gradients_and_nothing_of_the_size_of_a_batch():
    run, examples = make_run(4, 1000, make_config())
    whole = jax.jit(lambda *arguments: run.train_chunk(*arguments, jnp.int32(5)))
    text = whole.lower(run.init(), examples, run.epoch_order(examples, 0)).compile().as_text()
    assert " all-reduce(" in text
    moved = [
        line for line in text.splitlines() if re.search(r" all-(gather|to-all)\(|permute\(", line)
    ]
    # Images, features and dropout masks stay where they are.
    sizes = [
        math.prod(map(int, shape.split(",")))
        for line in moved
        for shape in re.findall(r"= \w+\[([\d,]+)\]", line)
    ]
    assert max(sizes, default=0) <= 100, moved
