"""What changed in which release of torchao."""

from __future__ import annotations

from preflight.versions.boundary import Boundary

FLOAT8_LINEAR_KEEPS_NO_COPY = Boundary(
    "torchao",
    "0.13",
    "Float8Linear keeps its input and weight as they came; before, scaled by tensor, a copy of its weight in 8 bits and,"
    " before 0.9, of its input",
    "float8/float8_linear.py: 0.12.0 hands `weight_fp8_t` to the product that saves it, 0.13.0 `self.weight.t()`; counted"
    " in 0.7.0, 0.8.0, 0.9.0, 0.10.0, 0.13.0 and 0.18.0 (tests/formulas/float8_linears.jsonl)",
    "0.18.0",
)
