#!/usr/bin/env bash
# Lint and all tests. Tests on real images read $TFDS_DATA_DIR and are skipped where it is not set.
# PYTHON and VENV mean what they mean to scripts/setup.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh
bin=${VENV:-.venv}/bin
"$bin/ruff" format --check .
"$bin/ruff" check .
"$bin/python" -m pytest -n 2 --dist worksteal "$@"
