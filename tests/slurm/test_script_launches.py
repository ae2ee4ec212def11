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


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("A=1 torchrun x.py", ("torchrun", "x.py")),
        ('cmd="torchrun x.py"; eval $cmd', ("torchrun", "x.py")),
        ("python submit.py --gpus 8 -- torchrun x.py", ("torchrun", "x.py")),
        ("python submit.py -- source e.sh \\&\\& torchrun x.py \\| tee log", ("torchrun", "x.py")),
        ("uv run --extra gpu python tools/submit.py -- torchrun x.py", ("torchrun", "x.py")),
        ("uv run --extra gpu --no-sync torchrun x.py", ("torchrun", "x.py")),
        ("debugpy-run -p :1 -m torch.distributed.run -- x.py", ("python", "-m", "torch.distributed.run", "x.py")),
        ("python -m debugpy --listen 1 -m torch.distributed.run x.py", ("python", "-m", "torch.distributed.run", "x.py")),
        ("python -m debugpy --listen 1 --wait-for-client x.py", ("python", "x.py")),
        ("nsys profile -o out -t cuda torchrun x.py", ("torchrun", "x.py")),
    ],
)  # fmt: skip
def test_a_launch_is_found_behind_what_starts_it(line, words):
    (launch,) = read_script(line + "\n", "job.sh", (), {}, "/work").launches

    assert launch.argv == words


def test_what_only_the_job_knows_stands_as_it_is_written_and_is_named():
    text = 'x=$(curl http://a b); torchrun --port $RANDOM --x "n $x"\n'
    (launch,) = read_script(text, "job.sh").launches

    assert launch.argv == ("torchrun", "--port", "$RANDOM", "--x", "n $(curl http://a b)")
    assert launch.unknown == ("$RANDOM", "$(curl http://a b)")


def test_a_branch_that_is_not_known_leaves_what_it_sets_unknown():
    (launch,) = read_script("n=1; if curl x; then n=2; fi\ntorchrun $n\n", "job.sh").launches

    assert launch.unknown == ("$n",)


@pytest.mark.parametrize(
    ("text", "argv", "through"),
    [
        ("site_wrapper exec --nv torchrun a.py", "torchrun a.py", "site_wrapper exec --nv"),
        ("srun -n 2 /opt/x/profile-exec torchrun a.py", "torchrun a.py", "srun -n 2 /opt/x/profile-exec"),
        ("srun site_wrapper exec bash -c 'cd /; torchrun a.py'", "torchrun a.py", "srun site_wrapper exec"),
        ("docker build -t deepspeed . ; torchrun a.py", "torchrun a.py", ""),
        ("echo deepspeed x; git clone torchrun; torchrun a.py", "torchrun a.py", ""),
        ("L='accelerate launch --n $SLURM_NNODES'; srun bash -c \"$L train.py\"", "accelerate launch --n 2 train.py", "srun"),
        ("S=$(grep n: x.cfg | awk '{print $2}'); L=\"accelerate launch --n $S\"; srun bash -c \"$L t.py\"", "accelerate launch --n 4 t.py", "srun"),
        ("S=$(grep n: none.cfg | awk '{print $2}'); L=\"accelerate launch --n $S\"; srun bash -c \"$L t.py\"", "accelerate launch --n $(grep n: none.cfg | awk '{print $2}') t.py", "srun"),
        ("torchrun --h $(scontrol show hostnames $SLURM_JOB_NODELIST | head -n 1) --n $(scontrol show hostnames | wc -l) a.py", "torchrun --h n1 --n 2 a.py", ""),
        ("torchrun --nproc $(nvidia-smi -L | wc -l) --u $(whoami) a.py", "torchrun --nproc 8 --u me a.py", ""),
        ("torchrun --a $(srun -n1 -w $SLURM_NODE hostname --ip-address) a.py", "torchrun --a 10.0.0.1 a.py", ""),
        ("D=$(cd ..; pwd); torchrun $(builtin cd sub/.. && pwd)/a.py $D", "torchrun WORK/a.py UP", ""),
        (". ./s.sh 3; torchrun a.py --n $N", "torchrun a.py --n 3", ""),
        ("bash inner.sh 5 --x", "torchrun a.py 5 --x", ""),
        ("X=1; export Y=2; bash -c 'torchrun a.py [$X] $Y'", "torchrun a.py [] 2", ""),
        ("timeout 5 nohup env A=1 torchrun a.py &", "torchrun a.py", "timeout 5 nohup env A=1"),
        ("exec torchrun a.py; torchrun b.py", "torchrun a.py", ""),
        ("cd nowhere || exit 1; torchrun a.py", "torchrun a.py", ""),
        ("git clone x && N=3; torchrun a.py $N", "torchrun a.py 3", ""),
        ("bash <<EOF\ntorchrun a.py $SLURM_NNODES\nEOF", "torchrun a.py 2", ""),
        ("echo torchrun a.py | bash", "torchrun a.py", ""),
        ("at() { export N=3; }; export -f at; srun bash -c 'at; torchrun a.py $N'", "torchrun a.py 3", "srun"),
        ("at() { export N=3; }; bash -c 'at; torchrun a.py $N'", "torchrun a.py", ""),
        ("conda install deepspeed trl; V=$(pkg -V deepspeed); python -m pip install deepspeed trl; torchrun a.py", "torchrun a.py", ""),
        ("torchrun --config <(echo a: 1) a.py", "torchrun --config <(echo a: 1) a.py", ""),
        ("printf 'n: 2\\n' > c.yaml; sed -i 's/2/6/' c.yaml; torchrun a.py --n $(sed -n 's/n: //p' c.yaml)", "torchrun a.py --n 6", ""),
    ],
)  # fmt: skip
def test_launches_are_found_behind_what_starts_them(text, argv, through, tmp_path):
    work = tmp_path / "work"
    (work / "sub").mkdir(parents=True)
    (work / "x.cfg").write_text("n: 4\n")
    (work / "s.sh").write_text("N=$1\n")
    (work / "inner.sh").write_text("torchrun a.py $1 $2\n")
    env = {"SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_GPUS_ON_NODE": "8", "USER": "me", "SLURM_NODE": "n1"}  # fmt: skip
    (launch,) = read_script(text + "\n", "job.sh", (), env, str(work), ("n1", "n2")).launches

    spelled = argv.replace("WORK", str(work)).replace("UP", str(tmp_path))
    assert (" ".join(launch.argv), " ".join(launch.through)) == (spelled, through)


def test_a_step_and_an_environment_give_their_variables():
    text = "source /v/bin/activate; conda activate e; export A=1; B=2\nC=3 srun -N 2 -n 4 --export=ALL,D=4 torchrun a.py\n"
    (launch,) = read_script(text, "job.sh", (), {"SLURM_NNODES": "2"}, "/w").launches
    wanted = {
        "VIRTUAL_ENV": "/v", "CONDA_DEFAULT_ENV": "e", "A": "1", "C": "3", "D": "4", "PWD": "/w",
        "SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "0",
    }  # fmt: skip

    assert {name: launch.env.get(name) for name in wanted} == wanted
    assert "B" not in launch.env
    assert launch.origin == "job.sh:2"


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
