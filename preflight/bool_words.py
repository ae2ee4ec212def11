"""Which words mean true and false to whom: every tool has a list of its own."""

from __future__ import annotations

from preflight.values import dataclass


@dataclass(frozen=True)
class BoolWords:
    """The words that one tool takes for true and for false, in lower case; it takes them in any case."""

    true: frozenset[str]
    false: frozenset[str]

    def read(self, value: object) -> bool | None:
        """Return what a word (or a bool) means to the tool; None where it is neither word."""
        word = str(value).lower()
        return True if word in self.true else False if word in self.false else None


STRTOBOOL = BoolWords(
    frozenset({"y", "yes", "t", "true", "on", "1"}),
    frozenset({"n", "no", "f", "false", "off", "0"}),
)
"""distutils.util.strtobool's, which accelerate (utils/environment.py:59, 1.15.0) and pydantic's lax mode keep."""
HF_ARGUMENT = BoolWords(STRTOBOOL.true - {"on"}, STRTOBOOL.false - {"off"})
"""HfArgumentParser's string_to_bool (transformers/hf_argparser.py:36, 5.24.0)."""
HUB_VARIABLE = BoolWords(frozenset({"1", "on", "yes", "true"}), frozenset())
"""huggingface_hub/constants.py:12, 1.0: any other text is false."""
LLAMAFACTORY_VARIABLE = BoolWords(frozenset({"true", "y", "1"}), frozenset())
"""is_env_enabled (llamafactory/extras/misc.py, 0.9.5): any other text is false."""
YAML_1_1 = BoolWords(frozenset({"yes", "true", "on"}), frozenset({"no", "false", "off"}))
"""Plain words that are a bool to PyYAML, in lower case, upper case or capitalized."""
AXOLOTL_OPTION = BoolWords(frozenset({"true", "yes"}), frozenset({"false", "no"}))
"""What axolotl infers to be a bool on its command line."""


def is_true(value: object) -> bool:
    """Tell whether a value is true, or the word in any case: no other word counts."""
    return str(value).lower() == "true"


def as_word(value: object) -> str:
    """Return a value as YAML, JSON and variables have it in one word: `true`, and not `True`."""
    return str(value).lower() if isinstance(value, bool) else str(value)
