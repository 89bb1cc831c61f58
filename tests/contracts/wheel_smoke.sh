#!/usr/bin/env bash
# Build the wheel, look into it, install it into a clean environment outside the checkout and use it there.
# usage: tests/contracts/wheel_smoke.sh PYTHON      PYTHON has build and hatchling, e.g. .venv/bin/python
set -euo pipefail

python=$(realpath -s "${1:?usage: $0 PYTHON}")
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "== build" >&2
"$python" -m build --wheel --no-isolation --outdir "$work/dist" "$root" >"$work/build.log" 2>&1 \
  || { cat "$work/build.log" >&2; exit 1; }
wheel=$(echo "$work"/dist/fleetmeter-*.whl)

echo "== contents" >&2
"$python" "$root/tests/contracts/wheel_contents.py" "$root" "$wheel"

echo "== install, base dependencies only, in the versions of the lock" >&2
"$python" -m venv "$work/venv"
sed -e 's/ *\\$//' -e '/--hash=/d' "$root/requirements.lock" >"$work/constraints.txt"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --constraint "$work/constraints.txt" "$wheel"
"$work/venv/bin/pip" check

echo "== use" >&2
cd "$work"
fleetmeter() { env -u PYTHONPATH "$work/venv/bin/fleetmeter" "$@"; }
fleetmeter --version
fleetmeter --help >"$work/help.txt"
grep -q "observability\|Observability" "$work/help.txt"
printf 'collector:\n  api_port: 18320\n' >good.yaml
printf 'collector:\n  api_prot: 18320\n' >bad.yaml
fleetmeter config check good.yaml
code=0; fleetmeter config check bad.yaml 2>"$work/told.txt" || code=$?
[ "$code" = 2 ] || { echo "a wrong configuration exits $code, not 2" >&2; exit 1; }
grep -q "api_port" "$work/told.txt" || { cat "$work/told.txt" >&2; exit 1; }
env -u PYTHONPATH "$work/venv/bin/python" "$root/tests/contracts/wheel_imports.py" "$work/venv"
echo "the wheel is good: $(basename "$wheel")"
