"""Factors in packs: what is known of each image goes with it, and packs without them are as they were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from image_files import noise

from ganzoo.data import DataRequest, Pack, PackManifest, Sample, Source, open_pack, write_pack
from ganzoo.data.sources.base import SkippedImage
from ganzoo.data.writing import pack_key
from ganzoo.errors import DataError

RGB8 = DataRequest(8)
ANGLE = np.linspace(-1.0, 1.0, 10)
BOX = np.arange(40, dtype=np.float64).reshape(10, 4)
KIND = np.arange(10, dtype=np.int64) % 3


class Known(Source):
    """Ten images of one value each, their number; some of them cannot be used."""

    description = "known images"

    def __init__(
        self,
        factors: Mapping[str, npt.NDArray[Any]] | None,
        *,
        broken: tuple[int, ...] = (),
        fingerprint: str | None = "known",
    ) -> None:
        self.factors = factors
        self._broken, self._fingerprint = broken, fingerprint

    def fingerprint(self) -> str | None:
        return self._fingerprint

    def __len__(self) -> int:
        return 10

    def read(self, index: int) -> Sample:
        if index in self._broken:
            raise SkippedImage("broken")
        return Sample(np.full((8, 8, 3), index, np.uint8))


class AtOnce(Known):
    """The same, given several at a time."""

    def __init__(self, *, lost: int = 0, error: Exception | None = None) -> None:
        super().__init__(None)
        self.lost, self.error, self.size = lost, error, 8

    def prefer(self, image_size: int) -> None:
        self.size = image_size

    def read_batch(self, indices: npt.NDArray[np.int64]) -> list[Sample]:
        if self.error is not None:
            raise self.error
        samples = [Sample(np.full((self.size, self.size, 3), index, np.uint8)) for index in indices.tolist()]
        return samples[self.lost :]

    def read(self, index: int) -> Sample:
        raise AssertionError(f"{index} is read alone")


def known() -> dict[str, npt.NDArray[Any]]:
    return {"kind": KIND, "angle": ANGLE, "box": BOX}


def test_factors_come_back_in_order_with_their_types() -> None:
    with open_pack(Known(known()), RGB8) as pack:
        assert pack.factors is not None
        assert list(pack.factors) == ["kind", "angle", "box"]
        for name, values in known().items():
            assert np.array_equal(pack.factors[name], values)
            assert pack.factors[name].dtype == values.dtype
        assert pack.manifest.schema_version == 2
        assert PackManifest.from_json((pack.path / "manifest.json").read_text()) == pack.manifest
        pack.verify()
        assert open_pack(Known(known()), RGB8).path == pack.path


def test_factors_follow_the_images_that_are_kept() -> None:
    with open_pack(Known(known(), broken=(0, 4, 9)), RGB8) as pack:
        kept = pack.gather(np.arange(7))[:, 0, 0, 0].tolist()
        assert kept == [1, 2, 3, 5, 6, 7, 8]
        assert pack.factors is not None
        assert np.array_equal(pack.factors["box"], BOX[kept])
    with open_pack(Known(known(), broken=(4,), fingerprint="more"), DataRequest(8, max_images=5)) as pack:
        kept = pack.gather(np.arange(4))[:, 0, 0, 0].tolist()
        assert kept == [0, 2, 6, 8]
        assert pack.factors is not None
        assert np.array_equal(pack.factors["angle"], ANGLE[kept])


def test_equal_factors_give_equal_files(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_pack(Known(known()), RGB8, tmp_path / name)
    for file in ("images.npy", "factors.safetensors", "manifest.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_a_pack_of_another_size_keeps_them(tmp_path: Path) -> None:
    large = write_pack(Known(known()), DataRequest(16), tmp_path / "large")
    with open_pack(large, DataRequest(8, max_images=5)) as small:
        assert small.factors is not None
        assert np.array_equal(small.factors["box"], BOX[::2])
    changed = write_pack(Known({**known(), "angle": -ANGLE}), DataRequest(16), tmp_path / "changed")
    with open_pack(changed, DataRequest(8, max_images=5)) as other:
        assert other.factors is not None
        assert other.path != small.path
        assert np.array_equal(other.factors["angle"], -ANGLE[::2])


def test_unkeyed_sources_with_other_factors_are_other_packs() -> None:
    packs = [
        open_pack(Known(factors, fingerprint=None), RGB8)
        for factors in (known(), {**known(), "angle": -ANGLE}, None, known())
    ]
    assert len({pack.path for pack in packs}) == 3
    assert packs[0].path == packs[3].path


def test_a_pack_without_factors_is_as_it_was_before_there_were_any() -> None:
    with open_pack(noise(4, 8, 8, 3), RGB8) as pack:
        assert pack.factors is None
        fields = json.loads((pack.path / "manifest.json").read_text())
        assert fields["schema_version"] == 1
        assert not {"factors", "factors_sha256"} & set(fields)
        assert sorted(one.name for one in pack.path.iterdir()) == ["images.npy", "manifest.json"]
    # A cache stays valid while `render` gives the same pixels.
    assert pack_key("numbered", RGB8) == "7e03a58321c89c0baa9759945d100a14"


def test_damage_is_found() -> None:
    path = open_pack(Known(known()), RGB8).path
    file, manifest = path / "factors.safetensors", path / "manifest.json"
    whole, text = file.read_bytes(), manifest.read_text()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match="not those that were packed"):
        Pack(path).verify()
    file.write_bytes(whole[:-8])
    with pytest.raises(DataError, match=r"factors\.safetensors"):
        Pack(path)
    file.unlink()
    with pytest.raises(DataError, match=r"factors\.safetensors"):
        Pack(path)
    file.write_bytes(whole)
    manifest.write_text(text.replace('"angle"', '"corner"'))
    with pytest.raises(DataError, match="the manifest tells box, corner, kind"):
        Pack(path)
    manifest.write_text(text)
    pack = Pack(path)
    file.unlink()
    with pytest.raises(DataError, match="factors"):
        _ = pack.factors
    assert open_pack(Known(known()), RGB8).factors is not None  # made anew


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.zeros(9), r"float64 \(9,\)"),
        (np.zeros(10, np.float32), "float32"),
        (np.zeros((10, 2, 2)), r"float64 \(10, 2, 2\)"),
        (np.array(["a"] * 10), "<U1"),
    ],
)
def test_factors_of_another_form_are_refused(values: npt.NDArray[Any], shown: str, home: Path) -> None:
    with pytest.raises(DataError, match=f"'angle' of the known images is {shown}"):
        open_pack(Known({"angle": values}), RGB8)
    assert [one.name for one in (home / "packs").iterdir() if one.name != ".locks"] == []


def test_a_source_may_give_its_images_at_once_and_in_the_wanted_size() -> None:
    with open_pack(AtOnce(), DataRequest(16, max_images=5)) as pack:
        assert pack.gather(np.arange(5))[:, 15, 15, 2].tolist() == [0, 2, 4, 6, 8]


def test_a_source_that_breaks_while_giving_several_is_named() -> None:
    with pytest.raises(DataError, match="gave 9 samples where 10 were asked for"):
        open_pack(AtOnce(lost=1), RGB8)
    for error in (RuntimeError("no"), OSError("no")):
        with pytest.raises(
            DataError, match=rf"One of numbers 0 to 9 of the known images .* {type(error).__name__}: no"
        ):
            open_pack(AtOnce(error=error), RGB8)
