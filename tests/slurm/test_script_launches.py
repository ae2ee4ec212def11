"""What the reader of a script's text makes of single constructs, and of texts that are no scripts at all."""

from __future__ import annotations

import random

import pytest
from script_corpus import NAMES, SCRIPTS

from preflight.slurm.job_script import directive_words, script_options
from preflight.slurm.script_reader import read_script

BITS = [
    *"'\"$(){}[]`\\\n;&|<>#!*?~=+-/:, ",
    *("$((", "${", "<<EOF\n", "]]", "[[", "))", "esac", "done", "fi", "while true; do ", "f() {"),
    *("case $x in ", "$'", "<(", "x=(", "${a[@]:1}", "${#a[@]}", "${x//", "bash -c '"),
]


def argv_of(text: str, **env: str) -> tuple[str, ...]:
    reading = read_script(text + "\n", "job.sh", ("one", "two words"), env, "/work")
    assert len(reading.launches) == 1, reading
    return reading.launches[0].argv[1:]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a='x y'; torchrun $a \"$a\"", ("x", "y", "x y")),
        ("a=(1 'two words'); a+=(3); torchrun \"${a[@]}\" ${#a[@]}", ("1", "two words", "3", "3")),
        ("torchrun \"${a[@]}\" x", ("x",)),
        ("torchrun $((2 * (3 + 4) / 2)) $((010))", ("7", "8")),
        ("x=a/b/c.tar.gz; torchrun ${x##*/} ${x%%.*} ${x%.gz} ${x#a/}", ("c.tar.gz", "a/b/c", "a/b/c.tar", "b/c.tar.gz")),
        ("x=; torchrun ${x:-d} ${x-e} ${y-f} ${x:+g} ${z:=h} $z", ("d", "f", "h", "h")),
        ("torchrun \"$@\" $# $2", ("one", "two words", "2", "two", "words")),
        ("f() { torchrun $1 $#; }; f a b", ("a", "2")),
        ("if [[ -z $x && 3 -lt 10 ]]; then y=1; else y=2; fi; torchrun $y", ("1",)),
        ("case abc in a*) y=1 ;; *) y=2 ;; esac; torchrun $y", ("1",)),
        ("torchrun {a,b}-{1,2}", ("a-1", "a-2", "b-1", "b-2")),
        ("eval 'torchrun a\\ b'", ("a b",)),
        ("torchrun $'a\\tb' a\\ b '' x", ("a\tb", "a b", "", "x")),
        ("x=$(basename /a/b.sh .sh)-`echo y`; torchrun $x", ("b-y",)),
        ("read a b <<< '1 2 3'; torchrun $a \"$b\"", ("1", "2 3")),
        ("FOO=1 nohup env BAR=2 torchrun a &", ("a",)),
    ],
)  # fmt: skip
def test_words_are_those_of_bash(text, words):
    assert argv_of(text) == words


def test_what_only_the_job_knows_stands_as_it_is_written_and_is_named():
    text = 'x=$(curl http://a b); torchrun --port $RANDOM --x "n $x"\n'
    (launch,) = read_script(text, "job.sh").launches

    assert launch.argv == ("torchrun", "--port", "$RANDOM", "--x", "n $(curl http://a b)")
    assert launch.unknown == ("$RANDOM", "$(curl http://a b)")


def test_a_branch_that_is_not_known_leaves_what_it_sets_unknown():
    (launch,) = read_script("n=1; if curl x; then n=2; fi\ntorchrun $n\n", "job.sh").launches

    assert launch.unknown == ("$n",)


def test_any_text_has_an_answer():
    """Corpus scripts with pieces cut, copied and put in: no exception, and no line is lost."""
    texts = [(SCRIPTS / name).read_text() for name in NAMES]
    rng = random.Random(6)
    for _ in range(400):
        text = rng.choice(texts)
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(len(text) + 1)
            other = rng.choice(texts)
            start = rng.randrange(len(other))
            piece = rng.choice([rng.choice(BITS), "", other[start : start + rng.randint(1, 99)]])
            text = text[:at] + piece + text[at + rng.choice([0, 0, rng.randint(1, 12)]) :]
        reading = read_script(text, "job.sh", ("a",), {"SLURM_NNODES": "2"}, "/nowhere")
        assert reading.launches or reading.reasons
        script_options(text, "job.sh")


def test_options_of_a_script_end_at_its_first_command():
    text = (
        "#!/bin/bash\n# a comment\n#SBATCH --nodes=2 # two\n#SBATCH -J 'my job' --comment=\"a b\"\n\n"
        "##SBATCH --mem=1\n#SBATCH hetjob\n#SBATCH -p x\necho\n#SBATCH --gres=gpu:8\n"
    )
    first, second = script_options(text, "job.sh")

    assert [(option.name, option.value, option.where) for option in first] == [
        ("nodes", "2", "job.sh:3"),
        ("job-name", "my job", "job.sh:4"),
        ("comment", "a b", "job.sh:4"),
    ]
    assert [(option.name, option.value) for option in second] == [("partition", "x")]
    assert directive_words(' -a\\ b "c \'d" e#f #g') == ["-a b", "c 'd", "e#f"]
