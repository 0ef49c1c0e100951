# Every entry point of the repository; `make` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-oracles setup-cluster release library emulated-cuda demo test test-python sanitize bench chaos \
	simulate format lint clean \
	check-cuda-headers check-tls-headers check-ucx-headers check-manifests gpu-bundle check-bundle

SWIFT ?= swift
SOURCES := Package.swift Sources Tests $(wildcard Benchmarks Snippets)
ORACLES := .oracles
ORACLE_PYTHON := $(ORACLES)/bin/python
# With the oracles set up, tests compare against PyTorch; without them those tests are skipped by name.
ORACLE_ENVIRONMENT = $(if $(wildcard $(ORACLE_PYTHON)),GEEPS_ORACLE_PYTHON=$(CURDIR)/$(ORACLE_PYTHON))
# With NVIDIA's compiler of kernels there (it needs no GPU), tests compile ours; again skipped by name without.
NVRTC = $(firstword $(wildcard $(ORACLES)/lib/python3*/site-packages/nvidia/cu13/lib/libnvrtc.so.13))
ORACLE_ENVIRONMENT += $(if $(NVRTC),GEEPS_NVRTC=$(CURDIR)/$(NVRTC))

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' \
		| while IFS='|' read -r name text; do printf '  make %-18s %s\n' "$$name" "$$text"; done

setup: ## Install the system packages the build needs, check the Swift toolchain
	@.ci/setup

setup-oracles: ## Make .oracles: PyTorch that tests compare with, NVRTC that compiles kernels
	@.ci/setup-oracles $(ORACLES)

setup-cluster: ## Install Open MPI, Slurm and UCX, which tests use (root)
	@.ci/setup-cluster

release: ## Build .build/release/geeps
	$(SWIFT) build -c release --product geeps

# Apart from the program's build, because every module of it has Swift's library linked in.
LIBRARY_BUILD := .build-library
library: ## Build .build-library/libgeeps.so, the C interface; it needs no Swift to run
	$(SWIFT) build -c release --product GeePSABI --scratch-path $(LIBRARY_BUILD) -Xswiftc -static-stdlib \
		-Xlinker -soname=libgeeps.so -Xlinker --version-script=$(CURDIR)/Sources/GeePSABI/libgeeps.map \
		-Xlinker --gc-sections -Xcc -DGEEPS_PORTABLE
	strip --strip-unneeded -o $(LIBRARY_BUILD)/libgeeps.so $(LIBRARY_BUILD)/release/libGeePSABI.so
	@if objdump -T $(LIBRARY_BUILD)/libgeeps.so | grep -E 'GLIBC_2\.(3[5-9]|[4-9][0-9])'; then \
		echo "libgeeps.so needs a glibc newer than 2.34" >&2; exit 1; fi

emulated-cuda: ## Build .build-library/emulated/libcuda.so.1, a GPU's driver for tests without a GPU
	$(SWIFT) build -c release --product CUDALibrary --scratch-path $(LIBRARY_BUILD) -Xswiftc -static-stdlib \
		-Xcc -DGEEPS_PORTABLE
	mkdir -p $(LIBRARY_BUILD)/emulated
	cp $(LIBRARY_BUILD)/release/libCUDALibrary.so $(LIBRARY_BUILD)/emulated/libcuda.so.1

demo: setup release ## Train a small network on handwritten digits with two workers
	.build/release/geeps train Examples/digits.yaml

test: setup ## Build and run all tests
	$(SWIFT) build --build-tests
	$(ORACLE_ENVIRONMENT) $(SWIFT) test --skip-build

test-python: setup-oracles library emulated-cuda ## Test the Python package
	cd Python/geeps && PYTHONPATH=. $(CURDIR)/$(ORACLE_PYTHON) -m pytest -q -p no:cacheprovider

bench: setup setup-oracles release ## Measure GeePS beside PyTorch, in turn; writes Benchmarks/results
	$(ORACLES)/bin/python Benchmarks/run.py

sanitize: setup ## Run the tests of threads and streams under the thread sanitizer (minutes)
	$(SWIFT) build --build-tests --sanitize=thread --scratch-path .build-thread
	$(SWIFT) test --skip-build --sanitize=thread --scratch-path .build-thread --no-parallel \
		--filter 'GeePSMemoryTests.Managed|GeePSDeviceTests|GeePSClientTests|ControlReturnTests'

chaos: release ## Kill processes of 50 runs at random moments; all must end with the same bits
	python3 Benchmarks/chaos.py --geeps .build/release/geeps

simulate: release ## Run 20,000 simulated clusters twice, in two processes; the traces must agree
	.build/release/geeps simulate --seeds 20000 --json > .build/simulate-1.json
	.build/release/geeps simulate --seeds 20000 --json > .build/simulate-2.json
	cmp .build/simulate-1.json .build/simulate-2.json
	@cat .build/simulate-1.json

format: ## Format the Swift sources in place
	$(SWIFT) format --in-place --recursive --parallel $(SOURCES)

lint: ## Check format and documentation of the Swift sources
	$(SWIFT) format lint --strict --recursive --parallel $(SOURCES)

gpu-bundle: setup ## Make dist/geeps-*.tar.xz: the program for machines with a GPU and without Swift
	@.ci/make-bundle

check-bundle: gpu-bundle ## Run the bundle in a bare Debian without Swift (root)
	@.ci/check-bundle dist/geeps-*.tar.xz

check-cuda-headers: ## Compare geeps_cuda.h with NVIDIA's own headers (downloads 1 GB)
	@.ci/check-cuda-headers

check-tls-headers: ## Compare geeps_tls.h with OpenSSL's own headers (libssl-dev)
	clang++ -std=c++17 -fsyntax-only -w -I Sources/CGeePSShims/include .ci/tls_headers.cpp
	@echo "geeps_tls.h agrees with OpenSSL's headers"

check-manifests: ## Compare the manifests for Kubernetes with the published models of their kinds
	@.ci/check-manifests

check-ucx-headers: ## Compare geeps_ucx.h with UCX's own headers (libucx-dev)
	clang++ -std=c++17 -fsyntax-only -w -I Sources/CGeePSShims/include .ci/ucx_headers.cpp
	@echo "geeps_ucx.h agrees with UCX's headers"

clean: ## Remove what was built; .oracles stays
	rm -rf .build .build-thread .build-bundle .build-library dist Examples/runs
