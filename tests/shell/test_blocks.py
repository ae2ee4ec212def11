"""Shell text in scripts, Makefiles and READMEs: the commands that start a training, with what is known of them."""

from __future__ import annotations

import pytest

from preflight.studies.launch_files import found_in


def launches(path: str, text: str, folder: str = ".") -> list[tuple[int, str]]:
    return [
        (one.line, " ".join(one.argv)) for one in found_in(path, text, folder) if not one.untold
    ]


MAKEFILE = """\
N ?= 8
ARGS = --bf16 \\
  --lr $(LR)
LR := 1e-4
export HF_HOME = /cache
train: data  ## makes a model
\t@torchrun --nproc-per-node $(N) train.py $(ARGS)
\tcd sub && X=1; torchrun train.py --out $$HOME/$(OUT) \\
\t\t--x $$X
\t-for n in 1 2; do torchrun --nproc-per-node $$n train.py; done
"""


def test_recipes_of_a_makefile_have_its_variables():
    found = list(found_in("Makefile", MAKEFILE))

    assert [(one.line, " ".join(one.argv)) for one in found] == [
        (7, "torchrun --nproc-per-node 8 train.py --bf16 --lr 1e-4"),
        (8, "torchrun train.py --out $HOME/${OUT} --x 1"),
        (10, "torchrun --nproc-per-node 1 train.py"),
        (10, "torchrun --nproc-per-node 2 train.py"),
    ]
    assert found[1].unknown == ("$HOME", "${OUT}")
    assert {one.env["HF_HOME"] for one in found} == {"/cache"}


README = """\
Run `torchrun no.py`, or

```bash
$ export N=4
$ torchrun --nproc-per-node $N train.py \\
    --name "a b"
```

torchrun text.py

~~~
accelerate launch train.py (see above)
torchrun train.py --model <MODEL>
~~~
"""


def test_examples_of_a_readme_are_read_and_its_prose_is_not():
    assert launches("README.md", README) == [
        (5, "torchrun --nproc-per-node 4 train.py --name a b"),
        (13, "torchrun train.py --model <MODEL>"),
    ]
    untold = [one for one in found_in("README.md", README) if one.untold]
    assert [one.line for one in untold] == [12]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("if [ $1 = x ]; then torchrun a.py; else torchrun b.py; fi", ["torchrun a.py", "torchrun b.py"]),
        ("n=1; if [ $n = 1 ]; then torchrun a.py; else torchrun b.py; fi", ["torchrun a.py", "torchrun b.py"]),
        ("for lr in 1 2; do torchrun a.py --lr $lr; done", ["torchrun a.py --lr 1", "torchrun a.py --lr 2"]),
        ("n=8\nwhile [[ $# -gt 0 ]]; do n=$1; shift; done\ntorchrun --n $n a.py \"$@\"", ["torchrun --n 8 a.py"]),
        ("f() { torchrun a.py; }", ["torchrun a.py"]),
        ("f() { torchrun a.py $1; }; f x", ["torchrun a.py x"]),
        ("echo torchrun a.py; export CMD='torchrun a.py'; printf 'torchrun'", []),
        ("CMD='torchrun a.py'; eval $CMD", ["torchrun a.py"]),
        ("torchrun a.py\nexit\ntorchrun b.py", ["torchrun a.py", "torchrun b.py"]),
        ("cat <<EOF > j.sh\n#!/bin/bash\ntorchrun a.py\nEOF\nsbatch j.sh", ["torchrun a.py"]),
        ("sbatch <<EOF\n#!/bin/bash\ntorchrun a.py\nEOF\n", ["torchrun a.py"]),
        ("# torchrun a.py\nexec torchrun b.py &", ["torchrun b.py"]),
        ("torchrun --n $N a.py $(hostname)", ["torchrun --n $N a.py $(hostname)"]),
    ],
)  # fmt: skip
def test_a_script_is_read_as_it_is_started_without_arguments(text, words):
    assert sorted(line for _, line in launches("run.sh", text)) == words


def test_a_line_that_an_example_leaves_open_ends_with_it():
    text = "```bash\ntorchrun train.py \\\n  --data Alpaca \\\n```\n\nand then\n"

    assert [argv[-2:] for argv in (one.argv for one in found_in("README.md", text))] == [
        ("--data", "Alpaca")
    ]


@pytest.mark.parametrize(
    ("written", "argv"),
    [
        ("torchrun --master_port=<your_port> a.py --lr 1", "torchrun --master_port=<your_port> a.py --lr 1"),
        ("torchrun a.py --out <output dir> \\\n  --lr 1", "torchrun a.py --out <output dir> --lr 1"),
        ("torchrun a.py <in.txt >out.txt", "torchrun a.py"),
        ("torchrun a.py < in.txt > out.txt", "torchrun a.py"),
    ],
)  # fmt: skip
def test_what_a_reader_fills_in_is_a_word_of_an_example_and_a_file_of_a_script(written, argv):
    example = launches("README.md", f"```\n{written}\n```\n")
    assert [words for _, words in example] == [argv]
    if "in.txt" not in written:
        assert launches("run.sh", written) != [(1, argv)]


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("torchrun --nproc_per_node {number of GPUs} a.py", ("{number of GPUs}", "a.py")),
        ("torchrun a.py --names {one,two}", ("one", "two")),
        ("torchrun a.py --dict {one: 1}", ("{one: 1}",)),
        ("{ torchrun a.py --lr 1; }", ("--lr", "1")),
    ],
)
def test_braces_around_words_are_one_word_that_a_reader_fills_in(written, words):
    (example,) = found_in("README.md", f"```\n{written}\n```\n")

    assert example.argv[-len(words) :] == words


def test_a_script_that_goes_to_its_own_folder_starts_there(tmp_path):
    (tmp_path / "jobs").mkdir()
    text = 'cd "$(dirname "$0")/.."\ntorchrun a.py\ncd "$(dirname "${BASH_SOURCE[0]}")"; torchrun b.py\n'
    first, second = found_in("jobs/run.sh", text, str(tmp_path))

    assert first.cwd == ""
    assert second.cwd == str(tmp_path / "jobs")
