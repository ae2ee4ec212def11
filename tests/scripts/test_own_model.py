"""A model of a class of the script's own is the one that it loads, and what the class adds; that is named."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

SCRIPT = """\
from torch import nn
from transformers import AutoModelForCausalLM, LlamaForCausalLM, Trainer, TrainingArguments
{before}
model = {made}
args = TrainingArguments(output_dir="o", per_device_train_batch_size=1)
Trainer(model=model, args=args, train_dataset=rows).train()
"""
METHODS = "class OwnForCausalLM({base}):\n    def __init__(self, config):\n        super().__init__(config)\n"
LOADED = 'OwnForCausalLM.from_pretrained("gpt2")'
WRAPPER = """\
class Wrapper(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = AutoModelForCausalLM.from_pretrained("gpt2")
"""
LOADER = """\
class Loader:
    def load(self):
        return AutoModelForCausalLM.from_pretrained("gpt2")
"""


@pytest.mark.parametrize(
    ("before", "made", "name"),
    [
        ("", 'LlamaForCausalLM.from_pretrained("gpt2")', None),
        (METHODS.format(base="LlamaForCausalLM"), LOADED, "OwnForCausalLM"),
        ("class OwnForCausalLM(LlamaForCausalLM):\n    pass", LOADED, None),
        ("class OwnForCausalLM(LlamaForCausalLM):\n    kind = 'own'", LOADED, None),
        (METHODS.format(base="LlamaForCausalLM").replace("Own", "Base") + "\nclass OwnForCausalLM(BaseForCausalLM):\n    pass",
         LOADED, "OwnForCausalLM"),
        ("from elsewhere import OwnForCausalLM", LOADED, "OwnForCausalLM"),
        ("from liger_kernel.transformers import AutoLigerKernelForCausalLM",
         'AutoLigerKernelForCausalLM.from_pretrained("gpt2")', None),
        (WRAPPER, "Wrapper()", "Wrapper"),
        (LOADER, "Loader().load()", None),
        ("from strange import Around\nfrom strange.more import Config", f"Around(Config(), {LOADED})", "Around"),
        ("import strange as st\nclass Around(st.Base):\n    def __init__(self, config, model):\n        super().__init__(config, model)",
         f"Around(None, {LOADED})", "Around"),
        (METHODS.format(base="LlamaForCausalLM") + "if LONG:\n    kind = OwnForCausalLM\nelse:\n    kind = LlamaForCausalLM",
         'kind.from_pretrained("gpt2")', "OwnForCausalLM"),
        (METHODS.format(base="LlamaForCausalLM").replace("ForCausalLM(L", "ForRows(L") + "if LONG:\n    kind = OwnForRows\nelse:\n    kind = LlamaForCausalLM",
         'kind.from_pretrained("gpt2")', "OwnForRows"),
        ("kind = LlamaForCausalLM", 'kind.from_pretrained("gpt2")', None),
        ("import shapes", "shapes.__dict__[NAME](size=3)", "shapes.__dict__[NAME]"),
        ("import shapes", "getattr(shapes, NAME)(size=3)", "getattr(shapes, NAME)"),
    ],
)  # fmt: skip
def test_what_a_class_adds_is_named(tmp_path, before, made, name):
    files = {"train.py": SCRIPT.format(before=before, made=made)}
    plan = plan_of(tmp_path, "python train.py", files)
    held = {each for each in plan.script_facts.uncounted if each.endswith("to the model")}

    assert held == (set() if name is None else {f"what {name} adds to the model"})


def test_a_wrapper_from_a_file_that_is_not_read_is_named(tmp_path):
    """A helper's own imports are not followed where nothing shows that they make what trains."""
    files = {
        "train.py": SCRIPT.format(
            before="from parts import wrapped",
            made='wrapped(LlamaForCausalLM.from_pretrained("gpt2"))',
        ),
        "parts/__init__.py": "from .tools import wrapped\n",
        "parts/tools.py": "from .around import Around\ndef wrapped(model):\n    outer = Around(model)\n    return outer\n",
        "parts/around.py": "from torch import nn\nclass Around(nn.Module):\n    def __init__(self, model):\n        super().__init__()\n",
    }
    plan = plan_of(tmp_path, "python train.py", files)
    assert "what Around adds to the model" in plan.script_facts.uncounted


ARGUMENTS_ALONE = """\
import torch
from transformers import HfArgumentParser, PretrainedConfig, PreTrainedModel, Trainer, TrainingArguments
{config}
class Twin(PreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.extra = torch.nn.Linear(16384, 16384)
(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
Trainer(model=Twin.from_pretrained("gpt2"), args=args, train_dataset=rows).train()
"""
OWN_CONFIG = """\
class TwinConfig(PretrainedConfig):
    @classmethod
    def from_pretrained(cls, name, **kwargs):
        return cls.from_dict(cls.get_config_dict(name, **kwargs)[0])
"""


@pytest.mark.parametrize("config", ["", OWN_CONFIG])
def test_what_a_class_adds_is_named_where_the_script_says_nothing_else(tmp_path, config):
    """A config that loads itself in its own way says nothing of how the model does."""
    files = {"train.py": ARGUMENTS_ALONE.format(config=config)}
    plan = plan_of(tmp_path, "python train.py --output_dir o", files)

    assert "what Twin adds to the model" in plan.script_facts.uncounted
    assert "what Twin adds to the model" in {notice.unpriced for notice in plan.notices}


LOOP = """\
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
{imports}
def optimizer_of(module):
    return torch.optim.AdamW([p for _, p in module.named_parameters()])
def main():
    model = {made}
    optimizer = optimizer_of(model)
    for batch in rows:
        model(**batch).loss.backward()
        optimizer.step()
main()
"""
OWN_GPT = """\
from torch import nn
class Gpt(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.head = nn.Linear(config.hidden_size, config.vocab_size)
    @classmethod
    def from_pretrained(cls, name):
        return cls(load(name))
"""


@pytest.mark.parametrize(
    ("made", "name"),
    [
        ('Gpt.from_pretrained("gpt2")', "Gpt"),
        ('Gpt(AutoConfig.from_pretrained("gpt2"))', "Gpt"),
        ('torch.compile(Gpt(AutoConfig.from_pretrained("gpt2")))', "Gpt"),
        ('AutoModelForCausalLM.from_pretrained("gpt2")', None),
    ],
)
def test_what_a_plain_loop_trains_is_followed_from_its_optimizer(tmp_path, made, name):
    files = {"train.py": LOOP.format(imports="from gpt import Gpt", made=made), "gpt.py": OWN_GPT}
    plan = plan_of(tmp_path, "python train.py", files)
    held = {each for each in plan.script_facts.uncounted if each.endswith("to the model")}

    assert held == (set() if name is None else {f"what {name} adds to the model"})


CHOSEN = """\
from strange import Around
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
class FirstTrainer(Trainer):
    pass
class Second(Trainer):
    pass
{kind}
model = Around(AutoModelForCausalLM.from_pretrained("gpt2"))
args = TrainingArguments(output_dir="o", per_device_train_batch_size=1)
kind(model=model, args=args, train_dataset=rows).train()
"""


@pytest.mark.parametrize(
    "kind",
    ["kind = FirstTrainer if wide else Second", "kind = Second", "if wide:\n    kind = Second"],
)
def test_what_a_trainer_is_given_is_looked_at_whatever_name_it_goes_by(tmp_path, kind):
    plan = plan_of(tmp_path, "python train.py", {"train.py": CHOSEN.format(kind=kind)})

    assert "what Around adds to the model" in plan.script_facts.uncounted
