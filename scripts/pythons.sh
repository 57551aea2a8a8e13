#!/usr/bin/env bash
# Lists the Pythons here that the package runs on and that really start, the newest first and one of
# each version: "3.13.0 /path/to/python3.13" a line. PYTHON=/path/to/python leaves that one alone.
set -euo pipefail
cd "$(dirname "$0")/.."

refuse() {
    echo "error:" "$@" >&2
    exit 2
}

case "$(uname -s) $(uname -m)" in
    MINGW* | MSYS* | CYGWIN*)
        refuse "Windows cannot run this, because array_record has no wheels for it:" \
            "install WSL ('wsl --install') and run the same command there"
        ;;
    "Darwin x86_64")
        refuse "Intel Macs cannot run this, because jaxlib has no wheels for them any more:" \
            "use Linux, on another machine or in a container (on Apple silicon: a terminal without Rosetta)"
        ;;
esac

limits=$(sed -n 's/^python_requires = >=3\.\([0-9]*\),<3\.\([0-9]*\)$/\1 \2/p' setup.cfg)
low=${limits% *} beyond=${limits#* }
range="Python 3.$low to 3.$((beyond - 1))"

# A Python without the GIL has no wheels. The Python that a virtual environment was made of is named
# instead of that environment, which may be the one to be made anew.
probe='
import sys, sysconfig, venv, ensurepip
low, beyond = ((3, int(minor)) for minor in sys.argv[1:])
fits = low <= sys.version_info < beyond and sys.implementation.name == "cpython"
if not fits or sysconfig.get_config_var("Py_GIL_DISABLED"):
    sys.exit(1)
print("%d.%d.%d" % sys.version_info[:3], sys._base_executable)
'
try() {
    local answer
    answer=$("$1" -c "$probe" "$low" "$beyond" </dev/null 2>/dev/null) && [[ $answer == 3.*" "* ]] && echo "$answer"
}

if [ -n "${PYTHON:-}" ]; then
    if ! try "$PYTHON"; then
        got=$("$PYTHON" --version 2>&1 </dev/null | sed -n '1s/.*: //;1p') || true
        refuse "PYTHON=$PYTHON does not fit (${got:-it does not start}), expected $range with venv (on Debian" \
            "and Ubuntu the package python3-venv): name another one, or leave PYTHON out"
    fi
    exit 0
fi

uv=${UV_PYTHON_INSTALL_DIR:-${XDG_DATA_HOME:-${HOME:-}/.local/share}/uv/python}
found=$(
    for ((minor = beyond - 1; minor >= low; minor--)); do
        try "python3.$minor" || true
    done
    try python3 || true
    for python in "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.*/bin/python "$uv"/cpython-3.*/bin/python; do
        try "$python" || true
    done
)
if [ -z "$found" ]; then
    refuse "no $range with venv found: on Debian and Ubuntu 'sudo apt-get install python3-venv', on macOS" \
        "'brew install python@3.13', with uv 'uv python install 3.13', with pyenv 'pyenv install 3.13';" \
        "or name one with PYTHON=/path/to/python"
fi
# By minor version, then by patch; where both are the same, the one that was found first.
sort -s -t . -k 2,2nr -k 3,3nr <<< "$found" | awk -F . '!seen[$2]++'
