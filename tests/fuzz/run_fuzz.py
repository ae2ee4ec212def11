"""Fuzzes preflight: `python tests/fuzz/run_fuzz.py --count 20000 --seed 1`.

    python tests/fuzz/run_fuzz.py --commands --count 20000     # every command, drawn from its own parser

Every input is a seed with a few changes, checked in this process. A traceback, an exit code that is not
an answer, more work than ninety runs of a reference loop, or a file that changed is a failure; the input is kept below `--keep`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

from fuzz_hostile import hostile
from fuzz_mutate import mutated
from fuzz_seeds import Seed, seeds
from fuzz_try import MOST_LOOPS, Failure, fresh, limit_memory, tried

Prepare = Callable[[Path], None]


def main() -> int:
    """Run the inputs; return 1 where any failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a folder for the inputs that failed")
    parser.add_argument("--hostile", action="store_true", help="the hostile inputs instead")
    parser.add_argument("--commands", action="store_true", help="every command, with drawn files")
    parser.add_argument("--one", type=Path, help="a launch with the files of this folder instead")
    parser.add_argument("--loops", type=int, default=MOST_LOOPS, help="that one input may take")
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    options = parser.parse_args()
    limit_memory()
    if options.commands:
        return _commands(options)
    kinds: Counter[str] = Counter()
    started = time.monotonic()
    total = 0
    with tempfile.TemporaryDirectory() as place:
        for number, (name, seed, prepare) in enumerate(_inputs(options), options.first):
            total += 1
            folder = fresh(Path(place) / f"{number}")
            if prepare is not None:
                prepare(folder)
            failure = tried(seed, folder, options.loops)
            shutil.rmtree(folder, ignore_errors=True)
            if failure is not None:
                kinds[failure.kind] += 1
                print(f"{number} {failure.kind}: {name}: {failure.about}", flush=True)
                _keep(failure, number, options.keep)
            if number % 1000 == 999:
                spent = time.monotonic() - started
                print(
                    f"{number + 1} inputs, {sum(kinds.values())} failed, {spent:.0f} s",
                    file=sys.stderr,
                )
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "none failed"
    print(f"{total} inputs in {time.monotonic() - started:.0f} s: {told}")
    return 1 if kinds else 0


def _commands(options: argparse.Namespace) -> int:
    """Draw calls of every command; return 1 where one was answered wrongly."""
    from fuzz_commands import Audit, called, drawn, make_world
    from fuzz_grammar import Draw

    sys.dont_write_bytecode = True
    audit = Audit()
    codes: Counter[int | None] = Counter()
    commands: Counter[str] = Counter()
    slowest, largest, failed = (0.0, ""), (0, ""), 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        for number in range(options.first, options.first + options.count):
            rng = Draw(f"commands-{options.seed}-{number}")
            rng.oddness = rng.choice((0.0, 0.1, 0.3, 1.0))
            given = drawn(rng)
            own = Path(place) / f"{number}"
            folder = make_world(rng, own, given)
            outcome = called(given, folder, audit)
            words = ascii(shlex.join(given.words))[:300]
            if outcome.wrong:
                failed += 1
                print(f"{number} {given.command}: {outcome.wrong[:4]}: {words}", flush=True)
                if options.keep is not None:
                    kept = options.keep / str(number)
                    shutil.copytree(
                        folder, kept, symlinks=True, ignore=shutil.ignore_patterns("pipe")
                    )
                    (kept / "FAILURE.txt").write_text(ascii((given, outcome)))
            shutil.rmtree(own, ignore_errors=True)
            codes[outcome.code] += 1
            commands[given.command] += 1
            slowest = max(slowest, (outcome.seconds, f"{number} {words[:90]}"))
            largest = max(largest, (outcome.num_bytes, f"{number} {words[:90]}"))
    print("exit codes:", ", ".join(f"{code}: {n}" for code, n in codes.most_common()))
    print("commands:", ", ".join(f"{name} {n}" for name, n in sorted(commands.items())))
    print(f"slowest: {slowest[0]:.2f} s of processor time, {slowest[1]}")
    print(f"largest: {largest[0] / 1e6:.0f} MB more than before, {largest[1]}")
    spent = time.monotonic() - started
    print(f"{sum(codes.values())} inputs in {spent:.0f} s: {failed or 'none'} failed")
    return 1 if failed else 0


def _inputs(options: argparse.Namespace) -> Iterator[tuple[str, Seed, Prepare | None]]:
    """Yield name, input, and what else is to be made in its folder."""
    if options.hostile:
        yield from hostile()
    elif options.one is not None:
        files = {path.name: path.read_bytes() for path in options.one.iterdir()}
        yield "one", Seed("one", files, ("check",), ("accelerate", "launch", "train.py")), None
    else:
        pool = seeds()
        for number in range(options.first, options.first + options.count):
            rng = random.Random(f"{options.seed}-{number}")
            seed = rng.choice(pool)
            yield seed.name, mutated(seed, rng), None


def _keep(failure: Failure, number: int, folder: Path | None) -> None:
    if folder is None:
        return
    kept = folder / str(number)
    kept.mkdir(parents=True, exist_ok=True)
    for name, data in failure.seed.files.items():
        path = kept / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    words = [*failure.seed.own, *(("--", *failure.seed.launch) if failure.seed.launch else ())]
    told = {"argv": words, "env": failure.seed.env, "kind": failure.kind, "about": failure.about}
    (kept / "FAILURE.json").write_text(json.dumps(told, indent=1))
    line = shlex.join(word for word in words).encode("utf-8", "surrogateescape")
    (kept / "FAILURE.sh").write_bytes(b"preflight " + line + b"\n")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    raise SystemExit(main())
