# Sourced by the other scripts: `environment FOLDER LOCK` makes a virtual environment from a lock file with hashes,
# once; it is made anew only when the lock or the package's own metadata has changed.

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$ROOT"

# Variables of the surrounding shell that would lead pip, uv or Python elsewhere; the last of them lets every process
# compile all that it imports once more, which takes three times as long as to start.
unset VIRTUAL_ENV PYTHONHOME PYTHONPATH PYTHONDONTWRITEBYTECODE

python_311() {
    for candidate in "${PYTHON:-}" python3.11 python3 python3.13 python3.12 python; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Python 3.11 or newer with its venv module is needed. Name it: PYTHON=/path/to/python3.11 $0" >&2
    return 1
}

environment() {
    folder=$1 lock=$2
    wanted=$(cat requirements/bootstrap.txt "$lock" pyproject.toml "$ROOT/scripts/environment.sh" | cksum; echo "$ROOT")
    if [ -f "$folder/.made" ] && [ "$(cat "$folder/.made")" = "$wanted" ] && "$folder/bin/python" -c '' 2>/dev/null; then
        return
    fi
    python=$(python_311)
    echo "Setting up $folder with $("$python" --version) (once; a minute or so) ..." >&2
    rm -rf "$folder"
    "$python" -m venv "$folder"
    echo "  1/3 uv, the installer" >&2
    "$folder/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
    echo "  2/3 $(grep -c '^[a-z].*==' "$lock") packages, pinned with hashes in $lock" >&2
    "$folder/bin/uv" pip install --python "$folder/bin/python" --require-hashes -r "$lock" >&2
    echo "  3/3 vetted-mw itself" >&2
    "$folder/bin/uv" pip install --quiet --python "$folder/bin/python" --no-deps --no-build-isolation --editable .
    echo "$wanted" > "$folder/.made"
}
