"""Run TRL's own trainers for two steps on the CPU, and count what is alive in each part of the second, as JSON.

The models are random and tiny; every row fills its length, so that no mask reaches attention. TRL's fused head runs as on a
GPU with Triton, in place. Usage: objective_steps.py CASES_JSON FOLDER
"""

from __future__ import annotations

import gc
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace

import own_pairs
import torch
from allocations import Allocations
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from preflight.trace import fused_head
from preflight.trace.patches import replaced

ROWS = 8
KNOWN_WORDS = 50


def tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    words = ["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(vocab_size - 3))]
    plain = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def answers(num_words: int) -> list[str]:
    return [
        "".join(f" w{random.randrange(KNOWN_WORDS)}" for _ in range(num_words)) for _ in range(ROWS)
    ]


def data_of(objective: str, length: int) -> Dataset:
    """Return rows that are cut at the length; a reward model's have it, because longer ones are dropped."""
    prompts = ["w1"] * ROWS
    if objective == "sft":
        return Dataset.from_dict({"text": answers(length + 8)})
    if objective == "kto":
        labels = [True, False] * (ROWS // 2)
        return Dataset.from_dict(
            {"prompt": prompts, "completion": answers(length + 8), "label": labels}
        )
    num_words = length - 2 if objective == "reward" else length + 8
    chosen, rejected = answers(num_words), answers(num_words)
    return Dataset.from_dict({"prompt": prompts, "chosen": chosen, "rejected": rejected})


class Pairs(Trainer):
    """Scores chosen and rejected one after the other, or side by side, as scripts of people's own do."""

    def compute_loss(self, model, inputs, return_outputs=False, **_):
        rows = inputs["input_ids"]
        if self.args.run_name == "one after the other":
            chosen, rejected = (model(input_ids=ids).logits for ids in (rows[0::2], rows[1::2]))
        else:
            scores = model(input_ids=rows).logits
            chosen, rejected = scores[0::2], scores[1::2]
        return -torch.nn.functional.logsigmoid(chosen - rejected).mean()


def pairs_of(case: dict, folder: Path) -> Trainer:
    """Return a Trainer with a loss of its own over pairs of answers."""
    config = AutoConfig.for_model(**case["config"], pad_token_id=0, eos_token_id=1, num_labels=1)
    torch.manual_seed(0)
    is_scored = case["objective"].startswith("scored")
    kind = AutoModelForSequenceClassification if is_scored else AutoModelForCausalLM
    model = kind.from_config(config)
    model = model.to({"bf16": torch.bfloat16, "fp32": torch.float32}[case["load"]])
    arguments = TrainingArguments(
        output_dir=str(folder / "out"), per_device_train_batch_size=case["micro"], max_steps=2, use_cpu=True,
        report_to=[], save_strategy="no", optim="adamw_torch_fused", bf16=case.get("autocast", False),
        dataloader_pin_memory=False, disable_tqdm=True, remove_unused_columns=False, run_name=case["how"],
        gradient_checkpointing=case.get("checkpointing", False),
        gradient_checkpointing_kwargs={"use_reentrant": False},
        gradient_accumulation_steps=case.get("accumulation", 1),
    )  # fmt: skip

    def collated(features: list[dict]) -> dict:
        both = [ids for each in features for ids in (each["chosen"], each["rejected"])]
        return {"input_ids": torch.tensor(both)}

    words = [[random.randrange(3, KNOWN_WORDS) for _ in range(case["length"])] for _ in range(ROWS)]
    rows = Dataset.from_dict({"chosen": words, "rejected": words})
    trainer = Pairs if is_scored else getattr(own_pairs, case["how"])
    return trainer(model=model, args=arguments, train_dataset=rows, data_collator=collated)


def lora_of(case: dict, task: str = "CAUSAL_LM"):
    """Return PEFT's config of a case's adapter, on queries and values."""
    from peft import LoraConfig

    return LoraConfig(
        r=case["rank"], target_modules=["q_proj", "v_proj"], lora_dropout=0.0, task_type=task
    )


def saved(case: dict, folder: Path) -> None:
    """Write a random model and its tokenizer."""
    config = AutoConfig.for_model(**case["config"], pad_token_id=0, eos_token_id=1)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer(case["config"]["vocab_size"]).save_pretrained(folder)


def trainer_of(case: dict, folder: Path):
    """Return the trainer of a case, as a script of TRL's would make it."""
    if case["objective"].startswith("scored") or case["objective"] == "preference_pairs":
        return pairs_of(case, folder)
    objective, words = case["objective"], tokenizer(case["config"]["vocab_size"])
    if not folder.exists():
        saved(case, folder)
    arguments = {
        "output_dir": str(folder / "out"), "per_device_train_batch_size": case["micro"], "max_steps": 2,
        "use_cpu": True, "report_to": [], "save_strategy": "no", "optim": "adamw_torch_fused",
        "bf16": case.get("autocast", False), "gradient_checkpointing": case.get("checkpointing", False),
        "dataloader_pin_memory": False, "disable_tqdm": True, "max_length": case["length"],
        **case.get("arguments", {}),
    }  # fmt: skip
    common = {"train_dataset": data_of(objective, case["length"]), "processing_class": words}
    if case.get("rank"):
        task = "SEQ_CLS" if objective == "reward" else "CAUSAL_LM"
        common["peft_config"] = lora_of(case, task)
    dtype = {"bf16": "bfloat16", "fp32": "float32"}[case["load"]]
    if objective in ("orpo", "cpo", "simpo"):
        if objective == "orpo":
            from trl.experimental.orpo import ORPOConfig as Config
            from trl.experimental.orpo import ORPOTrainer as Trainer
        else:
            from trl.experimental.cpo import CPOConfig as Config
            from trl.experimental.cpo import CPOTrainer as Trainer
        if objective == "simpo":
            arguments.update(loss_type="simpo", cpo_alpha=0.0)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        return Trainer(model=model, args=Config(**arguments), **common)
    import trl

    name = {"ipo": "DPO", "dpo": "DPO", "kto": "KTO", "reward": "Reward", "sft": "SFT"}[objective]
    if objective == "ipo":
        arguments["loss_type"] = ["ipo"]
    config_class, trainer_class = getattr(trl, f"{name}Config"), getattr(trl, f"{name}Trainer")
    trainer_class = getattr(own_pairs, case.get("how", ""), trainer_class)
    given = config_class(model_init_kwargs={"dtype": dtype}, **arguments)
    return trainer_class(model=str(folder), args=given, **common)


class _Kernel:
    """A Triton kernel: launched over a grid, it writes where it was told to."""

    def __getitem__(self, grid):
        return lambda *_, **__: None


def use_kernel(is_there: bool) -> None:
    """Take log-probabilities of whole logits with TRL's kernel, as a GPU does, or with torch, as older releases did."""
    import trl.trainer.utils as utils

    if is_there:
        triton, language = ModuleType("triton"), ModuleType("triton.language")
        language.constexpr = int
        triton.language, triton.jit, triton.cdiv = (
            language,
            lambda f: _Kernel(),
            lambda a, b: -(-a // b),
        )
        sys.modules.update({"triton": triton, "triton.language": language})
        from trl.kernels.logprob_entropy import selective_log_softmax_and_entropy

        del sys.modules["triton"], sys.modules["triton.language"]
        utils._fused_logprob_entropy = selective_log_softmax_and_entropy
    utils._supports_trl_loss_kernel = lambda *_, **__: is_there
    utils.is_triton_available = lambda: is_there


def counted(case: dict, folder: Path) -> dict[str, object]:
    """Return the peaks of the second step, and the rows that the model saw."""
    random.seed(0)
    use_kernel("versions" not in case)
    trainer = trainer_of(case, folder)
    allocations = Allocations()
    mark_steps(trainer, allocations)
    return trained(trainer, allocations)


def mark_steps(trainer, allocations: Allocations) -> None:
    """Let a Trainer say where its forward, its backward and its optimizer begin."""
    step, backward = trainer.training_step, trainer.accelerator.backward

    def marked_step(*args, **kwargs):
        allocations.mark("forward")
        loss = step(*args, **kwargs)
        allocations.mark("optimizer")
        return loss

    def marked_backward(*args, **kwargs):
        allocations.mark("backward")
        return backward(*args, **kwargs)

    trainer.training_step, trainer.accelerator.backward = marked_step, marked_backward


def trained(trainer, allocations: Allocations, beside: Sequence = ()) -> dict[str, object]:
    """Return the peaks of a training, and the rows that its model saw; `beside` are models that are held with it."""
    shapes: list[list[int]] = []

    def saw(module, args, kwargs, output):
        if "input_ids" not in kwargs and not args:
            return  # a token that is generated
        given = kwargs if "input_ids" in kwargs else args[0]
        shapes.append(list((given["input_ids"] if isinstance(given, Mapping) else given).shape))

    trainer.model.register_forward_hook(saw, with_kwargs=True)
    reference = getattr(trainer, "ref_model", None)
    cast = lambda: torch.bfloat16 if torch.is_autocast_enabled("cpu") else None  # noqa: E731
    # rows are real here, and so is the mask
    real = replaced(fused_head, "_every_position_counts", nullcontext)
    with real, fused_head.head_like_cuda(cast), allocations:
        for model in (trainer.model, reference, *beside):
            for tensor in () if model is None else (*model.parameters(), *model.buffers()):
                allocations.track(tensor.data)
        trainer.train()
    return {"peaks": allocations.peaks, "shapes": shapes, "has_reference": reference is not None}


def leave_heads() -> None:
    """Leave heads as a library around TRL's trainers makes them: nothing stands in for TRL's fused ones."""
    global fused_head
    fused_head = SimpleNamespace(
        head_like_cuda=lambda cast: nullcontext(), _every_position_counts=nullcontext
    )


def counts_of(found: Mapping[str, object]) -> tuple[list[list[int]], dict[str, int]]:
    """Return the rows that a model saw, and the peaks of the parts of the step that was counted."""
    shapes, peaks = found["shapes"], found["peaks"]
    assert isinstance(shapes, list)
    assert isinstance(peaks, dict)
    return shapes, {part: peak for part, peak in peaks.items() if part != "start"}


def main(counted: Callable[[dict, Path], dict[str, object]]) -> None:
    """Print what is counted of every case of the command line."""
    cases, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    gc.freeze()  # what imports left need not be gone through at every collection
    results = {name: counted(case, folder / str(n)) for n, (name, case) in enumerate(cases.items())}
    print(json.dumps(results))


if __name__ == "__main__":
    main(counted)
