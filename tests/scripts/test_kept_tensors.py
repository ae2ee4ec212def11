"""What steps, loops and callbacks keep or run beside their step, in ways that a person would write them."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

from preflight.pipeline import check_plan
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.unpriced_names import (
    COPY,
    GENERATES,
    GENERATES_BESIDE,
    GRADIENTS_STAY,
    KEPT_LOGITS,
    KEPT_OF_EACH,
    LARGE,
    OUTPUTS,
    SECOND_MODEL,
)
from preflight.values import replace

LOOP = """\
import torch
from datasets import load_dataset
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen2.5-1.5B")
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-1.5B", torch_dtype=torch.bfloat16).cuda()
rows = load_dataset("somebody/rows")["train"].map(lambda row: tokenizer(row["text"], truncation=True, max_length=512))
loader = DataLoader(rows, batch_size=4, collate_fn=DataCollatorForLanguageModeling(tokenizer, mlm=False))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
BEFORE
model.train()
for step, batch in enumerate(loader):
    outputs = model(**batch)
    INSIDE
    outputs.loss.backward()
    BEHIND
    optimizer.step()
    optimizer.zero_grad()
"""


def named(folder, before="", inside="pass", behind="pass", text=LOOP):
    text = text.replace("BEFORE", before).replace("INSIDE", inside).replace("BEHIND", behind)
    plan = plan_of(folder, "python train.py", {"train.py": text})
    return {notice.unpriced for notice in plan.notices} - {"", "gradients that no engine averages"}


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ({}, None),
        ({"inside": "kept[step] = outputs.logits"}, KEPT_LOGITS),
        ({"inside": "kept[step] = outputs.logits.detach().float()"}, KEPT_LOGITS),
        ({"inside": "kept[step] = outputs.logits.cpu()"}, None),
        ({"inside": "kept[step] = outputs.logits.argmax(-1)"}, None),
        ({"inside": 'batch = {}\n    batch["logits"] = outputs.logits'}, None),
        ({"inside": "losses.append(outputs.loss.item())"}, None),
        ({"behind": "grads = [p.grad.float() for p in model.parameters()]"}, KEPT_OF_EACH),
        ({"behind": "kept.append(torch.cat([p.grad.flatten() for p in model.parameters()]))"}, KEPT_OF_EACH),
        ({"behind": "for p in model.parameters():\n        p.main_grad = p.grad.float()"}, KEPT_OF_EACH),
        ({"behind": "norms = [p.grad.norm() for p in model.parameters()]"}, None),
        ({"behind": "far = [p.grad.float().cpu() for p in model.parameters()]"}, None),
        ({"behind": "size = sum(p.grad.float().pow(2).sum() for p in model.parameters())"}, None),
        ({"before": "flat = torch.nn.utils.parameters_to_vector(model.parameters())"}, KEPT_OF_EACH),
        ({"before": "K, D = 65536, 151936\nqueue = torch.zeros(K, D, device='cuda')"}, LARGE),
        ({"before": "K = 16\nqueue = torch.zeros(K, 512, device='cuda')"}, None),
        ({"before": "import deepspeed\nserved = deepspeed.init_inference(made())"}, "what another library holds on the card"),
        ({"before": "import cupy\nqueue = cupy.zeros((1 << 33,))"}, "what another library holds on the card"),
        ({"before": "state = torch.load('other.pt', map_location='cuda:0')"}, SECOND_MODEL),
        ({"before": "state = torch.load('other.pt', map_location='cpu')"}, None),
        ({"before": "def keep(module, given):\n    kept.append(given)\nmodel.lm_head.register_forward_pre_hook(keep)"}, "what hooks on its layers keep"),
        ({"before": "setattr(model.config, 'output_hidden_states', True)"}, OUTPUTS),
        ({"before": "model.config.update({'output_attentions': True})"}, OUTPUTS),
        ({"before": "asked = {}\nasked['output_hidden_states'] = True"}, OUTPUTS),
        ({"before": "asked = {'output_hidden_states': False}"}, None),
        ({"before": "def sample():\n    return model.generate(prompt)", "behind": "sample()"}, GENERATES),
        ({"inside": "optimizer.zero_grad()"}, None),
        ({"before": "import copy\nbase = AutoModelForCausalLM.from_pretrained('Qwen/Qwen2.5-1.5B')\nkept = copy.deepcopy(base)"}, COPY),
    ],
)  # fmt: skip
def test_what_a_loop_keeps_is_named(tmp_path, words, name):
    assert named(tmp_path, **words) == ({name} if name else set())


BETWEEN = LOOP.replace(
    "    optimizer.step()\n    optimizer.zero_grad()", "    optimizer.step()"
).replace("INSIDE", "optimizer.zero_grad()")
"""The order of torch's own tutorials: gradients of the step before are there in the forward."""


def test_gradients_that_a_forward_finds_are_bounded(tmp_path):
    """They lie beside all activations, which the estimate counts without them; as large as the weights at most."""
    assert named(tmp_path, text=BETWEEN) == {GRADIENTS_STAY}
    launch = plan_of(tmp_path, "python train.py", {"train.py": BETWEEN.replace("BEFORE", "").replace("BEHIND", "pass")})  # fmt: skip
    found = check_plan(replace(launch, device="h100-sxm-80"), load_plugins(), Request())

    assert found.verdict.answer.value == "fits"
    assert GRADIENTS_STAY in found.verdict.bounded


TRAINER = """\
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments, pipeline
import lm_eval
import torch

tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen2.5-1.5B")
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-1.5B", torch_dtype="bfloat16")
BEFORE


class Own(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **more):
        outputs = model(**inputs)
        INSIDE
        return outputs.loss


class Looks(TrainerCallback):
    def sample(self, model):
        return model.generate(prompt)

    def on_evaluate(self, args, state, control, model=None, **more):
        BEHIND


rows = load_dataset("somebody/rows")["train"].map(lambda row: tokenizer(row["text"], truncation=True, max_length=512))
arguments = TrainingArguments("out", per_device_train_batch_size=2)
Own(model=model, args=arguments, train_dataset=rows, callbacks=[Looks()]MORE).train()
"""


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ({}, None),
        ({"inside": "self.last = outputs"}, KEPT_LOGITS),
        ({"inside": "self.last = outputs.logits.detach()"}, KEPT_LOGITS),
        ({"inside": "self.last = outputs['logits']"}, KEPT_LOGITS),
        ({"inside": "self.last = outputs.loss.detach()"}, None),
        ({"inside": "self.last = outputs.logits.argmax(-1)"}, None),
        ({"inside": "inputs['output_hidden_states'] = True"}, OUTPUTS),
        ({"behind": "self.sample(model)"}, GENERATES_BESIDE),
        ({"behind": "pipeline('text-generation', model=model, tokenizer=tokenizer)(prompts)"}, GENERATES_BESIDE),
        ({"behind": "lm_eval.simple_evaluate(model=wrapped(model))"}, GENERATES_BESIDE),
        ({"behind": "print(state.global_step)"}, None),
        ({"more": ", optimizer_cls_and_kwargs=(torch.optim.LBFGS, {})"}, "the states of LBFGS"),
        ({"more": ", optimizer_cls_and_kwargs=(torch.optim.AdamW, {})"}, None),
    ],
)  # fmt: skip
def test_what_a_trainers_own_step_and_callbacks_keep_is_named(tmp_path, words, name):
    text = TRAINER.replace("MORE", words.get("more", ""))
    told = {key: value for key, value in words.items() if key != "more"}

    assert named(tmp_path, **told, text=text) == ({name} if name else set())


@pytest.mark.parametrize(
    ("change", "model"),
    [
        ("if rows:\n    model = AutoModelForCausalLM.from_pretrained('Qwen/Qwen2.5-72B')", None),
        ("if rows:\n    model = AutoModelForCausalLM.from_pretrained(saved)", "Qwen/Qwen2.5-1.5B"),
        ("if rows:\n    other = AutoModelForCausalLM.from_pretrained('Qwen/Qwen2.5-72B')", "Qwen/Qwen2.5-1.5B"),
    ],
)  # fmt: skip
def test_another_model_that_may_take_the_place_of_one_leaves_it_open(tmp_path, change, model):
    text = TRAINER.replace("BEFORE", change).replace("MORE", "")
    text = text.replace("INSIDE", "pass").replace("BEHIND", "pass")
    assert plan_of(tmp_path, "python train.py", {"train.py": text}).model == model


JUDGES = """\
for epoch in range(3):
    kept = []
    model.eval()
    with torch.no_grad():
        for rows in held_out:
            out = model(**rows)
            {}
    model.train()
"""


@pytest.mark.parametrize(
    ("keeps", "is_named"),
    [
        ("kept.append(out)", True),
        ("logits = out.logits\n            kept.append(logits)", True),
        ("kept += [out.logits]", True),
        ("kept.append(out.logits.softmax(-1))", True),
        ("loss, logits = model(**rows)[:2]\n            kept.append((loss, logits))", True),
        ("kept = torch.cat([kept, out.logits])", True),
        ("kept[len(kept)] = out.logits", True),
        ("kept.extend(torch.softmax(out.logits, -1))", True),
        ("kept.append(out.logits.cpu())", False),
        ("kept.append(out.logits.argmax(-1))", False),
        ("kept.append(out.loss)", False),
        ("losses.append(model(rows))", False),
        ("of_batch = []\n            of_batch.append(out)", False),
        ("several = torch.cat([rows, rows])", False),
        ("kept.append(self._prepare_simple_model(rows))", False),
    ],
)
def test_what_a_loop_that_evaluates_keeps_of_its_model_is_named(tmp_path, keeps, is_named):
    """One way was seen, `kept.append(... logits ...)`: any other fitted with the logits of one batch."""
    before = JUDGES.format(keeps).replace("\nmodel.train()\nfor", "\nfor")

    assert (KEPT_LOGITS in named(tmp_path, before=before)) is is_named


@pytest.mark.parametrize(
    ("before", "name"),
    [
        ("kept = [model(**rows).logits for rows in held_out]", KEPT_LOGITS),
        ("mine = any(contains_model(each) for each in parts) or [contains_model(each) for each in parts]", None),
        ("kept = [model(**rows).loss.item() for rows in held_out]", None),
        ("weights = list(model.parameters())\nold = [each.detach().clone() for each in weights]", KEPT_OF_EACH),
        ("weights = list(model.parameters())\nold = [each.detach().clone().cpu() for each in weights]", None),
        ("state = model.state_dict()\nold = {k: v.clone() for k, v in state.items()}", KEPT_OF_EACH),
        ("state = model.state_dict()\nnames = [k for k, v in state.items()]", None),
        ("from copy import deepcopy as copied\nold = copied(model)", COPY),
        ("old = type(model)(model.config)", COPY),
        ("old = model.__class__(model.config)", COPY),
        ("print(type(model)); kind = model.__class__.__name__", None),
    ],
)  # fmt: skip
def test_copies_by_another_name_are_copies(tmp_path, before, name):
    """They fitted: parameters were followed from `model.parameters()` alone, and copies from the word `deepcopy`."""
    found = named(tmp_path, before=before)

    assert {name} - {None} == found & {KEPT_LOGITS, KEPT_OF_EACH, COPY}
