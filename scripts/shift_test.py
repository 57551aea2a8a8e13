"""Measures shift tolerance: python scripts/shift_test.py --workdir=runs/dense --workdir=runs/cnn

Accuracy of trained networks as the images of their test split move by some pixels and turn by
some degrees: a table, a figure with the curves of all, and a heat map of each.
"""

import pathlib
import sys

from cifar_cnn import cli


def main() -> None:
    """Parses flags and makes one call."""
    parser = cli.Flags(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workdir",
        type=pathlib.Path,
        required=True,
        action="append",
        help="run directory; may be given several times",
    )
    cli.add_split_flag(parser, "test, validation or train")
    cli.add_checkpoint_flag(parser)
    parser.add_argument(
        "--reach", type=int, default=8, help="the farthest shift in pixels (default: %(default)s)"
    )
    parser.add_argument(
        "--step",
        type=int,
        default=2,
        help="pixels between the cells of the heat map; the curves take every pixel "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--max_angle", type=int, default=30, help="degrees, both ways (default: %(default)s)"
    )
    parser.add_argument(
        "--fill",
        default="auto",
        help="what appears at the border: zero, edge, reflect, or auto (default): zero where the "
        "training images' border is black in the median, else edge",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        help="folder of the files (default: WORKDIR/shift, or shift beside the first of several)",
    )
    cli.add_data_flag(parser)
    cli.add_device_flags(parser)
    flags = parser.parse_args()
    # Imported here, so that --help and mistakes in the flags are told without loading JAX.
    from cifar_cnn.shift import shift_test

    shift_test(
        flags.workdir,
        split=flags.split,
        which=flags.checkpoint,
        reach=flags.reach,
        step=flags.step,
        max_angle=flags.max_angle,
        fill=flags.fill,
        out=flags.out,
        settings=cli.settings(flags),
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
