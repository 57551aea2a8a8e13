"""What is measured: from the flags of the command to cells and engines."""

import dataclasses
import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Any

from cifar_cnn.benchmark.asking import Engine
from cifar_cnn.checks import UsageError, check_choice, check_int, shown
from cifar_cnn.flags import read_config

_ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Networks by name: the file of the config, and what differs from it.
NETS = {
    "speedrun": ("speedrun", ()),
    "dropout": ("dropout", ()),
    "wide": ("wide", ()),
    # The three networks of Keras lessons, one each for CIFAR-10, MNIST and Fashion-MNIST.
    "keras_cifar10": (
        "default",
        (
            "--config.model.plain.filters=((64,64),(128,128))",
            "--config.model.plain.conv_dropout=0.25",
            "--config.model.plain.dense=(1024,1024)",
        ),
    ),
    "mnist_classic": ("mnist_classic", ()),
    "fashion_cnn": ("fashion_cnn", ()),
}
# Speed is that of whole images, whatever a config shrinks them to at first.
_FULL_SIZE = ("--config.train.image_sizes=()",)
OURS = Engine("ours", "ours", ("-m", "cifar_cnn.benchmark.ours"))


def _peer(name: str, library: str, environment: dict[str, str], **settings: Any) -> Engine:
    command = (str(_ROOT / "scripts" / "peers" / f"{library}_peer.py"),)
    return Engine(name, library, command, settings, environment)


# For each library of --against: what has to be installed, and its modes.
PEERS = {
    "torch": (
        ("torch",),
        tuple(_peer(f"torch {x}", "torch", {}, dtype=x) for x in ("float32", "bfloat16")),
    ),
    "keras": (
        ("keras", "tensorflow"),
        (_peer("keras", "keras", {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}),),
    ),
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One network at one batch size.

    Attributes:
      net: its name in the table.
      config: complete nested config.
    """

    net: str
    config: dict[str, Any]

    @property
    def batch_size(self) -> int:
        """Examples a step, of training and of evaluation."""
        return self.config["train"]["batch_size"]


def plan_cells(nets: str, batch_sizes: str, overrides: Sequence[str]) -> list[Cell]:
    """Reads and checks the config of every network at every batch size.

    Args:
      nets: names of `NETS` or files of configs, with commas between them.
      batch_sizes: integers with commas between them.
      overrides: flags that hold for all, such as --config.model.dtype=bfloat16.

    Raises:
      UsageError: an unknown network, a bad batch size, see also `flags.read_config`.
    """
    sizes = []
    for word in batch_sizes.split(","):
        digits = word.strip()
        if not digits.isascii() or not digits.isdigit() or len(digits) > 20:
            raise UsageError(
                f"--batch_sizes is {shown(batch_sizes)}, expected integers such as 64,128,500"
            )
        sizes.append(int(word))
        check_int("--batch_sizes", sizes[-1], minimum=1, maximum=1_000_000)
    for word in overrides:
        key = word.lstrip("-").split("=")[0]
        if key in ("config", "config.train.batch_size", "config.eval.batch_size"):
            raise UsageError(f"--{key} is set by this script: use --nets and --batch_sizes")
    cells = []
    for net in nets.split(","):
        is_file = net.endswith(".py")
        if not is_file:
            check_choice("--nets", net, NETS)
        name, changes = (None, ()) if is_file else NETS[net]
        path = net if is_file else _ROOT / "configs" / f"{name}.py"
        for size in sizes:
            both = (f"--config.{part}.batch_size={size}" for part in ("train", "eval"))
            arguments = [f"--config={path}", *_FULL_SIZE, *changes, *overrides, *both]
            _, config = read_config(arguments)
            cells.append(Cell(pathlib.Path(net).stem if is_file else net, config))
    return cells


def choose_engines(against: str) -> list[Engine]:
    """This project, and the modes of the libraries that it is compared with.

    Args:
      against: keys of `PEERS` with commas between them; '' for none.

    Raises:
      UsageError: an unknown library, or one that is not installed.
    """
    engines = [OURS]
    for name in filter(None, against.split(",")):
        check_choice("--against", name, PEERS)
        packages, modes = PEERS[name]
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        if missing:
            raise UsageError(
                f"--against is {name!r}, but {' and '.join(missing)} cannot be imported: install "
                "the peers with pip install '.[bench]'"
            )
        engines += modes
    return engines
