"""Compares trained runs: python scripts/compare_runs.py runs/baseline-0 runs/dropout-0

Prints what their configs, accuracies and curves have in common and apart, with intervals, and
writes the numbers, the curves and the images they disagree about. Runs that differ only in seed
are one group: python scripts/compare_runs.py runs/baseline-* runs/dropout-*
"""

import pathlib
import sys

from cifar_cnn import cli


def main() -> None:
    """Parses flags and makes one call."""
    parser = cli.Flags(description=__doc__.splitlines()[0])
    parser.add_argument(
        "workdirs", type=pathlib.Path, nargs="+", help="two run directories or more"
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        help="folder of the files (default: comparison beside the first)",
    )
    cli.add_split_flag(parser)
    cli.add_checkpoint_flag(parser)
    cli.add_data_flag(parser)
    cli.add_device_flags(parser)
    flags = parser.parse_args()
    # Imported here, so that --help and mistakes in the flags are told without loading JAX.
    from cifar_cnn.compare import compare_runs
    from cifar_cnn.evaluate import evaluate_run

    compare_runs(
        flags.workdirs,
        evaluate=evaluate_run,
        split=flags.split,
        which=flags.checkpoint,
        out=flags.out,
        settings=cli.settings(flags),
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
