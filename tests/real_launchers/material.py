"""What the launches read: a model of random weights, a tokenizer and some rows, made here and small."""

from __future__ import annotations

import json
import sys
from pathlib import Path

TINY_LLAMA = Path(__file__).parents[2] / "examples" / "tiny-llama"
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def write_config(folder: Path) -> None:
    """Write `config.json` of the model, which is all that preflight reads of it."""
    config = json.loads((TINY_LLAMA / "config.json").read_text()) | SIZES | HEADS
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))


def write_rows(folder: Path) -> None:
    """Write the same rows as chat, as instructions and as text."""
    texts = [f"say {number} words about a small cat " * 4 for number in range(64)]
    rows = {
        "chat.jsonl": [
            {
                "messages": [
                    {"role": "user", "content": text},
                    {"role": "assistant", "content": text},
                ]
            }
            for text in texts
        ],
        "text.jsonl": [{"text": text} for text in texts],
        "instructions.jsonl": [
            {"instruction": text, "input": "", "output": text} for text in texts
        ],
        "pairs.jsonl": [{"anchor": text, "positive": text} for text in texts],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in rows.items():
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "instructions.json").write_text(json.dumps(rows["instructions.jsonl"]))
    (folder / "dataset_info.json").write_text(
        json.dumps({"tiny": {"file_name": "instructions.json"}})
    )


def write_weights(folder: Path) -> None:
    """Write weights and tokenizer of the model whose config is there."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sys.path.insert(0, str(TINY_LLAMA))
    from tiny_data import byte_tokenizer

    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(tokenizer.get_vocab()))
    (folder / "merges.txt").write_text("#version: 0.2\n")


if __name__ == "__main__":
    write_weights(Path(sys.argv[1]))
