"""What an evaluation gathers of a model's outputs: logits, answers, or neither."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

from preflight.formulas.trainer_arguments import argument
from preflight.unpriced_names import GATHERED_LOGITS

SCRIPT = """\
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen2.5-1.5B")
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-1.5B", torch_dtype="bfloat16")
rows = load_dataset("somebody/rows")["train"].map(lambda row: tokenizer(row["text"], truncation=True, max_length=512))


def score(outcome):
    return {}


def whole(logits, labels):
    if isinstance(logits, tuple):
        logits = logits[0]
    return logits.float().softmax(dim=-1)


def best(logits, labels):
    return logits.argmax(dim=-1)


def few(logits, labels):
    return logits[:, :, tokens]


def far(logits, labels):
    return logits.cpu()


arguments = TrainingArguments("out", per_device_train_batch_size=2, eval_strategy="epoch", SAID)
GIVEN
trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows, HANDED)
SET
trainer.train()
THEN
"""


def plan_with(folder, said="", given="", handed="", later="", then=""):
    words = {"SAID": said, "GIVEN": given, "HANDED": handed, "SET": later, "THEN": then}
    text = SCRIPT
    for name, value in words.items():
        text = text.replace(name, value)
    return plan_of(folder, "python train.py", {"train.py": text})


@pytest.mark.parametrize(
    ("words", "is_named"),
    [
        ({}, False),
        ({"handed": "compute_metrics=None"}, False),
        ({"handed": "compute_metrics=score"}, True),
        ({"handed": "compute_metrics=score if rows else None"}, True),
        ({"given": 'told = {"compute_metrics": score}', "handed": "**told"}, True),
        ({"given": "told = dict(compute_metrics=score)", "handed": "**told"}, True),
        ({"later": "trainer.compute_metrics = score"}, True),
        ({"later": 'setattr(trainer, "compute_metrics", score)'}, True),
        ({"handed": "compute_metrics=score, preprocess_logits_for_metrics=best"}, False),
        ({"handed": "compute_metrics=score, preprocess_logits_for_metrics=few"}, False),
        ({"handed": "compute_metrics=score, preprocess_logits_for_metrics=far"}, False),
        ({"handed": "compute_metrics=score, preprocess_logits_for_metrics=whole"}, True),
        ({"handed": "compute_metrics=score, preprocess_logits_for_metrics=lambda logits, labels: logits"}, True),
        ({"handed": "compute_metrics=score, preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1)"}, False),
        ({"then": "trainer.predict(rows)"}, True),
        ({"then": "found = trainer.predict(rows).predictions", "handed": "preprocess_logits_for_metrics=best"}, False),
        ({"then": "trainer.predict(rows)", "said": "prediction_loss_only=True"}, False),
        ({"then": "trainer.evaluate(rows)"}, False),
        ({"then": "forest.predict(rows)"}, False),
    ],
)  # fmt: skip
def test_logits_that_an_evaluation_gathers_are_named(tmp_path, words, is_named):
    """`predict` was an evaluation like any other, and metrics were looked for by one spelling."""
    plan = plan_with(tmp_path, **words)
    assert (GATHERED_LOGITS in {notice.unpriced for notice in plan.notices}) is is_named


ANSWERS = (
    SCRIPT.replace("CausalLM", "Seq2SeqLM")
    .replace(" Trainer", " Seq2SeqTrainer")
    .replace("TrainingArguments", "Seq2SeqTrainingArguments")
    .replace("Qwen/Qwen2.5-1.5B", "google/flan-t5-large")
    .replace("SAID", "predict_with_generate=True, SAID")
)


@pytest.mark.parametrize(
    ("words", "generates"),
    [
        ({}, False),
        ({"HANDED": "compute_metrics=None"}, False),
        ({"HANDED": "compute_metrics=score"}, True),
        ({"HANDED": "compute_metrics=score if arguments.predict_with_generate else None"}, True),
        ({"SET": "trainer.compute_metrics = score"}, True),
        ({"THEN": "trainer.predict(rows)"}, True),
        ({"HANDED": "**unknown()"}, True),
        ({"GIVEN": "class Seq2SeqTrainer(Seq2SeqTrainer):\n    def evaluate(self, *given):\n        return own(self)"}, True),
    ],
)  # fmt: skip
def test_an_evaluation_generates_where_its_answers_are_looked_at(tmp_path, words, generates):
    """Without metrics it asks for the loss alone, whatever `predict_with_generate` says."""
    text = ANSWERS
    for name in ("SAID", "GIVEN", "HANDED", "SET", "THEN"):
        text = text.replace(name, words.get(name, ""))
    plan = plan_of(tmp_path, "python train.py", {"train.py": text})

    assert argument(plan, "predict_with_generate").value is generates


@pytest.mark.parametrize("kind", ["Trainer", "Seq2SeqTrainer"])
@pytest.mark.parametrize(
    ("has_metrics", "method", "is_gathered"),
    [(False, "evaluate", False), (True, "evaluate", True), (False, "predict", True)],
)
def test_the_library_gathers_so(tmp_path, kind, has_metrics, method, is_gathered):
    """Outputs are asked for where there are metrics, and by `predict`."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    config = transformers.T5Config(
        vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0
    )  # fmt: skip
    asked = []

    class Model(transformers.T5ForConditionalGeneration):
        def generate(self, *given, **more):
            asked.append("answers")
            return super().generate(*given, **{**more, "max_new_tokens": 2})

    arguments = getattr(transformers, kind.replace("Trainer", "TrainingArguments"))
    more = {"predict_with_generate": True} if kind == "Seq2SeqTrainer" else {}
    told = arguments(str(tmp_path), use_cpu=True, report_to=[], **more)

    def score(outcome):
        asked.append("metrics")
        return {}

    row = {"input_ids": [3, 4, 5], "labels": [6, 7]}
    trainer = getattr(transformers, kind)(
        Model(config), told, train_dataset=[row], eval_dataset=[row],
        compute_metrics=score if has_metrics else None,
        preprocess_logits_for_metrics=lambda logits, labels: asked.append("logits") or logits[0],
    )  # fmt: skip
    torch.manual_seed(0)
    getattr(trainer, method)(*([[row]] if method == "predict" else ()))

    outputs = "answers" if kind == "Seq2SeqTrainer" else "logits"
    assert (outputs in asked) is is_gathered
