"""What all tests share: one thread, a cache folder of their own, and the folder of real data where there is one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch is imported. The tests' tensors are so small that a second thread costs more than it gives, up to tenfold
# where several processes share the machine. Child processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What a shell starts in the background ignores Ctrl-C, and so do its child processes, which some tests send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Third parties' packages: their tests run where the packages are installed (tests/packaging).
collect_ignore = ["plugin_package"]


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests off the user's caches, and the user's settings off the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANZOO_HOME", str(tmp_path_factory.mktemp("ganzoo_home")))
        for name in ("GANZOO_DEBUG", "GANZOO_OFFLINE", "GANZOO_PLUGINS", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data; a test that asks for it is skipped where there is none."""
    folder = os.environ.get("GANZOO_TEST_DATA")
    if not folder:
        pytest.skip("needs real data: set GANZOO_TEST_DATA to their folder")
    return Path(folder)
