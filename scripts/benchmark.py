"""Measures speed: python scripts/benchmark.py --nets=dropout --batch_sizes=64,128 --against=torch

Images a second of the whole training step and of evaluation, seconds of the first step, and peak
memory, ours beside PyTorch's or Keras's with the same network, batch and data, asked in turn.
Peers need pip install '.[bench]'. Flags of cifar_cnn.main such as --config.model.dtype=bfloat16
hold for all networks.
"""

import pathlib
import sys

from cifar_cnn import cli


def main() -> None:
    """Parses flags and makes one call."""
    parser = cli.Flags(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--nets",
        default="speedrun,dropout,wide,keras_cifar10,mnist_classic,fashion_cnn",
        help="with commas between them; or files such as configs/wide.py (default: %(default)s)",
    )
    parser.add_argument(
        "--batch_sizes", default="128", help="with commas between them (default: %(default)s)"
    )
    parser.add_argument("--against", default="", help="torch, keras or torch,keras")
    parser.add_argument(
        "--repeats", type=int, default=5, help="measurements of each kind (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="of one at least (default: %(default)s)"
    )
    parser.add_argument(
        "--images", type=int, default=0, help="of the train split, the first ones; 0 for all"
    )
    parser.add_argument(
        "--eval_images", type=int, default=5000, help="of one evaluation (default: %(default)s)"
    )
    parser.add_argument(
        "--compile_cache", action="store_true", help="keep our programs as cifar_cnn.main does"
    )
    parser.add_argument(
        "--out", type=pathlib.Path, default="runs/benchmark", help="(default: %(default)s)"
    )
    flags, overrides = parser.parse_known_args()
    # Imported here, so that --help and mistakes in the flags are told without loading JAX.
    from cifar_cnn.benchmark.measuring import benchmark
    from cifar_cnn.benchmark.planning import choose_engines, plan_cells

    benchmark(
        plan_cells(flags.nets, flags.batch_sizes, overrides),
        choose_engines(flags.against),
        flags.out,
        repeats=flags.repeats,
        seconds=flags.seconds,
        images=flags.images,
        eval_images=flags.eval_images,
        compile_cache=flags.compile_cache,
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
