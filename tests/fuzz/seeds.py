"""What fuzzing starts from: `python -m tests.fuzz.seeds` writes `tiny`, the files beside a fuzzed one, and `seeds`, a
folder of inputs for each target of Rust, with those that earlier runs found, which `corpus` keeps.

`python -m tests.fuzz.seeds --keep FOLDER` puts the inputs in FOLDER/TARGET into `corpus`.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from safetensors.torch import save
from tests.fixtures.make_checkpoint import write_checkpoint

HERE = Path(__file__).parent
CONFIGS = (
    "model_index.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
)
TOKENIZER = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
WORD = "down_blocks.0.attentions.0.transformer_blocks.0"


def main() -> None:
    for folder in ("tiny", "seeds"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as kept:
        kinds = {kind: write_checkpoint(Path(kept) / kind, kind, "tiny") for kind in ("sd15", "sd21", "lcm")}
        for name in CONFIGS:
            _put("tiny", name, (kinds["sd21"] / name).read_bytes())
            for kind, folder in kinds.items():
                _put(
                    "seeds/configs",
                    f"{kind} {name}",
                    bytes([CONFIGS.index(name)]) + (folder / name).read_bytes(),
                )
        tokenizer = _small_tokenizer(kinds["sd21"] / "tokenizer")
    for number, name in enumerate(TOKENIZER):
        _put("tiny/tokenizer", name, tokenizer[name])
        _put("seeds/tokenizer", name, bytes([number]) + tokenizer[name])
    _put("seeds/tokenizer", "tokenizer.json", bytes([len(TOKENIZER)]) + _whole(tokenizer))
    for name, data in _tensor_files().items():
        _put("seeds/deltas", name, data)
        _put("seeds/weights", name, b"\0" + data)
    index = {"metadata": {"total_size": 24}, "weight_map": {"a.weight": "model-00001-of-00001.safetensors"}}
    _put("seeds/weights", "index", b"\2" + json.dumps(index).encode())
    for name, text in _lora().items():
        _put("seeds/lora", name, text.encode())
    for name, data in _images().items():
        _put("seeds/image", name, data)
    for kept_inputs in (HERE / "corpus").glob("*.tar.xz"):
        target = kept_inputs.name.removesuffix(".tar.xz")
        with tarfile.open(kept_inputs) as archive:
            for member in archive:
                _put(f"seeds/{target}", member.name, archive.extractfile(member).read())


def keep(folder: Path) -> None:
    for target in (each for each in sorted(folder.iterdir()) if any(each.iterdir())):
        (HERE / "corpus").mkdir(exist_ok=True)
        with tarfile.open(HERE / "corpus" / f"{target.name}.tar.xz", "w:xz") as archive:
            # by size, and without the names, which are hashes: a tenth of the bytes
            for number, file in enumerate(
                sorted(target.iterdir(), key=lambda file: (file.stat().st_size, file.name))
            ):
                member = tarfile.TarInfo(f"kept {number}")
                member.size = file.stat().st_size
                archive.addfile(member, io.BytesIO(file.read_bytes()))


def _put(folder: str, name: str, data: bytes) -> None:
    path = HERE / folder / (name.replace("/", "-") if folder.startswith("seeds") else name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _small_tokenizer(folder: Path) -> dict[str, bytes]:
    """The files of a folder, with so few merges that a fuzzer gets anywhere."""
    files = {name: (folder / name).read_bytes() for name in TOKENIZER}
    merges = files["merges.txt"].decode().splitlines()[:21]  # the first line is the version
    known = {"".join(merge.split()) for merge in merges}
    vocab = json.loads(files["vocab.json"])
    tokens = [token for token in vocab if len(token.removesuffix("</w>")) == 1 or token in known]
    tokens += [token for token in vocab if token.startswith("<|")]
    files["merges.txt"] = "\n".join(merges).encode()
    files["vocab.json"] = json.dumps({token: number for number, token in enumerate(tokens)}).encode()
    return files


def _whole(files: dict[str, bytes]) -> bytes:
    merges = files["merges.txt"].decode().splitlines()[1:]
    vocab = json.loads(files["vocab.json"])
    added = [
        {"id": vocab[token], "content": token, "special": True} for token in vocab if token.startswith("<|")
    ]
    model = {"type": "BPE", "vocab": vocab, "merges": merges}
    return json.dumps({"version": "1.0", "added_tokens": added, "model": model}).encode()


def _tensor_files() -> dict[str, bytes]:
    pair = {f"unet.{WORD}.attn2.to_k.lora_A.weight": torch.ones(2, 3)}
    pair[f"unet.{WORD}.attn2.to_k.lora_B.weight"] = torch.ones(4, 2)
    ours = {f"{WORD}.attn2.to_k.delta": torch.ones(4, 3)}
    fingerprint = json.dumps({"architecture": "", "sample": []})
    short = {"a.weight": torch.ones(2, 3, dtype=torch.float16), "a.bias": torch.ones(2, dtype=torch.bfloat16)}
    return {
        "network": save(
            {"a.weight": torch.ones(2, 3), "a.bias": torch.ones(2), "a.scale": torch.tensor(1.0)}
        ),
        "half": save(short),
        "lora": save(pair),
        "ours": save(ours, {"discffusion.format": "1", "discffusion.fingerprint": fingerprint}),
        "empty": save({}),
    }


def _lora() -> dict[str, str]:
    config = json.dumps({"r": 2, "lora_alpha": 4})
    return {
        "diffusers": f"unet.{WORD}.attn2.to_k.lora_A.weight 2 3\nunet.{WORD}.attn2.to_k.lora_B.weight 4 2\n\n"
        f"lora_adapter_metadata {config}",
        "old": f"{WORD}.attn2.processor.to_k_lora.down.weight 2 3\n{WORD}.attn2.processor.to_k_lora.up.weight 4 2",
        "peft": f"base_model.model.{WORD}.attn1.to_q.lora_A.weight 2 4\n"
        f"base_model.model.{WORD}.attn1.to_q.lora_B.weight 4 2\n\nadapter_config {config}",
        "kohya": "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight 2 3\n"
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight 4 2\n"
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.alpha",
    }


def _images() -> dict[str, bytes]:
    values = np.arange(6 * 5 * 4, dtype=np.uint8).reshape(6, 5, 4) * 2
    found = {}
    for mode in ("L", "RGB", "RGBA", "P", "CMYK", "1", "LA", "I;16"):
        picture = PIL.Image.fromarray(values[..., :3])
        picture = (
            PIL.Image.fromarray(values[..., 0].astype(np.uint16) * 257)
            if mode == "I;16"
            else picture.convert("RGB").convert(mode)
        )
        for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
            buffer = io.BytesIO()
            try:
                picture.save(buffer, kind)
            except (OSError, KeyError, ValueError):
                continue  # there is no such file
            found[f"{mode.replace(';', '')}.{kind.lower()}"] = buffer.getvalue()
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--keep"]:
        keep(Path(sys.argv[2]))
    else:
        main()
