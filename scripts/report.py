"""Makes one page that explains a run: python scripts/report.py --workdir=runs/dropout

Writes WORKDIR/report/index.html, which needs no server and no network: curves, confusion matrix,
classes, confidence, a gallery, and the trained network layer by layer on some images.
--image=dog.png adds a picture of yours, --index=7 an example of the split, --compare=runs/wide
another run; all three may be repeated.
"""

import pathlib
import sys

from cifar_cnn import cli


def main() -> None:
    """Parses flags and makes one call."""
    parser = cli.Flags(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="run directory")
    parser.add_argument(
        "--compare", type=pathlib.Path, nargs="+", action="extend", default=[],
        help="directories of other runs on the same data",
    )  # fmt: skip
    parser.add_argument(
        "--image", type=pathlib.Path, nargs="+", action="extend", default=[],
        help="pictures to follow through the network",
    )  # fmt: skip
    parser.add_argument(
        "--index", type=int, nargs="+", action="extend", default=[],
        help="examples of the split to follow through the network, from 0",
    )  # fmt: skip
    cli.add_split_flag(parser)
    cli.add_checkpoint_flag(parser)
    parser.add_argument(
        "--tta", action="store_true", help="answers are means over mirrored and shifted views"
    )
    parser.add_argument(
        "--fit", default="crop", help="crop, pad or stretch pictures (default: %(default)s)"
    )
    cli.add_data_flag(parser)
    cli.add_device_flags(parser)
    flags = parser.parse_args()
    # Imported here, so that --help and mistakes in the flags are told without loading JAX.
    from cifar_cnn.evaluate import evaluate_run
    from cifar_cnn.page import write_page

    write_page(
        flags.workdir,
        evaluate=evaluate_run,
        others=flags.compare,
        pictures=flags.image,
        indices=flags.index,
        split=flags.split,
        which=flags.checkpoint,
        tta=flags.tta,
        fit=flags.fit,
        settings=cli.settings(flags),
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
