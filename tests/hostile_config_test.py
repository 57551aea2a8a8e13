"""Configs with nonsense in any key: an experiment or one clear line, before anything compiles."""

import copy
import importlib
import math
import re
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from cifar_cnn import augment, data, experiment, layers, mesh, models, optim
from cifar_cnn.augment import AUGMENTS
from cifar_cnn.checks import MachineError, UsageError, leaves
from cifar_cnn.experiment.parts import DTYPES, PRECISIONS
from cifar_cnn.images import FITS
from cifar_cnn.layers import ACTIVATIONS, PADDINGS, POOLS
from cifar_cnn.mesh import PLATFORMS
from cifar_cnn.models import MODELS
from cifar_cnn.models.plain import CONVOLUTIONS
from cifar_cnn.optim import OPTIMIZERS, SCHEDULES
from configs import default
from tests.conftest import ROOT, make_config

DEFAULT = default.get_config().to_dict()
KEYS = sorted(key for key, _ in leaves(DEFAULT))
BASES = {
    path.stem: importlib.import_module(f"configs.{path.stem}").get_config().to_dict()
    for path in (ROOT / "configs").glob("*.py")
    if path.stem != "__init__"
}
WORDS = (
    *MODELS, *OPTIMIZERS, *SCHEDULES, *AUGMENTS, *PADDINGS, *POOLS, "none", *CONVOLUTIONS,
    *ACTIVATIONS, *FITS, "reflect", "edge", "zero", *DTYPES, *PRECISIONS, *PLATFORMS, "",
)  # fmt: skip
ODD_TEXT = (
    "x", "two\nlines\x1b[31m", "a" * 5000, "nul\0", "\ud800", "~nobody/x", "../..", "(",
    "a{9999999999}", "(" * 500, "(?P<n", "{0}%s$x$",
)  # fmt: skip
NUMBERS = (
    0, 1, 2, 3, 4, 7, 16, 33, 64, 100, 1000, 65536, -1, 2**31, -(2**70), 10**400,
    0.0, -0.0, 0.1, 0.5, 0.9, 1.0, 3.0, 1e-8, 5e-324, 1e30, 1.8e308, -1.0, math.nan, math.inf,
)  # fmt: skip
ODD_TYPES = (None, True, False, {}, {"a": 1}, b"x", 1j, object, np.float32(1), np.ones(3), set())
TUPLES = (
    (), (1,), (8, 16), ((8,), (16,)), ((4, 4), (8,)), ((0, 24), (4, 32)), ((0, 8),), ("flip",),
    ("crop", "flip"), ("cutout",), ((".*kernel", 0.5),), ((".*", 0.0),), ("SAME", "VALID"),
)  # fmt: skip
leaf = st.sampled_from(WORDS + ODD_TEXT + NUMBERS + ODD_TYPES + TUPLES)
nested = st.recursive(leaf, lambda item: st.lists(item, max_size=4).map(tuple), max_leaves=8)
values = st.one_of(st.sampled_from(WORDS + NUMBERS + TUPLES), leaf, nested)
OTHER_KEYS = (
    "train", "model.plain", "model.no_such_model", "train.epoch", "zzz", "augment.no_such_one.size",
)  # fmt: skip
overrides = st.dictionaries(st.sampled_from(KEYS * 4 + list(OTHER_KEYS)), values, max_size=4)
shapes = st.sampled_from([(32, 32, 3), (28, 28, 1), (8, 8, 3), (1, 1, 3), (5, 9, 1)])


def facts(shape, classes=10, examples=50_000):
    names = tuple(f"class {i}" for i in range(classes))
    channels = shape[-1]
    return data.Facts("x", "", shape, names, (0.5,) * channels, (0.25,) * channels, examples, 0)


def overridden(base, changes):
    """A copy of a config with keys set to anything, as a config file may."""
    config = copy.deepcopy(base)
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = config
        for part in sections:
            section = section.setdefault(part, {}) if isinstance(section, dict) else None
        if isinstance(section, dict):
            section[name] = value
    return config


def refusal(config, about, **options):
    """The one line with which a config is refused; None for a valid experiment."""
    try:
        experiment.check(config, DEFAULT)
        run = experiment.build(config, about, mesh.make_mesh(jax.devices()[:2]), **options)
    except (UsageError, MachineError) as error:
        return str(error)
    assert run.total_steps > 0
    return None


@pytest.fixture
def nothing_compiles(monkeypatch):
    """The programs of an experiment may be made, and not called."""

    def refuse(*args, **kwargs):
        raise AssertionError("ran a program before the config was accepted")

    monkeypatch.setattr(jax, "jit", lambda function, **options: refuse)


@pytest.mark.usefixtures("nothing_compiles")
@settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.sampled_from(sorted(BASES)), overrides, shapes, st.integers(2, 12), st.booleans())
def test_any_value_of_any_key_gives_an_experiment_or_one_line(base, changes, shape, classes, tta):
    begin = time.monotonic()
    message = refusal(overridden(BASES[base], changes), facts(shape, classes), tta=tta)
    # Seconds are normal for the deepest networks on a busy machine; minutes would be a trap.
    assert time.monotonic() - begin < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 << 20  # KiB.
    if message is not None:
        assert message.isprintable(), message
        assert 10 < len(message) < 1000


def chosen(key):
    """A config in which the section of a key is that of the network, optimizer or augmentation."""
    part, section = key.split(".")[:2] if key.count(".") == 2 else ("", "")
    table = {"model": MODELS, "optim": OPTIMIZERS, "augment": AUGMENTS}.get(part, ())
    if section not in table:
        return BASES["dropout"]
    names = (section,) if part == "augment" else section
    return overridden(DEFAULT, {f"{part}.{'names' if part == 'augment' else 'name'}": names})


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_checked_for_its_type(key):
    """No key takes a value that no file can hold, or one beyond all bounds."""
    for value in (None, b"x", 10**5000, object, [[[[10**400]]]], "a" * 5000, {"a": 1}):
        config = overridden(chosen(key), {key: value})
        message = refusal(config, facts((32, 32, 3)))
        assert message is not None, value
        assert key in message
        assert "nothing reads it" not in message
        assert message.isprintable()
        assert len(message) < 500


TOO_LATE = [
    ({"augment.names": ("crop",), "augment.crop.padding": 32}, "augment.crop.padding is 32, exp"),
    ({"augment.names": ("cutout",), "augment.cutout.size": 33}, "augment.cutout.size is 33"),
    ({"augment.names": ("cutout",), "augment.cutout.fill": (1, 2)}, "fill has 2 numbers, expe"),
    ({"augment.names": ("cutout",), "augment.cutout.fill": 300}, "fill is 300, expected"),
    ({"augment.names": ("crop",) * 33}, "augment.names has 33 names, expected 32 at most"),
    ({"train.image_sizes": ((0, 33),)}, "pixels in train.image_sizes is 33"),
    ({"train.image_sizes": ((0, 24),)}, "a dense layer of the network is made for images of 32 x"),
    ({"model.plain.filters": ((65536, 65536),)}, r"has [\d,]+ parameters, .* make it smaller"),
    ({"train.micro_batch_size": 10**6, "train.batch_size": 10**6}, r"output \(1000000, 32, 32, 8"),
    ({"model.plain.conv": "transposed", "model.plain.stride": 1024}, "stride, layer TransposedC"),
    ({"model.plain.conv": "separable", "model.plain.kernel_size": 65}, "is 65 for stage 1, exp"),
    ({"optim.learning_rate": 1e39}, "optim.learning_rate is 1e.39, expected a finite number"),
    ({"data.folder": "~nobody/\0"}, "data.folder is .*, expected a path"),
    ({"run.cache_dir": 5}, "run.cache_dir is 5, expected a path"),
    ({"data.folder": "x", "data.channels": True}, "data.channels is True"),
    ({"optim.lr_mults": (("a{9999999999999999999}", 1),)}, "expected a regular expression"),
]


@pytest.mark.usefixtures("nothing_compiles")
@pytest.mark.parametrize(("changes", "words"), TOO_LATE, ids=[str(c) for c, _ in TOO_LATE])
def test_what_only_the_first_step_or_the_machine_would_notice_is_told_before(changes, words):
    config = overridden(make_config(), {"augment.names": (), **changes})
    message = refusal(config, facts((32, 32, 3)))
    assert message is not None
    assert re.search(words, message), message


def test_shifts_beyond_the_images_are_told_before():
    message = refusal(make_config({"eval.tta_shift": 32}), facts((32, 32, 3)), tta=True)
    assert message == "eval.tta_shift is 32, expected below the images' 32 pixels"


def test_what_is_accepted_can_be_traced():
    """Odd but valid: the training step of each is traced to its end."""
    for changes in (
        {"augment.names": ("cutout", "crop", "flip"), "augment.crop.padding": 31},
        {"model.plain.conv": ("depthwise", "transposed"), "model.plain.filters": ((3,), (4,))},
        {"model.plain.pool": "none", "model.plain.stride": 40, "train.label_smoothing": 0.999},
        {"model.plain.filters": (), "model.plain.dense": (), "model.plain.dense_dropout": 0.0},
        {"optim.learning_rate": 1e38, "optim.clip_norm": 1e-300, "train.mixup_alpha": 1e38},
    ):
        section = {"model.plain.conv_dropout": 0.0, **changes}
        config = overridden(make_config(), section)
        if not config["model"]["plain"]["filters"]:
            for key in experiment.checking.models.plain.STAGE_KEYS:
                config["model"]["plain"][key] = DEFAULT["model"]["plain"][key]
        experiment.check(config, DEFAULT)
        devices = mesh.make_mesh(jax.devices()[:2])
        run = experiment.build(config, facts((32, 32, 3), examples=1000), devices)
        examples = data.Examples(
            jax.ShapeDtypeStruct((1000, 32, 32, 3), jnp.uint8),
            jax.ShapeDtypeStruct((1000,), jnp.int32),
            jax.ShapeDtypeStruct((1000,), jnp.int32),
        )
        stop = jax.ShapeDtypeStruct((), jnp.int32)
        state, _ = jax.eval_shape(
            run.train_chunk, run.abstract_state, examples, examples.indices, stop
        )
        assert jax.tree.structure(state) == jax.tree.structure(run.abstract_state)


def test_sections_and_names_that_only_look_right():
    flat = dict(leaves(DEFAULT))
    holding_itself = {}
    holding_itself["a"] = holding_itself
    for config, words in (
        (flat, "has the key 'augment.crop.mode', expected sections of named keys"),
        ({**DEFAULT, "train.epochs": 3}, "config. has the key 'train.epochs'"),
        ({**DEFAULT, 5: 3}, "has the key 5"),
        ({**DEFAULT, "zzz": holding_itself}, "has the key 'a'"),
        ({**DEFAULT, "two\nlines": 1}, r"there is no config.two\\nlines"),
        ({**DEFAULT, "train": 5}, "config.train.batch_size is missing"),
        (ConfigDict({"seed": 1}).to_dict(), "is missing: start from configs/default.py"),
    ):
        with pytest.raises(UsageError, match=words):
            experiment.check(config, DEFAULT)


@pytest.mark.parametrize(
    ("table", "section"),
    [(models.MODELS, "model"), (optim.OPTIMIZERS, "optim"), (augment.AUGMENTS, "augment")],
)
def test_a_name_without_its_section_is_told_to_who_adds_it(monkeypatch, table, section):
    monkeypatch.setitem(table, "no-such", next(iter(table.values())))
    words = rf"has 'no-such', but configs/default.py has no section {section}.no-such: add one"
    with pytest.raises(UsageError, match=words):
        experiment.check(make_config(), DEFAULT)


def test_a_section_that_is_not_its_module_s_names_the_keys():
    section = dict(DEFAULT["model"]["wide_resnet"])
    for changed, words in (
        ({**section, "no-such": 1}, "model.wide_resnet has the key no-such, which WideResNet has"),
        ({k: section[k] for k in section if k != "depth"}, "model.wide_resnet lacks the key depth"),
    ):
        with pytest.raises(UsageError, match=words) as it:
            models.make_model("wide_resnet", changed, num_classes=10, dtype=jnp.float32)
        assert "\n" not in str(it.value)


def test_an_unknown_activation_names_those_there_are():
    layer = layers.Activation("no-such")
    with pytest.raises(UsageError, match=r"activation is 'no-such', expected one of: .*relu"):
        jax.eval_shape(layer.apply, {}, jnp.zeros((1, 2)))
