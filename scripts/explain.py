"""Shows what a network sees: python scripts/explain.py --workdir=runs/dropout --image=dog.png

Writes the picture as the network gets it, the first layer's kernels, every layer's feature maps,
the probabilities, Grad-CAM and saliency, and explanation.json with figures of every layer.
--index=7 takes an example of the test split, or of --split, instead of a file.
"""

import pathlib
import sys

from cifar_cnn import cli


def main() -> None:
    """Parses flags and makes one call."""
    parser = cli.Flags(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="run directory")
    parser.add_argument("--image", type=pathlib.Path, help="picture file")
    parser.add_argument("--index", type=int, help="example of the split, instead of --image")
    cli.add_split_flag(parser, "of --index: test, validation or train")
    parser.add_argument(
        "--out", type=pathlib.Path, help="folder for the pictures (default: in WORKDIR/explain)"
    )
    parser.add_argument("--class_name", help="a class to explain besides the predicted one")
    parser.add_argument("--layer", help="of Grad-CAM (default: last convolutional activation)")
    parser.add_argument(
        "--fit", default="crop", help="crop, pad or stretch the picture (default: %(default)s)"
    )
    parser.add_argument(
        "--maps", type=int, default=16, help="feature maps a page, 1 to 64 (default: %(default)s)"
    )
    cli.add_checkpoint_flag(parser)
    cli.add_data_flag(parser)
    cli.add_device_flags(parser)
    flags = parser.parse_args()
    # Imported here, so that --help and mistakes in the flags are told without loading JAX.
    from cifar_cnn.explain import explain_run

    explain_run(
        flags.workdir,
        image=flags.image,
        index=flags.index,
        split=flags.split,
        out=flags.out,
        class_name=flags.class_name,
        layer=flags.layer,
        fit=flags.fit,
        maps=flags.maps,
        which=flags.checkpoint,
        settings=cli.settings(flags),
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
