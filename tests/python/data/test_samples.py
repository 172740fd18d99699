"""Names in shards: points in them, images of every kind, extensions that the user names; both readers agree."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from tests.python import bad_files as bad
from tests.python.data.shards import JPEG, PNG, WEBP, shard
from tests.python.shards.made_up import ByDigest, expected, picture, rows

from discffusion import ConfigError, Scorer, score_shards
from discffusion.data import load_dataset
from discffusion.errors import DatasetError


def keyed(items: Any) -> dict[str, str]:
    """Texts by key of the sample."""
    return {item.key.split("/", 1)[1].rsplit("/", 1)[0]: item.texts[0] for item in items}


def test_points_in_names(tmp_path: Path) -> None:
    names = ["0", "1", "22.05", "22.06", "23.1", "v1.0.final", "deep.er/3.14", "a b.c"]
    files: dict[str, bytes] = {}
    for number, name in enumerate(names):
        files[f"{name}.png"] = picture(number)
        files[f"{name}.txt"] = f"text of {name}".encode()
    path = shard(tmp_path / "0.tar", files)
    items = load_dataset("webdataset", path)
    assert keyed(items) == {name: f"text of {name}" for name in names}
    assert [item.images[0] for item in items] == [picture(number) for number in range(len(names))]
    assert items.expected == len(names) and items.about["notes"] == []
    found = score_shards(path, tmp_path / "out", ByDigest())
    assert (found.rows, found.failures) == (len(names), {})
    got = {row["member"]: row["score"] for row in rows(tmp_path / "out")}
    assert got == {name: expected(picture(n), f"text of {name}") for n, name in enumerate(names)}


def test_points_alone_and_json(tmp_path: Path) -> None:
    """A shard that has such names only, with captions in JSON."""
    files = {
        f"{name}.{kind}": data
        for name in ("22.05", "23.1")
        for kind, data in (("png", PNG), ("json", b'{"c": "x"}'))
    }
    path = shard(tmp_path / "0.tar", files)
    assert keyed(load_dataset("webdataset", path, json_text_key="c")) == {"22.05": "x", "23.1": "x"}
    assert score_shards(path, tmp_path / "out", ByDigest(), json_text_key="c").rows == 2


def test_letters_stay_as_they_are(tmp_path: Path) -> None:
    files = {"22.A.PNG": picture(0), "22.A.TXT": b"big", "22.b.Png": picture(2), "22.b.txt": b"b"}
    path = shard(tmp_path / "0.tar", files)
    assert keyed(load_dataset("webdataset", path)) == {"22.A": "big", "22.b": "b"}
    score_shards(path, tmp_path / "out", ByDigest())
    assert [row["member"] for row in rows(tmp_path / "out")] == ["22.A", "22.b"]


def test_every_file_with_a_point_has_a_row_or_is_counted(tmp_path: Path) -> None:
    """Half of a sample is gone: that is told under the name that the sample has."""
    files = {
        "0.png": PNG, "0.txt": b"zero",
        "22.05.png": PNG,  # its text is gone
        "23.1.txt": b"its image is gone",
        "24.png": PNG, "24.txt": b"whole", "24.5.png": PNG,  # a number is no extension
    }  # fmt: skip
    path = shard(tmp_path / "0.tar", files)
    score_shards(path, tmp_path / "out", ByDigest())
    assert {row["member"]: row["error"] for row in rows(tmp_path / "out")} == {
        "0": None, "22.05": "missing_text", "23.1": "missing_image", "24": None, "24.5": "missing_text",
    }  # fmt: skip
    items = load_dataset("webdataset", path, allow_missing=True)
    assert keyed(items) == {"0": "zero", "24": "whole"}
    assert items.missing == ("0.tar/23.1",) and items.expected == 5
    assert items.about["notes"][0].startswith(
        "2 of 5 items lack a text and are left out: 0.tar, sample '22.05' has no .txt"
    )
    with pytest.raises(DatasetError, match="1 images are missing.*0.tar/23.1"):
        load_dataset("webdataset", path)


def test_a_mask_beside_an_image_is_none_of_its_own(tmp_path: Path) -> None:
    files = {"a.png": picture(1), "a.txt": b"a dog", "a.seg.png": picture(2), "a.depth.png": picture(3)}
    path = shard(tmp_path / "0.tar", files)
    items = load_dataset("webdataset", path)
    assert keyed(items) == {"a": "a dog"} and items[0].images == [picture(1)]
    assert items.about["notes"] == []


def test_a_mask_beside_a_name_with_a_point(tmp_path: Path) -> None:
    files = {
        "22.05.png": picture(1),
        "22.05.txt": b"a dog",
        "22.05.seg.png": picture(2),
        "22.05.1.json": b"{}",
    }
    path = shard(tmp_path / "0.tar", files)
    items = load_dataset("webdataset", path)
    assert keyed(items) == {"22.05": "a dog"} and items[0].images == [picture(1)]
    assert items.about["notes"] == []
    assert score_shards(path, tmp_path / "out", ByDigest()).rows == 1


def test_a_pair_behind_a_point_is_a_sample(tmp_path: Path) -> None:
    files = {"a.png": picture(1), "a.txt": b"a", "a.crop.png": picture(2), "a.crop.txt": b"part"}
    path = shard(tmp_path / "0.tar", files)
    items = load_dataset("webdataset", path)
    assert keyed(items) == {"a": "a", "a.crop": "part"}
    assert [item.images[0] for item in items] == [picture(1), picture(2)]


INPUTS = {
    "a.input.jpg": JPEG, "a.output.jpg": b"out", "a.txt": b"one",
    "b.input.jpg": JPEG, "b.output.jpg": b"out", "b.txt": b"two",
}  # fmt: skip


@pytest.mark.parametrize(
    "image_key", ["input.jpg", ".input.jpg", "INPUT.JPG", "nothing.png;input.jpg", ["input.jpg"]]
)
def test_extensions_that_the_user_names(image_key: Any, tmp_path: Path) -> None:
    path = shard(tmp_path / "0.tar", INPUTS)
    items = load_dataset("webdataset", path, image_key=image_key)
    assert keyed(items) == {"a": "one", "b": "two"} and [item.images[0] for item in items] == [JPEG, JPEG]
    if isinstance(image_key, str):
        found = score_shards(path, tmp_path / "out", ByDigest(), image_key=image_key)
        assert (found.rows, found.failures) == (2, {})
        assert [row["score"] for row in rows(tmp_path / "out")] == [
            expected(JPEG, text) for text in ("one", "two")
        ]


def test_extensions_of_texts(tmp_path: Path) -> None:
    files = {
        "a.jpg": JPEG,
        "a.prompt.txt": b"one",
        "a.edit.txt": b"two",
        "22.5.jpg": JPEG,
        "22.5.prompt.txt": b"three",
    }
    path = shard(tmp_path / "0.tar", files)
    for text_key in ("prompt.txt", ".prompt.txt"):
        assert keyed(load_dataset("webdataset", path, text_key=text_key)) == {"a": "one", "22.5": "three"}
    score_shards(path, tmp_path / "out", ByDigest(), text_key="prompt.txt")
    assert [(row["member"], row["text"]) for row in rows(tmp_path / "out")] == [
        ("a", "one"),
        ("22.5", "three"),
    ]


def test_extensions_that_are_not_named_are_told(tmp_path: Path) -> None:
    path = shard(tmp_path / "0.tar", INPUTS)
    with pytest.raises(
        DatasetError, match=r"2 images are missing.*image_key= \(the first has input.jpg, output.jpg, txt\)"
    ):
        load_dataset("webdataset", path)
    score_shards(path, tmp_path / "out", ByDigest())
    messages = {row["member"]: (row["error"], row["message"]) for row in rows(tmp_path / "out")}
    assert set(messages) == {"a", "b"} and messages["a"][0] == "missing_image"
    assert (
        "there is input.jpg, output.jpg, txt, expected jpg, png, jpeg, webp and so on (image_key=)"
        in messages["a"][1]
    )


@pytest.mark.parametrize("given", ["", ";", 3, [], ["a", ""], [3]])
def test_extensions_that_are_none(given: Any, tmp_path: Path) -> None:
    path = shard(tmp_path / "0.tar", INPUTS)
    with pytest.raises(DatasetError, match="image_key= is "):
        load_dataset("webdataset", path, image_key=given)
    with pytest.raises(DatasetError, match="text_key= is "):
        load_dataset("webdataset", path, text_key=given)
    with pytest.raises(ConfigError, match="image_key"):
        score_shards(path, tmp_path / "out", ByDigest(), image_key=given)


KINDS = {
    "gif": "GIF",
    "bmp": "BMP",
    "tif": "TIFF",
    "tiff": "TIFF",
    "jpe": "JPEG",
    "webp": "WEBP",
    "PNG": "PNG",
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_that_a_path_may_be(kind: str, tmp_path: Path) -> None:
    """Scored from a shard as from a file."""
    data = bad.encoded(KINDS[kind])
    file = tmp_path / f"a.{kind}"
    file.write_bytes(data)
    path = shard(tmp_path / "0.tar", {f"a.{kind}": data, "a.txt": b"a red circle"})
    assert load_dataset("webdataset", path)[0].images == [data]
    with Scorer(device="cpu", noise_levels=[0.5], layers=["down.0.0"]) as scorer:
        found = score_shards(path, tmp_path / "out", scorer)
        value = scorer.score(file, "a red circle")
    assert found.failures == {}
    assert rows(tmp_path / "out")[0]["score"] == pytest.approx(value, rel=1e-5)


def avif() -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, "AVIF")
    return buffer.getvalue()


UNREAD: dict[str, bytes] = {
    "svg": b'<?xml version="1.0"?>\n<!-- a drawing -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
    "jxl": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(200),
    "exr": b"\x76\x2f\x31\x01" + bytes(200),
}


@pytest.mark.parametrize("where", ["tar", "jsonl", "parquet"])
@pytest.mark.parametrize("kind", UNREAD)
def test_images_that_are_not_read_are_told_apart_from_damaged_ones(
    kind: str, where: str, tmp_path: Path
) -> None:
    import pyarrow
    import pyarrow.parquet

    data = UNREAD[kind]
    path = tmp_path / "in" / f"0.{where}"
    path.parent.mkdir()
    (path.parent / f"a.{kind}").write_bytes(data)
    if where == "tar":
        shard(
            path,
            {
                f"a.{kind}": data,
                "a.txt": b"text",
                "b.png": PNG[:100],
                "b.txt": b"damaged",
                "c.png": PNG,
                "c.txt": b"good",
            },
        )
    elif where == "jsonl":
        (path.parent / "b.png").write_bytes(PNG[:100])
        (path.parent / "c.png").write_bytes(PNG)
        path.write_text(
            "".join(json.dumps({"image": n, "text": "t"}) + "\n" for n in (f"a.{kind}", "b.png", "c.png"))
        )
    else:
        pyarrow.parquet.write_table(pyarrow.table({"image": [data, PNG[:100], PNG], "text": ["t"] * 3}), path)
    with Scorer(device="cpu", noise_levels=[0.5], layers=["down.0.0"]) as scorer:
        score_shards(path, tmp_path / "out", scorer)
    got = rows(tmp_path / "out")
    assert [row["error"] for row in got] == ["unsupported_image", "corrupt_image", None]
    assert "is not read; convert it to PNG or JPEG" in got[0]["message"]


def test_avif_is_scored_or_unsupported_but_never_missing(tmp_path: Path) -> None:
    data = avif()
    path = shard(
        tmp_path / "0.tar", {"4.avif": data, "4.txt": b"a circle", "5.avif": data[:-20], "5.txt": b"cut"}
    )
    assert [item.images[0] for item in load_dataset("webdataset", path)] == [data, data[:-20]]
    with Scorer(device="cpu", noise_levels=[0.5], layers=["down.0.0"]) as scorer:
        score_shards(path, tmp_path / "out", scorer)
    got = rows(tmp_path / "out")
    assert got[0]["error"] in (None, "unsupported_image")
    assert (got[0]["error"] is None) == (got[0]["score"] is not None)


def test_the_first_of_several_images(tmp_path: Path) -> None:
    path = shard(tmp_path / "0.tar", {"a.gif": b"GIF", "a.webp": WEBP, "a.jpg": b"", "a.txt": b"x"})
    assert load_dataset("webdataset", path)[0].images == [WEBP]  # the jpg is empty
