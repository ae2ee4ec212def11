"""What is known by name can be listed: cards, models, words; and what a shell completes is what is listed."""

from __future__ import annotations

import json
import subprocess

import pytest
from in_process import preflight

from preflight.commands.explain import all_pages
from preflight.devices.gpu_table import find_gpus, gpu_table
from preflight.formulas.precision import missing_inputs
from preflight.launch import LaunchPlan
from preflight.memory import Level, Phase
from preflight.models.families.description import describe_config
from preflight.models.registry import find_model
from preflight.remedy import SAFETIES
from preflight.render.glossary import glossary, word_of


def asked(tmp_path, *words: str) -> dict:
    done = preflight(tmp_path, *words, "--format", "json")

    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_card_is_listed_with_what_a_check_takes_for_its_capacity(tmp_path):
    listed = asked(tmp_path, "gpus")["gpus"]

    assert [row["key"] for row in listed] == [entry.key for entry in gpu_table()]
    for row in listed:
        (entry,) = find_gpus(row["key"])
        assert row["capacity_bytes"] == entry.capacity_bytes


@pytest.mark.parametrize("word", ["4090", "RTX 4090", "rtx_4090", "rtx4090"])
def test_a_card_is_found_however_people_write_it(tmp_path, word):
    keys = {row["key"] for row in asked(tmp_path, "gpus", word)["gpus"]}

    assert "rtx4090-24" in keys and len(keys) < 5


def test_the_key_of_the_next_line_is_one_that_check_takes(tmp_path):
    last = preflight(tmp_path, "gpus", "h100", "pcie").stdout.splitlines()[-1]
    key = last.split("--device ")[1].split()[0]
    done = preflight(tmp_path, "check", "--device", key, "--", "python", "nothing.py")

    assert done.returncode == 0 and "no device" not in done.stderr


def test_a_card_or_a_model_that_is_not_there_is_told_the_way_on(tmp_path):
    card = preflight(tmp_path, "gpus", "rtx409x")
    model = preflight(tmp_path, "models", "nobodys-model")

    assert card.returncode == model.returncode == 2
    assert "did you mean rtx4090-24" in card.stderr and "NAME:GIB" in card.stderr
    assert "preflight size FOLDER" in model.stderr


def test_the_models_of_a_word_say_whether_a_check_prices_them(tmp_path):
    rows = asked(tmp_path, "models", "whisper")["models"]
    rows += asked(tmp_path, "models", "llama-3.1")["models"]

    assert {row["is_priced"] for row in rows} == {True, False}
    for row in rows:
        entry = find_model(row["id"])
        model = describe_config(entry.config, entry.id, entry.source, entry.num_params)
        one_row = LaunchPlan(micro_batch_size=1, seq_len=1)
        assert row["is_priced"] is not bool(missing_inputs(one_row, model))


def test_a_copy_is_found_by_its_own_name_with_the_model_that_it_is(tmp_path):
    (row,) = asked(tmp_path, "models", "NousResearch/Meta-Llama-3-8B")["models"]

    assert (row["name"], row["id"]) == (
        "NousResearch/Meta-Llama-3-8B",
        "meta-llama/Meta-Llama-3-8B",
    )


def test_every_word_that_a_report_uses_for_a_part_of_an_answer_is_explained():
    words = [*(phase.value for phase in Phase), *(level.value for level in Level), *SAFETIES]
    words += ["likely", "least", "most", "assumed", "open", "host", "turn", "oom"]

    assert [word for word in words if word_of(word) is None] == []


def test_no_word_has_two_pages():
    """A word that is another name of two would be answered by chance."""
    names = [word.name for word in glossary()]
    others = [other for word in glossary() for other in word.also]

    assert len({*names, *others}) == len(names) + len(others)
    assert not {*names, *others} & ({*all_pages()} - {*names})


@pytest.mark.parametrize(
    ("asked_for", "said"),
    [
        ("OOM", "CUDA out of memory"),
        ("cuda out of memory", "CUDA out of memory"),
        ("gradient-checkpointing", "preflight explain activation_checkpointing"),
        ("per_device_train_batch_size", "micro_batch_size"),
    ],
)
def test_a_word_is_found_as_people_write_it(tmp_path, asked_for, said):
    assert said in " ".join(preflight(tmp_path, "explain", asked_for).stdout.split())


def test_explain_of_a_card_says_where_cards_are(tmp_path):
    assert "preflight gpus h100" in preflight(tmp_path, "explain", "h100").stderr


COMPLETE = """\
eval "$(cat completion)"
COMP_WORDS=(preflight @WORDS@); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_preflight
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("explain oo", ["oom"]),
        ("gpus h200-s", ["h200-sxm-141"]),
        ("size meta-llama/Llama-3.1-4", ["meta-llama/Llama-3.1-405B"]),
        ("slurm aud", ["audit"]),
        ("init --template github/", ["github/preflight.yml"]),
        ("help esti", ["estimate"]),
        ("mod", ["models"]),
        ("estimate compl", ["completion"]),
    ],
)
def test_a_shell_completes_what_is_listed_and_else_a_file(tmp_path, typed, completed):
    (tmp_path / "completion").write_text(preflight(tmp_path, "completion", "bash").stdout)
    script = COMPLETE.replace("@WORDS@", typed)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)

    assert (done.stderr, done.stdout.split()) == ("", completed)


def test_a_page_is_found_by_words_that_nobody_quotes(tmp_path):
    apart = preflight(tmp_path, "explain", "micro", "batch")

    assert apart.returncode == 0
    assert apart.stdout == preflight(tmp_path, "explain", "micro batch").stdout
