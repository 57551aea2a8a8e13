"""The summary with its arithmetic: sums that hold, receptive fields that gradients confirm."""

import json
import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_cnn import describe, experiment
from cifar_cnn.checks import UsageError
from cifar_cnn.flags import read_config
from cifar_cnn.layers import Conv, Pool, TransposedConv
from cifar_cnn.report.summary import format_summary, summarize
from cifar_cnn.report.worked_summary import format_worked, notes, parameter_sum, shape_sums
from tests import commands
from tests.conftest import ROOT

# ml_collections loads config files in a way that Python 3.12 no longer has by that name.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
LESSONS = {
    "fashion_cnn": (
        ["(28 - 3)/1 + 1 = 26", "(26 - 2)/2 + 1 = 13", "(13 - 3)/1 + 1 = 11",
         "floor((11 - 2)/2) + 1 = 5", "5*5*64 = 1600"],
        ["3*3*1*64 + 64 = 640", "3*3*64*64 + 64 = 36,928", "1600*128 + 128 = 204,928",
         "128*10 + 10 = 1,290"],
        243_786,
    ),
    "mnist_classic": (
        ["(28 - 4)/1 + 1 = 25", "floor((25 - 2)/2) + 1 = 12", "12*12*32 = 4608"],
        ["4*4*1*32 + 32 = 544", "4608*16 + 16 = 73,744", "16*8 + 8 = 136", "8*10 + 10 = 90"],
        74_514,
    ),
}  # fmt: skip


def config_of(name, *keys):
    return read_config([f"--config={ROOT}/configs/{name}.py", *keys])[1]


def holds(text):
    """Whether the sum 'label: left = right' is true, worked out by Python."""
    left, right = re.sub(r"^\w+ (?=[a-z(\d])", "", text).rsplit(" = ", 1)
    left = left.rsplit(": ", 1)[-1]
    assert re.fullmatch(r"[\d\s()+*/.-]*", re.sub("floor|ceil", "", left)), left
    value = eval(left, {"floor": math.floor, "ceil": math.ceil})
    return value == int(right.replace(",", ""))


@pytest.mark.parametrize("name", LESSONS)
def test_the_lessons_sums_exactly(name, capsys):
    sums, parameters, total = LESSONS[name]
    describe.describe_network(config_of(name), name, machine_readable=True)
    told = json.loads(capsys.readouterr().out)
    assert told["image_shape"] == [28, 28, 1]
    assert told["classes"] == 10
    shapes = [layer["shape_arithmetic"] for layer in told["layers"] if layer["shape_arithmetic"]]
    assert [lines[0] for lines in shapes] == sums
    assert all(len(lines) == 1 or lines[0] == lines[1] for lines in shapes)
    counted = [layer["parameter_arithmetic"] for layer in told["layers"]]
    assert [line for line in counted if line != "0"] == parameters
    assert told["totals"]["parameters"] == total
    assert all(holds(line) for line in [*sums, *parameters])


def random_network(seed):
    """A stack of convolutions, poolings and transposed convolutions; linear."""
    rng = np.random.default_rng(seed)

    def pair(high):
        return tuple(int(n) for n in rng.integers(1, high + 1, 2))

    stack = []
    for kind in rng.permutation(["conv", "conv", "depthwise", "pool", "transposed"]):
        padding = str(rng.choice(["SAME", "VALID"]))
        if kind == "pool":
            stack.append(Pool("avg", int(rng.integers(1, 4)), int(rng.integers(1, 3)), padding))
        elif kind == "transposed":
            stack.append(TransposedConv(2, pair(3), pair(2), padding, pair(2)))
        else:
            stack.append(
                Conv(
                    2, pair(3), pair(2), padding, kernel_dilation=pair(3),
                    feature_group_count=2 if kind == "depthwise" else 1,
                )
            )  # fmt: skip

    class Network(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            x = images
            for layer in stack:
                x = layer.copy()(x)
            return x

    return Network()


@pytest.mark.parametrize("seed", range(5))
def test_receptive_fields_are_where_gradients_are(seed, key):
    network = random_network(seed)
    side = 151
    row = summarize(network, (side, side, 2))[-1]
    made = row.output_shape
    images = jnp.zeros((1, side, side, 2))
    shapes = jax.eval_shape(lambda: network.init(key, images, train=False))
    variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)

    @jax.jit
    def pull(cotangent):
        return jax.vjp(lambda x: network.apply(variables, x, train=False), images)[1](cotangent)[0]

    spans, firsts = [[], []], [{}, {}]
    for axis in (0, 1):
        # A few places in the middle, away from borders.
        middle = made[axis] // 2
        for place in range(middle - 3, middle + 4):
            at = [made[0] // 2, made[1] // 2]
            at[axis] = place
            one = np.zeros((1, *made), np.float32)
            one[0, at[0], at[1], 0] = 1
            hit = np.flatnonzero(np.asarray(pull(one))[0].sum((1 - axis, 2)))
            if len(hit):
                assert hit[0] > 0
                assert hit[-1] < side - 1
                spans[axis].append(hit[-1] - hit[0] + 1)
                firsts[axis][place] = hit[0]
                assert set(hit) == row.field[axis].of(place)
    for axis in (0, 1):
        assert row.field[axis].size == max(spans[axis])
        period = len(row.field[axis].seen)
        steps = [
            firsts[axis][place + period] - first
            for place, first in firsts[axis].items()
            if place + period in firsts[axis]
        ]
        assert set(steps) == {row.field[axis].jump * period}


def stack_of(*layers):
    class Network(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            x = images
            for layer in layers:
                x = layer.copy()(x)
            return x

    return Network()


@pytest.mark.parametrize(
    ("layer", "size", "expected"),
    [
        (Conv(2, (3, 3), padding="VALID"), (9, 9), []),
        (Pool("max", 2, 2), (11, 11), ["the last row and the last column of its 11 x 11 input"]),
        (Pool("max", 2, 2), (10, 11), ["never reads the last column of its 10 x 11 input"]),
        (Pool("max", 2, 4), (16, 10), ["never reads 8 of 16 rows and 4 of 10 columns"]),
        (Conv(2, (3, 3), 3, "VALID"), (11, 11), ["reads the last 2 rows and the last 2"]),
        (
            Conv(2, (3, 3), 2, "SAME", kernel_dilation=2),
            (9, 9),
            ["never reads 4 of 9 rows and 4 of 9 columns of its 9 x 9 input (windows of 3 x 3, "
             "dilation 2, stride 2)"],
        ),
        (Conv(2, (3, 3), 2), (8, 9), ["unevenly with SAME: 0 above, 1 below, 1 left, 1 right"]),
        (TransposedConv(2, (4, 4), (2, 2)), (5, 5), []),
        (TransposedConv(2, (3, 3), (2, 2)), (5, 5), ["kernel of 3 x 3 is no multiple of its"]),
        (TransposedConv(2, (1, 1), (2, 2)), (4, 4), ["nothing but the bias into 4 of 8 rows"]),
    ],
)  # fmt: skip
def test_notes_tell_what_a_layer_leaves_out(layer, size, expected):
    rows = summarize(stack_of(layer), (*size, 2))
    got = notes(rows)
    assert len(got) == len(expected), got
    for line, words in zip(got, expected, strict=True):
        assert words in line
        assert line.startswith(f"{rows[0].name} ")
    # What is called unread has no gradient, and all else has one.
    if isinstance(layer, TransposedConv):
        return
    layer = Pool("avg", layer.window, layer.stride) if isinstance(layer, Pool) else layer
    images = jnp.ones((1, *size, 2))
    shapes = jax.eval_shape(lambda: stack_of(layer).init(jax.random.key(0), images, train=False))
    variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)

    def total(images):
        return stack_of(layer).apply(variables, images, train=False).sum()

    read = np.asarray(jax.jit(jax.grad(total))(images))[0].sum(-1) != 0
    rows_left, columns_left = (~read.any(1)).sum(), (~read.any(0)).sum()
    told = " ".join(got) if "never reads" in " ".join(got) else ""
    found = re.search(r"the last (\d*) ?rows?\b|(\d+) of \d+ rows", told)
    assert rows_left == (int(found[1] or found[2] or 1) if found else 0)
    found = re.search(r"the last (\d*) ?columns?\b|(\d+) of \d+ columns", told)
    assert columns_left == (int(found[1] or found[2] or 1) if found else 0)


def test_every_sum_holds_and_differing_axes_have_one_each():
    keys = (
        "--config.model.plain.filters=((6,12),(8,),(8,))",
        "--config.model.plain.conv=('separable','standard','transposed')",
        "--config.model.plain.groups=(1,4,1)", "--config.model.plain.dilation=(1,2,1)",
        "--config.model.plain.stride=(2,1,2)", "--config.model.plain.batch_norm=True",
        "--config.model.plain.padding=('SAME','VALID','VALID')",
        "--config.model.plain.pool=('none','none','avg')",
    )  # fmt: skip
    config = config_of("baseline", *keys)
    rows = summarize(experiment.make_network(config, 10), (37, 30, 3))
    text = format_worked(rows, "title")
    for row in rows:
        for line in [*shape_sums(row), *parameter_sum(row).split("\n")]:
            assert line == "0" or holds(line.removeprefix("not trained: ")), line
            assert line in text
        if row.window is not None:
            high, wide = (line.rsplit(" = ", 1)[1] for line in shape_sums(row, merged=False))
            assert (int(high), int(wide)) == row.output_shape[:2]
    for words in (
        "height ceil(37/2) = 19", "width ceil(30/2) = 15", "3*3*1*3 = 27", "1*1*3*6 = 18",
        "extent 2*(3 - 1) + 1 = 5: (10 - 5)/1 + 1 = 6", "3*3*(12/4)*8 = 216",
        "not trained: 8 + 8 = 16", "Depthwise 3x3, stride 2", "Pointwise 1x1",
        "Conv 3x3, dilation 2, 4 groups", "Transposed 3x3, stride 2", "BatchNorm, relu",
        "Avg pool 2x2",
    ):  # fmt: skip
        assert words in text, words


def test_the_short_table_folds_activations_and_keeps_every_layer():
    config = config_of("fashion_cnn")
    rows = summarize(experiment.make_network(config, 10), (28, 28, 1))
    lines = format_summary(rows, "fashion").splitlines()
    assert [line.split()[0] for line in lines[4:11]] == [
        "Conv_0", "Pool_0", "Conv_1", "Pool_1", "Flatten_0", "Dense_0", "Dense_1",
    ]  # fmt: skip
    assert "Conv 3x3, relu" in lines[4]
    assert max(map(len, lines)) <= 100
    assert "= 26" not in "\n".join(lines)


def test_an_activation_after_a_sum_keeps_its_row_and_fields_stop_there():
    from cifar_cnn.layers import Activation

    class Residual(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            x = Conv(3, (3, 3))(images)
            x = Activation("relu")(x)
            x = Activation("elu")(x + images)
            return Conv(2, (3, 3))(x)

    rows = summarize(Residual(), (8, 8, 3))
    text = format_worked(rows, "residual")
    assert "Conv 3x3, relu " in text
    assert "Activation_1  elu" in text
    assert rows[0].field[0].size == 3
    assert rows[-1].field is None


def test_data_is_known_without_being_there(tmp_path, capsys):
    for name, words in {
        "cifar100": "cifar100, images 32 x 32 x 3, 100 classes",
        "emnist/letters": "emnist/letters, images 28 x 28 x 1, 37 classes",
        "shapes10": "shapes10, images 32 x 32 x 3, 10 classes",
    }.items():
        keys = (f"--config.data.name={name}", f"--config.run.data_dir={tmp_path}")
        describe.describe_network(config_of("baseline", *keys), "baseline")
        assert f"baseline: {words}\n" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    for name in ("cats", "dogs", "birds"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        (tmp_path / "mine" / name / "a.png").write_bytes(b"")
    keys = (f"--config.data.folder={tmp_path}/mine", "--config.data.image_size=(40,24)",
            "--config.data.channels=1")  # fmt: skip
    describe.describe_network(config_of("baseline", *keys), "baseline")
    assert "images 40 x 24 x 1, 3 classes" in capsys.readouterr().out
    describe.describe_network(
        config_of("baseline", "--config.data.folder=nowhere"), "x", image_shape="9,8,3", classes=7
    )
    assert "nowhere, images 9 x 8 x 3, 7 classes" in capsys.readouterr().out


def test_a_set_of_several_sizes_is_described_at_the_size_that_it_is_brought_to():
    keys = ("--config.data.name=food101", "--config.data.image_size=(40,24)")
    found = experiment.describe_data(config_of("baseline", *keys))
    assert found == ("food101", (40, 24, 3), 101)


@pytest.mark.parametrize(
    ("keys", "options", "message"),
    [
        (["--config.data.name=cifar11"], {}, "unknown data set 'cifar11'.*--image_shape"),
        (["--config.data.folder=nowhere"], {}, "nowhere.*--classes"),
        ([], {"image_shape": "28,28"}, "--image_shape is '28,28', expected height, width and"),
        ([], {"image_shape": "28,28,x"}, "--image_shape is '28,28,x'"),
        ([], {"image_shape": "28,0,1"}, "image_shape is 0, expected an integer from 1"),
        ([], {"classes": 1}, "classes is 1, expected an integer from 2"),
        (["--config.model.plain.conv=pointwise"], {}, "model.plain.conv is 'pointwise'"),
        (["--config.model.plain.conv=separable", "--config.model.plain.groups=2"], {},
         "model.plain.groups is 2, but nothing reads it"),
        (["--config.train.epoch=3"], {}, "did you mean config.train.epochs"),
        (["--clases=3"], {}, "Unknown command line flag 'clases'"),
        (["extra"], {}, "'extra' is not a flag"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(keys, options, message):
    with pytest.raises(UsageError, match=message) as caught:
        describe.describe_network(config_of("baseline", *keys), "baseline", **options)
    assert "\n" not in str(caught.value)


def test_the_script_prints_the_table_and_one_line_of_error():
    config = f"--config={ROOT}/configs/fashion_cnn.py"
    fails = commands.start(
        "scripts/summary.py", config, "--config.model.plain.padding=VALID",
        "--config.model.plain.kernel_size=(3,15)",
    )  # fmt: skip
    out = commands.run("scripts/summary.py", config)
    assert out.startswith("fashion_cnn: fashion_mnist, images 28 x 28 x 1, 10 classes\n")
    for line in LESSONS["fashion_cnn"][0] + LESSONS["fashion_cnn"][1]:
        assert line in out
    assert "Parameters:     243,786" in out
    assert "note: Pool_1 never reads the last row and the last column of its 11 x 11 in" in out
    code, out, err = commands.finish(fails)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "model.plain.kernel_size, layer Conv_1 (stage 2): a kernel of extent 15" in err
