#!/usr/bin/env bash
# Installs a wheel into an empty environment and uses it from outside the repository, with no network.
# Usage: PYTHON=<interpreter whose packages satisfy the dependencies> smoke_test_wheel.sh <wheel>
set -euo pipefail
wheel=$(realpath "$1")
python=$(realpath --no-symlinks "$PYTHON")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
dependencies=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$python" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --no-index --no-deps "$wheel"
script=$(realpath "$(dirname "$0")/smoke.py")
cd "$folder"
PYTHONPATH="$dependencies" "$folder/venv/bin/python" -I -c "
import sys
sys.path.append('$dependencies')
exec(compile(open('$script').read(), 'smoke.py', 'exec'))
"
