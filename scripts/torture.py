"""Breaks runs in every way that is known: python scripts/torture.py

kill -9 at random moments, signals, damaged checkpoints, full and read-only disks, deleted run
directories, jumping clocks, two runs on one directory, losses that are not numbers: every run has
to go on to the same end as an unbroken one. Exit code 1 where one does not.
"""

import pathlib
import sys

from cifar_cnn import cli


def main() -> None:
    """Parses flags and makes one call."""
    parser = cli.Flags(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--faults", default="", help="with commas between them; all by default")
    parser.add_argument(
        "--tries", type=int, default=0, help="of each fault; by default 100 kills, fewer of others"
    )
    parser.add_argument("--epochs", type=int, default=20, help="of each run (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of what is broken, and when (default: %(default)s)"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, help="runs at the same time (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=pathlib.Path, default="runs/torture", help="(default: %(default)s)"
    )
    flags = parser.parse_args()
    # Imported here, so that --help and mistakes in the flags are told without loading JAX.
    from cifar_cnn.torture.harness import torture

    torture(
        flags.out,
        faults=flags.faults,
        tries=flags.tries,
        epochs=flags.epochs,
        seed=flags.seed,
        jobs=flags.jobs,
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
