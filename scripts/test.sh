#!/usr/bin/env bash
# Lint and all tests. Tests on real images read $TFDS_DATA_DIR and are skipped where it is not set.
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh
.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/python -m pytest -n 2 --dist worksteal "$@"
