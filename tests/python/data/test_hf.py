"""Objects of the library datasets, and what merely looks like one."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest
from tests.python import bad_files as bad
from tests.python.data.published_files import picture

from discffusion.data import load_dataset
from discffusion.errors import DatasetError

PNG, JPEG, WEBP = (bad.encoded(kind) for kind in ("PNG", "JPEG", "WEBP"))
ROWS: dict[str, list[Any]] = {
    "picture": [{"bytes": data, "path": None} for data in (PNG, JPEG, WEBP)],
    "caption": ["a dog", "a cup", "a tree"],
    "wrong": [["a cat", "a cow"], ["a jug"], ["a bush"]],
    "name": ["x", "y", "z"],
    "width": [1, 2, 3],
}


def made(**changes: list[Any]) -> datasets.Dataset:
    data = datasets.Dataset.from_dict({**ROWS, **changes})
    return data.cast_column("picture", datasets.Image())


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


def test_columns_of_a_dataset() -> None:
    items = load_dataset(
        "hf", made(), image="picture", text="caption", negative_texts="wrong", key="name", meta="width"
    )
    assert (len(items), items.expected, items.metrics) == (3, 3, ("accuracy", "acc@1"))
    assert [item.key for item in items] == ["x", "y", "z"]
    # encoded as they were stored, so that one decoder is used for everything
    assert [item.images for item in items] == [[PNG], [JPEG], [WEBP]]
    assert items[0].meta == {"images": [f"sha256:{hashlib.sha256(PNG).hexdigest()[:16]}"], "width": 1}
    assert sorted(items[0].texts) == ["a cat", "a cow", "a dog"]
    assert items[0].texts[int(np.argmax(items[0].match[0]))] == "a dog"


def test_rows_that_were_selected_and_shuffled() -> None:
    data = made().select([2, 0])
    items = load_dataset("hf", data, image="picture", text="caption", negative_texts="wrong", key="name")
    assert [(item.key, item.images[0]) for item in items] == [("z", WEBP), ("x", PNG)]
    many = datasets.Dataset.from_dict(
        {"text": [f"t{n}" for n in range(600)], "image": [PNG] * 600, "no": ["x"] * 600}
    )
    items = load_dataset("hf", many.shuffle(seed=1), negative_texts="no", key="text")
    assert sorted(int(item.key[1:]) for item in items) == list(range(600))
    assert all(item.key in item.texts for item in items)


def test_nothing_is_decoded_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("an image was decoded")

    data = made()
    monkeypatch.setattr(datasets.Image, "decode_example", refuse)
    assert load_dataset("hf", data, image="picture", text="caption", negative_texts="wrong")[0].images == [
        PNG
    ]


def test_two_images_and_two_texts() -> None:
    data = datasets.Dataset.from_dict(
        {"image_0": [PNG], "image_1": [JPEG], "caption_0": ["a b"], "caption_1": ["b a"], "id": [7]}
    )
    items = load_dataset("hf", data, image=["image_0", "image_1"], text=["caption_0", "caption_1"], key="id")
    assert items.metrics == ("winoground", "accuracy")
    assert (items[0].key, items[0].images, items[0].match.tolist()) == (
        "7",
        [PNG, JPEG],
        [[True, False], [False, True]],
    )


def test_retrieval() -> None:
    data = datasets.Dataset.from_dict({"image": [PNG, JPEG], "text": [["a", "b"], ["c"]]})
    items = load_dataset("hf", data, task="retrieval")
    assert [item.match.astype(int).tolist() for item in items] == [[[1, 1, 0]], [[0, 0, 1]]]
    assert items[0].images == [PNG]


def test_paths(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    data = datasets.Dataset.from_dict({"image": ["a.png", "b.png"], "text": ["x", "y"], "no": ["n", "n"]})
    with pytest.raises(DatasetError, match=r"1 images are missing, so 1 of 2 items .*: b.png"):
        load_dataset("hf", data, negative_texts="no", image_root=tmp_path)
    items = load_dataset("hf", data, negative_texts="no", image_root=tmp_path, allow_missing=True)
    assert (items[0].images, items.expected, items.missing) == ([tmp_path / "a.png"], 2, ("b.png",))
    # as the feature Image stores files that were not read in
    typed = data.cast_column("image", datasets.Image())
    items = load_dataset("hf", typed, negative_texts="no", image_root=tmp_path, allow_missing=True)
    assert items[0].images == [tmp_path / "a.png"]


def test_splits(tmp_path: Path) -> None:
    both = datasets.DatasetDict({"train": made(), "test": made().select([1])})
    options: dict[str, Any] = {"image": "picture", "text": "caption", "negative_texts": "wrong"}
    assert [len(load_dataset("hf", both, split=name, **options)) for name in ("train", "test")] == [3, 1]
    with pytest.raises(DatasetError, match="a split has to be named as split=; there are: train, test"):
        load_dataset("hf", both, **options)
    with pytest.raises(DatasetError, match="no split 'val'; there are: train, test"):
        load_dataset("hf", both, split="val", **options)
    with pytest.raises(DatasetError, match="split='test' is for a DatasetDict; root is Dataset"):
        load_dataset("hf", made(), split="test", **options)
    assert len(load_dataset("hf", datasets.DatasetDict({"test": made()}), **options)) == 3
    both.save_to_disk(tmp_path / "saved")
    items = load_dataset("hf", str(tmp_path / "saved"), split="test", **options)
    assert items[0].images == [JPEG]


class Plain:
    """What is asked for, and no more."""

    column_names = ("image", "text", "no")

    def __init__(self, images: list[Any]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "text": f"t{index}", "no": "n"}


def test_anything_with_columns_rows_and_a_length(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    opened = PIL.Image.open(io.BytesIO(PNG))
    items = load_dataset(
        "hf",
        Plain([opened, PNG, {"path": str(path), "bytes": None}, path, {"bytes": JPEG}]),
        negative_texts="no",
    )
    assert [item.images[0] for item in items] == [opened, PNG, path, path, JPEG]
    pixels = opened.tobytes() + str(opened.size).encode()
    assert [item.meta["images"][0] for item in items] == [
        f"sha256:{hashlib.sha256(pixels).hexdigest()[:16]}",
        f"sha256:{hashlib.sha256(PNG).hexdigest()[:16]}",
        str(path),
        str(path),
        f"sha256:{hashlib.sha256(JPEG).hexdigest()[:16]}",
    ]


BAD: dict[str, tuple[Any, dict[str, Any], str]] = {
    "nothing": (None, {}, "root is NoneType; expected a datasets.Dataset"),
    "a list": ([{"image": PNG, "text": "x"}], {}, "root is list; expected a datasets.Dataset"),
    "a name on the Hub": (
        "nlphuji/flickr30k",
        {},
        "nothing is fetched from the Hub: load it with datasets.load_data",
    ),
    "a folder of something else": (".", {}, "is not what save_to_disk writes"),
    "a stream": (
        datasets.Dataset.from_dict({"image": [PNG], "text": ["x"]}).to_iterable_dataset(),
        {},
        r"IterableDataset has no length.*Dataset.from_list",
    ),
    "no such column": (
        Plain([PNG]),
        {"text": "caption"},
        "hf has no column 'caption'; it has image, text, no",
    ),
    "no image": (Plain([PNG, None]), {"negative_texts": "no"}, "hf, row 1: image is empty"),
    "image of an array": (
        Plain([np.zeros((2, 2, 3))]),
        {},
        "hf, row 0: image is ndarray; expected a path, bytes or",
    ),
    "text of numbers": (
        datasets.Dataset.from_dict({"image": [PNG], "text": [3]}),
        {},
        "hf, row 0: text is int '3'; expected a text",
    ),
    "image of nothing": (
        datasets.Dataset.from_dict({"image": [PNG, None], "text": ["a", "b"]}),
        {},
        "hf, row 1: image is empty",
    ),
    "no rows": (datasets.Dataset.from_dict({"image": [], "text": []}), {}, "hf holds no rows"),
    "empty dataset": (datasets.Dataset.from_dict({}), {}, "no length, index or column names"),
    "label of neither": (
        datasets.Dataset.from_dict({"image": [PNG], "text": ["a"], "y": [5]}),
        {"label": "y"},
        "hf, row 0: y is '5'; expected 1, 0, true or false",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_datasets(name: str) -> None:
    data, options, pattern = BAD[name]
    with pytest.raises(DatasetError, match=pattern):
        load_dataset("hf", data, **options)


def test_rows_that_are_none() -> None:
    class Odd(Plain):
        def __getitem__(self, index: int) -> Any:
            return {"image": PNG} if index else {"image": PNG, "text": "a", "no": "b"}

    with pytest.raises(DatasetError, match=r"hf, row 1 is .*; expected a dict with the named columns"):
        load_dataset("hf", Odd([1, 2]), negative_texts="no")
