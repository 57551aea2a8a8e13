"""Classifies your own pictures: python scripts/predict.py --workdir=runs/dropout dog.jpg cat.png

Prints the most probable classes of each, "dog.jpg -> dog 87.1 %, cat 6.0 %, horse 3.2 %". A file
that cannot be read is named on stderr, the others are classified, and the exit code is 1.
"""

import pathlib
import sys

from cifar_cnn import cli


def main() -> None:
    """Parses flags and makes one call."""
    parser = cli.Flags(description=__doc__.splitlines()[0])
    parser.add_argument(
        "images", nargs="*", type=pathlib.Path, metavar="IMAGE", help="picture of any size"
    )
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="run directory")
    parser.add_argument("--folder", type=pathlib.Path, help="all pictures in it and below it, too")
    cli.add_checkpoint_flag(parser)
    parser.add_argument(
        "--top", type=int, default=3, help="classes to print, at most all (default: %(default)s)"
    )
    parser.add_argument(
        "--fit",
        help="what to do with another aspect ratio: crop to the centre, pad with the border's "
        "colour, or stretch (default: as in training on a folder, else crop)",
    )
    parser.add_argument(
        "--invert",
        action="store_true",
        help="swap light and dark, as for a digit in ink and a network trained on MNIST",
    )
    parser.add_argument(
        "--unsure_below",
        type=float,
        default=0.5,
        help="say so where no class is as probable as this (default: %(default)s, where all other "
        "classes together are more probable than the one named)",
    )
    parser.add_argument(
        "--batch_size", type=int, default=64, help="pictures at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document, and all else on stderr"
    )
    cli.add_device_flags(parser)
    # Flags and pictures in any order.
    flags = parser.parse_intermixed_args()
    # Imported here, so that --help and mistakes in the flags are told without loading JAX.
    from cifar_cnn.predict import predict_files

    predict_files(
        flags.workdir,
        flags.images,
        folder=flags.folder,
        which=flags.checkpoint,
        top=flags.top,
        fit=flags.fit,
        invert=flags.invert,
        unsure_below=flags.unsure_below,
        batch_size=flags.batch_size,
        as_json=flags.json,
        settings=cli.settings(flags),
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
