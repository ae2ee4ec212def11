"""What a script of somebody's own is seen to decide or to hold, told by the names in its text and in its repository's."""

from __future__ import annotations

import pytest

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.scripts.read_signs import signs_of
from preflight.scripts.uncounted.sign_words import UNPRICED
from preflight.unpriced_names import BESIDE_ADAPTER, OTHER_HEAD
from preflight.verdict import Answer

OWN_TRAINER = """\
class Contrastive(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False):
{body}

    def log(self, logs):
        return logs.logits


Contrastive(model).train()
"""
BODIES = {
    "two passes through an encoder": "        return self.score(model(inputs[0]), model(inputs[1]))",
    "weighted logits": "        out = model(**inputs)\n        return weigh(out.logits)",
    "hidden states": "        return cosine(model(**inputs).last_hidden_state)",
}
USUAL_BODIES = {
    "the parent's": "        return super().compute_loss(model, inputs)",
    "the parent's, by name": "        return super(Contrastive, self).compute_loss(model, inputs)",
    "a cross entropy in fp32": "        out = model(**inputs)\n        return cross_entropy(out.logits.float().view(-1, 9))",
    "the model's own loss": '        return model(**inputs)["loss"]',
}


def unpriced(folder, text: str) -> set[str]:
    (folder / "train.py").write_text(text)
    signs = signs_of(LaunchCommand(("torchrun", "train.py"), {}, str(folder)), "train.py")
    return set(signs.unpriced)


@pytest.mark.parametrize(
    ("line", "asks"),
    [
        ("model.enable_input_require_grads()", True),
        ("model = prepare_model_for_kbit_training(model)", True),
        ("model = FastLanguageModel.get_peft_model(model)", True),
        ("print([p for p in model.parameters() if p.requires_grad])", False),
        ("# model.enable_input_require_grads()", False),
    ],
)
def test_a_script_may_make_a_frozen_embeddings_output_ask_for_gradients(tmp_path, line, asks):
    text = f"from transformers import Trainer\nmodel = load()\n{line}\nTrainer(model).train()\n"
    (tmp_path / "train.py").write_text(text)
    signs = signs_of(LaunchCommand(("torchrun", "train.py"), {}, str(tmp_path)), "train.py")

    assert signs.inputs_ask is asks


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_loss_that_is_not_of_the_models_output_is_not_priced(tmp_path, body):
    found = unpriced(tmp_path, OWN_TRAINER.format(body=body)) - {"a second forward pass"}

    assert found == {"a loss of its own"}


@pytest.mark.parametrize("body", USUAL_BODIES.values(), ids=USUAL_BODIES)
def test_a_loss_of_logits_is_the_language_models(tmp_path, body):
    assert unpriced(tmp_path, OWN_TRAINER.format(body=body)) == set()


def test_what_an_imported_file_of_the_repository_holds_counts(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "model.py").write_text(
        "from vllm import LLM\nLLM('served')\nteacher_model = None\n"
    )

    assert unpriced(tmp_path, "from pkg.model import LLM\nLLM(name)\n") == {
        "an inference engine's share of the card",
        "a teacher",
    }


ENGINES = {
    "parameters of sampling": ("import vllm\nkeep(vllm.SamplingParams(n=1))\n", set()),
    "their name alone": ("from vllm import SamplingParams\nkeep(SamplingParams(n=1))\n", set()),
    "an engine": ("import vllm\nvllm.LLM(a)\n", {"an inference engine's share of the card"}),
    "one by name": (
        "from vllm import LLM, SamplingParams\nLLM(a)\n",
        {"an inference engine's share of the card"},
    ),
    "one under another name": (
        "import vllm as engine\nengine.LLM(a)\n",
        {"an inference engine's share of the card"},
    ),
}


@pytest.mark.parametrize("script, found", ENGINES.values(), ids=ENGINES)
def test_an_engine_is_more_than_its_parameters_of_sampling(tmp_path, script, found):
    assert unpriced(tmp_path, script) == found


def test_pairs_of_a_loop_of_ones_own_are_named(tmp_path):
    loop = 'out = model(batch["chosen_input_ids"])\nloss = prefer(out, reference_logps)\nloss.backward()\n'

    assert unpriced(tmp_path, loop) == {"a reference model and pairs of answers"}


def test_columns_of_pairs_alone_are_no_training_on_them(tmp_path):
    assert (
        unpriced(tmp_path, 'columns = ["chosen_input_ids", "rejected_labels"]\nkeep(columns)\n')
        == set()
    )


def test_a_training_loop_of_another_library_is_named(tmp_path):
    assert unpriced(
        tmp_path, "from olmo_core import train\ntrain.TrainerConfig().build(a).fit()\n"
    ) == {"a training loop of olmo_core"}


HELD = """\
import importlib
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification as Scorer

__all__ = ["load_scorer", "load"]


def load_scorer(name):
    'Load a ref_model with vision_tower.'
    return Scorer.from_pretrained(name)


class Judge:
    def __init__(self, name):
        self.scorer = load_scorer(name)


{registers}
class Tower:
    vision_tower = None


def load(name):
    # a teacher_model stands elsewhere
    return AutoModelForCausalLM.from_pretrained(name)


if __name__ == "__main__":
    Judge("reward")
"""
SCORES, SEES = {"a head that is no language model's"}, {"images or audio beside the text"}
EVERY = {*SCORES, *SEES}
CALLS = {
    "one function of several": ("", "from held import load\nload(a)\n", set()),
    "one that calls another": ("", "from held import Judge\nJudge(a)\n", SCORES),
    "one by its text": ("", "import held\ngetattr(held, 'load_scorer')(a)\n", SCORES),
    "one under another name": ("", "from held import load_scorer as get\nget(a)\n", SCORES),
    "any, by a text that it makes": ("", "import held\ngetattr(held, f'load_{b}')(a)\n", EVERY),
    "any, as a module": ("", "import held, importlib\nimportlib.import_module(a)\n", EVERY),
    "one that registers itself": ("@register", "from held import load\nload(a)\n", SEES),
    "one whose docstring, added above it, names itself": (
        "@add_start_docstrings('Tower sees pixel_values')",
        "from held import load\nload(a)\n",
        set(),
    ),
    "one with fields": ("@dataclass", "from held import load\nload(a)\n", set()),
}


@pytest.mark.parametrize("registers, script, found", CALLS.values(), ids=CALLS)
def test_what_no_running_line_names_is_no_sign(tmp_path, registers, script, found):
    (tmp_path / "held.py").write_text(HELD.replace("{registers}", registers))

    assert unpriced(tmp_path, script) == found


SAYS = {
    "a warning": 'logger.warning("flash attention has no `output_attentions=True`")\ntrain(model)\n',
    "help over lines": "parser.add_argument('--x', help='a teacher_model\\n'\n    ' or a ref_model, é, deepcopy(model)')\n",
    "the name of a file": 'VALUE_HEAD = "value_head.bin"\nSAFE = "value_head.safetensors"\ntrain(model)\n',
    "documentation": 'def train():\n    """Give pixel_values to\n    a teacher_model.\n    """\n\ntrain()\n',
}


@pytest.mark.parametrize("text", SAYS.values(), ids=SAYS)
def test_what_a_script_only_says_is_no_sign(tmp_path, text):
    assert unpriced(tmp_path, text) == set()


def test_what_stands_beside_a_message_and_a_text_that_runs_are_signs(tmp_path):
    both = 'train("näive: output_attentions=True", teacher_model, "no second one")\n'

    assert unpriced(tmp_path, both) == {"a teacher"}
    assert unpriced(tmp_path, 'exec("import vllm as v; teacher_model = 1")\n') == {
        "a teacher",
        "an inference engine's share of the card",
    }


TRAINS_BESIDE = """\
from peft import LoraConfig, get_peft_model
model = get_peft_model(model, LoraConfig(r=8))
for name, p in model.named_parameters():
    if {test}:
        p.requires_grad = True
"""
BESIDE = {
    "parts by their name": (TRAINS_BESIDE.format(test='"visual" in name'), True),
    "parts where a switch says so": (TRAINS_BESIDE.format(test="arguments.lora_enable"), True),
    "a whole part": ("model.visual.merger.requires_grad_(True)\n", True),
    "a part, without a word": ("model.get_model().mm_projector.requires_grad_()\n", True),
    "the adapter itself": (TRAINS_BESIDE.format(test='"lora_A" in name'), False),
    "what runs through": (
        "def hook(m, i, output):\n    output.requires_grad_(True)\nhook()\n",
        False,
    ),
    "nothing": ("model.visual.requires_grad_(False)\n", False),
}


@pytest.mark.parametrize("text, trains", BESIDE.values(), ids=BESIDE)
def test_what_is_made_trainable_by_hand_is_named(tmp_path, text, trains):
    assert (BESIDE_ADAPTER in unpriced(tmp_path, text)) is trains


def test_what_the_script_imports_for_its_effect_runs(tmp_path):
    assert unpriced(tmp_path, "import unsloth\ntrain()\n") == {"Unsloth's kernels"}
    assert unpriced(tmp_path, "from unsloth import FastModel\nFastModel.get(a)\n") == {
        "Unsloth's kernels"
    }


def test_the_scripts_own_main_block_runs(tmp_path):
    assert unpriced(tmp_path, HELD.replace("{registers}", "")) == SCORES


def test_a_revision_is_no_vision(tmp_path):
    (tmp_path / "train.py").write_text("load(model, revision=args.model_revision)\n")
    command = LaunchCommand(("torchrun", "train.py"), {}, str(tmp_path))

    assert signs_of(command, "train.py").is_text_only
    (tmp_path / "train.py").write_text("load(model, image_processor)\nlook(images)\n")
    assert not signs_of(command, "train.py").is_text_only


@pytest.mark.parametrize(
    ("given", "is_text"), [("", False), (", processing_class=tokenizer", True)]
)
def test_a_trainer_that_finds_its_own_processor_may_see_images(tmp_path, given, is_text):
    text = "tokenizer = AutoTokenizer.from_pretrained(m)\n" if given else ""
    text += f"SFTTrainer(m, args=args, train_dataset=rows{given}).train()\n"
    (tmp_path / "train.py").write_text("from trl import SFTTrainer\n" + text)
    command = LaunchCommand(("torchrun", "train.py"), {}, str(tmp_path))

    assert signs_of(command, "train.py").is_text_only is is_text


TRAINING = {
    "a loop": "loss.backward()\noptimizer.step()\n",
    "an engine's": "engine, *_ = deepspeed.initialize(model=m)\n",
    "a framework's": "L.Trainer().fit(module)\n",
}


@pytest.mark.parametrize("text", TRAINING.values(), ids=TRAINING)
def test_a_script_that_trains_has_a_call_that_does(tmp_path, text):
    (tmp_path / "train.py").write_text("from loop import run\n")
    (tmp_path / "loop.py").write_text(text)
    command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))

    assert signs_of(command, "train.py").may_train
    assert signs_of(command, "absent.py").may_train  # nobody read it
    (tmp_path / "loop.py").write_text("rows.map(tokenize).save_to_disk(out)\n")
    assert not signs_of(command, "train.py").may_train


ELSEWHERE = {
    "a function": ("from elsewhere import train\ntrain()\n", False),
    "by another name": ("from elsewhere.cli import train as run\nrun()\n", False),
    "of a module": ("import elsewhere.cli\nelsewhere.cli.train(1)\n", False),
    "of a file here": ("from loop import train\ntrain()\n", True),
    "beside a loop": ("from elsewhere import train\ntrain()\nloss.backward()\n", True),
    "a library's trainer": (
        "import elsewhere\nfrom transformers import Trainer\nTrainer().train()\n",
        True,
    ),
}


@pytest.mark.parametrize(("text", "may_train"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_what_a_package_trains_that_is_not_here_nobody_read(tmp_path, text, may_train):
    (tmp_path / "train.py").write_text(text)
    (tmp_path / "loop.py").write_text("def train():\n    loss.backward()\n")
    command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))

    assert signs_of(command, "train.py").may_train is may_train


def test_what_trains_nothing_is_unknown_and_never_refused(tmp_path):
    (tmp_path / "rows.py").write_text(
        "from transformers import AutoTokenizer\nAutoTokenizer.from_pretrained('meta-llama/Llama-3.1-70B')\n"
    )
    words = ("python", "rows.py", "--model_name_or_path", "meta-llama/Llama-3.1-70B")
    command = LaunchCommand(words, {}, str(tmp_path))
    report = check_launch(command, load_plugins(), Request("t4-16"))

    assert report.verdict.unpriced == ("a script that does not train",)
    assert report.verdict.answer is Answer.UNKNOWN and report.may_launch


def test_all_that_is_not_priced_says_where_the_estimate_is_wrong():
    assert {takes for _, takes in UNPRICED.values()} == {"more", "less", "either"}


FREEZING = """\
def freeze(module, says=False):
    for p in module.parameters():
        p.requires_grad = says

{calls}
trainer = Trainer(model).train()
"""
TOLD = {
    "under a flag": "if args.freeze_backbone:\n    freeze(model.vision)",
    "in the other branch of a flag": "if args.tune_mm_llm:\n    pass\nelse:\n    freeze(model)",
    "by the value of a flag": "freeze(model.visual, not args.freeze_vision_tower)",
    "through a function more": (
        "def inner(m):\n    freeze(m)\ndef outer(m):\n    if args.freeze_llm:\n        inner(m)\nouter(model)"
    ),
    "in place, by its value": "model.visual.requires_grad_(not args.freeze_vit)\nfreeze(a, args.freeze_llm)",
}
UNTOLD = {
    "once without a flag": "if args.freeze_llm:\n    freeze(model)\nfreeze(model.embeddings)",
    "under what is always so": "if True:\n    freeze(model.embeddings)\nfreeze(model, args.freeze_llm)",
    "by another flag": "if args.freeze_bottom_layers:\n    freeze(model)",
    "in place": "freeze(model, args.freeze_llm)\nmodel.embeddings.requires_grad_(False)",
    "a function that nobody is seen to call": "steps = [freeze]",
    "a function that is handed on too": "if args.freeze_llm:\n    freeze(model)\nmodel.apply(freeze)",
}


@pytest.mark.parametrize("calls", TOLD.values(), ids=TOLD)
def test_what_flags_freeze_is_read_and_no_sign(tmp_path, calls):
    assert "frozen parameters" not in unpriced(tmp_path, FREEZING.format(calls=calls))


@pytest.mark.parametrize("calls", UNTOLD.values(), ids=UNTOLD)
def test_what_a_script_freezes_by_itself_is_a_sign(tmp_path, calls):
    assert "frozen parameters" in unpriced(tmp_path, FREEZING.format(calls=calls))


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"], ids=["old Mac's", "Windows'", "Unix'"])
def test_line_ends_of_every_system_are_lines(tmp_path, end):
    lines = (
        "import os",
        "import peft",
        "",
        "",
        "teacher_model = None",
        "Trainer(model).train()",
        "",
    )
    (tmp_path / "train.py").write_bytes(end.join(lines).encode())
    command = LaunchCommand(("torchrun", "train.py"), {}, str(tmp_path))
    signs = signs_of(command, "train.py")

    assert {name: place.line for name, place in signs.unpriced.items()} == {"a teacher": 5}


def test_an_imported_file_that_is_nested_too_deep_says_nothing(tmp_path):
    deep = "if x == 0:\n    pass\n" + "".join(f"elif x == {n}:\n    pass\n" for n in range(400))
    (tmp_path / "deep.py").write_text(deep)
    (tmp_path / "train.py").write_text(
        "import deep\nteacher_model = None\nTrainer(model).train()\n"
    )
    command = LaunchCommand(("torchrun", "train.py"), {}, str(tmp_path))

    assert "a teacher" in signs_of(command, "train.py").unpriced


def test_a_reference_that_this_task_sets_to_none_is_not_there(tmp_path):
    script = """\
import argparse
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
from trl import DPOTrainer
parser = argparse.ArgumentParser()
parser.add_argument("--task", default="sft")
args = parser.parse_args()
model = AutoModelForCausalLM.from_pretrained("gpt2")
if args.task == "dpo":
    ref_model = AutoModelForCausalLM.from_pretrained("gpt2")
    DPOTrainer(model, ref_model).train()
else:
    ref_model = None
    Trainer(model, TrainingArguments("out")).train()
"""
    held = []
    for text in (script, script.replace("ref_model = None", "ref_model = copy_of(model)")):
        (tmp_path / "train.py").write_text(text)
        command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))
        report = check_launch(command, load_plugins(), Request("t4-16"))
        held.append("a reference model and pairs of answers" in report.verdict.unpriced)

    assert held == [False, True]


@pytest.mark.parametrize(
    ("line", "is_named"),
    [
        ("with sdpa_kernel(SDPBackend.MATH): step()", True),
        ("with sdpa_kernel([SDPBackend.MATH]): step()", True),
        ("with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]): step()", False),
        ("torch.backends.cuda.enable_flash_sdp(False)", False),
        ("torch.backends.cuda.enable_mem_efficient_sdp(False)\ntorch.backends.cuda.enable_flash_sdp(False)", True),
        ("torch.backends.cuda.enable_flash_sdp(enabled=False)\ntorch.backends.cuda.enable_mem_efficient_sdp(enabled=False)", True),
        ("sdp_kernel(enable_flash=False, enable_math=True, enable_mem_efficient=False)", True),
        ("sdp_kernel(enable_flash=True, enable_math=False, enable_mem_efficient=False)", False),
    ],
)  # fmt: skip
def test_attention_that_keeps_its_scores_is_named(tmp_path, line, is_named):
    name = "attention by torch's own kernel for any device"
    assert (name in unpriced(tmp_path, f"import torch\n{line}\n")) is is_named


@pytest.mark.parametrize(
    ("line", "is_named"),
    [
        ("trains(data_collator=transformers.DataCollatorForTokenClassification(tok))", False),
        ("trains(data_collator=DataCollatorForSequenceClassification(tok))", False),
        ("model = AutoModelForTokenClassification.from_pretrained(name)", True),
        ("model = LlamaForSequenceClassification.from_pretrained(name)", True),
        ("kept = [p for n, p in model.named_parameters() if 'v_head' not in n]", False),
        ("model.v_head = head", True),
    ],
)
def test_what_is_named_after_a_head_makes_none(tmp_path, line, is_named):
    """A collator fills up labels of one number per token, which a language model's are too; a part of a name is looked for."""
    text = f"from transformers import Trainer\nmodel = load()\n{line}\nTrainer(model).train()\n"

    assert (OTHER_HEAD in unpriced(tmp_path, text)) is is_named
