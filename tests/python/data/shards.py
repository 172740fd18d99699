"""Tar shards with small pictures in them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.python import bad_files as bad

JPEG, PNG, WEBP = (bad.encoded(kind) for kind in ("JPEG", "PNG", "WEBP"))


def shard(path: Path, files: Mapping[str, bytes], mode: Any = "w", kind: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, format=kind) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def classes(root: Path) -> Path:
    """A set for classification as CLIP_benchmark writes it, with two classes of the same name."""
    (root / "classnames.txt").write_text("crane\nship\ncrane\n")
    (root / "zeroshot_classification_templates.txt").write_text("a bad photo of a {c}.\nart of a {c}.\n")
    shard(root / "test" / "0.tar", {"s0.png": PNG, "s0.cls": b"1", "s1.png": PNG, "s1.cls": b"2"})
    (root / "test" / "nshards.txt").write_text("1")
    return root
