"""Trains an image classifier: python -m cifar_cnn.main --config=configs/dropout.py

Any key of the config can be set on the command line, as in --config.train.epochs=3. The same
command on the same --workdir resumes a run that was interrupted.
"""

import pathlib
import sys
import traceback

from absl import app, flags
from ml_collections import config_flags

from cifar_cnn import __version__, cli
from cifar_cnn.checks import UsageError, check_key, leaves
from configs import default

_CONFIG = config_flags.DEFINE_config_file("config", help_string="File of the config.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Run directory; by default runs/NAME for configs/NAME.py."
)


def main(argv: list[str]) -> int:
    """Runs with parsed flags; returns the exit code."""
    del argv
    return cli.run(_train)


def _train() -> None:
    if _CONFIG.value is None:
        raise UsageError("no config given: try --config=configs/quickstart.py")
    name = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    workdir = pathlib.Path(_WORKDIR.value or f"runs/{name}")
    print(f"cifar_cnn {__version__}, config {name}")
    # Imported here, because loading JAX takes seconds in which nothing would be said.
    from cifar_cnn import experiment, train

    config = _CONFIG.value.to_dict()
    experiment.check(config, default.get_config().to_dict())
    try:
        train.train_and_evaluate(config, workdir)
    except KeyboardInterrupt as interrupt:
        message = "interrupted: the same command goes on after the last checkpoint"
        raise KeyboardInterrupt(message) from interrupt


def _parse(argv: list[str]) -> list[str]:
    """Parses flags as absl does, with every failure as one line and exit code 2."""
    rest: list[str] = []
    code = cli.run(lambda: rest.extend(_parsed(argv)))
    if code:
        sys.exit(code)
    return rest


def _parsed(argv: list[str]) -> list[str]:
    known = [key for key, _ in leaves(default.get_config().to_dict())]
    for argument in argv[1:]:
        key = argument.lstrip("-").split("=")[0]
        if argument.startswith("-") and key.startswith("config."):
            check_key(key.removeprefix("config."), known)
    try:
        rest = flags.FLAGS(argv)
        if _CONFIG.value is not None:
            _CONFIG.value.keys()  # A config file that is not there raises here, and not before.
    except flags.Error as error:
        raise UsageError(f"{error} (--help lists the flags)") from error
    except OSError as error:
        raise UsageError(f"cannot read the config file: {_last_line(error)}") from error
    except Exception as error:
        # The config file is the user's Python: whatever it raises is told with its place.
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise UsageError(
            f"the config cannot be loaded: {type(error).__name__}: {error} "
            f"({place.filename}, line {place.lineno})"
        ) from error
    if len(rest) > 1:
        raise UsageError(f"{rest[1]!r} is not a flag: write --name=value (--help lists the flags)")
    return rest


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1].strip()


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
