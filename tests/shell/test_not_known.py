"""What is not known is one value: it keeps what stands for it, is never cut or compared, and never nests."""

from __future__ import annotations

import pytest
from bash_words import calls_read

from preflight.shell.grammar.patterns import NoPattern, glob, regex
from preflight.shell.grammar.text import (
    MOST_PARTS,
    Steps,
    Text,
    TooManySteps,
    Unknown,
    known,
    not_known,
    text_of_parts,
)

COUNTED = "python3 -c 'import torch; print(torch.cuda.device_count());'"


def test_a_text_is_no_string():
    text = known("a ") + not_known("$(date)")

    with pytest.raises(TypeError):
        f"{text}"
    assert (text.known, text.shown, text.unknown) == (None, "a $(date)", ("$(date)",))
    assert known("a") + known("b") == known("ab")
    assert text_of_parts(["x"] + [Unknown("$y"), "z"] * MOST_PARTS).known is None


@pytest.mark.parametrize(
    ("text", "shown", "unknown"),
    [
        ("x=$(curl a); show \"n $x\" ${x%.*} ${#x}", ["n $(curl a)", "${x%.*}", "${#x}"], 3),
        ("x=$(nope); show $((x+1)) $((0 && x)) $((1 || x))", ["$((x+1))", "0", "1"], 1),
        ("s=$(nope | awk '{print $2}'); l=\"a --n $s\"; show $l b", ["a", "--n", "$(nope | awk '{print $2}')", "b"], 1),
        ("x=$(nope); y=$(echo a-$x); z=$(echo $y | tr a b); show $y $z", ["a-$(nope)", "$(echo $y | tr a b)"], 2),
        ("a=(1 $(nope) 3); show ${a[1]} ${#a[@]} \"${a[@]}\"", ["$(nope)", "3", "1", "$(nope)", "3"], 2),
        ("n=1; if nope; then n=2; fi; show $n", ["$n"], 1),
        ("n=1; if nope; then n=2; else n=2; fi; show $n", ["2"], 0),
        ("n=1; if nope; then n=2; exit; fi; show $n", ["1"], 0),
        ("nope && n=2; m=1; nope || m=1; show $n $m", ["$n", "1"], 1),
        ("case $(nope) in a) n=1 ;; *) n=1; m=2 ;; esac; show $n $m", ["1", "$m"], 1),
        ("while nope; do n=1; done; show $n", ["$n"], 1),
        ("[[ $(nope)x == '' ]] || show filled", ["filled"], 0),
        ("for x in a $(nope); do y+=$x; done; show $y", ["a$(nope)"], 1),
        ("read x < <(nope); show $x; ", ["$x"], 1),
        ("IFS=, read a b <<< $(nope),c; show $a", ["$a"], 1),
        ("x=$RANDOM; show $x $$", ["$RANDOM", "$$"], 2),
        ("eval \"show '$(nope)' $(nope)-y\"", ["$(nope)", "$(nope)-y"], 2),
        ("declare -A m; m[$(nope)]=1; show ${m[a]}", ["${m[a]}"], 1),
        ("x=$(cat /nowhere/at/all); show \"${x:-d}\" ${x:+set}", ["$(cat /nowhere/at/all)", "set"], 1),
        ("show $(nvidia-smi -L | wc -l)", ["$(nvidia-smi -L | wc -l)"], 1),
        ("SLURM_JOB_ID=1 SLURM_GPUS_ON_NODE=4; show $(nvidia-smi -L | wc -l)", ["4"], 0),
        (f"SLURM_GPUS_ON_NODE=4; show $({COUNTED})", ["4"], 0),
        (f"export CUDA_VISIBLE_DEVICES=2,5; show $({COUNTED})", ["2"], 0),
        (f"CUDA_VISIBLE_DEVICES=0,1,-1,3; SLURM_GPUS_ON_NODE=4; show $({COUNTED})", ["2"], 0),
        (f"SLURM_GPUS_ON_NODE=4; show $(CUDA_VISIBLE_DEVICES=1 {COUNTED})", ["1"], 0),
        (f"show $({COUNTED})", [f"$({COUNTED})"], 1),
        ("SLURM_GPUS_ON_NODE=4; show $(python -c 'import torch; print(2 * torch.cuda.device_count())')", ["$(python -c 'import torch; print(2 * torch.cuda.device_count())')"], 1),
        ("SLURM_JOB_ID=1; show $(nvidia-smi --query-gpu=name --format=csv,noheader | wc -l)", ["0"], 0),
    ],
)  # fmt: skip
def test_it_stands_as_it_is_written(text, shown, unknown, tmp_path):
    calls = calls_read(text, tmp_path)
    words = [word for call in calls for word in call]

    assert [word.shown for word in words] == shown
    assert sum(len(word.unknown) for word in words) == unknown
    assert not any("\ue000" <= character <= "\ue003" for word in shown for character in word)


def test_patterns_that_explode_elsewhere_take_linear_steps():
    steps = Steps()
    regex("(a+)+b").search("a" * 2_000, steps)
    glob([("*a" * 20 + "b", False)]).fits("a" * 2_000, steps)

    assert steps.left > Steps.MOST // 2
    with pytest.raises(TooManySteps):
        regex(".*" * 50 + "x").search("a" * 100_000, Steps())
    with pytest.raises(NoPattern):
        regex("(" * 10)
    with pytest.raises(NoPattern):
        regex("a{1,100}" * 100)


def test_an_empty_text_is_known():
    assert Text().known == "" and Text() == known("")
