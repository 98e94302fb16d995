"""Memory that stays with the process, and threads that fit into the container."""

import os
import platform
import resource
import subprocess
import sys

import pytest
import torch

from ganzoo import processor
from ganzoo.processor import fitting_threads, kept_memory, processor_share

_FAULTS = """
import ctypes, resource, sys, torch
from contextlib import nullcontext
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: of huge pages there would be a few faults only
from ganzoo.processor import kept_memory
torch.set_num_threads(1)
with kept_memory() if sys.argv[1] == "kept" else nullcontext():
    def work():
        for _ in range(20):
            torch.ones(2 << 20), torch.ones(3 << 20)
    work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(mode: str) -> int:
    # Once a block was freed, glibc itself keeps blocks of its size up to 32 MiB; without that, it is as at first.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS, mode], capture_output=True, text=True, check=True, env=environment
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_kept_memory_is_used_again_without_asking_the_kernel():
    page = resource.getpagesize()
    assert _faults("given back") > 20 * (8 << 20) // page
    assert _faults("kept") < 100


def test_elsewhere_than_on_glibc_nothing_is_set(monkeypatch):
    monkeypatch.setattr(processor.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(processor.ctypes, "CDLL", lambda name: pytest.fail("asked for a library"))
    with kept_memory() as kept:
        assert kept is False


def _machine(tmp_path, cgroup, **files):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("cgroup", "files", "share"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        (
            "0::/a/b\n",
            {"cpu.max": "400000 100000\n", "a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n"},
            1.5,
        ),
        ("4:cpu,cpuacct:/job\n", {"cpu/job/cpu.cfs_quota_us": "50000", "cpu/job/cpu.cfs_period_us": "100000"}, 0.5),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("3:memory:/\n", {"cpu.max": "200000 100000\n"}, None),
        ("0::/\n", {"cpu.max": "nonsense"}, None),
        ("0::/\n", {"cpu.max": "100000 0"}, None),
        ("", {}, None),
    ],
)
def test_the_share_of_processors_is_the_least_of_the_groups_limits(tmp_path, cgroup, files, share):
    assert processor_share(_machine(tmp_path, cgroup, **files)) == share


def test_a_machine_without_control_groups_has_no_limit(tmp_path):
    assert processor_share(tmp_path) is None


@pytest.mark.parametrize(("share", "threads"), [(None, 2), (0.2, 1), (1.0, 1), (1.5, 2), (64.0, 2)])
def test_threads_fit_the_share_and_come_back(monkeypatch, share, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processor, "processor_share", lambda: share)
    was = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with fitting_threads() as given:
            assert given == threads == torch.get_num_threads()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(was)


def test_who_sets_the_number_of_threads_has_decided(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(processor, "processor_share", lambda: 0.5)
    was = torch.get_num_threads()
    with fitting_threads() as given:
        assert given == was
