# Every target sets up its own environment when it is missing or older than pyproject.toml or constraints.txt.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# One thread per process: two noisy cores are shared by everything that runs.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

.PHONY: setup demo test test-robot check format bench clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt pip setuptools
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $@

demo: setup  ## record, train and evaluate a lift policy; prints a table and where video and plot are
	$(BIN)/robot-rl demo

check: setup  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: setup $(VENV)-zarr2/.ready $(VENV)-colcon/.ready
	$(BIN)/python -m pytest -n 2 --dist worksteal tests

# Exports must open with the readers people have: a zarr 2 of its own, used by the format tests.
$(VENV)-zarr2/.ready: constraints.txt
	test -x $(VENV)-zarr2/bin/python || $(PYTHON) -m venv $(VENV)-zarr2
	$(VENV)-zarr2/bin/pip install --quiet 'zarr==2.16.1' 'numcodecs==0.12.1' 'numpy<2'
	touch $@

# Builds the ROS packages as a workspace does; an environment of its own, because colcon brings plugins for pytest.
$(VENV)-colcon/.ready: constraints.txt
	test -x $(VENV)-colcon/bin/python || $(PYTHON) -m venv $(VENV)-colcon
	$(VENV)-colcon/bin/pip install --quiet --constraint constraints.txt colcon-core colcon-ros colcon-package-information
	touch $@

# What runs on a robot computer: base dependencies only, numpy 1.26, no torch.
test-robot: $(VENV)-robot/.ready
	$(VENV)-robot/bin/python -m pytest -m robot tests

$(VENV)-robot/.ready: pyproject.toml
	test -x $(VENV)-robot/bin/python || $(PYTHON) -m venv $(VENV)-robot
	$(VENV)-robot/bin/pip install --quiet 'numpy==1.26.4' pytest pytest-timeout hypothesis
	$(VENV)-robot/bin/pip install --quiet --editable .
	touch $@

bench: setup  ## every benchmark that ends within minutes; each prints one line of JSON
	for name in episode_store simulation denoising; do $(BIN)/python -m tests.benchmarks.$$name || exit 1; done

clean:
	rm -rf $(VENV) $(VENV)-zarr2 $(VENV)-colcon $(VENV)-robot build *.egg-info
