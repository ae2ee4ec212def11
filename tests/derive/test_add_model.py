"""A newcomer's row: one command, as docs/data.md shows it, and the model is known."""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path

import pytest

from preflight.derive import add_model
from preflight.derive.target import ROOT
from preflight.models import registry

CONFIG = {
    "_name_or_path": "/home/somebody/mine",
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "hidden_size": 64,
    "intermediate_size": 128,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "torch_dtype": "bfloat16",
    "transformers_version": "5.24.0",
    "vocab_size": 96,
}
NUM_PARAMS = 96 * 64 * 2 + 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128 + 2 * 64) + 64


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A copy of the registry's files, which the lookup reads too."""
    for path in add_model.PATHS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((ROOT / path).read_bytes())
    monkeypatch.setattr(registry, "MODELS", str(tmp_path / add_model.PATHS[0]))
    monkeypatch.setattr(registry, "NAMES", str(tmp_path / add_model.PATHS[1]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def shown_commands() -> list[list[str]]:
    """Return the arguments of every command that docs/data.md shows."""
    page = (ROOT / "docs" / "data.md").read_text()
    shown = re.findall(r"^\$ python -m preflight\.derive\.add_model (.*)$", page, re.M)
    return [shlex.split(line) for line in shown]


def test_the_commands_of_the_page_add_a_model_and_another_name_of_it_in_a_second(checkout):
    commands = shown_commands()
    started = time.process_time()
    codes = [add_model.main(command, checkout) for command in commands]
    seconds = time.process_time() - started
    name, other_name = commands[0][0], commands[1][0]
    (entry, itself), (same, other) = registry.find(name), registry.find(other_name)

    assert codes == [0, 0]
    assert (entry.num_params, entry.checked, itself) == (NUM_PARAMS, "counted", None)
    assert (same, other.evidence) == (entry, "stated")
    assert "bos_token_id" not in entry.config
    assert entry.config["torch_dtype"] == "bfloat16"
    assert seconds < 60


def test_what_was_there_is_still_found_after_a_line_is_added(checkout):
    before = [entry.id for entry in registry.all_models()]
    add_model.main(["aaa/First-1B", "config.json", "--source", "a test"], checkout)
    add_model.main(["zzz/Last-1B", "config.json", "--source", "a test"], checkout)
    after = [entry.id for entry in registry.all_models()]

    assert sorted(after) == sorted([*before, "aaa/First-1B", "zzz/Last-1B"])
    assert [id for id in after if registry.find_model(id) is None] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gpt2", "config.json", "--source", "x"], "gpt2 is known: openai-community/gpt2"),
        (["me/Mine-1B", "config.json", "--source", "x", "--params", "7"], "7 are published"),
        (["me/Mine-1B", "config.json"], "--source"),
        (["me/Mine-1B", "--like", "nobody/Known-1B"], "there is no model nobody/Known-1B"),
        (["me/Mine-1B", "--like", "gpt2"], "--like takes the id of a row"),
        (["me/Mine-1B", "albert.json", "--source", "x"], "not laid out here"),
    ],
)
def test_what_cannot_be_right_is_not_added(checkout, capsys, arguments, said):
    (checkout / "albert.json").write_text('{"model_type": "albert", "hidden_size": 64}')
    before = [(checkout / path).read_bytes() for path in add_model.PATHS]

    assert add_model.main(arguments, checkout) == 2
    assert said in capsys.readouterr().err
    assert [(checkout / path).read_bytes() for path in add_model.PATHS] == before


def test_a_published_count_that_agrees_is_exact(checkout):
    arguments = ["me/Mine-1B", "config.json", "--source", "x", "--params", str(NUM_PARAMS)]

    assert add_model.main(arguments, checkout) == 0
    assert registry.find_model("me/Mine-1B").checked == "exact"
