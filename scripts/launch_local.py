"""Trains in several processes on this machine's CPU, as a cluster would on many machines:

    python scripts/launch_local.py --processes=2 --devices=2 -- --config=configs/dropout.py

What follows -- are the flags of cifar_cnn.main, or a script such as scripts/evaluate.py with its
own. Ctrl-C and signals reach all processes, and none is left behind.
"""

import sys

from cifar_cnn import cli


def main() -> None:
    """Parses flags and makes one call."""
    parser = cli.Flags(
        description=__doc__.splitlines()[0], usage="%(prog)s [--processes N] [--devices N] -- FLAGS"
    )
    parser.add_argument("--processes", type=int, default=2, help="how many (default: %(default)s)")
    parser.add_argument(
        "--devices", type=int, default=0, help="CPU devices of each; 0 to share the cores"
    )
    parser.add_argument("arguments", nargs="*", metavar="FLAGS", help="of cifar_cnn.main")
    flags = parser.parse_args()
    from cifar_cnn.launch import launch

    code = launch(flags.processes, flags.devices, flags.arguments)
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    sys.exit(cli.run(main))
