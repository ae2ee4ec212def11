"""`PreflightCallback` for transformers' Trainer, and for TRL's on top of it."""

from __future__ import annotations

import functools
import sys
from typing import Any

from preflight.embedded.measurement import Measurement, outcome_of
from preflight.embedded.recorder import BACKWARD, BETWEEN, SAVE, STEP


@functools.lru_cache(maxsize=1)
def callback_class() -> Any:
    """Return the class; transformers is imported by whoever asks for it, and by nobody else."""
    from transformers import TrainerCallback

    class PreflightCallback(TrainerCallback):  # type: ignore[misc,unused-ignore]
        """Measures every run of a Trainer: arguments as for `preflight.measure`, all of them optional."""

        def __init__(self, **options: Any) -> None:
            self._options = options
            self._trainer: Any = None
            self._uses_hooks = True
            self.measurement: Measurement | None = None

        @property
        def record(self) -> Any:
            """The record of the last run."""
            return None if self.measurement is None else self.measurement.record

        def on_init_end(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
            self._trainer = trainer_of(self)
            if self._trainer is not None:
                self._catch("train")

        def on_train_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
            if self._trainer is None:
                self._trainer = trainer_of(self)
                if self._trainer is not None:
                    self._catch("training_step")  # too late for the whole of train()
            held = Measurement(
                args=args, accelerator=getattr(self._trainer, "accelerator", None), **self._options
            )
            held.trainer = self._trainer
            self._uses_hooks = not getattr(args, "torch_compile", False)
            held.start(objects.get("model"), uses_hooks=self._uses_hooks)
            held.optimizer = objects.get("optimizer")
            self.measurement = held

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not self._uses_hooks:
                self._enter(BACKWARD)  # forward too: hooks would break what is compiled

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._enter(STEP)

        def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self._recorder is not None and self._recorder.phase == STEP:
                self._recorder.step_done()

        def on_step_end(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
            self.on_optimizer_step(args, state, control)  # older ones do not tell it on its own
            if self.measurement is not None:
                self.measurement.between_steps()
            if control.should_save and not control.should_evaluate:
                self._enter(SAVE)

        def on_evaluate(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
            self._enter(SAVE if control.should_save else BETWEEN)

        def on_save(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
            self._enter(BETWEEN)

        def on_train_end(self, args: Any, state: Any, control: Any, **objects: Any) -> None:
            if self.measurement is not None:
                self.measurement.finish()

        @property
        def _recorder(self) -> Any:
            return None if self.measurement is None else self.measurement.recorder

        def _enter(self, phase: str) -> None:
            if self._recorder is not None:
                self._recorder.enter(phase)

        def _catch(self, name: str) -> None:
            """See the exceptions of one of the trainer's own methods, and let them through."""
            stock = getattr(self._trainer, name)

            @functools.wraps(stock)
            def watched(*args: Any, **kwargs: Any) -> Any:
                try:
                    return stock(*args, **kwargs)
                except BaseException as error:
                    if self.measurement is not None:
                        self.measurement.finish(outcome_of(error), error)
                    raise

            setattr(self._trainer, name, watched)

    return PreflightCallback


def trainer_of(callback: Any) -> Any:
    """Return the trainer that is calling a callback: events do not name it, and exceptions are no event."""
    frame = sys._getframe(1)
    while frame is not None:
        candidate = frame.f_locals.get("self")
        handler = getattr(candidate, "callback_handler", None)
        if callback in getattr(handler, "callbacks", ()):
            return candidate
        frame = frame.f_back  # type: ignore[assignment]
    return None


def __getattr__(name: str) -> Any:
    if name == "PreflightCallback":
        return callback_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
