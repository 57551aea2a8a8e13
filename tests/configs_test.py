"""Every file in configs/ loads, builds and runs a step; its parameters are counted exactly."""

import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_cnn import data, experiment, mesh
from cifar_cnn.checks import UsageError, leaves
from configs import default
from tests.conftest import ROOT, make_config

pytestmark = pytest.mark.every_python

NAMES = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if p.stem != "__init__")
CONV = 3 * 3 * 3 * 32 + 32 + 3 * 3 * 32 * 32 + 32 + 3 * 3 * 32 * 64 + 64 + 3 * 3 * 64 * 64 + 64
DENSE = 8 * 8 * 64 * 512 + 512 + 512 * 10 + 10
PARAMETERS = {
    "default": CONV + DENSE,
    "baseline": CONV + DENSE,
    "augment": CONV + DENSE,
    "dropout": CONV + DENSE,
    "quickstart": CONV + DENSE,
    "wide": 3 * 3 * 3 * 48 + 48 + 3 * 3 * 48 * 48 + 48 + 3 * 3 * 48 * 96 + 96
    + 3 * 3 * 96 * 96 + 96 + 8 * 8 * 96 * 512 + 512 + 512 * 10 + 10,
    "cifar10_dense": 3072 * 512 + 512 + 512 * 10 + 10,
    "fashion_dense": 784 * 128 + 128 + 128 * 10 + 10,
    # flatten 5 * 5 * 64 = 1600
    "fashion_cnn": 9 * 64 + 64 + 9 * 64 * 64 + 64 + 1600 * 128 + 128 + 128 * 10 + 10,
    "mnist": 9 * 32 + 32 + 9 * 32 * 64 + 64 + 1600 * 10 + 10,
    # flatten 12 * 12 * 32 = 4608
    "speedrun": 1_971_640,
    "speedrun_95": 4_604_728,
    "speedrun_96": 12_717_752,
    "resnet18": 11_173_962,
    "wide_resnet": 36_479_194,
    "mnist_classic": 16 * 32 + 32 + 4608 * 16 + 16 + 16 * 8 + 8 + 8 * 10 + 10,
}  # fmt: skip
IMAGE_SHAPES = {"cifar10": (32, 32, 3), "shapes10": (32, 32, 3)}  # Of the others: (28, 28, 1).


def load(name):
    return importlib.import_module(f"configs.{name}").get_config().to_dict()


def test_every_config_has_its_parameters_counted():
    assert set(NAMES) == set(PARAMETERS)
    assert PARAMETERS["dropout"] == 2_168_362
    assert PARAMETERS["fashion_cnn"] == 243_786
    assert PARAMETERS["mnist_classic"] == 74_514


# A step of the large networks takes a minute to compile.
LARGE = ("speedrun_95", "speedrun_96", "resnet18", "wide_resnet")


@pytest.mark.parametrize("name", NAMES)
def test_config_loads_builds_and_runs_a_step(name):
    config = load(name)
    experiment.check(config, default.get_config().to_dict())
    assert dict(leaves(config)).keys() == dict(leaves(default.get_config().to_dict())).keys()
    config["train"]["batch_size"] = 4
    shape = IMAGE_SHAPES.get(config["data"]["name"], (28, 28, 1))
    facts = data.Facts(
        name=name,
        fingerprint="",
        image_shape=shape,
        class_names=tuple("abcdefghij"),
        mean=(0.5,) * shape[-1],
        std=(0.25,) * shape[-1],
        train_examples=8,
        validation_examples=0,
    )
    devices = mesh.make_mesh(jax.devices()[:1])
    run = experiment.build(config, facts, devices)
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(run.abstract_state.params))
    assert count == PARAMETERS[name]
    if name in LARGE:
        return
    rng = np.random.default_rng(0)
    arrays = data.Arrays(
        rng.integers(0, 256, (8, *shape), np.uint8),
        rng.integers(0, 10, 8).astype(np.uint8),
        facts.class_names,
    )
    examples = data.to_device(arrays, np.arange(8), mesh.replicated(devices))
    order = run.epoch_order(examples, 0)
    state, records = run.train_chunk(run.init(), examples, order, jnp.int32(1))
    assert int(state.step) == 1
    assert np.isfinite(records["loss"][0])


def test_bfloat16_computes_with_float32_parameters():
    facts = data.Facts("x", "", (8, 8, 3), ("a", "b"), (0.5,) * 3, (0.2,) * 3, 8, 0)
    devices = mesh.make_mesh(jax.devices()[:1])
    config = make_config({"model.dtype": "bfloat16", "train.batch_size": 4})
    run = experiment.build(config, facts, devices)
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
    arrays = data.Arrays(images, np.arange(8) % 2, facts.class_names)
    examples = data.to_device(arrays, np.arange(8), mesh.replicated(devices))
    order = run.epoch_order(examples, 0)
    state, records = run.train_chunk(run.init(), examples, order, jnp.int32(2))
    assert np.isfinite(records["loss"][:2]).all()
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(state.params)} == {"float32"}
    _, logits = run.evaluate(state.eval_variables, examples)
    assert logits.dtype == np.float32
    single = experiment.build(make_config({"train.batch_size": 4}), facts, devices)
    _, exact = single.evaluate(state.eval_variables, examples)
    assert 0 < np.abs(logits - exact).max() < 0.05


def test_every_config_says_its_command():
    for name in NAMES:
        text = (ROOT / "configs" / f"{name}.py").read_text()
        if name != "default":
            assert f"python -m cifar_cnn.main --config=configs/{name}.py" in text


BAD = [
    ({"train.batch_size": 0}, "train.batch_size is 0, expected an integer from 1"),
    ({"train.epochs": -1}, "train.epochs is -1, expected an integer from 1"),
    ({"optim.learning_rate": float("nan")}, "optim.learning_rate is nan"),
    ({"optim.learning_rate": float("inf")}, "optim.learning_rate is inf"),
    ({"optim.learning_rate": -1.0}, "optim.learning_rate is -1.0"),
    ({"optim.name": "adamm"}, r"optim.name is 'adamm', expected one of: .*did you mean 'adam'"),
    ({"optim.schedule": "step"}, "optim.schedule is 'step', expected one of: "),
    ({"optim.muon.momentum": 0.7}, "optim.muon.momentum is 0.7, but nothing reads it"),
    ({"optim.lr_mults": (("(", 0.0),)}, "expected a regular expression"),
    ({"model.precision": "tf32"}, "model.precision is 'tf32', expected one of: "),
    ({"train.micro_batch_size": 0}, "train.micro_batch_size is 0, expected an integer from 1"),
    ({"train.mixup_alpha": -1.0}, "train.mixup_alpha is -1.0"),
    ({"train.image_sizes": (24, 32)}, r"train.image_sizes is \(24, 32\), expected .*pairs"),
    ({"train.image_sizes": ((0, 24), (99, 32))}, "first epoch in train.image_sizes is 99"),
    ({"train.image_sizes": ((1, 24), (0, 32))}, "expected its epochs in rising order"),
    ({"optim.weight_decay": 0.1}, "use adamw"),
    ({"optim.warmup_epochs": 5.0}, "less than train.epochs"),
    ({"model.name": "resnett"}, r"model.name is 'resnett', .*did you mean 'resnet'"),
    ({"model.dtype": "float16"}, "model.dtype is 'float16'"),
    ({"augment.names": ("rotate",)}, "augment.names is 'rotate', expected one of: crop, cut"),
    ({"augment.names": ("flip,crop",)}, "augment.names has 'flip,crop', expected one name each"),
    ({"augment.crop.mode": "wrap"}, "augment.crop.mode is 'wrap'"),
    ({"model.plain.kernel_size": "big"}, "model.plain.kernel_size is 'big', expected an integer"),
    ({"model.plain.kernel_size": (3, 3, 3)}, "3 values for 2 stages"),
    ({"model.plain.filters": (32, 64)}, "one non-empty tuple a stage"),
    ({"model.plain.filters": ((),)}, "one non-empty tuple a stage"),
    ({"model.plain.pool": "median"}, "model.plain.pool is 'median'"),
    ({"model.plain.conv_dropout": 1.0}, "model.plain.conv_dropout is 1.0"),
    ({"model.plain.activation": "swish"}, "model.plain.activation is 'swish'"),
    ({"data.name": ""}, "data.name is ''"),
    ({"run.platform": "gpu"}, "run.platform is 'gpu', expected one of: auto, cpu, cuda"),
    # Known keys that nothing reads.
    ({"optim.sgd.momentum": 0.8}, "optim.sgd.momentum is 0.8, but nothing reads it"),
    ({"optim.end_factor": 0.5}, "nothing reads it .*'constant'"),
    ({"optim.peak_fraction": 0.5}, "nothing reads it"),
    ({"augment.cutout.size": 4}, "nothing reads it .*'cutout' is not in augment.names"),
    ({"model.plain.pool": "none", "model.plain.pool_size": 3}, "pool_size is 3, but nothing"),
    ({"model.plain.dense": ()}, "dense_dropout is 0.5, but nothing reads it"),
    ({"data.validation_size": 0, "eval.every_epochs": 2}, "eval.every_epochs is 2, but nothing"),
]


@pytest.mark.parametrize(("overrides", "message"), BAD, ids=[str(o) for o, _ in BAD])
def test_bad_values_are_one_line_naming_key_and_expectation(overrides, message):
    config = make_config(overrides)
    with pytest.raises(UsageError, match=message) as caught:
        experiment.check(config, default.get_config().to_dict())
    assert "\n" not in str(caught.value)


def test_unknown_and_missing_keys_are_named():
    reference = default.get_config().to_dict()
    config = make_config()
    config["train"]["epoch"] = 3
    with pytest.raises(UsageError, match=r"no config.train.epoch \(did you mean config.train.epo"):
        experiment.check(config, reference)
    config = make_config()
    del config["train"]["epochs"]
    with pytest.raises(UsageError, match=r"config.train.epochs is missing"):
        experiment.check(config, reference)


def test_a_network_that_does_not_fit_the_images_is_told_before_compiling():
    config = make_config({"model.plain.padding": "VALID", "model.plain.kernel_size": 20})
    facts = data.Facts("x", "", (32, 32, 3), ("a", "b"), (0.5,) * 3, (0.2,) * 3, 8, 0)
    with pytest.raises(UsageError, match="kernel of extent 20 does not fit an input of size 6"):
        experiment.build(config, facts, mesh.make_mesh(jax.devices()[:1]))
