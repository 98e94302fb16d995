"""Which files of a repository are a split: by its README, by names, by the Hub's own conversion."""

from __future__ import annotations

from typing import Any

import pytest

from ganzoo.data.sources.repository import Selection, select_files
from ganzoo.errors import DataError, UnknownNameError, UsageError


def choose(paths: str | dict[str, int], wanted: str = "", header: dict[str, Any] | None = None) -> Selection:
    sizes = paths if isinstance(paths, dict) else dict.fromkeys(paths.split(), 100)
    return select_files(sizes, header or {}, wanted, "org/name")


def chosen(paths: str, wanted: str = "", header: dict[str, Any] | None = None) -> str:
    return " ".join(choose(paths, wanted, header).files)


def test_shards_are_of_the_split_that_they_are_called_after_in_natural_order() -> None:
    paths = "README.md data/train-00010-of-00011.parquet data/train-00002-of-00011-0ab.parquet "
    paths += "data/test-00000-of-00001.parquet data/unsupervised-00000-of-00001.parquet"
    assert chosen(paths) == "data/train-00002-of-00011-0ab.parquet data/train-00010-of-00011.parquet"
    assert chosen(paths, "unsupervised") == "data/unsupervised-00000-of-00001.parquet"
    assert choose(paths, "test").part == "test"


@pytest.mark.parametrize(
    ("paths", "wanted", "files"),
    [
        ("train/a.png test/b.png", "", "train/a.png"),
        ("train/a.png test/b.png", "test", "test/b.png"),
        ("images/training/cat/1.png images/val/cat/2.png", "validation", "images/val/cat/2.png"),
        ("train_1.png test_1.png", "test", "test_1.png"),
        ("my-test-file.parquet other_train.parquet", "", "other_train.parquet"),
        ("steam train.jpg", "", "steam train.jpg"),
        ("a/1.jpg a/steam-train.jpg b/valley.jpg", "train", "a/1.jpg a/steam-train.jpg b/valley.jpg"),
        ("contest/1.jpg", "", "contest/1.jpg"),
        ("part-a.parquet part-b.parquet", "train", "part-a.parquet part-b.parquet"),
        ("dev/a.png", "", "dev/a.png"),
        ("a.zip", "", "a.zip"),
        ("train.tar test.tar", "test", "test.tar"),
    ],
)
def test_splits_are_told_by_folders_and_names(paths: str, wanted: str, files: str) -> None:
    sizes = dict.fromkeys(["steam train.jpg"] if paths == "steam train.jpg" else paths.split(), 1)
    assert " ".join(choose(sizes, wanted).files) == files


def test_the_kind_that_most_bytes_are_of_is_taken() -> None:
    sizes = {"look.png": 9_000, "data/train-00000-of-00001.parquet": 50_000, "notes.zip": 100, "x.csv": 10**9}
    assert (choose(sizes).kind, choose(sizes).bytes) == ("parquet", 50_000)
    sizes = {"images.zip": 10**9, "metadata.parquet": 10**10, "captions.parquet": 10_000}
    assert choose(sizes).files == ("images.zip",)
    assert choose({"a.tar": 7, ".hidden/b.parquet": 99, "../c.parquet": 99, "/d.parquet": 99}).kind == "tar"


def test_metadata_of_the_split_comes_along() -> None:
    found = choose("train/metadata.jsonl train/1.png test/metadata.jsonl test/1.png metadata.csv")
    assert found.metadata == ("metadata.csv", "train/metadata.jsonl")


CONFIGS = {
    "configs": [
        {
            "config_name": "small",
            "data_files": [{"split": "train", "path": "s/*.parquet"}, {"split": "extra", "path": ["s/x/*"]}],
        },
        {
            "config_name": "large",
            "default": True,
            "data_files": [{"split": "train", "path": "l/**"}, {"split": "small", "path": "m/"}],
        },
    ]
}
FILES = "s/1.parquet s/2.parquet s/x/3.parquet l/4.parquet l/deep/er/5.parquet m/6.parquet other.parquet"


@pytest.mark.parametrize(
    ("wanted", "part", "files"),
    [
        ("", "large/train", "l/4.parquet l/deep/er/5.parquet"),
        ("train", "large/train", "l/4.parquet l/deep/er/5.parquet"),
        ("small", "large/small", "m/6.parquet"),  # a split of the default config comes before a config
        ("small/train", "small/train", "s/1.parquet s/2.parquet"),
        ("small/extra", "small/extra", "s/x/3.parquet"),
        ("large", "large/train", "l/4.parquet l/deep/er/5.parquet"),
    ],
)
def test_the_readme_names_configs_and_splits(wanted: str, part: str, files: str) -> None:
    found = choose(FILES, wanted, CONFIGS)
    assert (found.part, " ".join(found.files)) == (part, files)


@pytest.mark.parametrize(
    ("entry", "files"),
    [
        ({"data_files": "a/*.png"}, "a/1.png a/2.png"),
        ({"data_files": ["a/1.png", "b/3.png"]}, "a/1.png b/3.png"),
        ({"data_files": {"train": "b/*"}}, "b/3.png"),
        ({"data_dir": "./b/"}, "b/3.png"),
        ({"data_dir": "a", "data_files": "2.*"}, "a/2.png"),
        ({"data_files": "**/*.png"}, "a/1.png a/2.png b/3.png"),
        ({"data_files": "[ab]/?.png"}, "a/1.png a/2.png b/3.png"),
        ({"drop_labels": True}, "a/1.png a/2.png b/3.png"),
    ],
)
def test_every_form_of_data_files_is_understood(entry: dict[str, Any], files: str) -> None:
    assert chosen("a/1.png a/2.png b/3.png", "", {"configs": [{"config_name": "default", **entry}]}) == files


def test_folders_are_no_classes_where_the_readme_says_so() -> None:
    assert not choose(
        "a/1.png b/2.png", "", {"configs": [{"config_name": "default", "drop_labels": True}]}
    ).folder_labels
    assert choose("a/1.png b/2.png").folder_labels


def test_the_hubs_own_conversion_has_configs_and_splits_as_folders() -> None:
    paths = "full/train/0000.parquet full/train/0001.parquet full/partial-test/0000.parquet tiny/train/0000.parquet"
    with pytest.raises(UsageError, match=r"configs full, tiny, .* hf:org/name:full/train"):
        choose(paths)
    assert chosen(paths, "full") == "full/train/0000.parquet full/train/0001.parquet"
    assert chosen(paths, "full/test") == "full/partial-test/0000.parquet"
    assert chosen("default/train/0000.parquet default/test/0000.parquet", "test") == "default/test/0000.parquet"


def test_without_configs_a_folder_is_one() -> None:
    paths = "cats/train/1.png cats/test/2.png dogs/train/3.png"
    assert choose(paths, "cats").part == "cats/train"
    assert chosen(paths, "cats/test") == "cats/test/2.png"
    assert chosen(paths) == "cats/train/1.png dogs/train/3.png"
    with pytest.raises(UnknownNameError, match="no folder of org/name named 'cows'"):
        choose(paths, "cows/train")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"0": "cat", "1": "dog"}, ("cat", "dog")),
        ({1: "dog", 0: "cat"}, ("cat", "dog")),
        (["cat", "dog"], ("cat", "dog")),
        ({"0": "cat", "7": "dog"}, None),
        ("cat", None),
    ],
)
def test_names_of_classes_come_from_dataset_info(names: Any, expected: tuple[str, ...] | None) -> None:
    feature = {"name": "label", "dtype": {"class_label": {"names": names}}}
    other = {"name": "image", "dtype": "image"}
    found = choose("train.parquet", "", {"dataset_info": {"features": [other, feature]}}).class_names
    assert found == ({} if expected is None else {"label": expected})
    several = [{"config_name": "a", "features": [feature]}, {"config_name": "b", "features": [other]}]
    configs = [{"config_name": one, "data_files": "*"} for one in "ab"]
    assert choose("1.parquet", "b", {"dataset_info": several, "configs": configs}).class_names == {}


@pytest.mark.parametrize(
    ("paths", "wanted", "header", "error", "message"),
    [
        ("a.csv b.py README.md", "", {}, DataError, "only: csv, md, py. Try hf:org/name@refs/convert/parquet"),
        ("", "", {}, DataError, "holds no images"),
        ("train/1.png test/1.png", "trian", {}, UnknownNameError, "Did you mean 'train'?"),
        ("val/1.png test/1.png", "", {}, UsageError, "splits test, validation, and one has to be named"),
        (FILES, "smal/train", CONFIGS, UnknownNameError, "Did you mean 'small'?"),
        (FILES, "small/tran", CONFIGS, UnknownNameError, "split of org/name (small)"),
        ("x.png", "", {"configs": [{"data_files": "a/*"}]}, DataError, "names files that it does not hold"),
    ],
)
def test_what_is_not_there_is_one_line(
    paths: str, wanted: str, header: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        choose(paths, wanted, header)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        {"configs": 3},
        {
            "configs": [
                3,
                None,
                {"config_name": 4},
                {"data_files": 5},
                {"data_files": [{"path": 1}, {"split": 2, "path": "x"}]},
            ]
        },
        {"configs": [{"data_files": "*" * 400}]},
        {"dataset_info": [None, {"features": {"a": 1}}, {"features": [1, {"dtype": {"class_label": 3}}]}]},
        {"dataset_info": 7},
    ],
)
def test_a_header_that_cannot_be_understood_is_passed_over(header: dict[str, Any]) -> None:
    assert chosen("train/1.png test/2.png", "", header) == "train/1.png"


def test_a_hostile_pattern_takes_no_time() -> None:
    header = {"configs": [{"data_files": "a*" * 40 + "/**/" * 40 + "*b" * 20}]}
    with pytest.raises(DataError):
        choose("a" * 200 + "/" + "b/" * 60 + "x.png", "", header)
