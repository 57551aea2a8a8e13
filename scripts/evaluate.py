"""Evaluates a trained network: python scripts/evaluate.py --workdir=runs/dropout

Prints accuracy, per-class precision and recall and the confusion matrix, and writes them with
every single prediction to WORKDIR/eval/SPLIT-STEP.
"""

import pathlib
import sys

from cifar_cnn import cli, hosts


def main() -> None:
    """Parses flags and makes one call."""
    parser = cli.Flags(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="run directory")
    cli.add_split_flag(parser, "test, validation or train")
    cli.add_checkpoint_flag(parser)
    parser.add_argument(
        "--tta", action="store_true", help="average over mirrored and shifted views"
    )
    parser.add_argument(
        "--rows", default="true", help="rows of the matrix: true or predicted (default: true)"
    )
    cli.add_data_flag(parser)
    cli.add_device_flags(parser)
    cli.add_process_flags(parser)
    flags = parser.parse_args()
    hosts.set_flags({name: getattr(flags, name) for name in cli.PROCESS_FLAGS})
    hosts.quiet_others()
    # Imported here, so that --help and mistakes in the flags are told without loading JAX.
    from cifar_cnn.evaluate import evaluate_run

    evaluate_run(
        flags.workdir,
        split=flags.split,
        which=flags.checkpoint,
        tta=flags.tta,
        rows=flags.rows,
        settings=cli.settings(flags),
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
