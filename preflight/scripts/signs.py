"""Signs in a training script, and in the files of its repository that it imports, that it decides a plan field itself.

A loop of somebody's own may shard, quantize, checkpoint or put an adapter on its model in ways that no reader follows.
Whether it does leaves a name in its text. A field without any such name has its usual value; one with a name that was
not read is open; and where the script cannot be read at all, every field is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from preflight.launch import LaunchCommand
from preflight.setting import Place

SIGNS = {
    "engine": r"fully_shard|FullyShardedDataParallel|\bFSDP\w*|fsdp_plugin|deepspeed|init_device_mesh|parallelize",
    "world_size": r"\bmp\.spawn|multiprocessing\.spawn|\bmp\.Process\(|notebook_launcher|debug_launcher",
    "adapter": r"\bpeft\b|get_peft_model|\b\w*[Ll]o[Rr][Aa]\w*|FastLanguageModel|adapter_name",
    "base_quantization": r"BitsAndBytes|load_in_[48]bit|\bbnb\b|k?bit_training|FastLanguageModel|\bhqq\b|quantize",
    "activation_checkpointing": r"checkpoint_wrapper|(?:gradient|activation)_checkpoint|torch\.utils\.checkpoint|"
    r"grad_checkpoint|use_reentrant",
    "load_dtype": r"torch_dtype|\bdtype\s*=|\.half\(\)|\.bfloat16\(\)|\.to\(torch\.(?:bfloat16|float16|half)",
    "attention": r"attn_implementation|flash_attn|flash_attention|xformers",
    "loss": r"[Ll]iger|cut_cross_entropy|fused_linear|linear_cross_entropy",
    "optimizer": r"8bit|Adafactor|Muon\b|\bLion|[Gg]a[Ll]ore|optim\.(?!AdamW?\b|lr_scheduler)\w+\(",
}
"""Plan field -> names that a script uses which decides it."""

MOST_FILES = 40
MOST_CHARACTERS = 1_000_000
"""Of one file: more of either is no training script, and what it would say stays open."""

_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import[ \t]+(\(?[^#\n]*)|import[ \t]+([\w., \t]+))", re.M
)


def signs_of(command: LaunchCommand, script: str) -> dict[str, Place]:
    """Return plan field -> the first place that speaks of it; every field where the script cannot be read."""
    signs: dict[str, Place] = {}
    num_files = 0
    for path, text in repository_files(command, script):
        num_files += 1
        for name, pattern in SIGNS.items():
            match = None if name in signs else re.search(pattern, text)
            if match is not None:
                signs[name] = Place(
                    "script", path, match[0], text.count("\n", 0, match.start()) + 1
                )
    if not num_files or num_files == MOST_FILES:
        everywhere = Place("script", script, "")
        return {name: signs.get(name, everywhere) for name in SIGNS}
    return signs


def repository_files(command: LaunchCommand, script: str) -> Iterator[tuple[str, str]]:
    """Yield a script and the files of its repository that it imports, directly or through others."""
    path = script if command.exists(script) else script.replace(".", "/") + ".py"
    waiting, seen = [path], {path}
    for _ in range(MOST_FILES):
        if not waiting:
            return
        path = waiting.pop(0)
        try:
            text = command.read_text(path)
        except (OSError, UnicodeDecodeError):
            continue
        if len(text) > MOST_CHARACTERS:
            continue
        yield path, text
        for other in _imported(command, path, os.path.dirname(script), text):
            if other not in seen:
                seen.add(other)
                waiting.append(other)


def _imported(command: LaunchCommand, path: str, root: str, text: str) -> Iterator[str]:
    """Yield the files that a file imports, as far as they lie in its folder, the script's or the launch's."""
    for match in _IMPORT.finditer(text):
        package, names, modules = match.groups()
        if modules:
            wanted = [name.split()[0] for name in modules.split(",") if name.split()]
        else:
            wanted = [package, *(f"{package}.{name}" for name in re.findall(r"\w+", names or ""))]
        for module in wanted:
            dots = len(module) - len(module.lstrip("."))
            parts = [part for part in module.split(".") if part]
            folders = [root, "", os.path.dirname(path)]
            if dots:
                folders = [
                    os.path.normpath(os.path.join(os.path.dirname(path), *[".."] * (dots - 1)))
                ]
            for folder in dict.fromkeys(folders):
                base = os.path.join(folder, *parts)
                found = next(
                    (
                        f
                        for f in (f"{base}.py", os.path.join(base, "__init__.py"))
                        if command.exists(f)
                    ),
                    None,
                )
                if found is not None:
                    yield os.path.normpath(found)
                    break
