#!/usr/bin/env bash
# Installs pythermo and what it lacks from .gpu, without network, and checks it on the GPU: see README.md beside this.
# bash tests/gpu/first_contact.sh [STAGE[:SECONDS] ...]
set -eu
cd "$(dirname "$0")/../.."
site=$PWD/.gpu/site
install=(python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site")
export PYTHONPATH=$site
"${install[@]}" .gpu/wheels/*.whl
if ! ls .gpu/wheels/pythermo-*.whl >/dev/null 2>&1; then
  CMAKE_GENERATOR=Ninja CMAKE_ARGS="-DPYTHERMO_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=${ARCHITECTURES:-90-real}" \
    "${install[@]}" --no-build-isolation .
fi
echo "installed after $SECONDS s"
exec python3 tests/gpu/check.py --out "${OUT:-.gpu/out}" --total $((${TOTAL:-570} - SECONDS)) "$@"
