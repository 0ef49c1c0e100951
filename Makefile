# Every entry point of the repository; `make` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-oracles release demo test sanitize bench simulate format lint clean \
	check-cuda-headers

SWIFT ?= swift
SOURCES := Package.swift Sources Tests $(wildcard Benchmarks Snippets)
ORACLES := .oracles
ORACLE_PYTHON := $(ORACLES)/bin/python
# With the oracles set up, tests compare against PyTorch; without them those tests are skipped by name.
ORACLE_ENVIRONMENT = $(if $(wildcard $(ORACLE_PYTHON)),GEEPS_ORACLE_PYTHON=$(CURDIR)/$(ORACLE_PYTHON))

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' \
		| while IFS='|' read -r name text; do printf '  make %-18s %s\n' "$$name" "$$text"; done

setup: ## Install the system packages the build needs, check the Swift toolchain
	@.ci/setup

setup-oracles: ## Make .oracles, a Python with PyTorch that tests compare results with
	@.ci/setup-oracles $(ORACLES)

release: ## Build .build/release/geeps
	$(SWIFT) build -c release --product geeps

demo: setup release ## Train a small network on handwritten digits with two workers
	.build/release/geeps train Examples/digits.yaml

test: setup ## Build and run all tests
	$(SWIFT) build --build-tests
	$(ORACLE_ENVIRONMENT) $(SWIFT) test --skip-build

bench: setup setup-oracles release ## Measure GeePS beside PyTorch, in turn; writes Benchmarks/results
	$(ORACLES)/bin/python Benchmarks/run.py

sanitize: setup ## Run the tests of threads and streams under the thread sanitizer (minutes)
	$(SWIFT) build --build-tests --sanitize=thread --scratch-path .build-thread
	$(SWIFT) test --skip-build --sanitize=thread --scratch-path .build-thread --no-parallel \
		--filter 'GeePSMemoryTests.Managed|GeePSDeviceTests|GeePSClientTests'

simulate: release ## Run 20,000 simulated clusters twice, in two processes; the traces must agree
	.build/release/geeps simulate --seeds 20000 --json > .build/simulate-1.json
	.build/release/geeps simulate --seeds 20000 --json > .build/simulate-2.json
	cmp .build/simulate-1.json .build/simulate-2.json
	@cat .build/simulate-1.json

format: ## Format the Swift sources in place
	$(SWIFT) format --in-place --recursive --parallel $(SOURCES)

lint: ## Check format and documentation of the Swift sources
	$(SWIFT) format lint --strict --recursive --parallel $(SOURCES)

check-cuda-headers: ## Compare geeps_cuda.h with NVIDIA's own headers (downloads 1 GB)
	@.ci/check-cuda-headers

clean: ## Remove what was built; .oracles stays
	rm -rf .build .build-thread Examples/runs
