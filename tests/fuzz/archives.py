"""Fuzzing of what is read in Python, by atheris: `python -m tests.fuzz.archives TARGET [CORPUS…] [OPTION…]`.

`tar` reads a WebDataset shard as a dataset and as `score-shards` does, members and all; `refs` a list of referring
expressions; `bin` a pickled LoRA file. Errors of the package are what bad files should lead to; anything else is a
finding. `--seeds FOLDER` writes what to start from.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris
import numpy as np
import PIL.Image

INSTRUMENTED = ("discffusion", "tarfile", "torch.serialization", "torch._weights_only_unpickler")

with atheris.instrument_imports(include=list(INSTRUMENTED)):
    import tarfile

    import torch

    from discffusion._lora_files import read_pickled
    from discffusion.data import load_dataset
    from discffusion.data.archives.refs_pickle import read_plain_pickle
    from discffusion.errors import DiscffusionError
    from discffusion.images import prepare
    from discffusion.shards.inputs import Shard
    from discffusion.shards.layout import Layout
    from discffusion.shards.samples import Sample, samples

FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="discffusion-fuzz-"))


def sealed(data: bytes) -> bytes:
    """The same with checksums in the headers of members that fit, which no change of a header would survive."""
    whole, at = bytearray(data), 0
    while at + 512 <= len(whole):
        if any(whole[at : at + 512]):
            whole[at + 148 : at + 156] = b" " * 8
            whole[at + 148 : at + 156] = b"%06o\0 " % sum(whole[at : at + 512])
        digits = bytes(whole[at + 124 : at + 136]).rstrip(b"\0 ")
        size = int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else 0
        at += 512 + -(-size // 512) * 512
    return bytes(whole)


def tar(data: bytes) -> None:
    path = FOLDER / "shard.tar"
    path.write_bytes(sealed(data))
    for allow_missing in (False, True):
        with contextlib.suppress(DiscffusionError):
            for item in load_dataset("webdataset", root=path, allow_missing=allow_missing):
                for image in item.images:
                    prepare(image)
        for layout in (
            Layout(allow_missing=allow_missing),
            Layout(json_text_key="caption", caption_lines=True),
        ):
            try:
                for sample in samples(Shard(str(path), path.name), path, layout):
                    if isinstance(sample, Sample):
                        sample.read()
            except DiscffusionError:
                pass
    assert [found.name for found in FOLDER.iterdir()] == [path.name], "something was unpacked"


def refs(data: bytes) -> None:
    path = FOLDER / "refs.p"
    path.write_bytes(data)
    with contextlib.suppress(DiscffusionError):
        read_plain_pickle(path)


def pickled(data: bytes) -> None:
    path = FOLDER / "adapter_model.bin"
    path.write_bytes(data)
    with contextlib.suppress(DiscffusionError):
        read_pickled(path)


TARGETS: dict[str, Callable[[bytes], None]] = {"tar": tar, "refs": refs, "bin": pickled}


def seeds(folder: Path) -> None:
    def put(target: str, name: str, data: bytes) -> None:
        (folder / target).mkdir(parents=True, exist_ok=True)
        (folder / target / name).write_bytes(data)

    image = io.BytesIO()
    PIL.Image.fromarray(np.zeros((2, 2, 3), dtype=np.uint8)).save(image, "PNG")
    contents = {
        "plain": {"0/1.png": image.getvalue(), "0/1.txt": b"a circle"},
        "json": {"a.jpg": b"no image", "a.json": json.dumps({"caption": ["a", "b"]}).encode()},
        "away": {"../../1.png": image.getvalue(), "/1.txt": b"a\nb"},
        "é class": {"1.png": image.getvalue(), "é.cls": b"3"},
    }
    for form, name in (
        (tarfile.USTAR_FORMAT, "ustar"),
        (tarfile.GNU_FORMAT, "gnu"),
        (tarfile.PAX_FORMAT, "pax"),
    ):
        for what, files in contents.items():
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
                for path, data in files.items():
                    info = tarfile.TarInfo(path)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
            put("tar", f"{what}.{name}", buffer.getvalue())
    value = [
        {"ref_id": 1, "split": "val", "sentences": [{"raw": "a é", "tokens": ("a",), "x": 1.5, "y": None}]}
    ]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        put("refs", f"{protocol}", pickle.dumps(value, protocol))
    tensors = {
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": torch.ones(2, 3)
    }
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save(tensors, buffer, _use_new_zipfile_serialization=zipped)
        put("bin", "zip" if zipped else "old", buffer.getvalue())


if __name__ == "__main__":
    if sys.argv[1] == "--seeds":
        seeds(Path(sys.argv[2]))
        sys.exit()
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
