"""Trains seeds of a config: python scripts/train_seeds.py --config=configs/mnist.py --seeds=5

Each seed is trained as by cifar_cnn.main, in WORKDIR/NAME-SEED, and evaluated; at the end come
mean, standard deviation and the interval of the mean. The same command goes on after an
interruption. Flags of cifar_cnn.main such as --config.train.epochs=3 are passed on to it.
"""

import pathlib
import sys

from cifar_cnn import cli


def main() -> None:
    """Parses flags and makes one call."""
    parser = cli.Flags(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--config", required=True, help="file of the config")
    parser.add_argument("--seeds", type=int, required=True, help="how many seeds")
    parser.add_argument("--first_seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument(
        "--workdir", type=pathlib.Path, default="runs", help="of the runs (default: %(default)s)"
    )
    cli.add_split_flag(parser)
    parser.add_argument(
        "--checkpoint", default="best", help="best or latest (default: %(default)s)"
    )
    parser.add_argument(
        "--tta", action="store_true", help="evaluate over mirrored and shifted views"
    )
    flags, overrides = parser.parse_known_args()
    # Imported here, so that --help and mistakes in the flags are told without loading JAX.
    from cifar_cnn.seeds import train_seeds

    train_seeds(
        flags.config,
        seeds=flags.seeds,
        first_seed=flags.first_seed,
        workdir=flags.workdir,
        split=flags.split,
        which=flags.checkpoint,
        tta=flags.tta,
        overrides=overrides,
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
