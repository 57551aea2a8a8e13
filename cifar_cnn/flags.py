"""The flag --config and its keys, for every command that reads a config.

A mistake in the flags or in the config file is one line, told before JAX is loaded.
"""

import pathlib
import traceback
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from cifar_cnn.checks import UsageError, check_key, leaves
from configs import default


def define_config(
    values: flags.FlagValues = flags.FLAGS, argv: Sequence[str] | None = None
) -> flags.FlagHolder:
    """Defines --config=FILE and --config.KEY=VALUE among the flags `values`.

    Args:
      argv: the command and its flags, in which keys are looked for; None for this process's own.
    """
    return config_flags.DEFINE_config_file(
        "config",
        help_string="File of the config.",
        flag_values=values,
        sys_argv=None if argv is None else list(argv),
    )


def parse(
    argv: Sequence[str], config: flags.FlagHolder, values: flags.FlagValues = flags.FLAGS
) -> list[str]:
    """Parses flags and loads the config file.

    Args:
      argv: the command and its flags.
      config: as `define_config` made it.
      values: the flags that it is one of.

    Returns:
      The command alone.

    Raises:
      UsageError: an unknown flag or key, a value of the wrong type, a config file that is not
        there or fails, an argument that is no flag.
    """
    known = [key for key, _ in leaves(default.get_config().to_dict())]
    for argument in argv[1:]:
        key = argument.lstrip("-").split("=")[0]
        if argument.startswith("-") and key.startswith("config."):
            check_key(key.removeprefix("config."), known)
    try:
        rest = values(list(argv))
        if config.value is not None:
            config.value.keys()  # A config file that is not there raises here, and not before.
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


def config_name(values: flags.FlagValues = flags.FLAGS) -> str:
    """'dropout' for --config=configs/dropout.py."""
    return pathlib.Path(config_flags.get_config_filename(values["config"])).stem


def read_config(arguments: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Loads and checks a config from the flags of a script, such as
    ['--config=configs/dropout.py', '--config.train.epochs=3'].

    Returns:
      Its name and the complete nested config.

    Raises:
      UsageError: see `parse` and `experiment.check`.
    """
    argv, values = ["", *arguments], flags.FlagValues()
    config = define_config(values, argv)
    parse(argv, config, values)
    # Imported here, because loading JAX takes seconds: mistakes in the flags are told before.
    from cifar_cnn import experiment

    nested = config.value.to_dict()
    experiment.check(nested, default.get_config().to_dict())
    return config_name(values), nested


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1].strip()
