"""A model with a vision or audio tower: `fits` is said only where all images that a sequence holds fit too."""

from __future__ import annotations

import pytest
from said_versions import say_versions

from preflight.formulas.adapters.adapters import adapter_tensors
from preflight.launch import LaunchCommand
from preflight.models import describe
from preflight.models.registry import find_model
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.verdict import Answer

AXOLOTL = """\
base_model: google/gemma-3-4b-it
datasets:
  - path: some/rows
    type: chat_template
micro_batch_size: 1
sequence_len: 512
adapter: lora
lora_r: 8
lora_alpha: 16
lora_target_linear: true
learning_rate: 1e-4
bf16: true
"""
OWN = """\
from transformers import {names}, HfArgumentParser, Trainer, TrainingArguments
from peft import LoraConfig, get_peft_model

(arguments,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("google/gemma-3-4b-it", dtype="bfloat16")
model = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear"))
tokens = tokenizer(rows, max_length=512, truncation=True, padding="max_length")
Trainer(model=model, args=arguments, train_dataset=tokens).train()
"""
FLAGGED = """\
from dataclasses import dataclass
from transformers import AutoModelForImageTextToText, HfArgumentParser, Trainer, TrainingArguments

@dataclass
class ModelArguments:
    tune_mm_vision: bool = False
    tune_mm_mlp: bool = False
    tune_mm_mlp_adapter: bool = False
    freeze_vision_tower: bool = False
    freeze_merger: bool = False
    freeze_backbone: bool = False
    freeze_llm: bool = False
    unfreeze_vit_layers: int = 0

own, arguments = HfArgumentParser((ModelArguments, TrainingArguments)).parse_args_into_dataclasses()
model = AutoModelForImageTextToText.from_pretrained("google/gemma-3-4b-it", dtype="bfloat16")
Trainer(model=model, args=arguments, train_dataset=rows).train()
"""
TRL = ("--max_length", "512", "--use_peft", "--lora_target_modules", "all-linear")


@pytest.fixture
def checked(tmp_path):
    plugins = load_plugins()
    (tmp_path / "text.yaml").write_text(AXOLOTL)
    (tmp_path / "images.yaml").write_text(f"{AXOLOTL}processor_type: AutoProcessor\n")
    (tmp_path / "own.py").write_text(OWN.format(names="AutoModelForCausalLM"))
    (tmp_path / "flags.py").write_text(FLAGGED)
    sees = OWN.format(names="AutoModelForCausalLM, AutoProcessor")
    say_versions(tmp_path)
    (tmp_path / "sees.py").write_text(f"{sees}AutoProcessor.from_pretrained(name)(rows)\n")

    def check(*words: str):
        command = LaunchCommand(words, {}, str(tmp_path))
        settings = {"seq_len": 512, "load_dtype": "bf16"}
        return check_launch(command, plugins, Request("h100-sxm-80", settings))

    return check


ONE = ("accelerate", "launch", "--num_processes", "1")
FLAGS = ("--bf16", "True", "--output_dir", "out", "--per_device_train_batch_size", "1")
TEXT = {
    "axolotl without a processor": ("axolotl", "train", "text.yaml", "--num-processes", "1"),
    "a script that names no image": (*ONE, "own.py", *FLAGS),
    "a model without towers": ("trl", "sft", "--model_name_or_path", "Qwen/Qwen3-4B", *TRL),
}
MORE = {
    "axolotl with a processor": ("axolotl", "train", "images.yaml", "--num-processes", "1"),
    "a script with a processor": (*ONE, "sees.py", *FLAGS),
    "rows that nobody saw": ("trl", "sft", "--model_name_or_path", "google/gemma-3-4b-it", *TRL),
}
TORCHTUNE = (
    *("tune", "run", "--nproc_per_node", "4", "full_finetune_distributed"),
    *("--config", "llama3_2_vision/11B_full"),
)


@pytest.mark.parametrize("words", TEXT.values(), ids=TEXT)
def test_a_model_with_a_tower_fits_only_for_text(checked, words):
    report = checked(*words)

    assert report.verdict.answer.value == "fits", report.verdict
    assert not report.verdict.unpriced


@pytest.mark.parametrize("words", MORE.values(), ids=MORE)
def test_what_may_train_on_images_is_judged_with_and_without_them(checked, words):
    report = checked(*words)
    least, most = report.readings.least, report.readings.most

    assert report.verdict.answer.value == "fits"
    assert least.values["vision"].images_per_sequence == 0
    assert most.values["vision"].images_per_sequence is None
    assert most.peak_bytes > least.peak_bytes
    assert not any("images or audio" in finding.message for finding in report.findings)


def test_a_tower_that_nobody_traced_is_unknown_and_says_why(checked):
    report = checked(*TORCHTUNE)

    assert report.verdict.answer.value == "unknown"
    assert "images or audio beside the text" in report.verdict.unpriced
    assert sum("images or audio" in finding.message for finding in report.findings) == 1


IMAGES = ("trl", "sft", "--model_name_or_path", "google/gemma-3-4b-it", "--max_length", "512")


def test_where_text_fits_and_images_do_not_the_number_of_images_is_asked_for(checked, tmp_path):
    plugins = load_plugins()
    words = (*IMAGES, *TRL[2:], "--per_device_train_batch_size", "32")

    def answer(**settings):
        command = LaunchCommand(words, {}, str(tmp_path))
        values = {"seq_len": 512, "load_dtype": "bf16", **settings}
        return check_launch(command, plugins, Request("rtx-4090-24", values))

    both = answer()
    assert both.verdict.answer.value == "unknown"
    assert set(both.readings.deciding) == {"vision"}
    assert answer(**{"vision.images_per_sequence": 0}).verdict.answer.value == "fits"
    frozen = answer(**{"vision.frozen": ("tower", "projector"), "vision.images_per_sequence": 2})
    trained = answer(**{"vision.images_per_sequence": 2})
    assert frozen.estimate.device_peak_bytes < trained.estimate.device_peak_bytes


FREEZE = """\
model_name_or_path: Qwen/Qwen2.5-VL-3B-Instruct
stage: sft
do_train: true
dataset: some_rows
template: qwen2_vl
finetuning_type: full
cutoff_len: 1024
per_device_train_batch_size: 1
output_dir: out
bf16: true
{more}
"""


@pytest.mark.parametrize(
    ("more", "frozen"),
    [
        ("", ("tower", "projector")),
        ("freeze_vision_tower: false", ("projector",)),
        ("freeze_multi_modal_projector: false", ("tower",)),
        ("freeze_language_model: true", ("tower", "projector", "language_model")),
        ("train_mm_proj_only: true", ("tower", "language_model")),
        ("train_mm_proj_only: false\nimage_resolution: 262144", ("tower", "projector")),
    ],
)
def test_llamafactory_freezes_the_tower_unless_told_not_to(tmp_path, more, frozen):
    (tmp_path / "train.yaml").write_text(FREEZE.format(more=more))
    command = LaunchCommand(("llamafactory-cli", "train", "train.yaml"), {}, str(tmp_path))
    report = check_launch(command, load_plugins(), Request("h100-sxm-80", {"world_size": 1}))

    assert report.plan.vision.frozen == frozen
    assert not report.verdict.unpriced


@pytest.mark.parametrize(
    ("version", "frozen"), [("0.9.1", ("tower",)), ("0.9.2", ("tower", "projector"))]
)
def test_llamafactory_trained_the_projector_until_it_had_a_key_for_it(tmp_path, version, frozen):
    (tmp_path / "requirements.txt").write_text(f"llamafactory=={version}\n")
    (tmp_path / "train.yaml").write_text(FREEZE.format(more=""))
    command = LaunchCommand(("llamafactory-cli", "train", "train.yaml"), {}, str(tmp_path))
    plan = load_plugins().first("preflight_read_launch", command=command)

    assert plan.vision.frozen == frozen


@pytest.mark.parametrize(
    ("flags", "frozen"),
    [
        (("--tune_mm_vision", "False", "--tune_mm_mlp", "True"), ("tower",)),
        (("--freeze_vision_tower", "True", "--freeze_merger", "true"), ("tower", "projector")),
        (("--freeze_backbone", "True", "--freeze_llm", "True"), ("tower", "language_model")),
        (("--tune_mm_mlp_adapter", "True"), ("tower", "language_model")),
        (("--tune_mm_vision", "True"), None),
    ],
)
def test_a_script_that_is_told_what_to_freeze_is_read(checked, flags, frozen):
    report = checked(*ONE, "flags.py", *FLAGS, *flags)
    vision = report.plan.vision

    assert (vision.frozen or None) == frozen


@pytest.mark.parametrize(("layers", "may_train"), [("-4", True), ("0", False)])
def test_what_a_flag_unfreezes_may_train(checked, layers, may_train):
    flags = ("--freeze_backbone", "True", "--unfreeze_vit_layers", layers)
    plan = checked(*ONE, "flags.py", *FLAGS, *flags).plan

    assert plan.vision.frozen == ("tower",)
    assert (() in {each.frozen for each in plan.origins["vision"].may_be}) is may_train


LORA = """\
from peft import LoraConfig, get_peft_model
model = get_peft_model(model, LoraConfig(r=8, target_modules={targets}))
Trainer("""


@pytest.mark.parametrize(
    ("targets", "may_freeze"), [('["q_proj", "v_proj"]', None), ("find_targets(model)", ("tower",))]
)
def test_what_flags_freeze_takes_no_adapter_off_where_its_targets_are_known(
    checked, tmp_path, targets, may_freeze
):
    """`freeze_llm` with LoRA is what 2U1/Qwen-VL-Series-Finetune asks for: the adapter goes on the language model."""
    text = FLAGGED.replace("Trainer(model", LORA.format(targets=targets) + "model")
    (tmp_path / "flags.py").write_text(text)
    report = checked(*ONE, "flags.py", *FLAGS, "--freeze_vision_tower", "1", "--freeze_llm", "1")
    readings = report.plan.origins["vision"].may_be
    frozen = {reading.frozen for reading in readings if reading.frozen}

    assert report.plan.vision.frozen == ()
    assert frozen == ({may_freeze} if may_freeze else set())
    language = 34 * 8 * (2560 + 2048 + 2560 + 1024)
    tower = 27 * 8 * 4 * 1152
    if may_freeze is None:
        assert report.num_trainable_params == language + tower
    else:
        assert report.num_trainable_params > language + tower


def test_a_tower_that_trains_whole_beside_an_adapter_is_never_a_silent_fit(checked, tmp_path):
    unfreezes = "model.model.vision_tower.requires_grad_(True)\nTrainer("
    lora = LORA.format(targets="'all-linear'").replace("Trainer(", unfreezes)
    (tmp_path / "flags.py").write_text(FLAGGED.replace("Trainer(model", f"{lora}model"))
    report = checked(*ONE, "flags.py", *FLAGS)

    assert report.verdict.answer.value == "unknown"
    assert report.verdict.unpriced == ("what is trained beside the adapter",)


@pytest.mark.parametrize(
    ("rank", "targets", "answer"),
    [
        ("64", ("c_attn", "c_proj", "w1", "w2"), "fits"),
        ("64", ("c_attn", "wte"), "unknown"),  # an embedding is no matrix of a layer
        ("2048", ("c_attn", "c_proj", "w1", "w2"), "unknown"),
    ],
)
def test_an_adapter_on_modules_of_other_names_fits_where_one_on_every_matrix_does(
    checked, rank, targets, answer
):
    """Qwen 1 is read with the shapes of Qwen 1.5, whose layers have other names."""
    model = ("trl", "sft", "--model_name_or_path", "Qwen/Qwen-7B", "--max_length", "512")
    lora = ("--use_peft", "--lora_r", rank, "--lora_target_modules")
    own, usual = checked(*model, *lora, *targets), checked(*model, *lora, "all-linear")

    assert own.verdict.answer.value == answer
    assert own.verdict.unpriced == (
        () if answer == "fits" else ("an adapter on modules of other names",)
    )
    assert {"PF127"} == {f.id for f in own.findings if f.id in ("PF127", "PF421", "PF422")}
    assert not usual.verdict.unpriced


@pytest.mark.parametrize(
    ("saved", "tables", "unpriced"),
    [
        (("wte", "lm_head"), 2, ()),
        (("embed_tokens",), 1, ()),
        (("wte", "visual"), 1, ("modules of other names that train beside the adapter",)),
    ],
)
def test_modules_of_other_names_that_train_whole_are_counted_or_named(
    checked, saved, tables, unpriced
):
    """The embedding of Qwen 1 is `transformer.wte`, which its own finetune.py trains beside the adapter."""
    model = ("trl", "sft", "--model_name_or_path", "Qwen/Qwen-7B", "--max_length", "512")
    lora = ("--use_peft", "--lora_target_modules", "all-linear")
    alone = checked(*model, *lora)
    beside = checked(*model, *lora, "--lora_modules_to_save", *saved)
    embedding = alone.model.vocab_size * alone.model.hidden_size

    assert beside.num_trainable_params - alone.num_trainable_params == tables * embedding
    assert beside.verdict.unpriced == unpriced


@pytest.mark.parametrize(
    "targets, ids", [(("q_proj", "query"), {"PF422"}), (("q_proj", "v_proj"), set())]
)
def test_targets_are_compared_with_the_modules_of_a_model_that_another_row_describes(
    checked, targets, ids
):
    """A fine-tuned copy has the layers of its base: what is true of the base's modules is said of it."""
    model = ("trl", "sft", "--model_name_or_path", "Qwen/Qwen2.5-7B-Instruct")
    report = checked(*model, "--max_length", "512", "--use_peft", "--lora_target_modules", *targets)

    assert report.model is not None and report.model.like is not None
    assert {f.id for f in report.findings if f.id in ("PF127", "PF421", "PF422")} == ids


LONG = AXOLOTL.replace("sequence_len: 512", "sequence_len: 131072").replace(
    "micro_batch_size: 1", "micro_batch_size: 8"
)


@pytest.mark.parametrize(
    ("more", "answer", "missing"),
    [
        ("processor_type: AutoProcessor\n", "unknown", ("seq_len",)),  # nothing cuts them
        ("", "does_not_fit", ()),
        ("processor_type: AutoProcessor\nsample_packing: true\n", "does_not_fit", ()),
    ],
    ids=["images", "text", "packed"],
)
def test_axolotl_cuts_no_row_with_images(tmp_path, more, answer, missing):
    (tmp_path / "long.yaml").write_text(LONG + more)
    command = LaunchCommand(("axolotl", "train", "long.yaml"), {}, str(tmp_path))
    report = check_launch(command, load_plugins(), Request("h100-sxm-80", {"world_size": 1}))

    assert report.verdict.answer.value == answer
    assert report.verdict.missing == missing
    assert any("neither cuts nor drops" in each.message for each in report.findings) is bool(
        missing
    )


def test_rows_with_images_are_not_refused_for_the_length_at_which_they_are_cut(tmp_path):
    text = FREEZE.format(more="").replace("cutoff_len: 1024", "cutoff_len: 131072")
    (tmp_path / "long.yaml").write_text(text.replace("size: 1", "size: 8"))
    say_versions(tmp_path)
    command = LaunchCommand(("llamafactory-cli", "train", "long.yaml"), {}, str(tmp_path))
    report = check_launch(command, load_plugins(), Request("h100-sxm-80", {"world_size": 1}))

    assert report.verdict.answer.value == "unknown"
    assert report.verdict.unpriced == ("how long rows with images are",)
    longest = report.extra["longest_seq_len"]
    assert 1024 <= longest < 131072
    for length, answer in ((longest, "fits"), (longest + 4096, "does_not_fit")):
        settings = {"world_size": 1, "seq_len": length}
        again = check_launch(command, load_plugins(), Request("h100-sxm-80", settings))
        assert again.verdict.answer.value == answer
        assert not any("--set seq_len" in finding.fix for finding in again.findings)


COLLATES = """\
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import SFTConfig, SFTTrainer

processor = AutoProcessor.from_pretrained("google/gemma-3-4b-it")
model = AutoModelForImageTextToText.from_pretrained("google/gemma-3-4b-it", dtype="bfloat16")

def collate(rows):
    texts, images = [row["text"] for row in rows], [row["images"] for row in rows]
    return processor(text=texts, images=images, return_tensors="pt", padding=True{cut})

arguments = SFTConfig(output_dir="out", max_length=512, per_device_train_batch_size=1, bf16=True)
{made}
SFTTrainer(model=model, args=arguments, train_dataset=rows{given}).train()
"""
COLLATORS = {
    "a function": ("", "", ", data_collator=collate", None),
    "a function in a name": ("", "make = collate", ", data_collator=make", None),
    "a function in another": ("", "", ", data_collator=lambda rows: collate(rows)", None),
    "a function that cuts": (
        ", truncation=True, max_length=512",
        "",
        ", data_collator=collate",
        512,
    ),
    "a function that says it does not": (
        ", truncation=False, max_length=512",
        "",
        ", data_collator=collate",
        None,
    ),
    "TRL's own": ("", "", "", 512),
    "a library's": (
        "",
        "made = DataCollatorForVisionLanguageModeling(processor, max_length=512)",
        ", data_collator=made",
        512,
    ),
}


@pytest.mark.parametrize(("cut", "made", "given", "length"), COLLATORS.values(), ids=COLLATORS)
def test_trl_cuts_no_row_with_images_that_a_collator_of_the_scripts_own_makes(
    tmp_path, cut, made, given, length
):
    (tmp_path / "train.py").write_text(COLLATES.format(cut=cut, made=made, given=given))
    command = LaunchCommand((*ONE, "train.py"), {}, str(tmp_path))
    report = check_launch(command, load_plugins(), Request("h100-sxm-80", {}))

    assert report.plan.seq_len == length
    assert report.verdict.missing == (() if length else ("seq_len",))


@pytest.mark.parametrize(
    ("cut", "length"),
    [(", truncation=True, max_length=384", 384), (", max_length=384", None), ("", None)],
)
def test_a_processor_cuts_rows_as_its_tokenizer_does(tmp_path, cut, length):
    text = COLLATES.format(cut=cut, made="", given=", data_collator=collate")
    text = text.replace("from trl import SFTConfig, SFTTrainer", "from transformers import *")
    text = text.replace("SFTConfig", "TrainingArguments").replace("max_length=512, ", "")
    (tmp_path / "train.py").write_text(text.replace("SFTTrainer", "Trainer"))
    command = LaunchCommand((*ONE, "train.py"), {}, str(tmp_path))

    assert load_plugins().first("preflight_read_launch", command=command).seq_len == length


BUILT = (*ONE, "text.py", *FLAGS, "--vision_tower", "openai/clip-vit-large-patch14-336")


@pytest.mark.parametrize("projector", [(), ("--mm_projector_type", "mlp2x_gelu")])
def test_a_tower_that_a_script_builds_itself_is_named_with_its_projector(
    checked, tmp_path, projector
):
    text = FLAGGED.replace("AutoModelForImageTextToText", "AutoModelForCausalLM").replace(
        "tune_mm_vision",
        "vision_tower: str = ''\n    mm_projector_type: str = ''\n    tune_mm_vision",
    )
    (tmp_path / "text.py").write_text(text.replace("google/gemma-3-4b-it", "Qwen/Qwen3-4B"))
    report = checked(*BUILT, *projector)
    own = "vision tower openai/clip-vit-large-patch14-336"

    assert report.verdict.answer.value == "unknown"
    assert report.verdict.unpriced == (f"{own}, projector mlp2x_gelu" if projector else own,)


LLAVA = """\
import torch
from dataclasses import dataclass
from transformers import CLIPVisionModel, HfArgumentParser, Trainer, TrainingArguments
from transformers import LlamaForCausalLM

@dataclass
class ModelArguments:
    model_name_or_path: str = "lmsys/vicuna-7b-v1.5"
    vision_tower: str = None
    mm_vision_select_layer: int = -1
    mm_projector_type: str = "linear"
    mm_patch_merge_type: str = "flat"
    image_aspect_ratio: str = "square"
    freeze_backbone: bool = False
    tune_mm_mlp_adapter: bool = False
    model_max_length: int = 512

class Tower(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.vision_tower = CLIPVisionModel.from_pretrained(name)
        self.vision_tower.requires_grad_(False)

    @torch.no_grad()
    def forward(self, images):
        return self.vision_tower(images, output_hidden_states=True).hidden_states[-2]

class LlavaForCausalLM(LlamaForCausalLM):
    def get_model(self):
        return self.model

    def initialize_vision_modules(self, model_args):
        self.vision_tower = Tower(model_args.vision_tower){more}

    def forward(self, input_ids, images, **more):
        return super().forward(inputs_embeds=self.vision_tower(images), **more)

own, arguments = HfArgumentParser((ModelArguments, TrainingArguments)).parse_args_into_dataclasses()
model = LlavaForCausalLM.from_pretrained(own.model_name_or_path, torch_dtype=torch.bfloat16)
model.initialize_vision_modules(own)
tokens = tokenizer(rows, max_length=own.model_max_length, truncation=True)
Trainer(model=model, args=arguments, train_dataset=tokens).train()
"""
SEEN = ("--vision_tower", "openai/clip-vit-large-patch14-336", "--mm_vision_select_layer", "-2")
COUNTED = (*SEEN, "--mm_projector_type", "mlp2x_gelu")


def test_a_tower_that_a_script_builds_as_llava_does_is_counted_as_the_model_of_transformers(
    checked, tmp_path
):
    (tmp_path / "text.py").write_text(LLAVA.replace("{more}", ""))
    report = checked(*ONE, "text.py", *FLAGS, "--gradient_checkpointing", "True", *COUNTED)
    whole = find_model("llava-hf/llava-1.5-7b-hf")
    spec = describe(whole.config, whole.id, "registry", whole.num_params)
    rows = (spec.vocab_size - report.model.vocab_size) * 2 * 4096  # of the tokens that it adds

    assert report.verdict.answer.value != "unknown" and not report.verdict.unpriced
    assert report.model.num_params == spec.num_params - rows
    assert report.model.tower == spec.tower
    assert report.plan.script_facts.towers_keep_outputs
    frozen = {each.frozen for each in (report.plan.vision, *report.plan.origins["vision"].may_be)}
    assert frozen == {("tower",), ()}


WITH_LORA = """
from peft import LoraConfig, get_peft_model
model = get_peft_model(model, LoraConfig(r=8, target_modules=names_in(model)))
for p in model.get_model().mm_projector.parameters():
    p.requires_grad = True
if own.tune_mm_mlp_adapter:
    for p in model.get_input_embeddings().parameters():
        p.requires_grad = True
model.initialize"""


def test_an_adapter_that_is_made_before_llavas_tower_has_its_projector_beside_it(checked, tmp_path):
    (tmp_path / "text.py").write_text(
        LLAVA.replace("{more}", "").replace("\nmodel.initialize", WITH_LORA)
    )
    report = checked(*ONE, "text.py", *FLAGS, "--gradient_checkpointing", "True", *COUNTED)
    adapters = [report.plan.adapter, *report.plan.origins["adapter"].may_be]

    assert report.verdict.answer is Answer.FITS, report.verdict
    assert {each.modules_to_save for each in adapters} == {("multi_modal_projector",)}
    assert report.plan.vision.frozen == ("tower", "projector")
    trained = {unit.role for unit, _ in adapter_tensors(report.plan, report.model)}
    assert trained == {"layer", "projector"}
    whole = sum(u.num_params * u.count for u in report.model.units if u.role == "projector")
    assert report.num_trainable_params > whole > 10**7


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("model.lm_head.requires_grad_(True)", "what is trained beside the adapter"),
        (None, "an embedding that trains with a projector alone"),
    ],
)
def test_what_else_trains_beside_llavas_adapter_is_named(checked, tmp_path, change, name):
    changed = f"{change}\nmodel.init" if change else "model.init"
    with_lora = WITH_LORA.replace("model.init", changed)
    text = LLAVA.replace("{more}", "").replace("\nmodel.initialize", with_lora)
    (tmp_path / "text.py").write_text(text)
    alone = () if change else ("--tune_mm_mlp_adapter", "True")
    report = checked(*ONE, "text.py", *FLAGS, *COUNTED, *alone)

    assert name in report.verdict.unpriced


@pytest.mark.parametrize(
    "more",
    [
        ("--mm_projector_type", "linear"),
        ("--vision_tower", "some/other-tower"),
        ("--image_aspect_ratio", "anyres"),
        ("--freeze_backbone", "True"),
        ("--mm_vision_select_layer", "-4"),
    ],
    ids=" ".join,
)
def test_a_tower_that_is_built_in_another_way_is_named(checked, tmp_path, more):
    (tmp_path / "text.py").write_text(LLAVA.replace("{more}", ""))
    report = checked(*ONE, "text.py", *FLAGS, *COUNTED, *more)

    assert report.verdict.answer.value == "unknown"
    assert report.verdict.unpriced[0].startswith("vision tower ")


def test_outputs_of_every_layer_of_the_model_that_trains_are_not_those_of_a_tower(
    checked, tmp_path
):
    asks = LLAVA.replace("{more}", "").replace(
        "(images), **", "(images), output_hidden_states=True, **"
    )
    (tmp_path / "text.py").write_text(asks)
    report = checked(*ONE, "text.py", *FLAGS, *COUNTED)

    assert "outputs of every layer" in report.verdict.unpriced


@pytest.mark.parametrize(
    "more", ["\n        self.resampler = Resampler()", "\n        self.audio_tower = make_tower()"]
)
def test_a_class_that_adds_more_than_llavas_parts_is_not_counted(checked, tmp_path, more):
    (tmp_path / "text.py").write_text(LLAVA.replace("{more}", more))
    report = checked(*ONE, "text.py", *FLAGS, *COUNTED)

    assert report.verdict.answer.value == "unknown"
    assert "what LlavaForCausalLM adds to the model" in report.verdict.unpriced
