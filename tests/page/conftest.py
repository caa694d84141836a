from __future__ import annotations

import pytest
from toy_network import network

from model.training.trained import Trained


@pytest.fixture
def trained() -> Trained:
    return network()
