# The commands a newcomer needs. Each works on a machine with Python 3.11+, make and the package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The torch that the tests ran with; without an NVIDIA driver its CPU build, which PyTorch's own index has for every system.
TORCH ?= torch==2.13.0
TORCH_INDEX := $(if $(shell command -v nvidia-smi),,--extra-index-url https://download.pytorch.org/whl/cpu)

.PHONY: quickstart test test-slow test-browser test-gpu lint recipe recipe-bert recipe-t5 recipe-chat clean

quickstart: $(VENV)/installed          ## train seven tasks in one encoder on the generated help desk
	$(BIN)/taskloom quickstart --out runs/quickstart

test: $(VENV)/developed lint           ## the whole test suite, offline
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 -m "not slow and not browser"

test-slow: $(VENV)/developed           ## tests that train the real encoder for minutes; TASKLOOM_DATA names a folder of real data
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m slow --timeout 3600

test-browser: $(VENV)/developed        ## the report in the system's Chromium; screenshots go to runs/screenshots
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m browser --timeout 900

test-gpu: $(VENV)/developed            ## tests for a GPU with CUDA, which the others leave alone
	CUDA_VISIBLE_DEVICES=0 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest tests/gradients/test_cuda.py tests/training/test_on_gpu.py

lint: $(VENV)/developed                ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

DATA ?= data
recipe: $(VENV)/installed              ## six real tasks in one encoder; DATA is the folder with snips, sst2, wnut17, stsb, squad_v1
	$(BIN)/taskloom train recipes/assistant.yaml --set data_root=$(DATA) --out runs/assistant

recipe-bert recipe-t5 recipe-chat: $(VENV)/installed   ## a case study: all its tasks in one model, then each alone
	$(BIN)/python benchmarks/recipes.py $(@:recipe-%=%) --data $(DATA)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist

$(VENV)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/torch: $(VENV)/python
	$(BIN)/python -m pip install --quiet --retries 1 $(TORCH_INDEX) "$(TORCH)"
	touch $@

$(VENV)/installed: $(VENV)/torch pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[offline,report]"
	touch $@

$(VENV)/developed: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable ".[offline,report,balance,track,quantize,explain,fairness,study,dev]"
	touch $@
