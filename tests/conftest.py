"""Four CPU devices, strict promotion, and data: the embedded set always, real sets where they are.

Real sets are read in place from $TFDS_DATA_DIR; a test that needs one is skipped where it is not.
"""

import fcntl
import os
import pathlib
import signal

import jax
import pytest

from cifar_cnn import backend

# Before any test touches a device. LLVM optimises less, here and in the processes that tests start:
# most of the time of these tests goes by compiling, and that takes half as long so.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1"
backend.set_flags()  # As every command does.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.devices()  # All four, before code under test asks for fewer.
# As nohup and '&' in a script leave it, also to the commands that tests start and interrupt.
for number, default in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, default)

ROOT = pathlib.Path(__file__).resolve().parent.parent
TFDS_DATA_DIR = pathlib.Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """A folder that the parallel workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(shared):
    """A cache of decoded data of its own for the whole session; compiled programs go there too."""
    old = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(shared)
    folder = shared / "cifar_cnn"
    jax.config.update("jax_compilation_cache_dir", str(folder / "programs"))
    yield folder
    if old is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = old


@pytest.fixture(scope="session")
def trained(shared, cache):
    """A finished run of 3 epochs of 45 steps on the embedded set; tests that change it, copy it."""
    from tests import commands

    workdir = shared / "trained" / "run"
    with open(shared / "trained.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # One worker trains, the others wait for it.
        if not workdir.exists():
            commands.train(workdir, "--config.train.epochs=3")
    return workdir


@pytest.fixture
def key():
    return jax.random.key(0)


def is_prepared(name: str) -> bool:
    """Whether the real set `name` is there."""
    return (TFDS_DATA_DIR / name).is_dir()


def real_data(name: str) -> pytest.MarkDecorator:
    """Skips a test where the real set `name` is not prepared."""
    reason = f"no prepared {name} in {TFDS_DATA_DIR}: set TFDS_DATA_DIR"
    return pytest.mark.skipif(not is_prepared(name), reason=reason)


def make_config(overrides: dict | None = None) -> dict:
    """The dropout config with a network small enough for a test, as nested dictionaries.

    Args:
      overrides: by dotted key, such as {"train.epochs": 1}.
    """
    from configs import dropout

    config = dropout.get_config()
    config.update_from_flattened_dict(
        {
            "data.name": "shapes10",
            "data.validation_size": 500,
            "model.plain.filters": ((8,), (16,)),
            "model.plain.dense": (32,),
            "train.epochs": 2,
            "train.batch_size": 100,
            "run.cpu_devices": 2,
            **(overrides or {}),
        }
    )
    return config.to_dict()


def misspelt(table) -> tuple[str, str]:
    """A name that is not in a table of names, and the one in it that was meant."""
    name = max(table, key=len)
    return f"{name}q", name
