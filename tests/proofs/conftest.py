"""One folder of scripts, configs and a tiny model for all proofs, and every launch started once."""

from __future__ import annotations

import pytest
from proving import Prover, make_proving_ground
from ranks import ForkHost


@pytest.fixture(scope="session")
def prover(tmp_path_factory: pytest.TempPathFactory, ranks: ForkHost) -> Prover:
    folder = tmp_path_factory.mktemp("proofs")
    return Prover(make_proving_ground(folder / "work"), folder, ranks.address)
