# make demo   drives through a procedural town with the real ROS 2 node, shows its errors and a picture
# make test   runs the tests
# make lint   ruff and mypy
#
# Needs Python 3.10–3.13, git, make and a C++ compiler; everything else goes into $(VENV).
#   make demo PYTHON=python3.12            another Python
#   make demo VENV=/some/where             another place for the environment
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu     the smaller PyTorch without CUDA

VENV ?= .venv
TORCH_INDEX ?=
PIP_FLAGS ?= --quiet --disable-pip-version-check --no-input

PIP := $(VENV)/bin/python -m pip install $(PIP_FLAGS)
STAMPS := $(VENV)/.cross_view_loc
INSTALLED := $(STAMPS)/installed

# A sourced ROS installation and the ROS wheels in one process do not go together.
unexport PYTHONPATH PYTHONHOME CMAKE_PREFIX_PATH COLCON_PREFIX_PATH RMW_IMPLEMENTATION
ifneq ($(AMENT_PREFIX_PATH),)
unexport AMENT_PREFIX_PATH LD_LIBRARY_PATH
endif

.PHONY: help install demo test lint clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -8

install: $(INSTALLED)

demo: $(INSTALLED)
	@$(VENV)/bin/cross_view_loc demo

test: $(INSTALLED)
	@$(VENV)/bin/python -m pytest $(PYTEST_FLAGS)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

clean:
	rm -rf .venv build dist install log *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo_output

# PYTHON, when given, is the only candidate; else the first of these that runs and is new enough, but not too new.
CANDIDATES := $(or $(PYTHON),python3 python3.12 python3.13 python3.11 python3.10)
SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))

$(STAMPS)/created:
	@for candidate in $(CANDIDATES); do \
	  if $$candidate -c '$(SUPPORTED)' 2>/dev/null; then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "No usable Python among: $(CANDIDATES). Install Python 3.10 to 3.13 with its venv module" \
	       "(Debian, Ubuntu: apt install python3-venv python3-dev) or name one: make PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi; \
	for tool in git g++; do \
	  command -v $$tool >/dev/null || { echo "$$tool is missing: install it (Debian, Ubuntu: apt install git build-essential)" >&2; exit 1; }; \
	done; \
	echo "Creating $(VENV) with $$($$found --version)"; \
	$$found -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/dependencies: $(STAMPS)/created setup.py constraints.txt
	@echo "Installing what it needs into $(VENV) (PyTorch, OpenCV, the ROS 2 Jazzy wheels, …): some minutes the first time"
	@$(PIP) -c constraints.txt setuptools wheel
	@$(if $(TORCH_INDEX),$(PIP) -c constraints.txt torch --index-url $(TORCH_INDEX))
	@$(PIP) -c constraints.txt --no-build-isolation --use-pep517 -e '.[dev]'
	@touch $@

# Never over a tf2_msgs that is there already.
$(INSTALLED): $(STAMPS)/dependencies $(wildcard resource/tf2_msgs/* resource/tf2_msgs/msg/*)
	@if ! $(VENV)/bin/python -c 'import tf2_msgs.msg' 2>/dev/null; then \
	  echo "Building tf2_msgs against the ROS wheels: about half a minute"; \
	  $(PIP) ./resource/tf2_msgs; \
	fi
	@touch $@
