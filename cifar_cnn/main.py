"""Trains an image classifier: python -m cifar_cnn.main --config=configs/dropout.py

Any key of the config can be set on the command line, as in --config.train.epochs=3. The same
command on the same --workdir resumes a run that was interrupted. On many hosts every process runs
this command; see cifar_cnn/hosts/.
"""

import contextlib
import os
import pathlib
import sys

from absl import app, flags

from cifar_cnn import __version__, cli, hosts
from cifar_cnn.checks import UsageError
from cifar_cnn.flags import config_name, define_config, parse
from cifar_cnn.signals import watched
from configs import default

_CONFIG = define_config()
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Run directory; by default runs/NAME for configs/NAME.py."
)
_QUIET = flags.DEFINE_bool("quiet", False, "Print nothing but errors.")
_PROCESS = {
    name: (flags.DEFINE_integer if kind is int else flags.DEFINE_string)(name, None, text)
    for name, (kind, text) in cli.PROCESS_FLAGS.items()
}


def main(argv: list[str]) -> int:
    """Runs with parsed flags; returns the exit code."""
    del argv
    return cli.run(_train)


def _train() -> None:
    if _CONFIG.value is None:
        raise UsageError("no config given: try --config=configs/quickstart.py")
    hosts.set_flags({name: flag.value for name, flag in _PROCESS.items()})
    hosts.quiet_others()
    if _QUIET.value:
        with (
            open(os.devnull, "w", encoding="utf-8", errors="backslashreplace") as nowhere,
            contextlib.redirect_stdout(nowhere),
        ):
            _run()
    else:
        _run()


def _run() -> None:
    name = config_name()
    workdir = pathlib.Path(_WORKDIR.value or f"runs/{name}")
    print(f"cifar_cnn {__version__}, config {name}")
    with watched() as watch:
        # Imported here, because loading JAX takes seconds in which nothing would be said.
        from cifar_cnn import experiment, train

        config = _CONFIG.value.to_dict()
        experiment.check(config, default.get_config().to_dict())
        command = ["python", "-m", "cifar_cnn.main", *sys.argv[1:]]
        train.train_and_evaluate(config, workdir, watch, command, name)


def _parse(argv: list[str]) -> list[str]:
    """Parses flags as absl does, with every failure as one line and exit code 2."""
    rest: list[str] = []
    code = cli.run(lambda: rest.extend(parse(argv, _CONFIG)))
    if code:
        sys.exit(code)
    return rest


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
