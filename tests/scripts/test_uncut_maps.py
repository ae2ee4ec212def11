"""Rows that a trainer is handed as a tokenizer made them, beside others that are cut."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

from preflight.unpriced_names import UNCUT_EVALUATION

SCRIPT = """\
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen2.5-1.5B")
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-1.5B", torch_dtype="bfloat16")
data = load_dataset("somebody/rows")


def cut(row):
    return tokenizer(row["text"], truncation=True, max_length=512)


def whole(row):
    return tokenizer(row["text"])


def encoded(row):
    ids = tokenizer.encode(row["text"])
    return {"input_ids": ids, "labels": ids}


def chat(row):
    return {"input_ids": tokenizer.apply_chat_template(row["messages"])}


def text(row):
    return {"text": tokenizer.apply_chat_template(row["messages"], tokenize=False)}


def sliced(row):
    return {"input_ids": tokenizer(row["text"])["input_ids"][:512]}


def blocks(rows):
    joined = sum(rows["input_ids"], [])
    return {"input_ids": [joined[i : i + 512] for i in range(0, len(joined), 512)]}


def counted(row):
    return {"num": len(tokenizer(row["text"])["input_ids"])}


def collate(rows):
    return tokenizer.pad([{"input_ids": row["input_ids"][:512]} for row in rows])


arguments = TrainingArguments("out", per_device_train_batch_size=2, per_device_eval_batch_size=2, eval_strategy=WHEN)
SETS
Trainer(
    model=model,
    args=arguments,
    train_dataset=TRAINED,
    eval_dataset=EVALUATED,
    data_collator=COLLATES,
).train()
"""
OBJECTS = """
class Sets:
    def __init__(self, rows):
        self.train = rows["train"].map(whole)
        self.test = rows["test"].map(cut)

    def made(self):
        return data["train"].map(whole)

sets = Sets(data)
"""
ROWS = """
class Rows(Dataset):
    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def __getitem__(self, place):
        return tokenizer(self.rows[place]["text"])
"""
CUTTING = ROWS.replace('["text"])', '["text"], truncation=True, max_length=512)')
"""Datasets of a script's own, one of which cuts its rows."""
CUT = 'data["test"].map(cut)'


def plan_with(folder, trained=CUT, evaluated=CUT, sets="", collates="", when='"epoch"'):
    words = {
        "TRAINED": trained, "EVALUATED": evaluated, "SETS": sets, "WHEN": when,
        "COLLATES": collates or "DataCollatorForLanguageModeling(tokenizer, mlm=False)",
    }  # fmt: skip
    text = SCRIPT
    for name, said in words.items():
        text = text.replace(name, said)
    return plan_of(folder, "python train.py", {"train.py": text})


@pytest.mark.parametrize(
    "given",
    [
        {"trained": 'data["train"].map(whole)'},
        {"trained": 'data["train"].map(whole, batched=True, remove_columns=["text"]).shuffle(seed=1)'},
        {"trained": 'data["train"].map(lambda row: tokenizer(row["text"]))'},
        {"trained": 'data["train"].map(encoded)'},
        {"trained": 'data["train"].map(chat)'},
        {"trained": 'rows["train"]', "sets": "rows = data.map(whole)"},
        {"trained": "rows", "sets": 'rows = data["train"]\nrows = rows.map(text)\nrows = rows.map(whole)'},
        {"trained": 'made(data["train"])', "sets": "def made(rows):\n    rows = rows.map(whole)\n    return rows.shuffle(seed=1)"},
        {"trained": 'data["train"].map(whole)', "collates": "None"},
    ],
)  # fmt: skip
def test_rows_of_training_that_nothing_cuts_have_no_length(tmp_path, given):
    """They were as long as those of the evaluation beside them, and said to fit."""
    assert plan_with(tmp_path, **given).seq_len is None


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"trained": 'data["train"].map(sliced)'},
        {"trained": 'data["train"].map(whole).map(blocks, batched=True)'},
        {"trained": 'data["train"].map(whole).filter(lambda row: len(row["input_ids"]) < 512)'},
        {"trained": 'data["train"].map(whole)', "collates": "collate"},
        {"trained": 'data["train"].map(cut).map(counted)'},
        {"trained": 'data["train"].map(text).map(cut)'},
        {"trained": "rows", "sets": 'rows = data["train"].map(whole)\nrows = data["train"].map(cut)'},
        {"trained": "rows", "sets": 'rows = data["train"].map(whole)\nrows = made_short(rows)'},
        {"trained": "sets.train", "sets": "class Sets:\n    def __init__(self):\n        self.train = data['train'].map(cut)\n        self.test = data['test'].map(whole)\nsets = Sets()"},
        {"trained": "sets['train']", "sets": "sets = {'train': data['train'].map(whole)}\nsets['train'] = sets['train'].map(blocks, batched=True)"},
        {"trained": "rows", "sets": "both = cut_and_whole(data)\nrows = both[0]"},
        {"trained": "Rows(data['train'])", "sets": CUTTING},
    ],
)  # fmt: skip
def test_rows_that_something_may_cut_are_as_before(tmp_path, given):
    assert plan_with(tmp_path, **given).seq_len == 512


@pytest.mark.parametrize(
    ("trained", "sets"),
    [
        ("rows", 'def both():\n    return data["train"].map(whole), data["test"].map(cut)\nrows, others = both()'),
        ("rows", 'def both():\n    made, other = data["train"].map(whole), data["test"].map(cut)\n    return made, other\nrows, others = both()'),
        ("both[0]", 'def make():\n    return data["train"].map(whole), data["test"].map(cut)\nboth = make()'),
        ('sets["train"]', 'sets = {"train": data["train"].map(whole), "test": data["test"].map(cut)}'),
        ('sets["train"]', 'sets = DatasetDict({"train": data["train"].map(whole), "test": data["test"].map(cut)})'),
        ('sets["train"]', 'def make():\n    return dict(train=data["train"].map(whole), test=data["test"].map(cut))\nsets = make()'),
        ('sets["train"]', 'sets = {}\nsets["test"] = data["test"].map(cut)\nsets["train"] = data["train"].map(whole)'),
        ('data["train"]', 'data["train"] = data["train"].map(whole)\ndata["test"] = data["test"].map(cut)'),
        ('sets["train"]', 'sets = {name: data[name].map(whole) for name in data}'),
        ('data["train"]', 'for name in list(data):\n    data[name] = data[name].map(whole)'),
        ("sets.train", OBJECTS),
        ("sets.made()", OBJECTS),
        ("Rows(data['train'])", ROWS),
        ('[whole(row) for row in data["train"]]', ""),
        ('Dataset.from_list([whole(row) for row in data["train"]])', ""),
        ('concatenate_datasets([data["train"].map(cut), data["more"].map(whole)])', ""),
        ('data["train"].map(whole) if arguments.seed else None', ""),
        ('made(data["train"])', "def made(rows):\n    if KNOWN:\n        return rows.map(cut)\n    return rows.map(whole)"),
    ],
)  # fmt: skip
def test_rows_are_followed_through_what_holds_several_sets(tmp_path, trained, sets):
    assert plan_with(tmp_path, trained=trained, sets=sets).seq_len is None


READY = """\
class Plain(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **more):
        return model(**inputs).loss

class Cutting(Trainer):
    def _prepare_inputs(self, inputs):
        return {name: each[:, :512] for name, each in inputs.items()}

"""


@pytest.mark.parametrize(
    ("trained", "trainer", "collates", "length"),
    [
        ('data["train"]', "Trainer", "", None),
        ('data["train"].shuffle(seed=1).select(range(8))', "Trainer", "", None),
        ('data["train"].map(lambda row: {"labels": row["input_ids"]})', "Trainer", "", None),
        ('load_from_disk("rows")', "Trainer", "None", None),
        ('data["train"]', "Plain", "", None),
        ('data["train"].map(cut)', "Trainer", "", 512),
        ('data["train"].map(lambda row: encoder(row["text"]))', "Trainer", "", 512),
        ('data["train"].filter(lambda row: len(row["input_ids"]) <= 512)', "Trainer", "", 512),
        ('data["train"]', "Trainer", "collate", 512),
        ('data["train"]', "Trainer", "DataCollatorForChatML(tokenizer, max_length=512)", 512),
        ('data["train"]', "Cutting", "", 512),
        ('Rows(data["train"])', "Trainer", "", 512),
        ('ready(data["train"])', "Trainer", "", 512),
    ],
)  # fmt: skip
def test_rows_that_are_loaded_and_made_by_nothing_have_no_length(
    tmp_path, trained, trainer, collates, length
):
    """A length that a tokenizer knows cuts no row that it never sees."""
    text, _, made = SCRIPT.replace("SETS", READY + CUTTING).partition("Trainer(\n")
    text = text.replace("load_dataset\n", "load_dataset, load_from_disk\n")
    words = {
        "TRAINED": trained, "EVALUATED": CUT, "WHEN": '"no"', "trainer": trainer,
        "COLLATES": collates or "DataCollatorForLanguageModeling(tokenizer, mlm=False)",
    }  # fmt: skip
    script = f"{text}trainer(\n{made}"
    for name, said in words.items():
        script = script.replace(name, said)
    assert plan_of(tmp_path, "python train.py", {"train.py": script}).seq_len == length


LATER = """
def start(rows, others):
    trainer = KIND(model=model, args=arguments, train_dataset=rows, eval_dataset=others)
    AFTER
    trainer.train()

start(TRAINED, data["test"].map(cut))
"""


@pytest.mark.parametrize("kind", ["Trainer", "Own"])
@pytest.mark.parametrize(
    ("trained", "after", "length"),
    [
        ('data["train"].map(cut)', "pass", 512),
        ('data["train"].map(whole)', "pass", None),
        ("None", 'trainer.train_dataset = data["train"].map(whole)', None),
        ('data["train"].map(cut)', 'trainer.train_dataset = data["train"].map(whole)', None),
        ('data["train"].map(cut)', 'setattr(trainer, "train_dataset", data["train"].map(whole))', None),
        ('data["train"].map(whole)', 'trainer.train_dataset = data["train"].map(cut)', 512),
        ('data["train"].map(cut)', 'if rows:\n        trainer.train_dataset = data["train"].map(whole)', None),
    ],
)  # fmt: skip
def test_rows_that_a_trainer_is_given_later_are_those_that_it_trains_on(
    tmp_path, kind, trained, after, length
):
    text, _, _ = SCRIPT.replace("SETS", "class Own(Trainer):\n    pass\n").partition("Trainer(\n")
    later = LATER.replace("KIND", kind).replace("AFTER", after).replace("TRAINED", trained)
    script = (text + later).replace("WHEN", '"epoch"')
    assert plan_of(tmp_path, "python train.py", {"train.py": script}).seq_len == length


@pytest.mark.parametrize(("when", "is_said"), [('"epoch"', True), ('"no"', False)])
def test_rows_of_an_evaluation_that_nothing_cuts_are_named(tmp_path, when, is_said):
    plan = plan_with(tmp_path, evaluated='data["test"].map(whole)', when=when)

    assert plan.seq_len == 512
    assert (UNCUT_EVALUATION in {notice.unpriced for notice in plan.notices}) is is_said


LOOP, _, _ = SCRIPT.partition("arguments = ")
LOOP += """\
loader = DataLoader(TRAINED, batch_size=4, collate_fn=COLLATES)
others = DataLoader(EVALUATED, batch_size=4, collate_fn=COLLATES)
optimizer = torch.optim.AdamW(model.parameters())
for batch in loader:
    model(**batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
model.eval()
for batch in others:
    with torch.no_grad():
        model(**batch)
"""
BOTH = ('data["train"].map(cut)', 'data["test"].map(cut)')


@pytest.mark.parametrize(
    ("trained", "evaluated", "collates", "length", "is_named"),
    [
        (*BOTH, "", 512, False),
        ('data["train"].map(whole)', BOTH[1], "", None, False),
        ("made()[0]", BOTH[1], "", None, False),
        (BOTH[0], 'data["test"].map(whole)', "", 512, True),
        ('data["train"].map(whole)', BOTH[1], "collate", 512, False),
    ],
)  # fmt: skip
def test_rows_of_a_loops_loaders_are_told_apart_too(tmp_path, trained, evaluated, collates, length, is_named):  # fmt: skip
    text = LOOP.replace("TRAINED", trained).replace("EVALUATED", evaluated)
    text = text.replace(
        "COLLATES", collates or "DataCollatorForLanguageModeling(tokenizer, mlm=False)"
    )
    text = "import torch\nfrom torch.utils.data import DataLoader\n" + text.replace(
        "loader = ", 'def made():\n    return data["train"].map(whole), 1\nloader = ', 1
    )
    plan = plan_of(tmp_path, "python train.py", {"train.py": text})

    assert plan.seq_len == length
    assert (UNCUT_EVALUATION in {notice.unpriced for notice in plan.notices}) is is_named
