"""Which methods of a trainer of somebody's own leave the step of TRL's below as it is, and which are named."""

from __future__ import annotations

import inspect

import pytest

from preflight.trainers import trainer_methods
from preflight.trainers.own_subclasses import as_their_base

HEAD = "import torch\nimport torch.nn.functional as F\nfrom trl import DPOTrainer\n"
PLAIN = {
    "nothing": "    pass\n",
    "a loss of numbers per row": """
    def dpo_loss(self, chosen, rejected, of_chosen, of_rejected):
        margin = (chosen - rejected).to(self.accelerator.device) - (of_chosen - of_rejected)
        losses = -F.logsigmoid(self.beta * margin)
        self.margins.append(margin.detach())
        return losses, chosen.detach(), rejected.detach()
""",
    "a number that is added to the loss": """
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        weight = inputs.pop("weight")
        found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = found[0] if return_outputs else found
        self.log({"loss": loss.item()})
        loss = loss * weight.mean()
        return (loss, found[1]) if return_outputs else loss
""",
    "numbers of its own": """
    def __init__(self, *args, gamma=0.5, **kwargs):
        super().__init__(*args, **kwargs)
        self.gamma = gamma
        self.margins = []
""",
    "what it was given, by name": """
    def __init__(self, model, ref_model=None, args=None, train_dataset=None, margin=1.0, **kwargs):
        super().__init__(model=model, ref_model=ref_model, args=args, train_dataset=train_dataset, **kwargs)
        if margin is None:
            margin = 0.0
        self.margin = margin
""",
    "a function of its own for the loss": """
    def dpo_loss(self, chosen, rejected, of_chosen, of_rejected):
        return self.hinge(chosen - rejected), chosen, rejected

    def hinge(self, margin):
        return torch.relu(1 - margin).mean()
""",
    "rows in another order": """
    def _get_train_sampler(self, dataset=None):
        return torch.utils.data.SequentialSampler(dataset or self.train_dataset)
""",
}  # fmt: skip
MORE = {
    "hidden states of every layer": """
    def concatenated_forward(self, model, batch):
        return model(**batch, output_hidden_states=True).hidden_states
""",
    "a second model": """
    def __init__(self, *args, teacher=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.teacher = teacher
""",
    "a model that it loads": """
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.judge = load_judge("org/judge")
""",
    "losses that stay with their graph": """
    def dpo_loss(self, chosen, rejected, of_chosen, of_rejected):
        self.history.append(rejected)
        return -F.logsigmoid(chosen), chosen, rejected
""",
    "one that is set on it": """
    def dpo_loss(self, chosen, rejected, of_chosen, of_rejected):
        self.last = rejected.float()
        return -F.logsigmoid(chosen), chosen, rejected
""",
    "the loss, twice": """
    def compute_loss(self, model, inputs, return_outputs=False):
        first = super().compute_loss(model, inputs)
        return first + super().compute_loss(model, inputs)
""",
    "the loss, in a loop": """
    def compute_loss(self, model, inputs, return_outputs=False):
        return sum(super().compute_loss(model, inputs) for _ in range(4))
""",
    "longer rows": """
    def compute_loss(self, model, inputs, return_outputs=False):
        inputs["input_ids"] = torch.cat([inputs["input_ids"], inputs["more"]])
        return super().compute_loss(model, inputs, return_outputs)
""",
    "other rows": """
    def compute_loss(self, model, inputs, return_outputs=False):
        doubled = {name: value.repeat(2, 1) for name, value in inputs.items()}
        return super().compute_loss(model, doubled, return_outputs)
""",
    "logits again": """
    def compute_loss(self, model, inputs, return_outputs=False):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        return loss + outputs.logits.softmax(-1).mean()
""",
    "logits by their place": """
    def compute_loss(self, model, inputs, return_outputs=False):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        return loss + outputs[1].softmax(-1).mean()
""",
    "logits of what is handed back": """
    def compute_loss(self, model, inputs, return_outputs=False):
        found = super().compute_loss(model, inputs, return_outputs=True)
        shown = found[1]
        return found[0] + shown["logits"].softmax(-1).mean()
""",
    "a penalty on weights": """
    def compute_loss(self, model, inputs, return_outputs=False):
        loss = super().compute_loss(model, inputs)
        return loss + sum(each.pow(2).sum() for each in model.parameters())
""",
    "a forward of its own": """
    def dpo_loss(self, chosen, rejected, of_chosen, of_rejected):
        return -F.logsigmoid(chosen - self.model(self.batch).loss), chosen, rejected
""",
    "a model under another name": """
    def dpo_loss(self, chosen, rejected, of_chosen, of_rejected):
        judge = self.judge
        return -judge.score(chosen), chosen, rejected
""",
    "a function of the repository": """
    def dpo_loss(self, chosen, rejected, of_chosen, of_rejected):
        return judged(chosen), chosen, rejected
""",
    "generation": """
    def get_batch_samples(self, model, batch):
        return model.generate(batch["prompt_input_ids"], use_cache=True)
""",
    "answers that are logged": """
    def log(self, logs):
        logs["answer"] = self.model.generate(self.prompt)
        super().log(logs)
""",
    "rows of three": """
    def concatenated_inputs(self, batch, padding_value):
        return {"ids": torch.cat([batch["chosen"], batch["rejected"], batch["third"]])}
""",
    "a helper's name that is the trainer's": """
    def dpo_loss(self, chosen, rejected, of_chosen, of_rejected):
        return self.get_batch_samples(chosen), chosen, rejected

    def get_batch_samples(self, chosen):
        return chosen
""",
    "another adapter": """
    def __init__(self, *args, **kwargs):
        super().__init__(*args, peft_config=None, **kwargs)
""",
    "another argument": """
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.max_length = 65536
""",
    "parameters in another order": """
    def __init__(self, alpha, model, **kwargs):
        super().__init__(model=model, **kwargs)
        self.alpha = alpha
""",
    "a large tensor": """
    def dpo_loss(self, chosen, rejected, of_chosen, of_rejected):
        return -F.logsigmoid(chosen) + torch.zeros(2**30).sum(), chosen, rejected
""",
    "a class of what it was given": "    data_collator = property(lambda self: Longer())\n",
}  # fmt: skip


def read(body: str, files=(), name: str = "Own"):
    text = f"{HEAD}class {name}(DPOTrainer):\n{body}\n{name}(model=model, args=args)\n"
    return as_their_base(text, files, ["DPOTrainer"])


@pytest.mark.parametrize("name", PLAIN)
def test_what_leaves_a_step_as_it_is_is_the_trainer_below(name):
    text, others = read(PLAIN[name])

    assert "DPOTrainer(model=model" in text and "class Own" not in text
    assert not others


@pytest.mark.parametrize("name", MORE)
def test_what_may_hold_more_is_named_by_its_method(name):
    text, (own,) = read(MORE[name])

    assert "Own(model=model" in text
    assert "Own." in str(own) and not own.is_counted


def test_a_class_that_stands_on_another_of_the_repository_has_its_methods_too():
    above = f"{HEAD}class Base(DPOTrainer):\n{MORE['generation']}"
    plain = f"{HEAD}class Base(DPOTrainer):\n{PLAIN['numbers of its own']}"
    script = f"class OwnTrainer(Base):\n{PLAIN['rows in another order']}\nOwnTrainer(model=model)\n"
    _, (own,) = as_their_base(script, [("base.py", above)], ["DPOTrainer"])
    text, others = as_their_base(script, [("base.py", plain)], ["DPOTrainer"])

    assert str(own) == "what Base.get_batch_samples does"
    assert "DPOTrainer(model=model)" in text and not others


def test_of_two_classes_with_one_name_both_have_to_be_plain():
    files = [(f"{n}.py", f"{HEAD}class OwnTrainer(DPOTrainer):\n{body}") for n, body in enumerate((PLAIN["nothing"], MORE["generation"]))]  # fmt: skip
    _, others = as_their_base("OwnTrainer(model=model)\n", files, ["DPOTrainer"])

    assert [each.name for each in others] == ["OwnTrainer"]


COUNTED = """
    def compute_loss(self, model, inputs, return_outputs=False):
        loss = self.get_batch_loss_metrics(model, inputs)
        return (loss, None) if return_outputs else loss

    def get_batch_loss_metrics(self, model, batch):
        {kept}
        return -F.logsigmoid(self.concatenated_forward(model, batch)).mean()

    def concatenated_forward(self, model, batch):
        rows = self.{rows}(batch)
        return model(rows).logits.logsumexp(-1)
"""


@pytest.mark.parametrize(
    ("kept", "rows", "is_counted"),
    [
        ("self.shown.append(batch['x'].item())", "concatenated_inputs", True),
        ("self.shown.append(batch['x'])", "concatenated_inputs", False),
        ("pass", "compute_reference_log_probs", False),
    ],
)
def test_a_loss_of_its_own_is_counted_where_it_asks_the_trainer_for_rows_alone(
    kept, rows, is_counted
):
    _, (own,) = read(COUNTED.format(kept=kept, rows=rows))

    assert own.is_counted is is_counted


def test_every_method_of_the_installed_trainers_that_is_no_helper_is_known():
    import trl
    from transformers import Trainer

    known = trainer_methods.BASES | trainer_methods.HARMLESS | trainer_methods.PER_ROW
    trainers = (Trainer, trl.DPOTrainer, trl.GRPOTrainer, trl.KTOTrainer, trl.RewardTrainer, trl.RLOOTrainer, trl.SFTTrainer)  # fmt: skip
    unknown = {
        name
        for cls in trainers
        for name, method in vars(cls).items()
        if inspect.isfunction(method) and not name.startswith("__") and name not in known
    }

    assert not unknown
