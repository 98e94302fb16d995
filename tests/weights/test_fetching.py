"""Fetching files: whole and checked, or not at all; from a server on this machine that misbehaves on purpose."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from weights_server import Server, give, redirect, running, stream

from ganzoo import fetching, files
from ganzoo.errors import DownloadError
from ganzoo.fetching import Expected, fetch_expected, fetch_file, file_address, is_address, is_as_expected, offline

DATA = bytes(range(256)) * 3000  # over two blocks of a socket
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "good.bin").write_bytes(DATA)
    with running(tmp_path / "served") as one:
        yield one


def fetch(target: Path, *urls: str, **more: Any) -> Path:
    return fetch_file(urls, target, sha256=SHA256, bytes=len(DATA), **more)


def refused(target: Path, *urls: str, **more: Any) -> str:
    """Return what is said when nothing could be fetched, and see that nothing lies there."""
    with pytest.raises(DownloadError) as caught:
        fetch(target, *urls, **more)
    assert [path.name for path in target.parent.iterdir()] in ([], [f".{target.name}.lock"])
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    return str(caught.value)


# ------------------------------------------------------------------ what is fetched


def test_a_file_is_fetched_once_and_only_its_lock_lies_beside_it(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "good.bin"
    assert fetch(target, f"{server.url}/good.bin") == target
    assert target.read_bytes() == DATA
    fetch(target, f"{server.url}/good.bin")
    assert server.asked == ["/good.bin"]
    assert sorted(path.name for path in target.parent.iterdir()) == [".good.bin.lock", "good.bin"]
    fetch(target, f"{server.url}/good.bin", force=True)
    assert server.asked == ["/good.bin"] * 2


@pytest.mark.parametrize("damage", [DATA[:-1], DATA[:1000] + b"?" + DATA[1001:], b""])
def test_a_damaged_file_is_fetched_again(server: Server, tmp_path: Path, damage: bytes) -> None:
    target = tmp_path / "good.bin"
    target.write_bytes(damage)
    assert fetch(target, f"{server.url}/good.bin").read_bytes() == DATA


def test_a_folder_of_this_machine_can_be_a_mirror(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "good.bin").write_bytes(DATA)
    assert fetch(tmp_path / "got.bin", file_address((tmp_path / "a b").as_uri(), "good.bin")).read_bytes() == DATA


def test_the_callback_is_told_how_far_it_is(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    fetch(tmp_path / "x", f"{server.url}/good.bin", progress=lambda done, total: told.append((done, total)))
    done = [one for one, _ in told]
    assert done == sorted(done)
    assert len(set(done)) > 1
    assert told[-1] == (len(DATA), len(DATA))


def test_a_redirect_is_followed_within_the_web_only(server: Server, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(DATA)
    (tmp_path / "out").mkdir()
    server.answers["/moved"] = redirect("/good.bin")
    server.answers["/file"] = redirect((tmp_path / "secret").as_uri())
    server.answers["/ftp"] = redirect("ftp://127.0.0.1/good.bin")
    server.answers["/round"] = redirect("/round")
    target = tmp_path / "out" / "x"
    said = refused(target, f"{server.url}/file", f"{server.url}/ftp", f"{server.url}/round")
    assert "'file:" in said
    assert "is not allowed" in said
    assert "unknown url type: ftp" in said
    assert "infinite loop" in said
    assert fetch(target, f"{server.url}/moved").read_bytes() == DATA


# ------------------------------------------------------------------ what goes wrong


def test_every_failure_is_told_and_the_next_address_is_tried(server: Server, tmp_path: Path) -> None:
    server.answers["/bad"] = give(DATA[:-1] + b"?")
    urls = [f"{server.url}/none", f"{server.url}/bad", "http://127.0.0.1:9/x"]
    (tmp_path / "out").mkdir()
    said = refused(tmp_path / "out" / "x.bin", *urls)
    assert "404" in said
    assert f"its sha256 is {hashlib.sha256(DATA[:-1] + b'?').hexdigest()}, not {SHA256}" in said
    assert "refused" in said
    assert all(url in said for url in urls)
    assert fetch(tmp_path / "out" / "x.bin", *urls, f"{server.url}/good.bin").read_bytes() == DATA


def test_a_wrong_length_is_refused_before_anything_is_read(server: Server, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    server.answers["/long"] = give(DATA + b"?")
    assert f"it has {len(DATA) + 1:,} bytes, not {len(DATA):,}" in refused(tmp_path / "out" / "x", f"{server.url}/long")


def test_more_bytes_than_expected_stop_the_transfer(server: Server, tmp_path: Path) -> None:
    sent = 0

    def much() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):  # for a client that never has enough, an end
            sent += len(DATA)
            yield DATA

    (tmp_path / "out").mkdir()
    server.answers["/much"] = stream(much())
    assert "holds more than the" in refused(tmp_path / "out" / "x", f"{server.url}/much")
    assert sent < 90 * len(DATA)


@pytest.mark.parametrize("length", [None, len(DATA)], ids=["unannounced", "announced"])
def test_a_transfer_that_breaks_off_is_refused(server: Server, tmp_path: Path, length: int | None) -> None:
    (tmp_path / "out").mkdir()
    half = DATA[: len(DATA) // 2]
    server.answers["/half"] = stream(iter([half])) if length is None else give(half, announced=length)
    said = refused(tmp_path / "out" / "x", f"{server.url}/half")
    assert f"it ended after {len(half):,} of {len(DATA):,} bytes" in said or "IncompleteRead" in said


def test_a_server_that_says_nothing_is_given_up(server: Server, tmp_path: Path) -> None:
    over = threading.Event()

    def silent() -> Iterator[bytes]:
        yield DATA[:100]
        over.wait(20)

    (tmp_path / "out").mkdir()
    server.answers["/silent"] = stream(silent())
    begun = time.monotonic()
    try:
        assert "timed out" in refused(tmp_path / "out" / "x", f"{server.url}/silent", timeout=0.3)
    finally:
        over.set()
    assert time.monotonic() - begun < 10


def test_a_server_that_drips_is_given_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drip() -> Iterator[bytes]:
        for one in DATA[:40]:
            time.sleep(0.05)
            yield bytes([one])

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(fetching, "_SLOWEST", 1e12)
    server.answers["/drip"] = stream(drip())
    assert "too slowly" in refused(tmp_path / "out" / "x", f"{server.url}/drip", timeout=0.4)


def test_a_server_that_speaks_no_http_is_a_failure_like_others(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def babble() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x00\xff" * 100 + b"\r\n\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        (tmp_path / "out").mkdir()
        refused(tmp_path / "out" / "x", f"http://127.0.0.1:{listening.getsockname()[1]}/x")
        thread.join()


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/x", "data:,x", "/etc/passwd", "C:\\x", "http://", "http://[::1", "", "http://a b/", "x\ny"]
)
def test_only_addresses_of_the_web_and_files_are_opened(url: str, tmp_path: Path) -> None:
    assert not is_address(url)
    assert "it is no address" in refused(tmp_path / "x", url)


def test_without_addresses_nothing_is_fetched(tmp_path: Path) -> None:
    assert "no address is known" in refused(tmp_path / "x")


# ------------------------------------------------------------------ the disk


def test_a_full_disk_leaves_nothing_and_is_told_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "flush_to_disk", full)
    (tmp_path / "out").mkdir()
    said = refused(tmp_path / "out" / "x", f"{server.url}/good.bin", f"{server.url}/good.bin")
    assert "No space left on device" in said
    assert "GANZOO_HOME" in said
    assert server.asked == ["/good.bin"]  # another address would not help


def test_a_folder_that_may_not_be_written_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(
        DownloadError, match=r"x cannot be written: (Not a directory|File exists)\. Free some space, or"
    ):
        fetch(tmp_path / "file" / "x", f"{server.url}/good.bin")


def test_a_file_system_without_locks_still_works(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_try_lock", lambda _: None)
    assert fetch(tmp_path / "x", f"{server.url}/good.bin").read_bytes() == DATA


# ------------------------------------------------------------------ several processes, and killed ones

CHILD = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from ganzoo.fetching import fetch_file

    target, url, sha256, size = sys.argv[1:]
    fetch_file([url], Path(target), sha256=sha256, bytes=int(size))
    """
)


def child(target: Path, url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(target), url, SHA256, str(len(DATA))])


def test_of_two_processes_one_fetches_and_both_have_it(server: Server, tmp_path: Path) -> None:
    both_wait = threading.Event()

    def slow() -> Iterator[bytes]:
        yield DATA[:1000]
        both_wait.wait(20)
        yield DATA[1000:]

    server.answers["/slow"] = stream(slow())
    target = tmp_path / "x"
    children = [child(target, f"{server.url}/slow") for _ in range(2)]
    wait_until(lambda: server.asked == ["/slow"])
    time.sleep(0.5)  # the other comes to the lock meanwhile, or later: either way it must not ask
    both_wait.set()
    assert [one.wait(30) for one in children] == [0, 0]
    assert target.read_bytes() == DATA
    assert server.asked == ["/slow"]


def test_a_process_killed_in_the_middle_leaves_nothing_that_is_taken_for_the_file(
    server: Server, tmp_path: Path
) -> None:
    killed = threading.Event()

    def halting() -> Iterator[bytes]:
        yield DATA[: len(DATA) // 2]
        killed.wait(20)

    server.answers["/halting"] = stream(halting())
    target = tmp_path / "out" / "x"
    one = child(target, f"{server.url}/halting")
    wait_until(lambda: any(path.stat().st_size for path in target.parent.glob(".x.*.tmp")))
    one.send_signal(signal.SIGKILL)
    one.wait(30)
    killed.set()
    assert not target.exists()
    fetch(target, f"{server.url}/good.bin")
    assert sorted(path.name for path in target.parent.iterdir()) == [".x.lock", "x"]
    assert target.read_bytes() == DATA


def wait_until(condition: Any) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


# ------------------------------------------------------------------ offline, and what is expected


@pytest.mark.parametrize("name", ["GANZOO_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize(
    ("value", "means"),
    [
        ("1", True),
        ("true", True),
        ("YES", True),
        ("On", True),
        ("0", False),
        ("", False),
        ("false", False),
        ("off", False),
    ],
)
def test_both_variables_forbid_the_network(name: str, value: str, means: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert offline() is means


def test_offline_nothing_is_asked_and_what_is_there_is_found(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "out").mkdir()
    assert "HF_HUB_OFFLINE" in refused(tmp_path / "out" / "x", f"{server.url}/good.bin")
    (tmp_path / "out" / "x").write_bytes(DATA)
    assert fetch(tmp_path / "out" / "x", f"{server.url}/good.bin").read_bytes() == DATA
    assert server.asked == []


def test_a_digest_may_be_of_what_a_gzip_holds(server: Server, tmp_path: Path) -> None:
    import gzip

    served = tmp_path / "served"
    for level in (1, 9):
        (served / f"{level}.gz").write_bytes(gzip.compress(DATA, level))
    (served / "cut.gz").write_bytes(gzip.compress(DATA)[:-9])
    (served / "other.gz").write_bytes(gzip.compress(DATA[1:]))
    wanted = Expected(len(DATA), f"sha256:{SHA256}", exact=False, unpacked=True)
    urls = [f"{server.url}/{name}" for name in ("good.bin", "cut.gz", "other.gz")]
    with pytest.raises(DownloadError, match=r"damaged gzip.*damaged gzip.*its sha256 is"):
        fetch_expected(urls, tmp_path / "x.gz", wanted)
    for level in (1, 9):
        fetch_expected([f"{server.url}/{level}.gz"], tmp_path / f"{level}.gz", wanted)
        assert is_as_expected(tmp_path / f"{level}.gz", wanted)
    assert not is_as_expected(tmp_path, wanted)
