"""Looks at a data set: python scripts/explore_data.py --name=cifar10 --out=runs/look/cifar10

Prints counts, checks and duplicates, and draws samples, class counts, pixel values, mean images
and augmentations. Also for a folder of pictures: --folder=DIR.
"""

import pathlib
import sys

from cifar_cnn import cli


def main() -> None:
    """Parses flags and makes one call."""
    parser = cli.Flags(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--name", help="TFDS name, such as cifar10, or the embedded shapes10")
    what.add_argument("--folder", help="a folder with one folder of pictures a class")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to write to")
    parser.add_argument("--data_dir", help="prepared TFDS sets, if not in $TFDS_DATA_DIR")
    parser.add_argument(
        "--seed", type=int, default=0, help="of samples and augmentations (default: %(default)s)"
    )
    parser.add_argument(
        "--examples", type=int, default=5, help="samples a class (default: %(default)s)"
    )
    parser.add_argument("--image_size", type=int, help="pixels, of pictures of several sizes")
    parser.add_argument("--channels", type=int, help="1 (grey) or 3 (RGB), of such pictures")
    parser.add_argument("--fit", help="crop, pad or stretch, of such pictures")
    flags = parser.parse_args()
    if flags.folder and flags.data_dir:
        parser.error("--data_dir is where the sets of --name are: give it or --folder")
    # Imported here, so that --help and mistakes in the flags are told without loading JAX.
    from cifar_cnn import experiment
    from cifar_cnn.explore import explore
    from configs import default

    config = default.get_config()
    keys = ("name", "folder", "image_size", "channels", "fit")
    given = {f"data.{key}": getattr(flags, key) for key in keys}
    given["run.data_dir"] = flags.data_dir
    config.update_from_flattened_dict({k: v for k, v in given.items() if v is not None})
    experiment.check(config.to_dict(), default.get_config().to_dict())
    explore(config.to_dict(), flags.out, seed=flags.seed, examples=flags.examples)


if __name__ == "__main__":
    sys.exit(cli.run(main))
