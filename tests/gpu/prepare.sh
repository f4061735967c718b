#!/usr/bin/env bash
# Gathers in .gpu what a machine with a GPU and without network may lack: see README.md beside this.
# bash tests/gpu/prepare.sh [PYTHON]: with an interpreter of version 3.12, a wheel of pythermo too.
set -eu
cd "$(dirname "$0")/../.."
rm -rf .gpu/wheels
mkdir -p .gpu/wheels
python3 -m pip download -q --no-deps --only-binary=:all: -c constraints.txt --python-version 3.12 --implementation cp \
  --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d .gpu/wheels \
  annotated_types arviz_stats h5netcdf lazy_loader platformdirs pydantic pydantic_core tomli_w typing_extensions typing-inspection xarray_einstats
if [[ $# -gt 0 ]]; then
  CMAKE_ARGS="-DPYTHERMO_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=${ARCHITECTURES:-90-real}" \
    "$1" -m pip wheel -q --no-deps -w .gpu/wheels .
fi
installed=/usr/share/datasets/fashion-mnist # of Debian's dataset-fashion-mnist
if [[ -d $installed ]]; then mkdir -p .gpu/data && cp -n $installed/* .gpu/data/; fi
ls .gpu/wheels
