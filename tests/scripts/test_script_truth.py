"""A law: what is read of a script is never less than what the script does, on scripts of a grammar that run on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from launch_of_script import plan_of
from script_grammar import AXES, Script, scripts
from tiny_llama import TINY_LLAMA

SEED = 1
SCRIPTS = list(scripts(SEED))
RUNNER = Path(__file__).with_name("script_truth.py")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Every script in a folder of its own, with a model, rows, and what it did."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    above = tmp_path_factory.mktemp("scripts")
    words = {word: place for place, word in enumerate(["<pad>", "<s>", *map(str, range(88))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")
    fast.save_pretrained(above / "m")
    config = transformers.LlamaConfig(**{k: v for k, v in TINY_LLAMA.items() if k != "model_type"})
    transformers.LlamaForCausalLM(config).save_pretrained(above / "m")
    row = json.dumps({"text": " ".join(str(place % 88) for place in range(300))})
    made = []
    for place, script in enumerate(SCRIPTS):
        folder = above / str(place)
        folder.mkdir()
        (folder / "m").symlink_to(above / "m")
        files = {"train.py": script.text, "rows.jsonl": f"{row}\n" * 24, **script.files}
        files |= {"words.json": json.dumps(script.words), "ranks": str(_num_ranks(script))}
        for name, text in files.items():
            (folder / name).write_text(text)
        made.append(folder)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(above / "cache"), "ACCELERATE_USE_CPU": "true"}  # fmt: skip
    subprocess.run([sys.executable, str(RUNNER), *map(str, made)], env=env, check=True, capture_output=True)  # fmt: skip
    return made


def _num_ranks(script: Script) -> int:
    return 2 if script.launcher.startswith("torchrun") else 1


def test_every_choice_is_in_some_script():
    """Of those that only a loop or a trainer has, in one of its kind."""
    for name, axis in AXES.items():
        is_there = {
            each.choices[name]
            for each in SCRIPTS
            if name not in ("trainer", "rounds")
            or each.choices["kind"].startswith("trainer") is (name == "trainer")
        }
        assert is_there == set(axis), name


@pytest.mark.parametrize("place", range(len(SCRIPTS)), ids=lambda place: " / ".join(SCRIPTS[place].choices.values()))  # fmt: skip
def test_nothing_is_read_smaller_than_it_is(folders, place):
    script, folder = SCRIPTS[place], folders[place]
    truth = json.loads((folder / "truth.json").read_text())
    assert not truth.get("error"), truth["error"]

    plan = plan_of(folder, " ".join([script.launcher, "train.py", *script.words]), {})
    rows, length = (max(each) for each in zip(*truth["forwards"], strict=True))
    is_checkpointed = truth["again"] == truth["num_layers"] * len(truth["forwards"])
    named = {name for name, each in plan.script_facts.uncounted.items() if each.takes != "less"}
    named |= {each.unpriced for each in plan.notices if each.unpriced}
    ways = {
        name: {
            getattr(plan, name),
            *(plan.origins[name].may_be if name in plan.origins else ()),
        }
        for name in ("activation_checkpointing", "adapter", "optimizer")
    }

    assert plan.world_size == _num_ranks(script)
    for said, is_there in ((plan.micro_batch_size, rows), (plan.seq_len, length)):
        assert said is None or said >= is_there or named, (said, is_there)
    if not is_checkpointed:
        assert "none" in ways["activation_checkpointing"]
    ranks = [0 if way is None else way.rank for way in ways["adapter"]]
    assert min(ranks) <= truth["rank"] <= max(ranks)
    names = {str(way).replace("_", "").lower() for way in ways["optimizer"]}
    assert None in ways["optimizer"] or any(truth["optimizer"].lower() in each for each in names)
