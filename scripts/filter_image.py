"""Filters a picture with a kernel: python scripts/filter_image.py mnist:7 --kernel=sobel_x

The picture is a file, or DATASET:INDEX for an image of a prepared set's train split. Draws before,
kernel and after as one PNG, and prints the arithmetic of the shapes.
"""

import pathlib
import sys

from cifar_cnn import cli


def main() -> None:
    """Parses flags and makes one call."""
    parser = cli.Flags(description=__doc__.splitlines()[0])
    parser.add_argument("image", help="a picture file, or DATASET:INDEX such as cifar10:12")
    parser.add_argument(
        "--kernel",
        default="all",
        help="identity, box, gaussian, sharpen, edge, laplacian, sobel_x, sobel_y, emboss, rows of "
        "numbers such as [[0,-1,0],[-1,5,-1],[0,-1,0]], or all (default: %(default)s)",
    )
    parser.add_argument("--size", type=int, default=3, help="3 or 5 (default: %(default)s)")
    parser.add_argument(
        "--padding",
        default="same",
        help="valid (none), same (zeros), reflect, edge or wrap (default: %(default)s)",
    )
    parser.add_argument("--stride", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--relu", action="store_true", help="set negative results to 0")
    parser.add_argument("--pool", help="pool the result: max or avg")
    parser.add_argument("--pool_size", type=int, default=2, help="window (default: %(default)s)")
    parser.add_argument("--pool_stride", type=int, help="step of the window (default: its size)")
    parser.add_argument("--gray", action="store_true", help="make a colour picture grey first")
    parser.add_argument("--out", type=pathlib.Path, help="the PNG (default: IMAGE-KERNEL.png)")
    parser.add_argument("--data_dir", help="prepared TFDS sets, if not in TFDS's own folder")
    flags = parser.parse_args()
    # Imported here, so that --help and mistakes in the flags are told without loading JAX.
    from cifar_cnn.filtering import filter_picture

    filter_picture(
        flags.image,
        kernel=flags.kernel,
        size=flags.size,
        padding=flags.padding,
        stride=flags.stride,
        relu=flags.relu,
        pool=flags.pool,
        pool_size=flags.pool_size,
        pool_stride=flags.pool_stride,
        gray=flags.gray,
        out=flags.out,
        data_dir=flags.data_dir,
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
