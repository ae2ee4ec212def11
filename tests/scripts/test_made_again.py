"""A model that a loop makes again is named where the one before is held until the next one is there."""

from __future__ import annotations

import gc
import weakref

import pytest

from preflight.scripts.uncounted.own_steps import Asked, functions_of, uncounted_calls
from preflight.unpriced_names import MADE_AGAIN

LOADED = 'model = AutoModelForCausalLM.from_pretrained("m")'
TRAINED = "trainer = Trainer(model=model, args=args)\n    trainer.train()"
OWN = """optimizer = AdamW(model.parameters())
    for batch in loader:
        model(**batch).loss.backward()
        optimizer.step()"""
CASES = {
    "a trainer": (f"for seed in range(3):\n    {LOADED}\n    {TRAINED}\n", True),
    "a loop of its own": (f"while left:\n    {LOADED}\n    {OWN}\n", True),
    "deleted": (f"for seed in range(3):\n    {LOADED}\n    {TRAINED}\n    del model, trainer\n", False),
    "in a function": (f"def run(seed):\n    {LOADED}\n    {TRAINED}\n\nfor seed in seeds:\n    run(seed)\n", False),
    "made once": (f"{LOADED}\nfor epoch in range(3):\n    {OWN}\n", False),
    "a tokenizer": (f"for name in names:\n    t = AutoTokenizer.from_pretrained(name)\n    {TRAINED}\n", False),
    "only looked at": (f"for name in names:\n    {LOADED}\n    print(model)\n", False),
}  # fmt: skip


@pytest.mark.parametrize(("text", "is_named"), CASES.values(), ids=CASES)
def test_a_loop_that_makes_its_model_again_is_named(text, is_named):
    names = [name for name, _ in uncounted_calls(text, text, functions_of([text]), Asked())]

    assert names == ([MADE_AGAIN] if is_named else [])


@pytest.mark.libraries
def test_the_one_before_is_there_when_a_loop_makes_the_next_and_gone_when_a_function_does(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer
    from transformers import TrainingArguments as Arguments

    held: list[bool] = []

    def trainer_of(model):
        arguments = Arguments(str(tmp_path), max_steps=1, use_cpu=True, report_to=[], save_strategy="no")  # fmt: skip
        return Trainer(model=model, args=arguments, train_dataset=[{"input_ids": [1, 2], "labels": [1, 2]}])  # fmt: skip

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 32}
    config = LlamaConfig(num_attention_heads=2, **sizes)
    first = None
    for _ in range(2):
        model = LlamaForCausalLM(config)
        gc.collect()
        held.append(first is not None and first() is not None)
        first = first or weakref.ref(model.lm_head.weight)
        trainer = trainer_of(model)
        trainer.train()
    assert held == [False, True]

    def run():
        model = LlamaForCausalLM(config)
        trainer_of(model).train()
        return weakref.ref(model.lm_head.weight)

    returned = run()
    gc.collect()
    assert returned() is None
