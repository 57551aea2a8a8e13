"""The benchmark: the real command on a small net, how engines are asked in turn, and mistakes."""

import importlib.util
import json
import math

import jax
import numpy as np
import pytest

from cifar_cnn import experiment
from cifar_cnn.benchmark import layers, measuring, planning, serving
from cifar_cnn.benchmark.asking import Engine, started
from cifar_cnn.checks import MachineError, UsageError
from tests import commands
from tests.conftest import ROOT, make_config

# ml_collections loads config files with a method that warns.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
SCRIPT = "scripts/benchmark.py"
QUICKSTART = str(ROOT / "configs" / "quickstart.py")

# A worker that tells a file what it was asked, and claims to be as fast as its arguments say.
FAKE = """
import pathlib, sys
from cifar_cnn.benchmark.serving import serve
log, name, parameters, *rates = sys.argv[1:]
rates = iter([float(rate) for rate in rates])
def measure(kind):
    def answer(seconds):
        with open(log, "a") as file:
            file.write(f"{name} {kind}\\n")
        print("what a library prints does not disturb")
        return {"images": int(next(rates) * seconds), "seconds": seconds}
    return answer
def prepare(request):
    with open(log, "a") as file:
        file.write(f"{name} prepare {request.get('mode')}\\n")
    about = {"device": "none", "parameters": int(parameters), "first_step_seconds": 1.0}
    functions = {"train": measure("train"), "evaluate": measure("evaluate")}
    return {**about, "notes": [f"{name} sleeps"]}, {**functions, "device_memory": lambda: None}
serve(prepare)
"""


@pytest.fixture
def cell(cache):
    """The small network of the other tests, on the embedded set, with batches of 100."""
    return planning.Cell("small", make_config({"run.cache_dir": str(cache)}))


def fake(tmp_path, name, peer, rates, parameters=7):
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    arguments = (str(tmp_path / "log"), name.replace(" ", "-"), str(parameters), *map(str, rates))
    return Engine(name, peer, (str(script), *arguments), {"mode": f"of-{peer}"})


def test_the_command_measures_this_project(tmp_path, cache):
    out = commands.run(
        SCRIPT, f"--nets={QUICKSTART}", "--batch_sizes=8", "--repeats=2", "--seconds=0.1",
        "--images=300", "--eval_images=50", f"--out={tmp_path}", "--config.run.cpu_devices=1",
        "--config.model.plain.filters=((4,),)", "--config.model.plain.dense=()",
        "--config.model.plain.dense_dropout=0", "--config.model.plain.conv_dropout=0",
        env={"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )  # fmt: skip
    result = json.loads((tmp_path / "benchmark.json").read_text())
    (row,) = result["measurements"]
    assert (row["net"], row["batch_size"], row["engine"]) == ("quickstart", 8, "ours")
    # 3 * 3 * 3 kernels and a bias of 4 filters; 16 * 16 * 4 inputs and a bias of 10 classes.
    assert row["parameters"] == 4 * 28 + 10 * (16 * 16 * 4 + 1)
    for work in ("train", "evaluate"):
        rate = row[work]
        assert len(rate["all"]) == 2
        assert 0 < rate["min"] <= rate["median"] <= rate["max"] < math.inf
        assert f"{rate['median']:,.0f}" in out
    assert row["first_step_seconds"] > 0
    # A process that has loaded JAX holds tens of megabytes at least, and less than any machine.
    assert 5e7 < row["peak_bytes"] < 1e11
    assert result["data"]["shapes10"]["examples"] == 300
    assert not result["data"]["shapes10"]["random"]
    assert result["machine"]["versions"]["jax"] == jax.__version__
    assert result["machine"]["environment"]["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1"
    assert result["machine"]["cpu"] in out
    assert result["machine"]["date"] in out
    assert result["ratios"] == result["best"] == []


def test_engines_are_asked_in_turn_and_put_in_proportion(cell, tmp_path, capsys):
    """A worker's rates are asked for as train, evaluate, train, evaluate ..."""
    engines = [
        fake(tmp_path, "ours", "ours", [100, 1000, 300, 1000, 200, 4000]),
        fake(tmp_path, "slow mode", "rival", [100, 500, 100, 500, 100, 500]),
        fake(tmp_path, "fast mode", "rival", [400, 400, 400, 400, 400, 400]),
    ]
    result = measuring.benchmark([cell], engines, tmp_path / "out", repeats=3, seconds=10)
    names = ["ours", "slow-mode", "fast-mode"]
    turn = [f"{name} {work}" for work in ("train", "evaluate") for name in names]
    prepared = [f"{x.name.replace(' ', '-')} prepare of-{x.peer}" for x in engines]
    assert (tmp_path / "log").read_text().splitlines() == prepared + 3 * turn

    ours = result["measurements"][0]
    assert ours["train"] == {"median": 200, "min": 100, "max": 300, "all": [100, 300, 200]}
    slow, fast = result["ratios"]
    assert slow["train"] == {"median": 2, "min": 1, "max": 3}
    assert fast["evaluate"] == {"median": 2.5, "min": 2.5, "max": 10}
    (best,) = result["best"]
    assert best["train"]["ratio"] == 0.5
    assert best["train"]["theirs"]["engine"] == "fast mode"
    assert best["evaluate"]["ratio"] == 2
    assert best["evaluate"]["theirs"]["engine"] == "slow mode"
    assert json.loads((tmp_path / "out" / "benchmark.json").read_text()) == result
    out = capsys.readouterr().out
    assert "400 at 100 fast mode" in out
    assert "note: small, slow mode: slow-mode sleeps" in out


def test_the_best_may_have_different_batch_sizes():
    def row(peer, batch_size, rate):
        measured = {work: {"median": rate} for work in measuring.WORKS}
        return {"net": "n", "peer": peer, "engine": peer, "batch_size": batch_size, **measured}

    rows = [row("ours", 64, 5.0), row("rival", 64, 2.0), row("ours", 500, 3.0)]
    (best,) = measuring.best_of_each([*rows, row("rival", 500, 4.0)])
    assert best["train"]["ratio"] == 1.25
    assert best["train"]["ours"]["batch_size"] == 64
    assert best["train"]["theirs"]["batch_size"] == 500


def test_another_network_is_not_compared(cell, tmp_path):
    engines = [fake(tmp_path, "ours", "ours", []), fake(tmp_path, "rival", "rival", [], 8)]
    with pytest.raises(UsageError, match="rival has 8 parameters for small, ours 7"):
        measuring.benchmark([cell], engines, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("import sys; sys.exit('no luck')", MachineError, "ended with exit code 1: no luck"),
        ("import os; os.kill(os.getpid(), 9)", MachineError, "exit code -9.*enough memory"),
        (
            "from cifar_cnn.benchmark.serving import serve\n"
            "from cifar_cnn.checks import UsageError\n"
            "def prepare(request): raise UsageError('cannot ' + request['what'])\n"
            "serve(prepare)",
            UsageError,
            "broken: cannot swim",
        ),
    ],
)
def test_a_worker_that_fails_is_told(text, error, message):
    with (
        started(Engine("broken", "broken", ("-c", text)), 1) as ask,
        pytest.raises(error, match=message),
    ):
        ask(do="prepare", what="swim")


def test_measuring_goes_on_for_as_long_as_asked(monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 3.5])
    monkeypatch.setattr(serving.time, "perf_counter", lambda: next(clock))
    asked = []
    result = serving.timed(lambda left: asked.append(left) or 10, 3.0)
    assert result == {"images": 30, "seconds": 3.5}
    assert asked == [3.0, 2.0, 1.0]


def parameters_of(description, shape):
    """Weights of the layers that a peer is told of, counted by the shapes alone."""
    height, width, channels = shape
    total = 0
    for layer in description:
        match layer["kind"]:
            case "conv":
                kernel, bias = layer["kernel"], layer["bias"]
                inputs = kernel**2 * channels // layer["groups"]
                channels = layer["features"]
                total += channels * (inputs + bias)
                if layer["padding"] == "VALID":
                    height, width = height - kernel + 1, width - kernel + 1
                height, width = -(-height // layer["stride"]), -(-width // layer["stride"])
            case "pool":
                size, stride = layer["size"], layer["stride"]
                height, width = (height - size) // stride + 1, (width - size) // stride + 1
            case "batch_norm":
                total += channels * (1 + layer["scale"])
            case "residual":
                total += parameters_of(layer["layers"], (height, width, channels))
            case "global_max":
                height = width = 1
            case "flatten":
                channels, height, width = height * width * channels, 1, 1
            case "dense":
                total += layer["features"] * (channels + layer["bias"])
                channels = layer["features"]
    return total


@pytest.mark.parametrize(
    ("net", "overrides", "shape"),
    [
        *((net, (), (32, 32, 3)) for net in ("speedrun", "dropout", "wide", "keras_cifar10")),
        ("mnist_classic", (), (28, 28, 1)),
        ("fashion_cnn", (), (28, 28, 1)),
        ("speedrun", ("--config.model.airbench.depth=3",), (32, 32, 3)),
        ("dropout", ("--config.model.plain.batch_norm=True",), (32, 32, 3)),
    ],
)
def test_peers_are_told_of_the_same_network(net, overrides, shape):
    (cell,) = planning.plan_cells(net, "64", overrides)
    assert cell.batch_size == cell.config["eval"]["batch_size"] == 64
    model = experiment.make_network(cell.config, 10)
    images = jax.ShapeDtypeStruct((1, *shape), np.float32)
    variables = jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), images
    )
    ours = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert parameters_of(layers.describe(cell.config, shape[-1], 10), shape) == ours


def test_networks_that_peers_do_not_know():
    cases = [
        (f"{ROOT}/configs/resnet18.py", [], "peers know only airbench and plain"),
        ("wide", ["--config.model.plain.conv=separable"], "got 'separable'"),
        ("wide", ["--config.model.plain.kernel_size=4"], "'SAME' only for odd kernels"),
    ]
    for net, overrides, words in cases:
        (cell,) = planning.plan_cells(net, "64", overrides)
        with pytest.raises(UsageError, match=words):
            layers.describe(cell.config, 3, 10)


def test_what_a_peer_does_without_is_said():
    config = make_config({"train.label_smoothing": 0.1, "optim.ema_decay": 0.9})
    assert serving.left_out(config, ("flip", "label smoothing")) == [
        "crop is left out",
        "the average of the weights is left out",
    ]


def test_random_images_stand_in_for_a_set_that_is_not_there(tmp_path):
    said = []
    config = make_config({"data.name": "mnist", "run.data_dir": str(tmp_path / "none")})
    inputs = measuring.write_inputs(config, 20, tmp_path / "inputs", said.append)
    assert inputs["random"]
    images = np.load(inputs["images"])
    assert (images.shape, images.dtype) == ((20, 28, 28, 1), np.uint8)
    assert "20 random images stand in for mnist" in said[0]
    config = make_config({"data.name": "cifar100", "run.data_dir": str(tmp_path / "none")})
    with pytest.raises(UsageError, match="'cifar100' is not prepared"):
        measuring.write_inputs(config, 20, tmp_path / "others", said.append)


def test_mistakes_are_one_line(cell, tmp_path):
    with pytest.raises(UsageError, match=r"--nets is 'wades'.*did you mean 'wide'"):
        planning.plan_cells("dropout,wades", "64", [])
    for sizes in ("64,many", "", "-8", "0", "64,,128"):
        with pytest.raises(UsageError, match="--batch_sizes is"):
            planning.plan_cells("dropout", sizes, [])
    with pytest.raises(UsageError, match="is set by this script: use --nets and --batch_sizes"):
        planning.plan_cells("dropout", "64", ["--config.train.batch_size=3"])
    with pytest.raises(UsageError, match="--against is 'caffe', expected one of: keras, torch"):
        planning.choose_engines("caffe")
    for options, words in [
        ({"repeats": 0}, "--repeats is 0"),
        ({"seconds": 0.0}, "--seconds is 0.0"),
        ({"images": 50}, "--batch_sizes has 100, expected at most the 50 images"),
    ]:
        with pytest.raises(UsageError, match=words):
            measuring.benchmark([cell], [planning.OURS], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "package"), [("torch", "torch"), ("keras", "tensorflow")])
def test_a_peer_that_is_not_installed(monkeypatch, name, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda x: None if x == package else find("json")
    )
    with pytest.raises(UsageError, match=rf"{package} cannot be imported: .*'\.\[bench\]'"):
        planning.choose_engines(name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda x: find("json"))
    for engine in planning.choose_engines(name)[1:]:
        assert (ROOT / engine.command[0]).is_file()
