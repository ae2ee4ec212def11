"""What a compute_loss of a script's own does with scores, and what objective that is."""

from __future__ import annotations

import pytest
from said_versions import named_libraries

from preflight.launch import LaunchCommand
from preflight.trainers.arguments import read_trainer_arguments
from preflight.trainers.own_loss import objective_of_loss

LOSS = """
class Mine(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False):
{body}
"""
BODIES = {
    "two calls": (
        "        chosen = model(inputs['a'])[0]\n        rejected = model(inputs['b'])[0]\n        return (chosen - rejected).mean()",
        "in_turn",
    ),
    "every second row": ("        s = model(inputs['a'])[0]\n        return (s[0::2] - s[1::2]).mean()", "pairs"),
    "rows by number": (
        "        s = model(inputs['a'])[0]\n        at = torch.arange(0, s.size(0), 2)\n        return (s[at] - s[at + 1]).mean()", "pairs",
    ),
    "halves": ("        s = model(inputs['a'])[0]\n        c, r = s.chunk(2)\n        return (c - r).mean()", "pairs"),
    "one row": ("        s = model(inputs['a'])[0]\n        return bce(s[:, 0], inputs['label'])", "one"),
    "labels side by side": ("        s = model(inputs['a'])[0]\n        return ce(s.view(-1, self.num_labels), inputs['label'].view(-1))", "one"),
    "rows of two": ("        s = model(inputs['a'])[0].view(-1, 2)\n        return (s[:, 0] - s[:, 1]).mean()", None),
    "parts of any size": ("        return sum(p.mean() for p in model(inputs['a'])[0].split(inputs['sizes']))", None),
    "chosen rows by a mask": ("        s = model(inputs['a'])[0]\n        return (s[inputs['is_chosen']]).mean()", None),
    "in a loop": ("        return sum(model(each)[0].mean() for each in ())\n        for x in inputs:\n            model(x)", None),
    "one of two": ("        if self.pairs:\n            return model(inputs['a']).loss\n        return model(inputs['b']).loss", None),
    "a teacher": ("        s = model(inputs['a'])[0]\n        return (s - self.teacher(inputs['a'])[0]).mean()", None),
    "a part of the model": ("        s = model(inputs['a'])[0]\n        return self.model.encoder(s).mean()", None),
    "none": ("        return super().compute_loss(model, inputs)", None),
}  # fmt: skip
SCRIPT = """
from transformers import AutoModelForSequenceClassification, HfArgumentParser, Trainer, TrainingArguments
args, = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
model = AutoModelForSequenceClassification.from_pretrained("org/model", num_labels=1)
{loss}
Mine(model=model, args=args, train_dataset=rows).train()
"""


def objective_read(folder):
    """Return what `python train.py` of a folder is read to train for."""
    argv = ("python", "train.py", "--output_dir", "out")
    libraries = named_libraries({"transformers": "5.24.0", "torch": "2.13.0"})
    command = LaunchCommand(argv, cwd=str(folder))
    setting = read_trainer_arguments(argv[2:], 2, command, libraries, "train.py").settings.get(
        "objective"
    )
    return None if setting is None else setting.value


@pytest.mark.parametrize("name", BODIES)
def test_sequences_are_counted_where_all_of_the_loss_is_read(name):
    body, expected = BODIES[name]

    assert objective_of_loss(LOSS.format(body=body)) == expected


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("two calls", "scored_in_turn"),
        ("every second row", "scored_pairs"),
        ("one row", "sequence_classification"),
        ("in a loop", None),
    ],
)
def test_a_loss_of_scores_says_the_objective(tmp_path, name, objective):
    text = SCRIPT.format(loss=LOSS.format(body=BODIES[name][0]))
    (tmp_path / "train.py").write_text(text)

    assert objective_read(tmp_path) == objective


BASES = {
    "that file's class": "Base",
    "a class that another stands on": "Mine",
}


@pytest.mark.parametrize("made", BASES.values(), ids=BASES)
@pytest.mark.parametrize(
    ("name", "objective"),
    [("two calls", "scored_in_turn"), ("every second row", "scored_pairs"), ("in a loop", None)],
)
def test_a_loss_of_another_file_says_it_too(tmp_path, name, objective, made):
    """It was taken for one of single rows, which is half of what pairs take."""
    loss = LOSS.format(body=BODIES[name][0]).replace("class Mine(", "class Base(")
    other = LOSS.format(body=BODIES["one row"][0]).replace("class Mine(", "class Other(")
    (tmp_path / "losses.py").write_text(f"{loss}\n{other}")
    (tmp_path / "mine.py").write_text("from losses import Base\nclass Mine(Base):\n    pass\n")
    text = SCRIPT.format(loss="").replace("Mine(", f"{made}(")
    (tmp_path / "train.py").write_text(f"from mine import Mine\nfrom losses import Base\n{text}")

    assert objective_read(tmp_path) == objective
