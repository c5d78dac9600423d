#!/bin/sh
# Make the virtual environment in $1 and install into it exactly what the lock file $2 lists.
set -eu
venv=$1
lock=$2

usable() { # a Python that is new enough and able to make virtual environments
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for python in python3.11 python3 python3.12 python3.13; do
        if usable "$python"; then
            echo "$python"
            return
        fi
    done
    return 1
}

install_python() {
    packages="python3 python3-venv"
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "Python 3.11 or newer with venv is missing. On Debian and Ubuntu install it with:" >&2
        echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends $packages" >&2
        exit 1
    fi
    echo "installing $packages with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o DPkg::Lock::Timeout=300 update
    # shellcheck disable=SC2086  # two words, two packages
    apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $packages >/dev/null
}

if ! usable "$venv/bin/python"; then
    python=$(find_python) || { install_python; python=$(find_python); } || {
        echo "Python 3.11 or newer is needed" >&2
        exit 1
    }
    echo "making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
fi
echo "installing what $lock lists into $venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r "$lock"
touch "$venv/.installed"
