"""Gradients that a loop's forward finds there, of the step before, which it lets go behind it.

`loss = model(**batch).loss; optimizer.zero_grad(); loss.backward()` holds them beside all activations, until zero_grad
(torch/optim/optimizer.py zero_grad, 2.13).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from preflight.scripts.losses.own_losses import MODEL
from preflight.scripts.python.nodes import last_name, unparse
from preflight.unpriced_names import GRADIENTS_STAY


def found_gradients(own: Sequence[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield where a step lets its gradients go behind its forward and before its backward, with its line; `own` are its nodes."""
    calls = [node for node in own if isinstance(node, ast.Call)]
    forwards = [call.lineno for call in calls if MODEL.match(unparse(call.func))]
    backwards = [call.lineno for call in calls if last_name(call.func) == "backward"]
    zeros = [call.lineno for call in calls if last_name(call.func) == "zero_grad"]
    is_step = forwards and backwards and zeros
    if is_step and all(min(forwards) < line <= max(backwards) for line in zeros):
        yield GRADIENTS_STAY, zeros[0]
