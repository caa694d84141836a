from __future__ import annotations

import math

import numpy as np
import pytest

from sweep.results.bootstrap import Noise
from sweep.results.laws import (
    EPOCHS,
    MEMBERS,
    PARAMETERS,
    TOKENS,
    Constant,
    Law,
    Measured,
    law_over,
    law_over_epochs,
)
from sweep.results.power_law import PowerLaw, fresh_tokens

SD = 0.002  # nats
FEW = 20  # draws, where their spread is not what is tested
# Kim et al. (2509.14786), 200M tokens: their regularized recipe by billions of parameters, at the
# sizes they trained; ensembles of its 300M members; and their standard recipe by billions of unique
# tokens, its constants solved from the multipliers they give.
KIM_PARAMETERS = PowerLaw(3.43, 0.05, 1.02), (0.15, 0.3, 0.6, 1.4)
KIM_MEMBERS = PowerLaw(3.34, 0.25, 1.02), (1, 2, 3, 4, 5, 8)
KIM_TOKENS = PowerLaw(1.92, 1.27, 0.232), (0.2, 0.4, 0.8, 1.6, 3.2)

# Muennighoff et al. (2305.16264), the constants of their repository.
A, B, E = math.exp(6.255414), math.exp(7.3049974), math.exp(0.6254804)
EXPONENT, WORTH_TOKENS, WORTH_PARAMETERS = 0.3526596, 15.387756, 5.309743


def muennighoff(parameters: float, tokens: float, unique: float) -> float:
    """Their loss: nats per token after `tokens`, of which `unique` differ."""
    optimal = (A / B) ** (1 / EXPONENT) * unique  # parameters for so much data
    base = min(parameters, optimal)
    size = base * (1 - WORTH_PARAMETERS * math.expm1((1 - parameters / base) / WORTH_PARAMETERS))
    data = fresh_tokens(np.array(unique), np.array(tokens / unique), np.array(WORTH_TOKENS))
    return float(E + A / size**EXPONENT + B / data**EXPONENT)


def noisy(law: PowerLaw, x: tuple[float, ...], sd: float = SD, seed: int = 0) -> list[Measured]:
    random = np.random.default_rng(seed)
    return [Measured(v, law.loss(v) + sd * random.standard_normal(), f"{v:g}") for v in x]


def holds(constant: Constant, true: float) -> bool:
    return constant.low <= true <= constant.high


def fitted(law: Law | str) -> Law:
    assert isinstance(law, Law), law
    return law


@pytest.mark.parametrize(
    ("published", "quantity", "widest"),
    [
        (KIM_PARAMETERS, PARAMETERS, 0.05),
        (KIM_MEMBERS, MEMBERS, 0.05),
        (KIM_TOKENS, TOKENS, 0.6),
    ],
    ids=["kim-parameters", "kim-members", "kim-tokens"],
)
def test_the_law_behind_noisy_points_lies_within_our_intervals(
    published: tuple[PowerLaw, tuple[float, ...]], quantity: str, widest: float
) -> None:
    law, x = published

    ours = fitted(law_over(quantity, "", noisy(law, x), Noise(SD)))

    assert holds(ours.exponent, law.exponent)
    assert holds(ours.floor, law.floor)
    assert ours.floor.high - ours.floor.low < widest
    for beyond, loss in ours.beyond:
        true = law.floor if math.isinf(beyond) else law.loss(beyond)
        assert holds(loss, true)


@pytest.mark.parametrize(
    ("parameters", "tokens", "expected"),
    [(6.34e9, 242e9, 2.2256440889984477), (8.67e9, 178e9, 2.2269634075087867)],
)
def test_muennighoffs_law_gives_the_losses_of_its_authors(
    parameters: float, tokens: float, expected: float
) -> None:
    assert muennighoff(parameters, tokens, 25e9) == pytest.approx(expected, rel=1e-6)


def test_what_repeats_are_worth_is_recovered_from_muennighoffs_law() -> None:
    """100M parameters are fewer than so much data deserves, so that theirs add a constant alone."""
    random = np.random.default_rng(1)
    cells = [
        Measured(
            epochs,
            muennighoff(1e8, epochs * unique, unique) + SD * random.standard_normal(),
            "",
            tokens=unique,
        )
        for unique in (4e9, 16e9)
        for epochs in (1, 4, 16, 64)
    ]

    law = fitted(law_over_epochs(cells, Noise(SD), 60))

    assert law.worth is not None
    assert holds(law.worth, WORTH_TOKENS)
    assert law.worth.high < 2 * law.worth.low
    assert holds(law.exponent, EXPONENT)
    assert holds(law.floor, E + A / 1e8**EXPONENT)


def test_repeats_are_worth_less_each_time() -> None:
    tokens = fresh_tokens(np.array(100.0), np.array([1, 2, 3, math.inf]), np.array(15.0))

    assert tokens[0] == 100
    assert tokens[1] == pytest.approx(100 * (1 + 15 * (1 - math.exp(-1 / 15))))
    assert tokens[2] - tokens[1] < tokens[1] - tokens[0]
    assert tokens[3] == 1600


def test_what_points_are_off_the_law_widens_intervals_as_noise_does() -> None:
    """An assumed noise of 0.0001 nats says nothing where points scatter by 0.02."""
    points = noisy(*KIM_TOKENS, sd=0.02, seed=3)

    quiet = fitted(law_over(TOKENS, "", points, Noise(0.0001), 100))
    loud = fitted(law_over(TOKENS, "", points, Noise(0.02), 100))

    width = [law.beyond[0][1].high - law.beyond[0][1].low for law in (quiet, loud)]
    assert width[0] > 0.3 * width[1]
    assert "more than the noise" in quiet.by
    assert (
        "noise between seeds is not measured"
        in fitted(law_over(TOKENS, "", points, Noise(None), FEW)).by
    )


def test_the_same_points_give_the_same_intervals() -> None:
    first, second = (
        fitted(law_over(MEMBERS, "", noisy(*KIM_MEMBERS), Noise(SD), FEW)) for _ in "ab"
    )

    assert first.beyond == second.beyond
    assert first.floor == second.floor


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_values_than_a_law_has_constants_and_one_are_refused(count: int) -> None:
    law, x = KIM_TOKENS

    refused = law_over(TOKENS, "one recipe", noisy(law, x[:count]), Noise(SD))

    assert isinstance(refused, str)
    assert refused.startswith(f"unique tokens, one recipe: needs 4 different values, has {count}: ")


def test_a_loss_that_does_not_fall_has_no_law() -> None:
    points = [Measured(x, 3 + x / 10, "") for x in (1, 2, 3, 4)]
    cells = [Measured(x, 3 + x / 10, "", tokens=100) for x in (1, 2, 4, 8, 16)]

    assert "does not fall: 3.1000 at 1, 3.2000 at 2" in str(law_over(TOKENS, "", points, Noise(SD)))
    assert "does not fall" in str(law_over_epochs(cells, Noise(SD)))


@pytest.mark.parametrize(
    ("cells", "counts"),
    [([(1, 100), (2, 100), (4, 100), (8, 100)], "4 and 4"), ([(1, 1), (2, 1), (1, 2)], "2 and 3")],
)
def test_epochs_need_more_values_or_other_unique_tokens(
    cells: list[tuple[int, int]], counts: str
) -> None:
    points = [Measured(epochs, 3 - epochs / 10, "", tokens=tokens) for epochs, tokens in cells]

    refused = law_over_epochs(points, Noise(SD))

    assert f"has {counts}: 1, 2" in str(refused)


def test_a_loss_that_rises_again_is_told() -> None:
    """More epochs than the best over-fit; the law goes on falling, and must not be believed."""
    losses = {1: 3.5, 2: 3.3, 4: 3.2, 8: 3.1, 16: 3.15}
    cells = [Measured(epochs, loss, "", tokens=100) for epochs, loss in losses.items()]
    law = fitted(law_over_epochs(cells, Noise(SD), FEW))

    assert law.quantity == EPOCHS
    assert law.rises_after is not None
    assert law.rises_after.x == 8
    assert fitted(law_over(TOKENS, "", noisy(*KIM_TOKENS), Noise(SD), FEW)).rises_after is None
