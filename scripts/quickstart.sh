#!/usr/bin/env bash
# From nothing to a trained and evaluated network: needs Python 3.11 to 3.13, downloads no data.
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/setup.sh
.venv/bin/python -m cifar_cnn.main --config=configs/quickstart.py "$@"
.venv/bin/python scripts/evaluate.py --workdir=runs/quickstart
echo
echo "Look at $PWD/runs/quickstart/eval/*/confusion_matrix.png"
echo "Train on CIFAR-10 next: .venv/bin/python -m cifar_cnn.main --config=configs/dropout.py"
