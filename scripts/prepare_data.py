"""Prepares a data set once, without TensorFlow.

python scripts/prepare_data.py --name=cifar10
python scripts/prepare_data.py --archive=cifar-10-python.tar.gz --data_dir=/data/tfds
"""

import argparse
import signal
import sys
from collections.abc import Sequence

from cifar_cnn import cli, datasets


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 1 disk or network failed, 2 wrong usage, 130 interrupted."""
    return cli.run(lambda: _prepare(argv))


def _prepare(argv: Sequence[str] | None) -> None:
    parser = cli.Flags(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", help="TFDS name, such as cifar10, fashion_mnist, emnist/letters")
    parser.add_argument(
        "--data_dir", help="TFDS data directory; default $TFDS_DATA_DIR or ~/tensorflow_datasets"
    )
    parser.add_argument("--archive", help="a CIFAR .tar.gz on disk, python or binary version")
    flags = parser.parse_args(argv)
    datasets.prepare(flags.name, data_dir=flags.data_dir, archive=flags.archive)


if __name__ == "__main__":
    # Like Ctrl-C, so that nothing half-made stays behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
