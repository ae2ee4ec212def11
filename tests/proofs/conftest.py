"""One folder of scripts, configs and a tiny model for all proofs, and every launch started once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "launches"))

from proving import Prover, make_proving_ground


@pytest.fixture(scope="session")
def prover(tmp_path_factory: pytest.TempPathFactory) -> Prover:
    folder = tmp_path_factory.mktemp("proofs")
    return Prover(make_proving_ground(folder / "work"), folder)
