"""The report of a search for duplicates: a list, a picture and a page, whole or absent, and bounded."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from dedup_images import jpeg, scenes, stacked, write_scenes
from PIL import Image

from ganzoo.data.dedup import DuplicateGroup, Duplicates, find_duplicates, write_report
from ganzoo.data.dedup import report as report_module
from ganzoo.data.dedup.result import read_duplicates
from ganzoo.errors import DataError


def test_the_report_shows_each_group_with_the_kept_image_first(tmp_path: Path) -> None:
    images = scenes(5)
    found = find_duplicates(stacked([*images, jpeg(images[1]), images[3], images[3]]))
    files = write_report(found, tmp_path / "report")
    assert [path.name for path in files] == ["duplicates.json", "groups.png", "duplicates.html"]
    assert read_duplicates(files[0]) == found
    with Image.open(files[1]) as picture:
        assert picture.size == (3 * 66 + 2, 2 * 66 + 2)  # three images in the larger group, first; two groups
        first = np.asarray(picture.convert("RGB"))[2:66:2, 2:66:2]
    assert np.array_equal(first, found.pictures[1][0])
    page = files[2].read_text(encoding="utf-8")
    assert page.count("<section>") == page.count("data:image/png;base64,") == 2
    assert page.index("number 3 is kept; left out: number 6, number 7") < page.index("number 1 is kept")
    assert not re.search(r"https?://|<script|src=\"(?!data:)", page)


def test_the_same_duplicates_give_the_same_report(tmp_path: Path) -> None:
    images = scenes(3)
    found = find_duplicates(stacked([*images, images[0]]))
    one, two = (write_report(found, tmp_path / name) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_names_cannot_write_html_into_the_page(tmp_path: Path) -> None:
    images = scenes(2)
    folder = write_scenes(tmp_path / "images", {"<b>&.png": images[0], "z.png": images[0], "x.png": images[1]})
    page = write_report(find_duplicates(folder), tmp_path / "report")[2].read_text(encoding="utf-8")
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;.png" in page


def test_the_page_and_the_picture_are_bounded(tmp_path: Path) -> None:
    groups = tuple(
        DuplicateGroup(tuple(range(first, first + 50)), tuple(f"n{number}" for number in range(50)), 3)
        for first in range(0, 20_000, 50)
    )
    bare = Duplicates("many images", 20_000, 20_000, 0, "phash", {}, groups)
    thumbnail = np.zeros((12, 32, 32, 3), np.uint8)
    found = Duplicates("many images", 20_000, 20_000, 0, "phash", {}, groups, dict.fromkeys(bare.largest(), thumbnail))
    listed, picture, page = write_report(found, tmp_path / "report")
    assert len(read_duplicates(listed).groups) == 400
    text = page.read_text(encoding="utf-8")
    assert text.count("<section>") == 100
    assert "and 37 more" in text
    assert "The 100 largest groups are shown; duplicates.json has all." in text
    with Image.open(picture) as opened:
        assert opened.size[1] == 32 * 66 + 2


def test_no_duplicates_are_a_report_too(tmp_path: Path) -> None:
    files = write_report(find_duplicates(stacked(scenes(3))), tmp_path / "report")
    assert [path.name for path in files] == ["duplicates.json", "duplicates.html"]
    assert "There are none." in files[1].read_text(encoding="utf-8")


def test_a_report_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_duplicates(stacked(scenes(3)))
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError, match="exists already"):
        write_report(found, tmp_path / "there")

    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_module, "_page", fail)
    with pytest.raises(DataError, match="No space left"):
        write_report(found, tmp_path / "report")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["home", "there"]
