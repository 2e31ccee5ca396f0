# SPDX-License-Identifier: GPL-2.0-or-later
# Two commands: `make hw` runs the suite on a stock kernel, `make test` tests the suite itself.

KERNEL ?= debian:6.12
ARGS ?=
ARM ?=
BIN := .venv/bin

.PHONY: help setup hw test lint unit lab

help:
	@echo 'make hw [KERNEL=SPEC] [ARGS=...]   boot a kernel, run the suite on it, print the matrix'
	@echo '                                   (KERNEL=debian:7.3, deb:FILE[,FILE], dir:BUILD-TREE; ARGS="-k hugetlb")'
	@echo 'make test                          check and test everything, guests of the virtual lab included'
	@echo 'make lint | unit | lab             the parts of it'
	@echo 'make setup [ARM=1]                 install missing programs, make .venv; nothing when it is done'
	@echo '                                   (ARM=1: those for virtual boards of ARM too)'

setup:
	@ARM='$(ARM)' tools/setup.sh

hw: setup
	@$(BIN)/hil run --kernel '$(KERNEL)' $(ARGS)

test unit lab: export TESTS := 1

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest tests/unit
	$(BIN)/pytest tests/lab

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: setup
	$(BIN)/pytest tests/unit

lab: setup
	$(BIN)/pytest tests/lab
