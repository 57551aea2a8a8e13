"""Evaluates a trained network: python scripts/evaluate.py --workdir=runs/dropout

Prints accuracy, per-class precision and recall and the confusion matrix, and writes them with
every single prediction to WORKDIR/eval/SPLIT-STEP.
"""

import argparse
import pathlib
import sys

from cifar_cnn import cli


def main() -> None:
    """Parses flags and makes one call."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="run directory")
    parser.add_argument(
        "--split", default="test", help="test, validation or train (default: %(default)s)"
    )
    parser.add_argument(
        "--checkpoint", default="best", help="best, latest or a step (default: %(default)s)"
    )
    parser.add_argument(
        "--tta", action="store_true", help="average over mirrored and shifted views"
    )
    parser.add_argument(
        "--rows", default="true", help="rows of the matrix: true or predicted (default: true)"
    )
    parser.add_argument("--data_dir", help="prepared TFDS sets, if not where the run found them")
    parser.add_argument("--platform", help="auto, cpu, cuda, rocm or tpu, if not the run's")
    parser.add_argument("--cpu_devices", type=int, help="devices that a CPU shows as")
    flags = parser.parse_args()
    # Imported here, so that --help and mistakes in the flags are told without loading JAX.
    from cifar_cnn.evaluate import evaluate_run

    names = ("data_dir", "platform", "cpu_devices")
    evaluate_run(
        flags.workdir,
        split=flags.split,
        which=flags.checkpoint,
        tta=flags.tta,
        rows=flags.rows,
        settings={name: value for name in names if (value := getattr(flags, name)) is not None},
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
