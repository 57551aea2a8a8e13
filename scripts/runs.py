"""Lists all runs below a folder: python scripts/runs.py runs --sort=validation"""

import pathlib
import sys

from cifar_cnn import cli


def main() -> None:
    """Parses flags and makes one call."""
    parser = cli.Flags(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "folder", type=pathlib.Path, nargs="?", default="runs", help="(default: %(default)s)"
    )
    parser.add_argument("--sort", default="run", help="a column's name (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    flags = parser.parse_args()
    from cifar_cnn.runs import list_runs

    list_runs(flags.folder, sort=flags.sort, as_json=flags.json)


if __name__ == "__main__":
    sys.exit(cli.run(main))
