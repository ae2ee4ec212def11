"""A mixture of depths of LLaMA-Factory: layers that it converts are bounded, a checkpoint that has them is not."""

from __future__ import annotations

import json

import pytest

from preflight.cli import main

CONFIG = """\
model_name_or_path: Qwen/Qwen2-1.5B-Instruct
stage: sft
do_train: true
finetuning_type: full
mixture_of_depths: {value}
dataset: identity
template: qwen
cutoff_len: {length}
output_dir: out
pure_bf16: true
"""


def answer(folder, capsys, monkeypatch, value, length=1024):
    (folder / "c.yaml").write_text(CONFIG.format(value=value, length=length))
    monkeypatch.chdir(folder)
    said = ("check", "--format", "json", "--device", "h100-sxm-80", "--set", "world_size=1", "--")
    main([*said, "llamafactory-cli", "train", "c.yaml"])
    return json.loads(capsys.readouterr().out)


def test_layers_that_are_converted_fit_where_whole_ones_and_their_rows_do(
    tmp_path, capsys, monkeypatch
):
    assert answer(tmp_path, capsys, monkeypatch, "convert")["verdict"] == "fits"


@pytest.mark.parametrize(("value", "length"), [("load", 1024), ("convert", 24576)])
def test_what_is_not_bounded_or_may_be_too_much_is_named(
    value, length, tmp_path, capsys, monkeypatch
):
    told = answer(tmp_path, capsys, monkeypatch, value, length)

    assert told["verdict"] == "unknown"
    assert any("mixture of depths" in name for name in told["unpriced"])
