"""Where a model's config comes from: the plan, a path, the hub cache, the registry; and what is refused."""

from __future__ import annotations

import json
import struct

import pytest
from tiny_llama import TINY_LLAMA

from preflight.errors import BadInput, ModelNotKnown
from preflight.launch import LaunchPlan, Origin
from preflight.plugins import load_plugins

MODEL_HOOKS = ("model_registry", "model_hub_cache", "model_path", "model_inline")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    for name in ("HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def described(plan: LaunchPlan):
    return load_plugins(builtins=MODEL_HOOKS).first("preflight_describe_model", plan=plan)


def refusal(plan: LaunchPlan):
    with pytest.raises(BadInput) as caught:
        described(plan)
    return caught.value.problems[0]


def folder(path, config=TINY_LLAMA, **files):
    path.mkdir(parents=True)
    if config is not None:
        (path / "config.json").write_text(json.dumps(config, indent=1))
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    return path


def cached(hub, model, config=TINY_LLAMA, commit="abc123", **files):
    repository = hub / ("models--" + model.replace("/", "--"))
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    return folder(repository / "snapshots" / commit, config, **files)


def test_no_model_is_unknown_and_no_error():
    assert described(LaunchPlan()) is None


def test_an_inline_config_beats_the_models_name():
    plan = LaunchPlan(model="meta-llama/Llama-3.1-8B", model_config=TINY_LLAMA)

    assert described(plan).hidden_size == 64


def test_a_broken_inline_config_is_told_with_its_origin():
    plan = LaunchPlan(model_config={"model_type": 3}, origins={"model_config": Origin("--set")})

    assert refusal(plan).where == "--set"


@pytest.mark.parametrize("spelling", ["mine", "./mine", "mine/", "mine/config.json"])
def test_a_path_is_seen_from_the_folder_of_the_launch(tmp_path, spelling):
    folder(tmp_path / "mine")

    assert described(LaunchPlan(model=spelling, cwd=str(tmp_path))).hidden_size == 64


def test_a_folder_with_a_hub_models_name_wins_as_in_transformers(tmp_path):
    folder(tmp_path / "gpt2")

    assert described(LaunchPlan(model="gpt2", cwd=str(tmp_path))).model_type == "llama"


def test_broken_json_is_told_with_its_line(tmp_path):
    folder(tmp_path / "mine", None, config__json='{\n "model_type": "llama",\n oops\n}')
    problem = refusal(LaunchPlan(model="mine", cwd=str(tmp_path)))

    assert problem.where == f"{tmp_path}/mine/config.json:3"
    assert "not readable as JSON" in problem.message


def test_a_wrong_value_is_told_with_its_line(tmp_path):
    folder(tmp_path / "mine", {**TINY_LLAMA, "vocab_size": -1})
    problem = refusal(LaunchPlan(model="mine", cwd=str(tmp_path)))

    assert problem.where == f"{tmp_path}/mine/config.json:8"


@pytest.mark.parametrize(
    ("files", "message", "fix"),
    [
        (
            {"adapter_config__json": '{"base_model_name_or_path": "org/base"}'},
            "mine is a PEFT adapter without its base model",
            "give its base as the model: org/base",
        ),
        (
            {"tokenizer__json": "{}"},
            "the folder mine has no config.json",
            "--set model_config=FILE",
        ),
        ({"config__json": "[1]"}, "must hold a JSON object, not list", ""),
    ],
)
def test_a_folder_that_is_no_model_is_refused(tmp_path, files, message, fix):
    folder(tmp_path / "mine", None, **files)
    problem = refusal(LaunchPlan(model="mine", cwd=str(tmp_path)))

    assert message in problem.message
    assert fix in problem.fix


def test_a_folder_that_an_earlier_step_fills_is_not_known(tmp_path):
    folder(tmp_path / "mine", None)

    with pytest.raises(ModelNotKnown):
        described(LaunchPlan(model="mine", cwd=str(tmp_path)))


@pytest.mark.parametrize("spelling", ["./nowhere", "/nowhere/at/all", "a/b/c", "mine.json", "~/no"])
def test_a_path_that_is_not_there_is_told_as_a_path(tmp_path, spelling):
    origins = {"model": Origin("--model_name_or_path")}
    problem = refusal(LaunchPlan(model=spelling, cwd=str(tmp_path), origins=origins))

    assert problem.message == f"there is no folder or file {spelling}"
    assert problem.where == "--model_name_or_path"


def test_a_file_of_weights_is_no_config(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"\x00")

    assert "not a config.json" in refusal(LaunchPlan(model="model.bin", cwd=str(tmp_path))).message


def test_the_hub_cache_beats_the_registry(empty_cache):
    snapshot = cached(empty_cache, "meta-llama/Llama-3.1-8B")
    model = described(LaunchPlan(model="meta-llama/Llama-3.1-8B"))

    assert model.hidden_size == 64
    assert model.source == str(snapshot / "config.json")


def test_a_cache_with_a_tokenizer_alone_is_passed_over(empty_cache):
    cached(empty_cache, "gpt2", None, tokenizer__json="{}")

    assert described(LaunchPlan(model="gpt2")).num_params == 124439808


def test_an_adapter_in_the_cache_names_its_base(empty_cache):
    base = '{"base_model_name_or_path": "gpt2"}'
    cached(empty_cache, "me/adapter", None, adapter_config__json=base)

    assert refusal(LaunchPlan(model="me/adapter")).fix == "give its base as the model: gpt2"


@pytest.mark.parametrize("variable", ["HF_HOME", "XDG_CACHE_HOME", "HUGGINGFACE_HUB_CACHE"])
def test_the_cache_is_where_huggingface_hub_looks(tmp_path, monkeypatch, variable):
    below = {"HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub", "HUGGINGFACE_HUB_CACHE": ""}
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv(variable, str(tmp_path))
    cached(tmp_path / below[variable], "me/mine")

    assert described(LaunchPlan(model="me/mine")).hidden_size == 64


@pytest.mark.parametrize("name", ["me/..", "../../etc", "me/mine\n"])
def test_a_name_cannot_leave_the_cache(name):
    refusal(LaunchPlan(model=name))


def test_the_registry_says_which_model_stands_in_for_an_alias():
    model = described(LaunchPlan(model="meta-llama/Llama-3.1-8B-Instruct"))

    assert model.num_params == 8030261248
    assert model.name == "meta-llama/Llama-3.1-8B-Instruct"
    assert model.source == (
        "the registry, as meta-llama/Llama-3.1-8B: public sources give it the same shapes"
    )
    assert model.like.model == "meta-llama/Llama-3.1-8B"
    assert not model.like.is_guess
    assert model.stored_dtypes == ()


def test_a_copy_of_somebody_else_is_a_guess_and_may_be_stored_in_any_dtype():
    model = described(LaunchPlan(model="me/Llama-3.1-8B"))

    assert model.num_params == 8030261248
    assert model.like.is_guess
    assert model.stored_dtypes == ("bf16", "fp32")


def test_a_name_keeps_its_own_positions_and_packing():
    long = described(LaunchPlan(model="01-ai/Yi-9B-200K"))
    packed = described(LaunchPlan(model="unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit"))

    assert long.config["max_position_embeddings"] == 262144
    assert long.like.model == "01-ai/Yi-1.5-9B-Chat"
    assert packed.config["quantization_config"]["load_in_4bit"] is True
    assert packed.num_params == 8030261248


def test_an_unknown_model_is_an_error_that_says_what_to_give():
    origins = {"model": Origin("train.yaml:3")}
    problem = refusal(LaunchPlan(model="me/Llama-3.1-8B-finance", origins=origins))

    assert problem.message == "not known here: model me/Llama-3.1-8B-finance"
    assert problem.where == "train.yaml:3"
    assert problem.fix.startswith(
        "if it has the shapes of meta-llama/Llama-3.1-8B, `--set model=meta-llama/Llama-3.1-8B`;"
    )
    assert "--set model_config=FILE" in problem.fix


@pytest.mark.parametrize(
    "path", ["./models/Llama-3.1-8B-mine", "/data/output/Llama-3.1-8B-Instruct"]
)
def test_a_folder_that_is_not_here_is_never_taken_for_a_model_of_another_name(tmp_path, path):
    problem = refusal(LaunchPlan(model=path, cwd=str(tmp_path)))

    assert problem.message == f"there is no folder or file {path}"
    assert "if it has the shapes of meta-llama/Llama-3.1-8B" in problem.fix


def test_a_cached_config_without_weights_is_counted_by_the_registry(empty_cache):
    cached(empty_cache, "google/vit-large-patch16-224", UNLAID)

    assert described(LaunchPlan(model="google/vit-large-patch16-224")).num_params > 300_000_000


UNLAID = {"model_type": "vit", "hidden_size": 64, "torch_dtype": "float32"}


def test_a_family_without_a_layout_is_counted_from_its_weights(tmp_path):
    header = {
        "__metadata__": {"format": "pt"},
        "shared.weight": {"dtype": "F32", "shape": [96, 64], "data_offsets": [0, 24576]},
        "scalar": {"dtype": "F32", "shape": [], "data_offsets": [24576, 24580]},
    }
    text = json.dumps(header).encode()
    path = folder(tmp_path / "mine", UNLAID)
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    model = described(LaunchPlan(model="mine", cwd=str(tmp_path)))

    assert model.num_params == 96 * 64 + 1
    assert not model.is_decoder_lm


@pytest.mark.parametrize(
    "metadata", [{"total_parameters": 1000, "total_size": 1}, {"total_size": 4000}]
)
def test_a_sharded_checkpoint_is_counted_from_its_index(tmp_path, metadata):
    index = json.dumps({"metadata": metadata, "weight_map": {}})
    path = folder(tmp_path / "mine", UNLAID)
    (path / "model.safetensors.index.json").write_text(index)

    assert described(LaunchPlan(model="mine", cwd=str(tmp_path))).num_params == 1000


@pytest.mark.parametrize(
    "weights", [b"", b"\xff" * 8, struct.pack("<Q", 5) + b"{oops", struct.pack("<Q", 4) + b"[1] "]
)
def test_weights_that_are_no_safetensors_are_told(tmp_path, weights):
    path = folder(tmp_path / "mine", UNLAID)
    (path / "model.safetensors").write_bytes(weights)
    problem = refusal(LaunchPlan(model="mine", cwd=str(tmp_path)))

    assert problem.where == str(path / "model.safetensors")


@pytest.mark.parametrize(
    "shape",
    ["ab", 5, None, {"a": 1}, [[1]], ["x"], [2.5], [-1], [True], [10**30, 10**30], [1] * 1000],
)
def test_a_shape_that_no_tensor_has_is_told_or_counted_and_never_fails(shape, tmp_path):
    """Attack D3: the header is anybody's JSON, and sizes are multiplied."""
    header = {"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    path = folder(tmp_path / "mine", UNLAID)
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    try:
        counted = described(LaunchPlan(model="mine", cwd=str(tmp_path))).num_params
    except BadInput as error:
        (problem,) = error.problems
        assert problem.where == str(path / "model.safetensors")
    else:
        assert shape == [1] * 1000 and counted == 1


def test_a_family_without_layout_or_weights_says_what_is_missing(tmp_path):
    folder(tmp_path / "mine", UNLAID)
    problem = refusal(LaunchPlan(model="mine", cwd=str(tmp_path)))

    assert "'vit' are not laid out here" in problem.message
    assert "model.safetensors" in problem.fix
