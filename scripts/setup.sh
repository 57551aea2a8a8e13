#!/usr/bin/env bash
# Makes .venv with the pinned packages of requirements.lock; does nothing where that is done.
# PYTHON=/path/to/python chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

stamp=.venv/installed
wanted=$(cat requirements.lock setup.cfg | cksum)
if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

fits='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
for python in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if "$python" -c "$fits" 2>/dev/null; then
        found=$python
        break
    fi
done
if [ -z "${found:-}" ]; then
    echo "error: no Python 3.11, 3.12 or 3.13 with venv found: install one (on Debian and Ubuntu" \
        "also the package python3-venv), or name it with PYTHON=/path/to/python" >&2
    exit 2
fi

echo "installing into .venv (about a minute and 1 GB)"
"$found" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
echo "$wanted" > "$stamp"
