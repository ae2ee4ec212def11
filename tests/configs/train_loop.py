"""A training loop of its own: accelerate alone decides how it runs."""

from accelerate import Accelerator

accelerator = Accelerator()
