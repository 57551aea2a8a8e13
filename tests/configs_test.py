"""Every file in configs/ loads, builds and runs a step; its parameters are counted exactly."""

import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_cnn import data, experiment, mesh
from cifar_cnn.augment import AUGMENTS
from cifar_cnn.checks import UsageError, leaves
from cifar_cnn.models import MODELS
from cifar_cnn.optim import OPTIMIZERS, SCHEDULES
from configs import default
from tests.conftest import ROOT, make_config, misspelt

pytestmark = pytest.mark.every_python

NAMES = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if p.stem != "__init__")
# A promise to the reader. The formulas behind them are in models_test.py and plain_test.py.
PARAMETERS = {
    "default": 2_168_362,
    "baseline": 2_168_362,
    "augment": 2_168_362,
    "dropout": 2_168_362,
    "quickstart": 2_168_362,
    "wide": 3_298_106,
    "cifar10_dense": 1_578_506,
    "fashion_dense": 101_770,
    "fashion_cnn": 243_786,
    "mnist": 34_826,
    "mnist_classic": 74_514,
    "speedrun": 1_971_640,
    "speedrun_95": 4_604_728,
    "speedrun_96": 12_717_752,
    "resnet18": 11_173_962,
    "wide_resnet": 36_479_194,
}
# A step of a larger network takes a minute to compile.
MOST_PARAMETERS = 4_000_000
IMAGE_SHAPES = {"cifar10": (32, 32, 3), "shapes10": (32, 32, 3)}  # Of the others: (28, 28, 1).


def load(name):
    return importlib.import_module(f"configs.{name}").get_config().to_dict()


def test_every_config_has_its_parameters_counted():
    missing = set(NAMES) ^ set(PARAMETERS)
    assert not missing, (
        f"PARAMETERS of this file has no number for {missing} of configs/, or too many"
    )


@pytest.mark.parametrize(
    ("section", "table"),
    [("model", MODELS), ("augment", AUGMENTS), ("optim", OPTIMIZERS)],
    ids=["models", "augmentations", "optimizers"],
)
def test_what_can_be_chosen_has_its_section_in_the_default_config(section, table):
    sections = {
        k for k, v in default.get_config()[section].to_dict().items() if isinstance(v, dict)
    }
    assert table.keys() == sections, f"sections of {section} in configs/default.py"


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
    if count > MOST_PARAMETERS:
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
    ({"optim.muon.momentum": 0.7}, "optim.muon.momentum is 0.7, but nothing reads it"),
    ({"optim.lr_mults": (("(", 0.0),)}, "expected a regular expression"),
    ({"model.precision": "no_such_one"}, "model.precision is 'no_such_one', expected one of: "),
    ({"train.micro_batch_size": 0}, "train.micro_batch_size is 0, expected an integer from 1"),
    ({"train.mixup_alpha": -1.0}, "train.mixup_alpha is -1.0"),
    ({"train.image_sizes": (24, 32)}, r"train.image_sizes is \(24, 32\), expected .*pairs"),
    ({"train.image_sizes": ((0, 24), (99, 32))}, "first epoch in train.image_sizes is 99"),
    ({"train.image_sizes": ((1, 24), (0, 32))}, "expected its epochs in rising order"),
    ({"optim.weight_decay": 0.1}, "use adamw"),
    ({"optim.warmup_epochs": 5.0}, "less than train.epochs"),
    ({"model.dtype": "no_such_dtype"}, "model.dtype is 'no_such_dtype', expected one of: "),
    ({"augment.names": ("flip,crop",)}, "augment.names has 'flip,crop', expected one name each"),
    ({"data.name": ""}, "data.name is ''"),
    ({"run.platform": "no_such"}, "run.platform is 'no_such', expected one of: auto, cpu, cuda"),
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


@pytest.mark.parametrize(
    ("key", "table"),
    [
        ("model.name", MODELS),
        ("optim.name", OPTIMIZERS),
        ("optim.schedule", SCHEDULES),
        ("augment.names", AUGMENTS),
    ],
)
def test_a_name_that_is_in_no_table_is_told_with_those_that_are(key, table):
    wrong, meant = misspelt(table)
    for name, hint in ((wrong, f".*did you mean '{meant}'"), ("no_such_name", "")):
        config = make_config({key: (name,) if key == "augment.names" else name})
        known = ", ".join(sorted(table))
        message = f"{key} is '{name}', expected one of: {known}{hint}"
        with pytest.raises(UsageError, match=message):
            experiment.check(config, default.get_config().to_dict())


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
