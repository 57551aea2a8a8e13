#!/usr/bin/env bash
# From nothing to a trained and evaluated network: needs Python 3.11 or newer, downloads no data.
# PYTHON and VENV mean what they mean to scripts/setup.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh
python=${VENV:-.venv}/bin/python
"$python" -m cifar_cnn.main --config=configs/quickstart.py "$@"
"$python" scripts/evaluate.py --workdir=runs/quickstart
echo
echo "Look at $PWD/runs/quickstart/eval/*/confusion_matrix.png"
echo "Train on CIFAR-10 next: $python -m cifar_cnn.main --config=configs/dropout.py"
