"""Messages of the package, which name Python's arguments, in the words of the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["Words", "dataset_options", "now", "spoken"]

#: what a dataset's option holds, where a message names the option alone
_HOLDS = {
    "image_root": "FOLDER", "answers": "FILE", "text_key": "EXTENSION", "json_text_key": "FIELD",
    **dict.fromkeys(
        ("image", "text", "negative_texts", "negative_images", "label", "key", "group", "meta"), "COLUMN"
    ),
}  # fmt: skip

#: sentences that make no sense in a shell, whatever the command
_PHRASES = (
    (r"pass token=", "set HF_TOKEN"),
    (r"\(local_files_only or HF_HUB_OFFLINE\)", "(HF_HUB_OFFLINE)"),
    (r"with distributed=False", "without torchrun"),
    (
        r"load it with datasets\.load_dataset and give the object as root=",
        "load it in Python, write it with save_to_disk and give that folder as --root",
    ),
    (
        r"^([\w-]+): (got an unexpected keyword argument \S+); its options are .*",
        r"\1: \2; `discffusion eval \1 --list` tells its options",
    ),
    (r"or unload them first", "or leave --init out"),
    (r",? or pass strict=False to[^;.]*", ""),
    (r"calibrate this one by scorer\.calibrate\(items\)", "calibrate this one by `discffusion calibrate`"),
    (
        r"fit one by scorer\.calibrate\(items\) and take scorer\.with_calibration\(it\)",
        "fit one by `discffusion calibrate` and give it by --calibration",
    ),
)

# What is no sentence of ours: what a user typed (quoted), calls, paths, and options that are spelt for the shell.
_TYPED = r"""--(?:data|option)[ ]\S+|--[a-z][\w-]*"""
_OPAQUE = rf"""(?<![\w=])'[^']*'|(?<![\w=])"[^"]*"|\b[\w.]+\([^()]*\)|[^\s=]*/\S*|{_TYPED}"""
_VALUE = r"""True|False|None|'[^']*'|"[^"]*"|\[[^\]]*\]|[\w+-]+(?:[.,][\w+-]+)*|"""
_GIVEN = re.compile(rf"(?P<opaque>{_OPAQUE})|(?<![\w.-])(?P<name>[a-z]+(?:_[a-z]+)*_?)=(?P<value>{_VALUE})")


@dataclass(frozen=True)
class Words:
    """How Python's arguments are typed in one command.

    Attributes:
        options: by argument, what is typed before its value, as ``--batch-size``.
        switches: by argument, what is typed for True and for False; None where that is what happens by itself.
        data: whether the options of a dataset are typed as ``--data NAME=VALUE``.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    switches: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)
    data: bool = False

    def given(self, name: str, value: str) -> str | None:
        """What is typed for ``name=value``, or for an argument that is named alone where `value` is empty."""
        if name in self.switches and value in ("True", "False", ""):
            on, off = self.switches[name]
            return off if value == "False" else on
        if name in self.options:
            option = self.options[name]
            if value == "None":
                return f"without {option}"
            return f"{option} {_bare(value)}".rstrip()
        if name in dataset_options():
            value = {"True": "true", "False": "false", "": _HOLDS.get(name, "VALUE")}.get(value, _bare(value))
            return f"--data {name}={value}" if self.data else f"the dataset's option {name}"
        return None

    def named(self, name: str) -> str | None:
        """What an argument is called that a message names without a value."""
        if name in self.options:
            return self.options[name]
        if name in self.switches:
            return next(filter(None, self.switches[name]), None)
        return f"--data {name}" if self.data and name in dataset_options() else None


def spoken(message: str, words: Words) -> str:
    """`message` with every argument of Python that it names as it is typed in the shell."""
    for python, shell in _PHRASES:
        message = re.sub(python, shell, message)
    message = _GIVEN.sub(lambda match: _typed(match, words), message)
    message = re.sub(r"(--[\w-]+ [\w-]+ or )(['\"])(\w+)\2", r"\1\3", message)  # --truncate warn or "silent"
    return _enumerated(_begun(_underscored(message, words), words), words)


def _typed(match: re.Match[str], words: Words) -> str:
    if match["opaque"] is not None:
        return match[0]
    return words.given(match["name"], match["value"]) or match[0]


def _begun(message: str, words: Words) -> str:
    """An argument that a message is about, by its first word, as in ``steps is 0; expected``."""
    return re.sub(
        r"^((?:[\w-]+: )?)([a-z]\w*)(?= (?:is|has|holds|lists|names|must)\b)",
        lambda match: match[1] + (words.named(match[2]) or match[2]),
        message,
    )


def _underscored(message: str, words: Words) -> str:
    """No word of English has an underscore in it."""
    pattern = rf"(?P<opaque>{_OPAQUE})|(?<![\w.\-\[{{=])(?P<name>[a-z]+(?:_[a-z]*)+)(?![\w=(.'\"]*[\w=(])"
    return re.sub(
        pattern, lambda match: match[0] if match["opaque"] else words.named(match[0]) or match[0], message
    )


def _enumerated(message: str, words: Words) -> str:
    """The others in a list that holds an option: one of ``steps, timesteps and --noise-levels``."""
    parts: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
        (r"(?<![\w-])([a-z]+)(?=(?:, | and | or )--)", lambda match: words.named(match[1]) or match[0]),
        (
            r"(?<![\w-])(--[a-z][\w-]*)(, | and | or )([a-z]+)(?![\w=-])",
            lambda match: f"{match[1]}{match[2]}{words.named(match[3]) or match[3]}",
        ),
    )
    before = None
    while before != message:
        before = message
        for pattern, replace in parts:
            message = re.sub(pattern, replace, message)
    return message


def _bare(value: str) -> str:
    """Without Python's quotes, where a shell needs none."""
    inner = value[1:-1]
    quoted = value[:1] in ("'", '"')
    return inner if quoted and re.fullmatch(r"[\w.,:/@+-]+", inner) and inner.strip(".") else value


#: those of the command that runs
now = Words()


def dataset_options() -> frozenset[str]:
    """The names of all options that a dataset takes."""
    global _known
    if _known is None:
        from discffusion.data import known_options

        _known = frozenset(name for options in known_options().values() for name in options)
    return _known


_known: frozenset[str] | None = None
