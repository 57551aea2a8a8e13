#!/usr/bin/env bash
# Makes .venv with the pinned packages of requirements.lock; does nothing where that is done.
# Takes the newest Python that scripts/pythons.sh finds. PYTHON=/path/to/python chooses another one,
# VENV=FOLDER another folder.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
wanted=$(cat requirements.lock setup.cfg | cksum)
made=
if [ -x "$venv/bin/python" ]; then
    made=$(cat "$venv/installed" 2>/dev/null) || true
fi
if [ -z "${PYTHON:-}" ] && [ "${made% Python *}" = "$wanted" ]; then
    exit 0
fi

pythons=$(bash scripts/pythons.sh)
read -r version python <<< "$pythons"
wanted="$wanted Python ${version%.*}"
if [ "$made" = "$wanted" ]; then
    exit 0
fi

if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv")" ]; then
    echo "error: $venv holds files, but is no virtual environment: remove it, or name another folder" \
        "with VENV=" >&2
    exit 2
fi
echo "Python $version ($python): installing into $venv (about a minute and 1 GB)"
case $version in
    3.11.*) echo "note: a newer Python brings a newer, faster jax, which has left 3.11 behind" ;;
esac
"$python" -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.lock
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -e .
echo "$wanted" > "$venv/installed"
