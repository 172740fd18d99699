"""Real architectures, tiny and random, written in the layouts in which models are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tests.fixtures.make_tokenizer import END, START, vocabulary, write_tokenizer

WORDS = """a red green blue yellow circle square triangle left right of above below dog cat on the grass photo what is
colour does this figure show ? please answer yes or no . " : ,""".split()


def image_processor(kind: str, side: int = 32) -> dict[str, Any]:
    return {
        "image_processor_type": kind,
        "do_resize": True,
        "size": {"shortest_edge": side} if kind == "CLIPImageProcessor" else {"height": side, "width": side},
        "do_center_crop": kind == "CLIPImageProcessor",
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.48, 0.46, 0.41],
        "image_std": [0.27, 0.26, 0.28],
        "do_convert_rgb": True,
        "resample": 3,
    }


def write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=2), encoding="utf-8")


def write_clip(folder: Path, seed: int = 0) -> Path:
    """``CLIPModel`` of 2 layers a tower, 32 pixels, 24 tokens."""
    from transformers import CLIPConfig, CLIPModel

    write_tokenizer(folder, model_max_length=24)
    words = vocabulary()
    text = {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 24, "bos_token_id": words[START],
        "eos_token_id": words[END], "pad_token_id": words[END],
    }  # fmt: skip
    vision = {
        "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    torch.manual_seed(seed)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=40))
    enliven(model)
    model.save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", image_processor("CLIPImageProcessor"))
    return folder


def write_open_clip(folder: Path, seed: int = 0) -> Path:
    """A CLIP of open_clip with its own tokenizer, 32 pixels, 20 tokens."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    torch.manual_seed(seed)
    model = open_clip.CLIP(**config)
    enliven(model)
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic"}
    write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preprocess})
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


def write_blip2(folder: Path, seed: int = 0, *, image_token: bool = False) -> Path:
    """``Blip2ForImageTextRetrieval`` with 4 queries; with `image_token`, texts carry places for them."""
    from transformers import (
        BertTokenizer,
        Blip2Config,
        Blip2ForImageTextRetrieval,
        Blip2Processor,
        BlipImageProcessor,
    )

    folder.mkdir(parents=True, exist_ok=True)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "<image>"]
    words = [*special, *WORDS]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=40)
    config = Blip2Config(
        vision_config={"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "image_size": 32, "patch_size": 8},
        qformer_config={"vocab_size": len(words), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                        "intermediate_size": 48, "max_position_embeddings": 40, "encoder_hidden_size": 32,
                        "use_qformer_text_input": True, "cross_attention_frequency": 1},
        num_query_tokens=4,
        image_text_hidden_size=16,
        image_token_index=words.index("<image>") if image_token else None,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = Blip2ForImageTextRetrieval(config)
    enliven(model)
    with torch.no_grad():
        model.query_tokens.normal_(0, 1)
    model.save_pretrained(folder)
    images = BlipImageProcessor(size={"height": 32, "width": 32})
    Blip2Processor(images, tokenizer, num_query_tokens=4 if image_token else None).save_pretrained(folder)
    return folder


def write_llava(folder: Path, seed: int = 0, *, words: list[str] = WORDS) -> Path:
    """``LlavaForConditionalGeneration`` with a CLIP vision tower and a Llama."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    folder.mkdir(parents=True, exist_ok=True)
    special = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]
    found = [*special, "USER", "ASSISTANT", *dict.fromkeys(words), "Yes"]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(found)}, unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([])
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<image>"], model_max_length=128,
    )  # fmt: skip
    template = (
        "{% for message in messages %}USER : {% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}{% endfor %} {% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT :{% endif %}"
    )
    side = {"shortest_edge": 32}
    images = CLIPImageProcessor(size=side, crop_size={"height": 32, "width": 32})
    processor = LlavaProcessor(
        images, tokenizer, patch_size=8, vision_feature_select_strategy="default", chat_template=template,
        num_additional_image_tokens=1,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 48, "image_size": 32,
                       "patch_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 16},
        text_config={"model_type": "llama", "vocab_size": len(found), "hidden_size": 32, "intermediate_size": 48,
                     "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
                     "max_position_embeddings": 96, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        image_token_index=found.index("<image>"),
    )  # fmt: skip
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config)
    enliven(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def enliven(model: torch.nn.Module) -> None:
    """Larger random weights than models start with, so that scores differ by more than rounding."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
