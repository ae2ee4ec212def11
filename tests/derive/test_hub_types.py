"""Types whose code is on the hub: our modules give its losses and keep its bytes, and configs of one name are told apart.

MEASURED is what the hub's own modeling_chatglm.py (copies in liucongg/ChatGLM-Finetuning a137ad63, glm1 and glm3) gave with
torch 2.13 on a CPU, TorchScript and all: the storages that a forward keeps for backward, and its loss.
"""

import pytest

from preflight.derive.costs.formula_table import compare
from preflight.derive.layouts.type_configs import class_of_type
from preflight.derive.target import ROOT
from preflight.errors import ModelNotKnown
from preflight.formulas.checkpoint import with_checkpoint
from preflight.formulas.layers.attention import attention_in
from preflight.formulas.layers.key_values import kept_by_outputs
from preflight.launch import LaunchPlan, Origin
from preflight.launch_facts import ScriptFacts
from preflight.models import describe
from preflight.models.registry import find
from preflight.plugins import load_plugins

BATCH, LENGTH, LAYERS, VOCAB = 3, 24, 2, 96
SIZES = {
    "num_layers": LAYERS,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "tie_word_embeddings": False,
}
SECOND = {
    "model_type": "chatglm", "padded_vocab_size": VOCAB, "ffn_hidden_size": 88, "kv_channels": 16, "multi_query_group_num": 2,
    **SIZES,
}  # fmt: skip
FIRST = {"model_type": "chatglm", "vocab_size": VOCAB, "inner_hidden_size": 88, **SIZES}
MEASURED = {
    ("chatglm", "float32"): (658_828, 4.680306),
    ("chatglm", "bfloat16"): (483_340, 4.6875),
    ("chatglm1", "float32"): (1_029_868, 3.712614),
    ("chatglm1", "bfloat16"): (586_060, 3.71875),
}
LAST_POSITIONS = BATCH * (4 * VOCAB + 8)
"""Log-probabilities and labels of the last position of each row, which the hub's loss leaves out."""
PLACES = {"chatglm": 0, "chatglm1": 2 * 8 * BATCH * LENGTH * LAYERS}
"""Positions as whole numbers, which the first one's rotation keeps in every layer."""


def built(model_type, dtype):
    import torch

    from preflight.derive.hub import chatglm, chatglm1

    module, config = {"chatglm": (chatglm, SECOND), "chatglm1": (chatglm1, FIRST)}[model_type]
    name = {"chatglm": "ChatGLM", "chatglm1": "ChatGLM1"}[model_type]
    own = {key: value for key, value in config.items() if key != "model_type"}
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        model = getattr(module, f"{name}ForCausalLM")(getattr(module, f"{name}Config")(**own))
    finally:
        torch.set_default_dtype(before)
    for path, parameter in model.named_parameters():
        steps = torch.arange(parameter.numel(), dtype=torch.float64)
        values = ((steps * 37 + len(path) * 11) % 101 / 101 - 0.5) * 0.2
        is_scale = parameter.dim() == 1 and "norm" in path and "weight" in path
        parameter.data.copy_((values + is_scale).view(parameter.shape))
    return model.train()


@pytest.mark.parametrize(("model_type", "dtype"), list(MEASURED))
def test_our_module_gives_the_loss_and_keeps_the_bytes_of_the_hubs(model_type, dtype):
    import torch

    model = built(model_type, getattr(torch, dtype))
    ids = torch.arange(BATCH * LENGTH).view(BATCH, LENGTH) * 7 % 90 + 5
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept, held = {}, []

    def keep(tensor):
        held.append(tensor)  # or a later one may have its address
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(input_ids=ids, labels=ids).loss
    num_bytes, measured = MEASURED[model_type, dtype]

    assert float(loss.detach()) == pytest.approx(measured, rel=1e-6)
    assert sum(kept.values()) == num_bytes + LAST_POSITIONS - PLACES[model_type]


@pytest.mark.parametrize(("config", "model_type"), [(SECOND, "chatglm"), (FIRST, "chatglm1")])
def test_one_name_of_two_codes_is_told_by_the_keys_of_its_config(config, model_type):
    import torch

    model = describe({**config, "architectures": ["ChatGLMModel"]}, "mine", "config.json")

    assert model.model_type == model_type
    assert model.facts["top_model_type"] == "chatglm"  # which PEFT looks its targets up by
    assert model.is_decoder_lm
    parameters = built(model_type, torch.float32).parameters()
    assert model.num_params == sum(parameter.numel() for parameter in parameters)


def test_a_config_of_neither_is_not_known():
    with pytest.raises(ModelNotKnown):
        describe({"model_type": "chatglm_next", **SIZES}, "mine", "config.json")


@pytest.mark.parametrize(
    ("name", "num_params"),
    [("THUDM/chatglm3-6b", 6_245_533_696 - 1_949_696), ("THUDM/chatglm-6b", 6_173_286_400)],
)
def test_a_published_model_is_its_successors_or_its_own(name, num_params):
    entry, _ = find(name)

    assert describe(entry.config, name, "registry").num_params == num_params


@pytest.mark.parametrize(
    ("config", "versions", "attention"),
    [
        (SECOND, {"torch": "2.1.0", "transformers": "4.30.2"}, "sdpa"),
        (SECOND, {"torch": "1.13.1", "transformers": "4.30.2"}, "eager"),
        (FIRST, {"torch": "2.13.0", "transformers": "5.24.0"}, "eager"),
    ],
)
def test_its_own_code_and_torch_decide_its_attention(config, versions, attention):
    model = describe(config, "mine", "config.json")

    assert attention_in(LaunchPlan(versions=versions), model) == attention


@pytest.mark.parametrize(
    ("origin", "dtype"),
    [
        (Origin("the default of transformers", True), "fp16"),
        (Origin("train.py:3"), "fp32"),
        (Origin("train.py", True, "a helper loads it", ("bf16",)), "fp32"),
    ],
)
def test_its_own_code_makes_its_weights_in_the_dtype_of_its_config_unless_a_launch_says_another(
    origin, dtype
):
    model = describe({**SECOND, "torch_dtype": "float16"}, "mine", "config.json")
    plan = LaunchPlan(load_dtype="fp32", origins={"load_dtype": origin})

    assert with_checkpoint(plan, model).load_dtype == dtype


@pytest.mark.parametrize(("checkpointing", "times"), [("none", 1), ("full", 0)])
def test_what_its_forward_returns_is_held_beside_the_loss(checkpointing, times):
    """The product of queries, keys and values, and turned keys: 16 x (4 + 3 x 2) numbers of a token."""
    plan = LaunchPlan(
        trainer="plain_loop",
        micro_batch_size=BATCH,
        seq_len=LENGTH,
        load_dtype="bf16",
        activation_checkpointing=checkpointing,
        versions={"transformers": "4.40.0"},
        script_facts=ScriptFacts(caches_keys=True),
    )

    assert kept_by_outputs(plan, describe(SECOND, "mine", ""), 72) == times * 2 * 72 * LAYERS * 160
    assert kept_by_outputs(plan, describe(FIRST, "mine", ""), 72) == 0  # which a graph holds


@pytest.mark.parametrize("versions", [{}, {"transformers": "4.40.0", "torch": "2.4.0"}])
@pytest.mark.parametrize("kind", ["packed", "padded"])
@pytest.mark.parametrize("rows", [1, 3])
def test_its_layers_take_what_a_trace_says_in_every_release(versions, kind, rows):
    """One row is cut for its loss without a copy, and padded rows bring a mask of every layer's own."""
    class_of_type("chatglm")  # so that transformers knows it
    found = compare(
        "chatglm", "full", False, load_plugins(str(ROOT)),
        sequence_kind=kind, micro_batch_size=rows, seq_len=256, versions=versions,
    )  # fmt: skip

    assert {one.moment for one in found if abs(one.error) > 0.001} == set()
    assert len(found) > 5
