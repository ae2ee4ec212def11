"""What a step of a script's own holds and no formula counts is named: none of it is a silent `fits`."""

from __future__ import annotations

import re

import pytest
from launch_of_script import opens, plan_of

from preflight.scripts.uncounted.asked_in_steps import asked_in
from preflight.scripts.uncounted.own_steps import functions_of, uncounted_calls
from preflight.scripts.uncounted.uncounted import UNCOUNTED
from preflight.unpriced_names import (
    COPY,
    FORWARD_BESIDE,
    FREED_EARLY,
    GATHERED_LOGITS,
    GENERATES_TO_EVALUATE,
    GRAPH_TO_EVALUATE,
    GRAPHS,
    GROWN,
    IN_SHARDS,
    KEPT_OF_EACH,
    LARGE,
    NO_GRAPH,
    TAKEN_OFF,
    TAKES_OF_CALLS,
    WATCHED,
    WIDE_PART,
)

LOOP = """
import copy
import torch
from accelerate import Accelerator
from torch.optim.swa_utils import AveragedModel
from transformers import AutoModelForCausalLM

def main():
    accelerator = Accelerator()
    model = AutoModelForCausalLM.from_pretrained("model")
    {before}
    optimizer = {optimizer}
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for batch in loader:
        out = model(**batch)
        {inside}
        accelerator.backward(out.loss)
        optimizer.step()

main()
"""
ADAMW = "torch.optim.AdamW(model.parameters(), lr=1e-5)"


def names_of(text, used):
    return [name for name, _ in uncounted_calls(text, used, functions_of([text]), asked_in([text]))]


def found(before="pass", optimizer=ADAMW, inside="pass"):
    text = LOOP.format(before=before, optimizer=optimizer, inside=inside)
    return set(names_of(text, text))


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        ("Muon(model.parameters(), lr=1e-3)", "Muon"),
        ("SOAP([p for p in model.parameters()])", "SOAP"),
        ("torch.optim.LBFGS(params=model.parameters())", "LBFGS"),
        ("torch.optim.AdamW(model.parameters(), amsgrad=True)", "AdamW with amsgrad"),
        ("torch.optim.Adadelta(model.parameters())", "Adadelta"),
        ("optim.ADOPT(optimizer_grouped_parameters)", "ADOPT"),
        ("Lamb(params.values())", "Lamb"),
        ("Lookahead(AdamW(model.parameters()))", "Lookahead"),
        ("AdamW(model.parameters())\n    slow = Lookahead(optimizer)", "Lookahead"),
        ("BlockOptimizer(base_optimizer=AdamW(model.parameters()), named=1)", "BlockOptimizer"),
        ("FusedAdam(model.parameters(), master_weights=True)", "FusedAdam with master_weights"),
    ],
)
def test_an_optimizer_that_may_take_more_than_adamw_is_named(optimizer, name):
    assert found(optimizer=optimizer) == {f"the states of {name}"}


@pytest.mark.parametrize(
    "optimizer",
    [
        ADAMW,
        "bnb.optim.AdamW8bit(model.parameters())",
        "torch.optim.SGD(model.parameters(), lr=1e-3)",
        "make_optimizer(model.parameters())",
        "zero.GatheredParameters([p for p in model.parameters() if p.dim() == 1])",
        "Adam(model.parameters())\n    Adam = FusedAdam if fast else DeepSpeedCPUAdam",
        'fail(ValueError(f"{params} of model.parameters()"))',
        "Embedding(params.vocab_size, params.dim)",
        "AdamW(model.parameters())\n    rates = CosineAnnealingLR(optimizer, 10)",
        "AdamW(model.parameters())\n    saved = CheckpointState(model, optimizer=optimizer)",
        "hvd.DistributedOptimizer(AdamW(model.parameters()))",
    ],
)
def test_a_known_one_and_a_plain_loop_are_left_alone(optimizer):
    assert found(optimizer=optimizer) == set()


@pytest.mark.parametrize(
    ("inside", "is_second"),
    [
        ("other = model(**batch)", True),
        ("with torch.no_grad(): other = model(**batch)", False),
        ("with torch.no_grad() if frozen else nullcontext(): other = model(**batch)", True),
        ("with torch.set_grad_enabled(tuned): other = model(**batch)", True),
        ("with inference_timer(): other = model(**batch)", True),
        ("if accelerator.is_main_process: other = model(**batch)", True),
        ("for one in batch: evaluate(one)", False),
        ("if last: save_model(model, tokenizer)", False),
        ("other = self.ema_model(**batch)", True),
        ("for one in batch: total += model(**one).loss", True),
        ("total = sum(model(**one).loss for one in batch)", True),
        ("for one in batch: accelerator.backward(model(**one).loss)", False),
        ("with torch.no_grad():\n            for one in batch: model(**one)", False),
    ],
)
def test_two_graphs_at_once_are_a_second_forward_pass(inside, is_second):
    assert found(inside=inside) == ({"a second forward pass"} if is_second else set())


@pytest.mark.parametrize(
    ("before", "is_grown"),
    [
        ("batch = {key: each.repeat(4, 1) for key, each in batch.items()}", True),
        ('batch["input_ids"] = torch.cat([prompt, batch["input_ids"]], dim=1)', True),
        ("batch = {key: each.to(device) for key, each in batch.items()}", False),
        ("batch = {k: each.view(-1, each.size(-1)) for k, each in batch.items()}", True),
        ("batch = {k: each.flatten(0, 1) for k, each in batch.items()}", True),
        ("seen = torch.cat([seen, more])", False),
        ('both = torch.cat([batch["a"], batch["b"]])\n        batch = both.to("cuda")', True),
        ('ids = batch["ids"].repeat(4, 1)\n        batch["input_ids"] = ids', True),
        ('ids = batch["ids"].repeat(4, 1)\n        batch.update(input_ids=ids)', True),
        (
            'share = one.expand(4, 9)\n        batch["ids"] = torch.where(noise < share, mask, batch["ids"])',
            False,
        ),
        ('batch["position_ids"] = torch.arange(9).unsqueeze(0).expand(4, -1)', False),
        ("logits = logits.view(-1, logits.size(-1))", False),
    ],
)
def test_rows_that_a_step_grows_before_its_model_gets_them_are_named(before, is_grown):
    text = LOOP.format(before="pass", optimizer=ADAMW, inside="pass")
    text = text.replace("        out = model(", f"        {before}\n        out = model(")

    assert names_of(text, text) == ([GROWN] if is_grown else [])


def test_branches_of_which_one_is_taken_are_one_forward_pass():
    text = LOOP.format(before="pass", optimizer=ADAMW, inside="pass").replace(
        "        out = model(**batch)\n",
        "        if batch:\n            out = model(**batch)\n        else:\n            out = model()\n",
    )

    assert names_of(text, text) == []


STEP = """
class Mine(Trainer):
    def training_step(self, model, inputs, num_items_in_batch=None):
        {body}
        self.accelerator.backward(loss)
        return loss.detach()
"""


@pytest.mark.parametrize(
    ("body", "is_second"),
    [
        ("loss = self.compute_loss(model, inputs)", False),
        ("loss = sum(self.compute_loss(model, inputs) for _ in range(4))", True),
        ("loss = self.compute_loss(model, inputs) + model(**self.other).loss", True),
        ("if self.plain:\n            return super().compute_loss(model, inputs)\n        loss = model(**inputs).loss", False),
        ("if self.plain:\n            return model(**inputs).loss\n        loss = model(**inputs).loss + model(**self.other).loss", True),
        ("if self.plain:\n            loss = super().compute_loss(model, inputs)\n        loss = model(**inputs).loss", True),
        ("loss = sum(map(lambda _: model(**inputs).loss, range(3)))", True),
        ("loss = self.rows.map(function=own) and model(**inputs).loss", False),
        ("loss = model.module(**inputs).loss + model.module.forward(**inputs).loss", True),
        ("loss = model.forward(**inputs).loss + model.__call__(**inputs).loss", True),
        ("run = model\n        one = run(**inputs)\n        two = run(**inputs)\n        loss = one.loss + two.loss", True),
        ("one = model(**inputs)\n        one = self.shifted(one)\n        loss = own(one.logits)", False),
        ("run = model\n        loss = run(**inputs).loss\n        self.seen[0] = len(inputs)", False),
    ],
)  # fmt: skip
def test_a_trainer_that_asks_twice_for_its_loss_holds_two_graphs(body, is_second):
    text = STEP.format(body=body)

    assert ("a second forward pass" in names_of(text, text)) is is_second


def test_a_function_of_another_package_may_make_anything_of_a_model():
    assert found(before="model = upcycle(model, experts=8)") == {"what upcycle makes of the model"}
    assert found(before="model = set_peft_model_state_dict(model, torch.load(path))") == set()
    assert found(before="model = torch.compile(model)") == set()


@pytest.mark.parametrize(
    ("before", "name"),
    [
        ("model.lm_head = Linear(64, 500_000)", "Linear as lm_head"),
        ("model.model.layers[0] = Block()", "Block as layers[0]"),
        ("model.forward = fused(model)", "a forward of its own"),
        ("modeling_llama.LlamaForCausalLM.forward = fused", "a forward of its own"),
        ("LlamaDecoderLayer.forward = fused", "a forward of its own"),
        ("modeling_llama.LlamaMLP = Wide", "a class of its own as LlamaMLP"),
        ("LlamaRMSNorm.forward = fused", None),
        ("LlamaAttention.forward = fused", None),
        ("for l in model.model.layers: l.self_attn = Fancy(l.self_attn)", "Fancy as self_attn"),
        ("for _, m in model.named_modules(): m.forward = fused", "a forward of its own"),
        ("for l in model.model.layers: l.mlp = other.wrapped(l.mlp)", "wrapped"),
        ("for l in model.model.layers: l.mlp = torch.compile(l.mlp)", None),
        ("for l in names: l.self_attn = Fancy(l.self_attn)", None),
        ("decoder_layer.mlp = MoE(64, decoder_layer.mlp)", "MoE as mlp"),
        ("model.config = PretrainedConfig()", None),
        ("model.config.use_cache = False", None),
        ("model.generation_config = GenerationConfig()", None),
        ("model.is_parallelizable = True", None),
        ("self.head = Linear(64, 64)", None),
    ],
)
def test_a_part_of_the_model_that_is_put_in_another_place_is_named(before, name):
    assert found(before=before) == (set() if name is None else {f"what {name} makes of the model"})


@pytest.mark.parametrize(
    ("before", "inside", "name"),
    [
        ("old = copy.deepcopy(model.state_dict())", "pass", "a second copy of the model"),
        ("ema = {k: v.clone() for k, v in model.state_dict().items()}", "pass", "a second copy of the model"),
        ("ema = [p.detach().clone() for p in model.parameters()]", "pass", "a second copy of the model"),
        ("kept = {k: v.cpu().clone() for k, v in model.state_dict().items()}", "pass", None),
        ("sums = [torch.zeros_like(p) for p in model.parameters()]", "pass", "a second copy of the model"),
        ("sums = torch.zeros_like(model.lm_head.weight)", "pass", None),
        ("model.h[0].register_forward_hook(keep)", "pass", "what hooks on its layers keep"),
        ("model.wte.register_forward_hook(make_inputs_require_grad)", "pass", None),
        ("model.lm_head.register_forward_hook(\n        fp32_forward_post_hook\n    )", "pass", None),
        ("model.transformer.h.append(copy.deepcopy(model.transformer.h[0]))", "pass", "what append adds to the model"),
        ("model.add_module('head', Linear(64, 64))", "pass", "what add_module adds to the model"),
        ("model.set_input_embeddings(Embedding(9, 9))", "pass", "what set_input_embeddings adds to the model"),
        ("model.register_parameter('soft', Parameter())", "pass", "what register_parameter adds to the model"),
        ("setattr(parent, name, new_module)", "pass", "what setattr adds to the model"),
        ("setattr(model, name, Lowrank(64))", "pass", "what setattr adds to the model"),
        ("setattr(model, 'is_parallelizable', True)", "pass", None),
        ("setattr(args, name, Lowrank(64))", "pass", None),
        ("setattr(model, 'lm_head', model.transformer.output_layer)", "pass", None),
        ("model.model.layers = model.model.layers[:8]", "pass", TAKEN_OFF),
        ("model.model.layers = ModuleList(model.model.layers[:8])", "pass", TAKEN_OFF),
        ("del model.model.layers[8:]", "pass", TAKEN_OFF),
        ("policy = model\n    old = copy.deepcopy(policy)", "pass", "a second copy of the model"),
        ("pass", "ema = copy.deepcopy(accelerator.unwrap_model(model))", "a second copy of the model"),
        ("old = copy.deepcopy(model.config)", "pass", None),
        ("model_names.append(read())", "pass", None),
        ("pass", "accelerator.backward(out.loss, retain_graph=True)", "a graph that is kept"),
        ("pass", "optimizer.zero_grad(set_to_none=False)", None),
        ("pass", "if later: optimizer.zero_grad(set_to_none=False)", "gradients that stay between steps"),
        ("pass", "optimizer.zero_grad(set_to_none=True)", "gradients that stay between steps"),
        ("pass", "norm = torch.autograd.grad(out.loss, x)", "derivatives that a script takes itself"),
        ("kept = []", "kept.append(out.logits.detach())", "logits that a loop keeps"),
        ("kept = []", "kept.append(out.logits.argmax(-1).cpu())", None),
        ("trainer.hyperparameter_search(backend='optuna')", "pass", "trials of a search of hyperparameters"),
        ("pass", "all_of = accelerator.gather(out.logits)", "logits gathered from every rank"),
        ("pass", "all_of = accelerator.gather(out.logits.argmax(-1))", None),
        ("pass", "all_of = accelerator.gather(out.loss)", None),
        ("pass", "told = torch.gather(out.logits.detach(), 2, batch)", None),
        ("other = torch.optim.AdamW(model.parameters())", "pass", "the states of a second optimizer"),
        ("other = torch.optim.AdamW(critic.parameters())", "pass", None),
        ("pass", "answers = model.generate(**batch)", "generation within a step"),
        ("shown = model.generate(**batch)", "pass", None),
        ("preprocess_loraga(model, config, step)", "pass", "a pass over data that an adapter begins with"),
        ("with torch.autograd.graph.saved_tensors_hooks(keep, give):\n    pass", "pass", "what hooks on saved tensors keep"),
        ("shapes = Counter(p.shape for p in model.parameters())", "pass", None),
        ("parallelize_module(model, mesh, plan)", "pass", "tensor parallelism of the script's own"),
        ("torch.cuda.set_per_process_memory_fraction(0.5)", "pass", "a limit on the device's memory"),
        ("model = model.double()", "pass", "weights in 64 bits"),
        ("model.to(torch.float64)", "pass", "weights in 64 bits"),
        ("total = out.to(torch.float64)", "pass", None),
        ("model.lm_head.float()", "pass", WIDE_PART),
        ("model.lm_head = model.lm_head.to(torch.float32)", "pass", WIDE_PART),
        ("model.get_output_embeddings().to(dtype=torch.float32)", "pass", WIDE_PART),
        ("model.lm_head.weight.data = model.lm_head.weight.data.float()", "pass", WIDE_PART),
        ("for layer in model.model.layers:\n        layer.mlp.float()", "pass", WIDE_PART),
        ("for layer in model.model.layers:\n        layer.input_layernorm.float()", "pass", None),
        ("model.model.norm.float()", "pass", None),
        ("pass", "logits = model.lm_head(out[0]).float()", None),
        ("model.lm_head = Linear(64, 500_000).cuda()", "pass", "what Linear as lm_head makes of the model"),
        ("setattr(model, 'lm_head', Lowrank(64).to(device))", "pass", "what Lowrank as lm_head makes of the model"),
        ("blank = torch.empty(8 * 2**30, dtype=torch.uint8, device='cuda')", "pass", LARGE),
        ("blank = torch.zeros((4096, 32_000), device=accelerator.device)", "pass", LARGE),
        ("blank = torch.zeros(4096, 32_000)", "pass", None),
        ("blank = torch.zeros(8, 4096, device='cuda')", "pass", None),
        ("blank = torch.zeros(rows, 32_000, device='cuda')", "pass", None),
        ("model, o, l = PrivacyEngine().make_private(module=model)", "pass", "gradients of every row"),
    ],
)  # fmt: skip
def test_copies_and_answers_are_named(tmp_path, before, inside, name):
    text = LOOP.format(before=before, optimizer=ADAMW, inside=inside)
    plan = plan_of(tmp_path, "accelerate launch --num_processes 2 t.py", {"t.py": text})
    held = {notice.unpriced for notice in plan.notices} - {"", "frozen parameters"}

    assert held == (set() if name is None else {name})


def test_a_loop_that_zeroes_its_gradients_keeps_them(tmp_path):
    def kept(words):
        text = LOOP.format(before="pass", optimizer=ADAMW, inside=f"optimizer.zero_grad({words})")
        return plan_of(tmp_path, "python t.py", {"t.py": text}).zero_grad_set_to_none

    assert kept("set_to_none=False") is False and kept("False") is False
    assert kept("") is None and kept("set_to_none=True") is None


OVERRIDES = """
class Own(Trainer):
    def {method}(self, model, inputs, **more):
        {before}
        return super().{method}(model, inputs, **more)
"""


@pytest.mark.parametrize(
    "method",
    ["training_step", "compute_loss", "_prepare_inputs", "_prepare_input", "get_batch_samples"],
)
@pytest.mark.parametrize(
    ("before", "is_grown"),
    [
        ("inputs = {name: torch.cat([each, each]) for name, each in inputs.items()}", True),
        ("inputs = {name: each.to(self.args.device) for name, each in inputs.items()}", False),
    ],
)
def test_so_are_rows_that_a_trainer_grows_for_its_base(method, before, is_grown):
    text = OVERRIDES.format(method=method, before=before)

    assert names_of(text, text) == ([GROWN] if is_grown else [])


@pytest.mark.parametrize(
    ("inside", "held"),
    [
        ("total += out.loss", True),
        ("total = total + out.loss / 4", True),
        ("total = out.loss", False),
        ("total = out.loss\n        total = total / 4", False),
        ("shown += out.loss.item()\n        total = out.loss", False),
        ("pass", False),
    ],
)
def test_graphs_of_rounds_whose_gradient_is_taken_later_are_named(inside, held):
    text = LOOP.format(before="total = shown = 0", optimizer=ADAMW, inside=inside)
    text = text.replace(
        "accelerator.backward(out.loss)",
        "if step % 4 == 3:\n            accelerator.backward(total)",
    )

    assert names_of(text, text) == ([GRAPHS] if held else [])


@pytest.mark.parametrize(
    ("inside", "taken", "held"),
    [
        ("losses.append(out.loss)", "sum(losses)", True),
        ("losses.append(out.loss / 4)", "torch.stack(losses).mean()", True),
        ("losses.append(out.loss.item())", "out.loss", False),
        ("losses.append(out.loss.detach())", "sum(losses)", False),
        ("losses.append(out.loss)", "out.loss", False),
    ],
)
def test_so_are_graphs_that_a_list_holds(inside, taken, held):
    text = LOOP.format(before="losses = []", optimizer=ADAMW, inside=inside)
    text = text.replace(
        "accelerator.backward(out.loss)",
        f"if step % 4 == 3:\n            total = {taken}\n            accelerator.backward(total)",
    )

    assert names_of(text, text) == ([GRAPHS] if held else [])


@pytest.mark.parametrize(("leaves", "held"), [("continue", True), ("pass", False)])
def test_so_are_those_behind_what_leaves_out_a_round(leaves, held):
    text = LOOP.format(before="total = 0", optimizer=ADAMW, inside="total += out.loss")
    text = text.replace(
        "accelerator.backward(out.loss)",
        f"if step % 4 != 3:\n            {leaves}\n        accelerator.backward(total)",
    )

    assert (GRAPHS in names_of(text, text)) is held


def test_a_gradient_that_either_branch_takes_is_taken_in_every_round():
    text = LOOP.format(before="total = 0", optimizer=ADAMW, inside="total = total / 4 + out.loss")
    text = text.replace(
        "accelerator.backward(out.loss)",
        "if scaler:\n            scaler.scale(total).backward()\n        else:\n            total.backward()",
    )

    assert GRAPHS not in names_of(text, text)


SHARDED = "ZeroRedundancyOptimizer(model.parameters(), optimizer_class=torch.optim.{inner}, lr=1e-5{more})"
WHOLE = {"the states of ZeroRedundancyOptimizer": "either"}


@pytest.mark.parametrize(
    ("inner", "more", "inside", "named"),
    [
        ("AdamW", "", "pass", {f"the states of {IN_SHARDS}": "less"}),
        ("SGD", ", fused=True", "pass", {f"the states of {IN_SHARDS}": "less"}),
        ("LBFGS", "", "pass", WHOLE),
        ("AdamW", ", amsgrad=True", "pass", {f"the states of {IN_SHARDS} with amsgrad": "either"}),
        ("AdamW", ", parameters_as_bucket_view=True", "pass", WHOLE),
        ("AdamW", ", **options", "pass", WHOLE),
        ("AdamW", "", "optimizer.consolidate_state_dict()", WHOLE),
    ],
)
def test_states_that_ranks_divide_take_less_than_whole_ones(tmp_path, inner, more, inside, named):
    optimizer = SHARDED.format(inner=inner, more=more)
    text = LOOP.format(before="pass", optimizer=optimizer, inside=inside)
    plan = plan_of(tmp_path, "accelerate launch --num_processes 2 t.py", {"t.py": text})

    assert {each.unpriced: each.takes for each in plan.notices if each.unpriced} == named
    if inner == "AdamW" and more == "":
        assert plan.optimizer == "adamw_torch"


def test_lines_that_nothing_leads_to_say_nothing():
    text = LOOP.format(before="pass", optimizer="Muon(model.parameters())", inside="pass")
    without = text.replace("    optimizer = Muon(model.parameters())\n", "\n")

    assert names_of(text, text) == ["the states of Muon"]
    assert names_of(text, without) == []


@pytest.mark.libraries
def test_every_adapter_and_every_scheme_of_the_installed_libraries_is_named():
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    classes = (*PEFT_TYPE_TO_CONFIG_MAPPING.values(), *AUTO_QUANTIZATION_CONFIG_MAPPING.values())
    silent = {
        cls.__name__
        for cls in classes
        if not any(re.search(pattern, f"{cls.__name__}(") for pattern, _ in UNCOUNTED.values())
    }

    assert silent == {"LoraConfig", "BitsAndBytesConfig"}


@pytest.mark.parametrize(
    ("before", "name"),
    [
        ("ema = copy.deepcopy(model)", "a second copy of the model"),
        ("ema = AveragedModel(model)", "a second copy of the model"),
        ("convert_to_float8_training(model)", "float8 linear layers and a float8 head"),
        ('model = torch.compile(model, mode="reduce-overhead")', "CUDA graphs"),
        ("opt = Muon(model.parameters())", "the states of Muon"),
        ("load(quantization_config=HqqConfig(nbits=4))", "weights stored by another scheme"),
        ("get_peft_model(model, LoKrConfig())", "an adapter that is not LoRA"),
        ("for p in a: p.requires_grad = name in p", "frozen parameters"),
        ("ParallelismConfig(dp_replicate_size=2)", "replicas of a ParallelismConfig"),
        ('load(device_map="auto")', "a model divided over the devices of one process"),
        ("model.parallelize()", "a model divided over the devices of one process"),
    ],
)
def test_a_launch_says_what_its_script_holds_beside_the_estimate(tmp_path, before, name):
    text = LOOP.format(before=before, optimizer=ADAMW, inside="pass")
    plan = plan_of(tmp_path, "accelerate launch --num_processes 2 t.py", {"t.py": text})

    assert name in {notice.unpriced for notice in plan.notices}


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("import torch_xla.core.xla_model as xm", {"kernels of an accelerator that runs no CUDA"}),
        (
            "from optimum.habana import GaudiConfig\nconfig = GaudiConfig()",
            {"kernels of an accelerator that runs no CUDA"},
        ),
        ("if is_torch_npu_available():\n    import torch_npu", set()),  # for who has one
    ],
)
def test_a_script_for_another_accelerator_says_so(tmp_path, line, names):
    text = LOOP.format(before="pass", optimizer=ADAMW, inside="pass")
    plan = plan_of(
        tmp_path, "accelerate launch --num_processes 2 t.py", {"t.py": f"{line}\n{text}"}
    )

    assert {notice.unpriced for notice in plan.notices} - {""} == names


COPIED = """
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
class Own(Trainer):
    def create_optimizer(self):
        if self.sharded_ddp == "simple":
            self.optimizer = OSS(params=self.model.parameters(), optim=chosen)
arguments, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
Own(model=AutoModelForCausalLM.from_pretrained("gpt2"), args=arguments, train_dataset=rows).train()
"""


@pytest.mark.parametrize(("flags", "is_named"), [("", False), (" --sharded_ddp simple", True)])
def test_states_that_an_argument_asks_for_are_there_with_it(tmp_path, flags, is_named):
    plan = plan_of(tmp_path, f"python t.py --output_dir out{flags}", {"t.py": COPIED})

    assert ("the states of OSS" in {notice.unpriced for notice in plan.notices}) is is_named


PICKED = """
from optimizers import Triple
from torch.optim import SGD
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
def picking(base):
    class Own(base):
        @staticmethod
        def get_optimizer_cls_and_kwargs(args, model=None):
            {line}
            return cls, dict(lr=args.learning_rate)
    return Own
arguments, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
kind = picking(Trainer)
kind(model=AutoModelForCausalLM.from_pretrained("gpt2"), args=arguments, train_dataset=rows).train()
"""


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("cls = Triple", "the states of Triple"),
        ("cls = Triple if model else SGD", "the states of Triple"),
        ("cls = KINDS[args.optim]", "the states of an optimizer"),
        ("cls = SGD", ""),
        ("cls, more = Trainer.get_optimizer_cls_and_kwargs(args, model)", ""),
    ],
)
def test_states_of_a_class_that_a_method_gives_the_trainer_are_named(tmp_path, line, name):
    plan = plan_of(tmp_path, "python t.py --output_dir out", {"t.py": PICKED.format(line=line)})

    assert name in {"", *(notice.unpriced for notice in plan.notices)}
    assert name or not any("the states of" in notice.unpriced for notice in plan.notices)


PART = """
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
def adapt(part):
    return get_peft_model(part, LoraConfig(r=8, target_modules="all-linear"))
model = AutoModelForCausalLM.from_pretrained("gpt2")
{lines}
Trainer(model=model, args=TrainingArguments("out"), train_dataset=rows).train()
"""


@pytest.mark.parametrize(
    ("lines", "trains_more"),
    [
        ("model.transformer = adapt(model.transformer)", True),
        ("model.transformer = get_peft_model(model.transformer, LoraConfig(r=8))", True),
        ("model.requires_grad_(False)\nmodel.transformer = adapt(model.transformer)", False),
        ("model = adapt(model)", False),
    ],
)
def test_a_head_beside_the_part_that_has_an_adapter_trains(tmp_path, lines, trains_more):
    plan = plan_of(tmp_path, "python t.py", {"t.py": PART.format(lines=lines)})
    named = "what is trained beside the adapter" in {notice.unpriced for notice in plan.notices}

    assert named is trains_more


CALLBACK = """
from transformers import TrainerCallback
class Watch(TrainerCallback):
    def {method}(self, args, state, control, model=None, **kwargs):
        {line}
"""


@pytest.mark.parametrize(
    ("method", "line", "name"),
    [
        ("on_log", "with torch.no_grad(): model(self.rows)", "a forward pass in a callback"),
        ("on_step_end", "model.generate(self.rows)", "generation in an evaluation"),
        ("on_save", "model.save_pretrained('out')", None),
        ("shown", "model(self.rows)", None),
    ],
)
def test_what_a_callback_asks_of_the_model_is_named(method, line, name):
    text = CALLBACK.format(method=method, line=line)

    assert names_of(text, text) == ([name] if name else [])


OF_TRAINER = """
from transformers import Trainer
class OwnTrainer(Trainer):
    def {method}(self, *given, **named):
        {line}
        return super().{method}(*given, **named)

    def answered(self, rows):
        return self.model.generate(rows, max_new_tokens=64)

    def asked(self, rows):
        return self.model(rows).logits
"""


@pytest.mark.parametrize(
    ("method", "line", "name"),
    [
        ("log", "self.model.generate(self.prompt)", "generation within a step"),
        ("_prepare_inputs", "rows = self.answered(given[0])", "generation within a step"),
        ("training_step", "rows = self.answered(given[1])", "generation within a step"),
        ("_prepare_inputs", "scores = self.model(**given[0])", "a forward pass in a callback"),
        ("log", "shown = self.asked(self.prompt)", "a forward pass in a callback"),
        ("get_batch_samples", "rows = self.answered(given[0])", None),
        ("log", "self.store(given[0])", None),
    ],
)
def test_what_a_trainer_of_ones_own_generates_in_every_step_is_named(method, line, name):
    text = OF_TRAINER.format(method=method, line=line)

    assert {*names_of(text, text)} == ({name} if name else set())


AFTER = """
def validate(model, rows):
    for batch in rows:
        {line}

for batch in loader:
    model(**batch).loss.backward()
    optimizer.step()
validate(model, held_out)
"""


@pytest.mark.parametrize(
    ("line", "is_named"),
    [
        ("answers = model.generate(**batch, max_new_tokens=1024)", True),
        ("answers = accelerator.unwrap_model(model).generate(**batch)", True),
        ("answers = engine.module.generate(batch)", True),
        ("answers = model.my_generate(batch)", True),
        ("answers = accelerator.unwrap_model(model).generate_text(batch)", True),
        ("mask = model.generate_square_subsequent_mask(64)", False),
        ("answers = llm.generate(batch)", False),
        ("loss = model(**batch).loss", False),
    ],
)
def test_answers_that_a_loop_beside_the_step_generates_are_named(line, is_named):
    text = AFTER.format(line=line)

    assert names_of(text, text) == (["generation in an evaluation"] if is_named else [])


KEEPS = """
kept = {{}}
for batch in loader:
    model(**batch).loss.backward()
    for name, parameter in model.named_parameters():
        {line}
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("line", "is_named"),
    [
        ("kept[name] = parameter.data.clone()", True),
        ("kept[name] = parameter.detach().clone().float()", True),
        ("kept.append(parameter.grad ** 2)", True),
        ("kept[name] = 0.9 * kept[name] + 0.1 * parameter.data", True),
        ("kept[name] = torch.zeros_like(parameter)", True),
        ("kept[name] = parameter.detach().cpu().clone()", False),
        ("kept[name] = parameter.grad.norm()", False),
        ("kept[name] = parameter.numel() * 2", False),
        ("mine = parameter.detach().float(); kept.append(mine)", True),
        ("mine = parameter.detach().float().cpu(); kept.append(mine)", False),
        ("mine = parameter.grad.float().norm(); kept.append(mine)", False),
        ("kept.append(parameter)", False),
        ("parameter.data = parameter.data.to(torch.bfloat16)", False),
    ],
)
def test_what_a_loop_keeps_of_every_parameter_is_named(line, is_named):
    text = KEEPS.format(line=line)

    assert names_of(text, text) == ([KEPT_OF_EACH] if is_named else [])


ALONE = """
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
import other
model = AutoModelForCausalLM.from_pretrained("gpt2")
{change}
Trainer(model=model, args=TrainingArguments("out"), train_dataset=rows).train()
"""


def test_a_batch_that_may_be_smaller_hides_nothing_that_takes_more(tmp_path):
    """A launch with what takes less may fit: what a script holds beside it is named all the same."""
    text = ALONE.format(change="model = other.Wrapped(model)")
    text = text.replace('("out")', '("out", auto_find_batch_size=True)')
    plan = plan_of(tmp_path, "python t.py", {"t.py": text})

    assert {each.unpriced for each in plan.notices} - {""} == {
        "the smaller micro batch that auto_find_batch_size finds",
        "what Wrapped makes of the model",
    }


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("model = other.Wrapped(model)", "what Wrapped makes of the model"),
        ("model = other.widened(model)", "what widened makes of the model"),
        ("model.model.layers.extend(other.layers())", "what extend adds to the model"),
        ("model = other.SyncBatchNorm.convert_sync_batchnorm(model)", None),
    ],
)
def test_a_script_without_a_loop_of_its_own_is_looked_into_too(tmp_path, change, name):
    plan = plan_of(tmp_path, "python t.py", {"t.py": ALONE.format(change=change)})

    assert {each.unpriced for each in plan.notices} - {""} == ({name} if name else set())


METRICS = """
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
args = TrainingArguments("out", eval_strategy={strategy!r})
model = AutoModelForCausalLM.from_pretrained("model")
Trainer(model=model, args=args, compute_metrics=score).train()
"""


@pytest.mark.parametrize(("strategy", "is_held"), [("steps", True), ("no", False)])
def test_metrics_gather_the_logits_of_an_evaluation_that_runs(tmp_path, strategy, is_held):
    """Trainer keeps every batch's logits on the device until the evaluation ends (evaluation_loop, 5.24.0)."""
    text = METRICS.format(strategy=strategy)
    plan = plan_of(tmp_path, "accelerate launch --num_processes 2 t.py", {"t.py": text})
    held = GATHERED_LOGITS in {notice.unpriced for notice in plan.notices}

    assert held is is_held


TRAINER = """
import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, TrainingArguments
from trl import SFTTrainer, get_peft_config
from elsewhere import build
args = TrainingArguments("out", per_device_train_batch_size=1)
model = AutoModelForCausalLM.from_pretrained("model")
{before}
SFTTrainer(model=model, args=args, {more}).train()
"""


@pytest.mark.parametrize(
    ("before", "more", "is_open"),
    [
        ("model = get_peft_model(model, build())", "", True),
        ('model = PeftModel.from_pretrained(model, "adapter", is_trainable=True)', "", True),
        ('model.load_adapter("adapter")', "", True),
        ("pass", "peft_config=build()", True),
        ("config = build()", "peft_config=config", True),
        ("config = get_peft_config(flags)", "peft_config=config", False),
        ("config = build()\nconfig = config if flags else None", "peft_config=config", True),
        ("config = get_peft_config(flags) if flags else None", "peft_config=config", False),
        ("pass", "peft_config=None", False),
        ("pass", "", False),
    ],
)
def test_an_adapter_that_is_made_where_nobody_looks_is_open(tmp_path, before, more, is_open):
    """A refusal would stand on the full fine-tuning that it is not."""
    text = TRAINER.format(before=before, more=more)
    plan = plan_of(tmp_path, "accelerate launch --num_processes 2 t.py", {"t.py": text})

    assert ("adapter" in opens(plan)) is is_open


OF_FOLDER = """
from dataclasses import dataclass, field
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

@dataclass
class Arguments(TrainingArguments):
    begin: str = field(default=None)
    use_lora: bool = field(default=False)
    lora_rank: int = field(default=8)
    target_modules: str = field(default="q_proj,v_proj")

(args,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
model = AutoModelForCausalLM.from_pretrained("model")
if args.begin is not None:
    model = PeftModel.from_pretrained(model, args.begin{more})
    {after}
else:
    model = get_peft_model(model, LoraConfig(r=args.lora_rank, target_modules=args.target_modules.split(",")))
Trainer(model=model, args=args).train()
"""


@pytest.mark.parametrize(
    ("flags", "more", "after", "kinds"),
    [
        ("", "", "pass", {(8, ("q_proj", "v_proj"))}),
        ("--begin a", ", is_trainable=True", "pass", {(8, None), (256, "all-linear")}),
        ("--begin a --use_lora 1", ", is_trainable=True", "pass", {(8, None), (256, "all-linear")}),
        ("--begin a", ", is_trainable=True", "model = model.merge_and_unload()", {None}),
        ("--begin a", "", "pass", {None}),
    ],
)
def test_an_adapter_of_a_folder_has_the_size_that_the_folder_says(
    tmp_path, flags, more, after, kinds
):
    """It was taken for none, since a LoraConfig stands in the branch that does not run: a whole model was estimated."""
    text = OF_FOLDER.format(more=more, after=after)
    plan = plan_of(tmp_path, f"torchrun t.py {flags}", {"t.py": text})
    may_be = plan.origins["adapter"].may_be or (plan.adapter,)

    assert kinds <= {None if each is None else (each.rank, each.targets) for each in may_be}


PERHAPS = """
import os
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
model = AutoModelForCausalLM.from_pretrained("model")
if os.path.exists("out"):
    model = PeftModel.from_pretrained(model, "out", is_trainable=True)
else:
    model = get_peft_model(model, LoraConfig({written}))
Trainer(model=model, args=TrainingArguments("out")).train()
"""


@pytest.mark.parametrize(
    ("written", "adapters"),
    [
        ("r=64, target_modules=['q_proj'], modules_to_save=['lm_head']", {(64, ("q_proj",))}),
        ("r=64, target_modules='all-linear', use_dora=True", {(64, "all-linear")}),
        ("r=pick(), target_modules=['q_proj']", {(8, ("q_proj",)), (256, ("q_proj",))}),
        ("r=32, target_modules=names_of(model)", {(32, None), (32, "all-linear")}),
        ("target_modules=['q_proj'], **more", {(8, ("q_proj",)), (256, ("q_proj",))}),
    ],
)
def test_an_adapter_that_may_be_made_may_be_what_is_written(tmp_path, written, adapters):
    """A large one was estimated as the usual small one, and said to fit."""
    text = PERHAPS.format(written=written)
    plan = plan_of(tmp_path, "torchrun t.py", {"t.py": text})
    may_be = plan.origins["adapter"].may_be

    assert adapters <= {(each.rank, each.targets) for each in may_be if each is not None}
    assert ("modules_to_save" in written) <= any(each and each.modules_to_save for each in may_be)
    assert ("dora" in written) <= any(each and each.kind == "dora" for each in may_be)


BETWEEN = """
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

class Shows(TrainerCallback):
    def {name}(self, args, state, control, model=None, **more):
        {does}

model = AutoModelForCausalLM.from_pretrained("model")
Trainer(model=model, args=TrainingArguments("out"), callbacks=[Shows()]).train()
"""


@pytest.mark.parametrize(
    ("name", "does", "is_held"),
    [
        ("on_evaluate", "print(model.generate(rows))", True),
        ("on_epoch_end", "print(state)", False),
        ("describe", "print(model.generate(rows))", False),
    ],
)
def test_answers_that_are_generated_between_steps_are_named(tmp_path, name, does, is_held):
    text = BETWEEN.format(name=name, does=does)
    plan = plan_of(tmp_path, "python t.py", {"t.py": text})
    held = {notice.unpriced for notice in plan.notices}

    assert ("generation in an evaluation" in held) is is_held


TO_EVALUATE = """
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

class Answers(Trainer):
    def {name}(self, *given, **more):
        return self.model.generate(given[0], max_new_tokens=64)

model = AutoModelForCausalLM.from_pretrained("model")
trainer = Answers(model=model, args=TrainingArguments("out", {when}), train_dataset=rows, eval_dataset=others)
trainer.train()
{after}
"""


@pytest.mark.parametrize(
    ("name", "when", "after", "is_held"),
    [
        ("prediction_step", "eval_strategy='steps'", "", True),
        ("prediction_step", "", "trainer.predict(others)", True),
        ("evaluate", "", "trainer.evaluate()", True),
        ("prediction_step", "", "", False),
        ("evaluate", "eval_strategy='no'", "", False),
    ],
)
def test_answers_of_a_trainers_evaluation_are_where_it_evaluates(
    tmp_path, name, when, after, is_held
):
    text = TO_EVALUATE.format(name=name, when=when, after=after)
    plan = plan_of(tmp_path, "python t.py", {"t.py": text})

    assert (GENERATES_TO_EVALUATE in {notice.unpriced for notice in plan.notices}) is is_held


EVALUATES = """
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

class Own(Trainer):
    {above}def {name}(self, model, inputs, *given):
        {inside}

model = AutoModelForCausalLM.from_pretrained("model")
trainer = Own(model=model, args=TrainingArguments("out", {when}), train_dataset=rows, eval_dataset=others)
trainer.train()
"""
EVERY = "eval_strategy='steps'"


@pytest.mark.parametrize(
    ("name", "above", "inside", "when", "is_held"),
    [
        ("prediction_step", "", "return model(**inputs).loss, None, None", EVERY, True),
        ("evaluate", "", "return {'loss': self.model(**inputs).loss}", EVERY, True),
        ("prediction_step", "", "return model(**inputs).loss, None, None", "", False),
        ("prediction_step", "", "with torch.no_grad():\n            return model(**inputs).loss, None, None", EVERY, False),
        ("prediction_step", "", "with torch.set_grad_enabled(False):\n            return model(**inputs).loss", EVERY, False),
        ("prediction_step", "@torch.inference_mode()\n    ", "return model(**inputs).loss, None, None", EVERY, False),
        ("prediction_step", "", "return super().prediction_step(model, inputs, *given)", EVERY, False),
        ("look", "", "return model(**inputs).loss", EVERY, False),
    ],
)  # fmt: skip
def test_a_trainers_own_evaluation_keeps_a_graph_where_nothing_turns_it_off(
    tmp_path, name, above, inside, when, is_held
):
    """Trainer has `no_grad` in the method that is written anew, and a model that evaluates recomputes nothing."""
    text = EVALUATES.format(name=name, above=above, inside=inside, when=when)
    plan = plan_of(tmp_path, "python t.py", {"t.py": text})

    assert (GRAPH_TO_EVALUATE in {notice.unpriced for notice in plan.notices}) is is_held


@pytest.mark.parametrize(
    ("function", "does", "is_held"),
    [
        ("def probe(model, rows):\n    return model(**rows).logits", "self.seen = probe(model, self.rows)", True),
        ("def probe(model, rows):\n    return len(rows)", "self.seen = probe(model, self.rows)", False),
        ("def probe(model, rows):\n    return model(**rows).logits", "self.seen = len(self.rows)", False),
    ],
)  # fmt: skip
def test_what_a_callback_has_a_function_ask_the_model_is_named(function, does, is_held):
    text = f"{function}\n\nclass Looks(TrainerCallback):\n    def on_step_end(self, args, state, control, model=None, **more):\n        {does}\n"

    assert (FORWARD_BESIDE in names_of(text, text)) is is_held


@pytest.mark.parametrize(
    ("copied", "is_model"),
    [
        ("model", True), ("self.model_wrapped", True), ("ref_model", True), ("model_engine", True), ("model.state_dict()", True),
        ("model_inputs", False), ("model_args", False), ("model_kwargs", False), ("model_init_kwargs", False),
        ("args.model_config", False), ("model_outputs", False), ("model_data", False),
    ],
)  # fmt: skip
def test_a_copy_is_of_what_is_called_a_model_and_not_of_what_it_is_given(tmp_path, copied, is_model):  # fmt: skip
    text = TO_EVALUATE.format(name="note", when="", after=f"kept = copy.deepcopy({copied})")
    plan = plan_of(tmp_path, "python t.py", {"t.py": text})

    assert (COPY in {notice.unpriced for notice in plan.notices}) is is_model


@pytest.mark.parametrize(("launch", "is_held"), [("python t.py", True), ("torchrun --nproc_per_node 2 t.py", False)])  # fmt: skip
def test_replicas_of_one_process_are_named(tmp_path, launch, is_held):
    text = LOOP.format(
        before="model = torch.nn.DataParallel(model)", optimizer=ADAMW, inside="pass"
    )
    plan = plan_of(tmp_path, launch, {"t.py": text})

    assert ("replicas of nn.DataParallel" in {n.unpriced for n in plan.notices}) is is_held


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("with torch.no_grad(): h = self.base(**batch)", NO_GRAPH),
        ("with torch.inference_mode(): h = self.base.encode(batch)", NO_GRAPH),
        ("with torch.no_grad(): scale = torch.ones(2)", None),
        ("h = self.base(**batch)", None),
    ],
)
def test_a_part_that_a_forward_runs_without_a_graph_takes_less(line, name):
    """A head on a frozen body was refused for the gradients of the body, which gets none."""
    text = f"class Probe(torch.nn.Module):\n    def forward(self, **batch):\n        {line}\n        return h\n"

    assert set(names_of(text, text)) == ({name} if name else set())
    assert TAKES_OF_CALLS[NO_GRAPH] == "less"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("parameter.register_post_accumulate_grad_hook(step)", FREED_EARLY),
        ("model, optimizer = amp.initialize(model, optimizer)", "what apex makes of model and optimizer"),
    ],
)  # fmt: skip
def test_what_changes_gradients_and_states_is_named(line, name):
    assert re.search(UNCOUNTED[name][0], line)


@pytest.mark.parametrize(
    ("line", "is_named"),
    [
        ("wandb.watch(model)", True),
        ("self.run.watch(model, log='all', log_freq=10)", True),
        ("wandb.watch(\n    model,\n    log='parameters',\n)", False),
        ("wandb.watch(model, log=None)", False),
        ("files.watch(model)", False),
    ],
)
def test_gradients_that_are_watched_on_the_card_are_named(line, is_named):
    assert (re.search(UNCOUNTED[WATCHED][0], line) is not None) is is_named
