"""What LLaMA-Factory refuses on several ranks trains in one process, whatever GPUs there are."""

from __future__ import annotations

import pytest

from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.launchers.llamafactory.cli import read_llamafactory

CONFIG = """\
model_name_or_path: Qwen/Qwen2-1.5B-Instruct
stage: sft
do_train: true
finetuning_type: full
dataset: identity
template: qwen
output_dir: out
pure_bf16: true
"""
ALONE = {
    "GaLore, layer by layer": "use_galore: true\ngalore_layerwise: true\n",
    "APOLLO, layer by layer": "use_apollo: true\napollo_layerwise: true\n",
    "BAdam": "use_badam: true\n",
    "BAdam, by a share": "use_badam: true\nbadam_mode: ratio\n",
}
ANYWHERE = {
    "GaLore": "use_galore: true\n",
    "not used": "galore_layerwise: true\n",
    "nothing": "",
}


def read(folder, more, **env):
    (folder / "c.yaml").write_text(CONFIG + more)
    return read_llamafactory(
        LaunchCommand(("llamafactory-cli", "train", "c.yaml"), env, str(folder))
    )


@pytest.mark.parametrize("more", ALONE.values(), ids=ALONE)
def test_there_is_one_rank_where_nobody_counted_them(more, tmp_path):
    plan = read(tmp_path, more)

    assert plan.world_size == 1
    assert not plan.origins["world_size"].may_be
    assert plan.origins["world_size"].where.startswith("c.yaml:")


@pytest.mark.parametrize("more", ALONE.values(), ids=ALONE)
def test_several_are_refused_all_the_same(more, tmp_path):
    """The parser's own answers are in tests/configs/llamafactory/asked.json."""
    with pytest.raises(BadInput, match=r"one process only|needs ZeRO-3"):
        read(tmp_path, more, FORCE_TORCHRUN="1", NPROC_PER_NODE="2")


@pytest.mark.parametrize("more", ANYWHERE.values(), ids=ANYWHERE)
def test_what_trains_on_several_leaves_them_open(more, tmp_path):
    assert read(tmp_path, more).origins["world_size"].may_be
