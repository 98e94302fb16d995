"""Tests of what needs CUDA. Most have a twin on the CPU that runs everywhere, so that the tests are tested too."""

from __future__ import annotations

import os

import pytest
import torch
from tiny_runs import quick

# Before cuBLAS is used for the first time: it chooses algorithms whose results are repeatable only then.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("gpu") is not None and not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    quick(monkeypatch)
