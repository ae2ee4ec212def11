"""A launch that stands in a file starts where the files that it names are: at the top, or where its file lies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preflight.launch import LaunchCommand
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.studies.checked_behind import checked_launches
from preflight.studies.launch_files import found_in, started_in
from preflight.studies.scan import scan_files

TRAIN = "from transformers import HfArgumentParser, Trainer, TrainingArguments\n"
DEEPSPEED = '{"zero_optimization": {"stage": 3}}'
FLAGS = "--model_name_or_path gpt2 --max_length 512 --per_device_train_batch_size 2 --deepspeed"
FILES = {
    "train.py": TRAIN,
    "top.sh": f"torchrun train.py {FLAGS} own/ds.json\n",
    "own/finetune.py": TRAIN,
    "own/ds.json": DEEPSPEED,
    "own/finetune.sh": f"torchrun finetune.py {FLAGS} ds.json\n",
    "own/scripts/finetune.sh": f"HERE=$(pwd)\ntorchrun finetune.py {FLAGS} ds.json\n",
    "own/scripts/from_top.sh": f"torchrun train.py {FLAGS} own/ds.json\n",
    "own/scripts/goes.sh": f"cd own\ntorchrun finetune.py {FLAGS} ds.json\n",
    "own/scripts/from_own.sh": f"cd ../../own\ntorchrun finetune.py {FLAGS} ds.json\n",
    "own/README.md": f"```\ntorchrun finetune.py {FLAGS} ds.json\n```\n",
    "fork/verl/trainer/main_ppo.py": "",
    "fork/examples/run.sh": "python -m verl.trainer.main_ppo trainer.nnodes=1\n",
    "both/train.py": TRAIN,
    "both/ds.json": DEEPSPEED,
    "both/train.sh": f"torchrun train.py {FLAGS} ds.json\n",
}
PLACES = {
    "top.sh": "", "own/finetune.sh": "own", "own/scripts/finetune.sh": "own", "own/scripts/from_top.sh": "",
    "own/scripts/goes.sh": "own", "own/scripts/from_own.sh": "own",
    "own/README.md": "own", "both/train.sh": "both", "fork/examples/run.sh": "fork",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(("path", "place"), PLACES.items())
def test_a_launch_starts_where_its_files_are(path, place, folder):
    (found,) = found_in(path, FILES[path], str(folder))

    assert (found.cwd or started_in(str(folder), path, found.argv)) == str(folder / place)


def test_a_launch_of_files_that_are_nowhere_has_no_place(folder):
    argv = ("torchrun", "gone.py", "--deepspeed", "/gone.json")

    assert started_in(str(folder), "own/finetune.sh", argv) is None


def test_each_of_them_is_read_with_its_own_config(folder):
    places = [path for path in PLACES if not path.startswith("fork")]  # which names no config
    found = list(scan_files(places, str(folder), load_plugins(), Request("h100-sxm-80")))

    assert [each.path for each in found] == places
    assert all(each.report is not None for each in found), [each.problems for each in found]
    assert {each.report.plan.engine for each in found if each.report} == {"zero3"}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("hf jobs uv run --flavor a10g-large train.py\n", 1),
        ("hf jobs run --flavor a100-large pytorch/pytorch python train.py\n", 1),
        ("hf jobs uv run \\\n  --flavor a100-large \\\n  train.py --bf16\n", 1),
        ("hf jobs uv run --flavor a10g-large https://example.org/trl/scripts/sft.py --bf16\n", 1),
        ("hf jobs uv run --flavor cpu-basic serve.py\n", 0),
        ("hf jobs ps\ncat train.py\n", 0),
    ],
)
def test_a_job_of_the_hub_that_trains_is_found(text, count, folder):
    assert len(list(found_in("job.sh", text, str(folder)))) == count


CALLED = {
    "run.sh": "RANKS=${RANKS:-8}\nMODEL=${1:-gpt2}\ntorchrun --nproc-per-node $RANKS main.py --model $MODEL ${@:2}\n",
    "main.py": "trainer = Trainer()\ntrainer.train()\n",
    "plot.py": "print('what the Trainer left')\n",
    "docs/own.py": "loss.backward()\n",
    "loop.sh": "bash loop.sh again\n",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RANKS=2 ./run.sh\n", ["torchrun --nproc-per-node 2 main.py --model gpt2"]),
        ("export RANKS=4\nbash run.sh\n", ["torchrun --nproc-per-node 4 main.py --model gpt2"]),
        ("sh ./run.sh opt --bf16\n", ["torchrun --nproc-per-node 8 main.py --model opt --bf16"]),
        ("for n in 1 2; do RANKS=$n ./run.sh; done\n", [
            f"torchrun --nproc-per-node {count} main.py --model gpt2" for count in (1, 2)
        ]),
        ("RANKS=2 ./gone.sh\nbash loop.sh twice\n", []),
        ("bash run.sh\n", []),
        ("python main.py --lr 1e-4\npython plot.py\npython gone.py\n", ["python main.py --lr 1e-4"]),
        ("python -u own.py\nThis file ends with own.py (see there\n", ["python -u own.py"]),
    ],
)  # fmt: skip
def test_a_file_that_is_called_is_followed_with_what_it_is_given(text, expected, tmp_path):
    for name, content in CALLED.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)

    for path, content in (("docs/README.md", f"```\n{text}```\n"), ("docs/all.sh", text)):
        found = list(found_in(path, content, str(tmp_path)))
        assert [" ".join(one.argv) for one in found] == expected
        assert not any(one.untold for one in found)


def test_a_script_of_any_name_that_trains_is_checked_where_a_readme_calls_it(tmp_path):
    (tmp_path / "main.py").write_text(
        "from transformers import Trainer, TrainingArguments\n"
        "Trainer(None, TrainingArguments('out', per_device_train_batch_size=2)).train()\n"
    )
    (tmp_path / "score.py").write_text("from sys import argv\n\ndef train(): pass\n\ntrain()\n")
    (tmp_path / "README.md").write_text("```\npython main.py\npython score.py\n```\n")

    found = list(scan_files(["README.md"], str(tmp_path), load_plugins(), Request("h100-sxm-80")))

    assert [each.argv for each in found] == [("python", "main.py")]
    assert found[0].report is not None


def test_an_option_behind_which_a_variable_is_not_set_is_no_bad_input(tmp_path):
    """Whoever starts the file sets it; what the file itself says wrongly is refused all the same."""
    (tmp_path / "a.py").write_text("import argparse\nargparse.ArgumentParser().parse_args()\n")
    words = "accelerate launch --num_processes 2 --main_process_ip {} --main_process_port {} a.py"
    (tmp_path / "open.sh").write_text(words.format("$HOST", "$PORT"))
    (tmp_path / "wrong.sh").write_text(words.format("$HOST", "many"))
    command = LaunchCommand(("bash", "open.sh"), {}, str(tmp_path))
    (unset,) = checked_launches(command, load_plugins(), Request("h100-sxm-80"))
    wrong_command = replace(command, argv=("bash", "wrong.sh"))
    (wrong,) = checked_launches(wrong_command, load_plugins(), Request("h100-sxm-80"))

    assert unset.untold == "only a shell knows $HOST, $PORT"
    assert "--main_process_port" in {problem.where for problem in wrong.problems}


LOOP = """\
import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("gpt2").cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for batch in batches:
    model(**batch).loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("python make_rows.py\nexport SEED=1\npython loop.py --seed $SEED", [("python", "loop.py", "--seed", "1")]),
        ("python -m loop", [("python", "-m", "loop")]),
        ("python make_rows.py", []),
        ("python gone.py", []),
        ("python loop.py 1\npython loop.py 2", []),  # which one is meant, nobody says
        ("python loop.py\ntorchrun train.py", [("torchrun", "train.py")]),
    ],
)  # fmt: skip
def test_the_one_script_that_trains_is_the_launch_where_none_names_a_trainer(
    lines, found, tmp_path
):
    (tmp_path / "loop.py").write_text(LOOP)
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "make_rows.py").write_text("print('rows')\n")
    (tmp_path / "run.sh").write_text(lines + "\n")
    command = LaunchCommand(("bash", "run.sh"), {}, str(tmp_path))
    checked = checked_launches(command, load_plugins(), Request("h100-sxm-80"))

    assert [each.argv for each in checked] == found
