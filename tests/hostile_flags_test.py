"""Nonsense in the flags of every script: one line on stderr, exit code 2, no page of usage."""

import importlib
import shutil
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from cifar_cnn import cli
from tests.conftest import ROOT

HUGE = "9" * 5000
ESCAPES = "\x1b[31mred\n\x07"
RUN = ("--workdir={run}",)
# Script -> flags that are right, and each wrong one that is added to them.
CASES = {
    "predict": (
        (*RUN, "{picture}"),
        ["--top=0", "--top=x", "--top=1e9", f"--top={HUGE}", "--batch_size=-1", "--batch_size=0x10",
         "--unsure_below=nan", "--unsure_below=inf", "--unsure_below=1e400", f"--fit={ESCAPES}",
         "--fit=", f"--checkpoint={ESCAPES}", "--checkpoint=-1", f"--checkpoint={HUGE}",
         "--checkpoint=1e3", "--zzz", f"--{ESCAPES}", "--json=yes", "--workdir=",
         "--workdir=/nowhere",
         "--workdir=/dev/null", f"--workdir={ESCAPES}", "--platform=gpu", "--cpu_devices=-3",
         f"--cpu_devices={HUGE}", "--cpu_devices=9999999", "--folder=/nowhere", "--folder={empty}",
         "--workdir"],
    ),
    "evaluate": (
        RUN,
        ["--split=tests", f"--split={ESCAPES}", "--rows=both", "--tta=1", "extra",
         "--checkpoint=latest/..", "--checkpoint=../../x",
         "--workdir=~nobody"],
    ),
    "explain": (
        (*RUN, "--index=0"),
        ["--index=-1", "--index=999999999999", "--maps=0", "--maps=65", "--fit=all",
         "--class_name=unicorn", f"--class_name={ESCAPES}", "--layer=Conv_99", "--image={picture}",
         "--layer="],
    ),
    "report": (
        RUN,
        ["--split=train", f"--split={ESCAPES}", "--checkpoint=1e3", "--compare=/nowhere",
         "--compare={run}", "--compare", "--image=/nowhere", f"--image={ESCAPES}", "--index=-1",
         "--index=999999999999", f"--index={HUGE}", "--fit=all", "--cpu_devices=-3", "extra",
         "--workdir=/nowhere", f"--workdir={ESCAPES}", "--tta=1"],
    ),
    "runs": (
        ("{empty}",),
        ["--sort=colour", f"--sort={ESCAPES}", "--json=yes", "extra", "--zzz", "--sort"],
    ),
    "shift_test": (
        RUN,
        ["--reach=0", "--reach=999999999", "--step=0", "--step=99", "--max_angle=1e9",
         "--max_angle=100000", "--fill=pink", "--split=", "--workdir={run}"],
    ),
    "compare_runs": (
        ("{run}",),
        ["{run}", "/nowhere", "--split=train", "--checkpoint=", "--out"],
    ),
    "explore_data": (
        ("--name=shapes10", "--out={out}"),
        ["--seed=-1", f"--seed={HUGE}", "--examples=0", "--examples=1000000000", "--folder={empty}",
         "--image_size=16", "--channels=2", "--name=", "--name=../..", f"--name={ESCAPES}",
         "--name=cifar10:9.9.9", "--fit=x", "--name=" + "a" * 5000],
    ),
    "filter_image": (
        ("{picture}", "--out={out}/x.png"),
        ["--kernel=[[", "--kernel=[]", "--kernel=[[1,2],[3]]", "--kernel=[[1e400]]",
         "--kernel=[[NaN]]",
         "--kernel=[[\"a\"]]", "--kernel=" + "[" * 20_000, "--kernel=[[9e999999]]",
         "--kernel=[null]",
         "--kernel={{}}", f"--kernel=[[{'9' * 400}]]", "--size=4", "--size=999999999", "--stride=0",
         "--stride=-1", "--padding=none", "--pool=sum", "--pool_stride=0 --pool=max",
         "--pool_size=99999 --pool=max", "mnist:99999999999", "--kernel=[[1]]  extra"],
    ),
    "summary": (
        ("--config={root}/configs/quickstart.py",),
        ["--image_shape=1,1", "--image_shape=a,b,c", "--image_shape=-1,32,3", "--image_shape=0,0,0",
         "--image_shape=", f"--image_shape={HUGE},1,1", "--image_shape=1e3,1,1", "--classes=1",
         "--classes=-5", f"--classes={HUGE}", "--config=/nowhere.py", "--config={empty}",
         "--config={picture}", "--config.train.epochs=0", "--config.train.epochs=many",
         "--config.train.epochs=1e400", f"--config.seed={HUGE}", "--config.optim.learning_rate=nan",
         "--config.optim.lr_mults=((1,2),)", "--config.model.plain.filters=__import__('os')",
         "--config.model.plain.filters=((8,)", "--config.model.plain.filters=(" + "(" * 3000,
         f"--config.data.name={ESCAPES}", f"--config.{ESCAPES}=1", "--config.zzz=1",
         "--config.train=1",
         "--config.=1", "--config.augment.names=flip,crop", "--config.model.name=",
         "--config.data.name='cifar11'", "--config.model.plain.pool_size=99",
         "--config.data.name=gtzan", "--config.data.name=sift1m"],
    ),
    "train_seeds": (
        ("--config={root}/configs/quickstart.py", "--seeds=2"),
        ["--seeds=0", "--seeds=x", "--seeds=99999999999", "--first_seed=-1", f"--first_seed={HUGE}",
         "--split=train", "--checkpoint=5", "--config.seed=5", "--seeds"],
    ),
    "prepare_data": (
        ("--data_dir={out}",),
        ["", "--name=", "--name=../x", f"--name={ESCAPES}", "--name=cifar11",
         "--name=cifar10:1.2.3",
         "--archive=/nowhere", "--archive={picture}", "--archive={empty}",
         "--name=mnist --archive=x",
         "--archive=", "--name=" + "a" * 5000, "--zzz=1"],
    ),
    "benchmark": (
        ("--out={out}",),
        ["--nets=", "--nets=nothing", "--nets=,,", "--nets=/nowhere.py", "--batch_sizes=0",
         "--batch_sizes=", "--batch_sizes=1,x", f"--batch_sizes={HUGE}", "--batch_sizes=1e9",
         "--against=keras,theano", "--repeats=0", "--seconds=nan", "--seconds=-1", "--images=-1",
         "--eval_images=0", "--config.train.epochs=0", "--zzz"],
    ),
    "launch_local": (
        ("--devices=1",),
        ["", "--processes=0", "--processes=x", f"--processes={HUGE}", "--processes=1025",
         "--devices=-1", "--devices=1e9", f"--devices={ESCAPES}", "--zzz", "train", ESCAPES,
         "--processes=-5 -- --config=x.py", "--devices=2000 -- scripts/evaluate.py"],
    ),
    "scaling": (
        ("--config={root}/configs/quickstart.py",),
        ["--images=0", "--images=x", f"--images={HUGE}", "--devices=1", "--devices=", "--devices",
         "--devices=-8", "--flops=nan", "--flops=0", "--flops=1e400", "--devices_per_host=0",
         "--host_bandwidth=-1", "--network_bandwidth=inf", "--latency=-1", f"--latency={ESCAPES}",
         "--config=/nowhere.py", "--config={empty}", "--config={picture}", "--config.zzz=1",
         "--config.train.epochs=0", f"--config.{ESCAPES}=1", "--zzz", "extra"],
    ),
    "torture": (
        ("--out={out}",),
        ["--faults=nothing", f"--faults={ESCAPES}", "--faults=kill,kill", "--tries=-1",
         f"--tries={HUGE}", "--epochs=2", "--epochs=many", "--seed=-1", "--jobs=0", "--jobs=1e3",
         "--jobs=1001", "--zzz", "extra"],
    ),
    # No key twice: absl defines a flag for each, once a process.
    "main": (
        ("--config={root}/configs/quickstart.py",),
        ["--config=", "--config=/nowhere.py", "--config={empty}", "--config={picture}",
         f"--config={ESCAPES}", "--config.zzz=1", f"--config.{ESCAPES}=1", "--config.=1",
         "--config.train=1", "--config.train.epochs=0", "--config.train.batch_size=many",
         f"--config.seed={HUGE}", "--config.optim.learning_rate=nan",
         "--config.model.name=nothing", "--config.run.platform=abacus", "--num_processes=x",
         "--process_id=1.5", f"--connect_seconds={ESCAPES}", "--zzz", f"--{ESCAPES}", "extra"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def places(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("places")
    run = shutil.copytree(trained, folder / "run")  # Some evaluate it before they refuse.
    (folder / "empty").mkdir()
    noise = np.random.RandomState(0).randint(0, 256, (9, 9, 3)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "picture.png")
    return {
        "run": run, "picture": folder / "picture.png", "empty": folder / "empty",
        "out": folder / "out", "root": ROOT,
    }  # fmt: skip


def train(main, argv):
    """The exit code of the main command, as absl runs it."""
    try:
        return main.main(main._parse(argv))
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize("script", CASES)
def test_nonsense_in_flags_is_one_line(script, places, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    jax.devices()
    package = "cifar_cnn" if script == "main" else "scripts"
    module = importlib.import_module(f"{package}.{script}")
    right, wrong = CASES[script]
    for flags in wrong:
        given = [*right, *flags.split()] if " " in flags else [*right, flags]
        argv = [flag.format(**places) for flag in given if flag]
        argv = [f"{package}/{script}.py", *argv]
        monkeypatch.setattr(sys, "argv", argv)
        if script == "main":
            code = train(module, argv)
        else:
            code = module.main(argv[1:]) if script == "prepare_data" else cli.run(module.main)
        err = capsys.readouterr().err
        assert code == 2, (flags[:100], err)
        assert err.startswith("error: "), (flags[:100], err)
        assert err.endswith("\n"), flags[:100]
        assert err[:-1].isprintable(), (flags[:100], err)
        assert len(err) < 6000, (flags[:100], len(err))
    assert not (places["out"] / "cifar10").exists()
    assert not list(tmp_path.iterdir())
