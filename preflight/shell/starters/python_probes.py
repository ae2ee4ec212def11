"""What Python prints of the machine for a script that asks it: how many GPUs a process of the job sees."""

from __future__ import annotations

from preflight.lazy_pattern import lazy_pattern
from preflight.shell.grammar.text import Text, all_known, known
from preflight.shell.meaning.state import State
from preflight.shell.starters.program_names import is_python
from preflight.shell.starters.variables import num_visible_devices

VISIBLE = "CUDA_VISIBLE_DEVICES"
_COUNTS_DEVICES = lazy_pattern(
    r"\s*import torch\s*[;\n]\s*print\(\s*torch\.cuda\.device_count\(\)\s*\)\s*;?\s*"
)


def devices_counted(argv: list[Text], state: State) -> Text | None:
    """`python -c "import torch; print(torch.cuda.device_count())"`: the GPUs that a process here sees; None for anything else,
    and where nobody says."""
    words = all_known(argv[1:])
    if words is None or len(words) != 2 or words[0] != "-c" or not is_python(argv[0].known or ""):
        return None
    if not _COUNTS_DEVICES.fullmatch(words[1]):
        return None
    given = state.known("SLURM_GPUS_ON_NODE") or ""
    numbers = [int(given)] if given.isdecimal() and len(given) <= 4 else []
    if state.get(VISIBLE) is not None:
        listed = state.known(VISIBLE)
        if listed is None:
            return None
        numbers.append(num_visible_devices({VISIBLE: listed}))
    return known(f"{min(numbers)}\n") if numbers else None
