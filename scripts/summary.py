"""Prints a network layer by layer: python scripts/summary.py --config=configs/fashion_cnn.py

Every output shape and parameter count comes with the arithmetic that gives it, every layer with
its FLOPs and what it sees of the image. Needs no data and trains nothing. Any key of the config
can be set, as in --config.model.plain.stride=2.
"""

import sys

from cifar_cnn import cli


def main() -> None:
    """Parses flags and makes one call."""
    parser = cli.Flags(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE",
        help="file of the config; --config.KEY=VALUE sets one of its keys",
    )
    parser.add_argument(
        "--image_shape", metavar="H,W,C", help="such as 28,28,1, if not that of the config's data"
    )
    parser.add_argument("--classes", type=int, help="their number, if not that of the data")
    parser.add_argument("--json", action="store_true", help="print JSON")
    flags, keys = parser.parse_known_args()
    from cifar_cnn.flags import read_config

    name, config = read_config([f"--config={flags.config}", *keys])
    # Imported here, so that --help and mistakes in the flags are told without loading JAX.
    from cifar_cnn.describe import describe_network

    describe_network(
        config,
        name,
        image_shape=flags.image_shape,
        classes=flags.classes,
        machine_readable=flags.json,
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
