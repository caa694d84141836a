"""Which validation targets are judged together."""

from __future__ import annotations

import numpy as np
import pytest

from model.data.clusters import BLOCKS, DOCUMENTS, FEWEST, MOST, by_cluster, clusters


def offsets(*lengths: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)])


def test_each_document_is_a_cluster_and_its_first_token_is_one_of_its_targets() -> None:
    """Target i is token i + 1: the first token of all is none."""
    kind, begin_C = clusters(offsets(*[10] * 30), 299)

    assert kind == DOCUMENTS
    assert begin_C.tolist() == [0, *range(9, 290, 10)]


def test_neighbours_are_one_cluster_where_documents_are_many() -> None:
    rng = np.random.default_rng(0)
    documents_D = offsets(*rng.integers(1, 300, 5000))
    targets = int(documents_D[-1]) - 1

    kind, begin_C = clusters(documents_D, targets)

    tokens_C = np.diff(np.append(begin_C, targets))
    assert (kind, len(begin_C)) == (DOCUMENTS, MOST)
    assert set(begin_C[1:] + 1) <= set(documents_D.tolist())
    assert tokens_C.min() > 0.7 * targets / MOST
    assert tokens_C.max() < 1.3 * targets / MOST


@pytest.mark.parametrize(
    "lengths",
    [(6401,), (6000, *[20] * 20, 1), tuple([6401 // (FEWEST - 1)] * (FEWEST - 1))],
    ids=["one", "one long", "few"],
)
def test_text_of_too_few_documents_is_cut_into_equal_blocks(lengths: tuple[int, ...]) -> None:
    targets = sum(lengths) - 1

    kind, begin_C = clusters(offsets(*lengths), targets)

    tokens_C = np.diff(np.append(begin_C, targets))
    assert (kind, len(begin_C)) == (BLOCKS, 32)
    assert max(tokens_C) - min(tokens_C) <= 1


@pytest.mark.parametrize("targets", [1, 63, 127])
def test_a_text_of_fewer_tokens_than_two_blocks_is_one(targets: int) -> None:
    assert clusters(np.array([0, targets + 1]), targets)[1].tolist() == [0]


def test_empty_documents_and_one_without_a_target_are_in_no_ones_way() -> None:
    lengths = [1, 0, *[5] * 40, 0]

    kind, begin_C = clusters(offsets(*lengths), 200)

    assert kind == DOCUMENTS
    assert begin_C.tolist() == list(range(0, 200, 5))


def test_clusters_have_all_tokens_and_together_the_loss_of_all() -> None:
    losses_N = np.random.default_rng(0).exponential(3, 5000).astype(np.float32)

    cut = by_cluster(losses_N, offsets(*[167] * 29, 158))

    assert sum(cut.tokens) == 5000
    assert np.average(cut.losses, weights=cut.tokens) == pytest.approx(losses_N.mean(), abs=1e-6)
    assert cut.losses[0] == pytest.approx(losses_N[:166].mean(), abs=1e-6)
