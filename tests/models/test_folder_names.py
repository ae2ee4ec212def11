"""A model in a folder that is not here has the sizes that its name says, where that is one model's; it refuses nothing."""

from __future__ import annotations

import json

import pytest

from preflight.launch import LaunchCommand
from preflight.models.registry import SAME, all_models, all_names, entry_of, find, named_by_folder
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.verdict import Answer

NAMES = {
    "/data/EleutherAI_gpt-neox-20b/": "EleutherAI/gpt-neox-20b",
    "pretrained/meta-llama--Llama-2-7b-hf": "meta-llama/Llama-2-7b-hf",
    "/data/openai-community__gpt2": "openai-community/gpt2",
    "~/model_weights/llama-7b": "huggyllama/llama-7b",
    "/data/Llama-2-70b-hf": "meta-llama/Llama-2-70b-hf",
    "/mnt/llama-2-70B-HF/": "meta-llama/Llama-2-70b-hf",
    "MiniCPM-2B-sft-bf16": "openbmb/MiniCPM-2B-sft-bf16",
    "../pretrained/Mistral-7B-Instruct-v0.2": "mistralai/Mistral-7B-v0.1",
    "./t5-base": "google-t5/t5-base",
    "./checkpoints/vicuna-7b-v1-5": "meta-llama/Llama-2-7b-hf",
    "/data/qwen2-5-7b-instruct/": "Qwen/Qwen2.5-7B",
    "/data/Llama-3-1-8B": "meta-llama/Llama-3.1-8B",
    "~/.cache/modelscope/hub/models/Qwen/Qwen2___5-1___5B-Instruct": "Qwen/Qwen2.5-1.5B",
    "/mnt/AI-ModelScope/Mistral-7B-v0___1/": "mistralai/Mistral-7B-v0.1",
    "/data/roberta-large": "FacebookAI/roberta-large",
    "models/bert-base-uncased/": "google-bert/bert-base-uncased",
    "/data/bloomz-7b1-mt": "bigscience/bloom-7b1",
    "../bloom_1b7": "bigscience/bloom-1b7",
    "/home/me/models/llama2-7b": "meta-llama/Llama-2-7b-hf",
    "../weights/llama_7b": "huggyllama/llama-7b",
    "/data/Qwen2.5-7B-Base": "Qwen/Qwen2.5-7B",
    "zoo/vicuna/13B-V1.5": "meta-llama/Llama-2-13b-hf",
    "/data/LLaMA/7B": "huggyllama/llama-7b",
    "/data/llama-2/70b-chat-hf/": "meta-llama/Llama-2-70b-hf",
    "Qwen2.5/7B-Instruct": "Qwen/Qwen2.5-7B",
    "/shared/models--openai-community--gpt2": "openai-community/gpt2",
    "/out/hub/models--Qwen--Qwen2.5-0.5B-Instruct/snapshots/abc123/": "Qwen/Qwen2.5-0.5B",
}
NO_NAMES = [
    "../hf_llama2_models/70B",
    "/path_of_model_folder/8B",
    "output/Llama-2-70b-hf",
    "runs/2/llama-7b/",
    "output/7B_64K_bs_1M_rope_5M_step_1000_lr_2e-5",
    "output/roberta-large",
    "/data/roberta-large-mine",
    "/data/roberta",
    "/data/bloom-1b",
    "/data/vicuna-7b-v1-4",
    "/data/vicuna-1-5-7b-mine",
    "./llama3-sft",  # somebody's model is called so, and so is anybody's run
    "/models/vicuna-7b-v1.5-mine",
    "/models/llama2-7b-lora-merged",
    "/models/llama27b",
    "/data/qwen7b",  # Qwen, Qwen1.5, Qwen2 or Qwen2.5
    "/data/Qwen/7B",
    "/data/llama/8B",
    "/weights/7B",
    "/data/vicuna/lora/7B",
    "output/llama/7B",
    "7B",
    "output/llama2-7b",
    "/data/checkpoint-500",
    "output/EleutherAI_pythia-6.9b",
    "/data/somebody_pythia-tuned",
    "/data/my_qwen",
    "/hub/models--somebody--unheard-of",
    "/hub/datasets--openai-community--gpt2",
    "/hub/models--openai-community--gpt2/blobs",
    "/",
    "",
]


def checked(model, folder, device="h100-sxm-80"):
    words = f"torchrun --nproc-per-node 1 -m trl.scripts.sft --model_name_or_path {model} --dataset_name d"
    command = LaunchCommand(tuple(words.split()), {}, str(folder))
    return check_launch(command, load_plugins(), Request(device))


@pytest.mark.parametrize(("path", "model"), NAMES.items())
def test_a_public_name_is_one_model_wherever_its_folder_lies(path, model):
    assert named_by_folder(path).model == model


@pytest.mark.parametrize("path", NO_NAMES)
def test_a_size_a_run_and_a_name_of_ones_own_are_none(path):
    assert named_by_folder(path) is None


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("somebody/Qwen7B-SFT", None),
        ("somebody/Qwen2.5-7B-SFT", "Qwen/Qwen2.5-7B"),
        ("somebody/olmo-7b-sft", None),
        ("somebody/llama-7b-sft", "huggyllama/llama-7b"),  # Llama 2 has the same shape
        ("somebody/falcon-7b", "tiiuae/falcon-7b"),  # as its owner spells it
        ("somebody/gemma-7b-sft", "google/gemma-7b"),  # of 7 B there is one version
    ],
)
def test_a_family_and_a_size_are_no_model_where_versions_of_it_differ(name, model):
    entry, _ = find(name)

    assert (None if entry is None else entry.id) == model


def test_no_name_stands_for_two_shapes():
    """Whatever a model of the registry is called, its folder is that model's shape or nobody's."""
    wrong = []
    for entry in all_models():
        other = named_by_folder(f"/data/{entry.id.rpartition('/')[2]}")
        named = None if other is None else entry_of(other.model)
        if named is not None and abs(named.num_params / entry.num_params - 1) > SAME:
            wrong.append((entry.id, named.id))

    assert wrong == []


def test_a_name_in_another_spelling_is_of_the_same_shape_or_nobodys():
    """Stages of training and what stands between words say nothing of a shape; every number of a name does."""
    wrong = []
    for other in all_names():
        last = other.name.rpartition("/")[2]
        for folder in (f"{last}-base", last.replace("-", "_"), f"{last}-sft"):
            named = named_by_folder(f"/data/{folder}")
            found, true = entry_of(named.model) if named else None, entry_of(other.model)
            if found is not None and abs(found.num_params / true.num_params - 1) > SAME:
                wrong.append((folder, found.id, true.id))

    assert wrong == []


@pytest.mark.parametrize("path", ["/data/Llama-2-70b-hf", "Llama-2-70b-hf", "/mnt/Llama-2-70b-hf"])
def test_a_folder_is_read_by_its_name_and_refuses_nothing(path, tmp_path):
    by_id, by_name = (checked(each, tmp_path) for each in ("meta-llama/Llama-2-70b-hf", path))
    (said,) = [finding for finding in by_name.findings if finding.id == "PF150"]
    like = by_name.to_dict()["model"]["like"]

    assert by_id.verdict.answer is Answer.DOES_NOT_FIT
    assert by_name.verdict.answer is Answer.UNKNOWN and by_name.may_launch
    assert by_name.model.num_params == by_id.model.num_params
    assert said.severity == "warning" and "by its name alone" in said.message
    assert said.fix.startswith("--set model=meta-llama/Llama-2-70b-hf")
    assert like["is_guess"] and like["model"] == "meta-llama/Llama-2-70b-hf"


def test_a_folder_that_is_here_says_itself_what_it_holds(tmp_path):
    folder = tmp_path / "Llama-2-70b-hf"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(find("gpt2")[0].config)))
    report = checked("./Llama-2-70b-hf", tmp_path)

    assert report.model.num_params == find("gpt2")[0].num_params
    assert not [finding for finding in report.findings if finding.id == "PF150"]
