"""What the page shows and how its text grows; the server itself needs gradio."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from toy_network import network

from model.config.setting import ConfigError
from model.trained.generate import stream
from model.trained.sampling import Sampling
from model.training.trained import Trained, mixture_of
from sweep.page.app import Offered, as_table, continuing, facts, looks, other_settings, page

SAMPLING = Sampling(tokens=30, seed=3)


def test_the_text_grows_from_the_prompt_to_what_the_network_says(trained: Trained) -> None:
    texts = [text for (text,) in continuing([Offered("0001", lambda: trained)], "ab", SAMPLING, 0)]

    assert texts[0] == "ab"
    assert all(later.startswith(text) for text, later in pairwise(texts))
    assert texts[-1] == "ab" + "".join(stream(trained, "ab", SAMPLING))


def test_two_networks_write_at_once_each_what_it_writes_alone(trained: Trained) -> None:
    other = network(seed=1)
    models = [Offered("0001", lambda: trained), Offered("0002", lambda: other)]

    shown = list(continuing(models, "ab", SAMPLING, seconds=0))

    alone = ["ab" + "".join(stream(its, "ab", SAMPLING)) for its in (trained, other)]
    assert list(shown[-1]) == alone
    assert all(len(text) > len("ab") for text in shown[len(shown) // 2])


def test_a_text_that_is_done_sooner_than_it_is_shown_again_is_shown_whole(trained: Trained) -> None:
    models = [Offered("0001", lambda: trained)]

    texts = list(continuing(models, "ab", SAMPLING, seconds=1e9))

    assert texts == [("ab",), ("ab" + "".join(stream(trained, "ab", SAMPLING)),)]


def test_a_network_is_told_with_its_size_its_loss_and_what_its_sweep_chose(
    trained: Trained,
) -> None:
    shown = facts(Offered("0001", lambda: trained, 1.25, {"optim.lr": 0.010000000437}), trained)

    # Six tokens; four square matrices of attention, two of the MLP, four times as wide.
    assert shown["Size"] == f"{2 * 6 * 16 + 4 * 16**2 + 2 * 4 * 16**2:,} parameters"
    assert shown["Network"] == "1 layer, width 16, 2 heads, context of 16 tokens"
    assert shown["Loss"].startswith("1.2500 nats")
    assert shown["optim.lr"] == "0.01"
    assert other_settings(trained.config)["gpt.width"] == "16"


def test_several_networks_as_one_are_told_with_the_size_of_all(trained: Trained) -> None:
    several = mixture_of([trained, network(seed=1)], [0.5, 0.5], "probabilities")

    shown = facts(Offered("ensemble", lambda: several), several)

    assert several.parameters == 2 * trained.parameters
    assert shown["Size"] == f"{2 * trained.parameters:,} parameters, in 2 networks"
    assert shown["Network"] == "1 layer, width 16, 2 heads, context of 16 tokens"


def test_of_weights_that_no_run_here_trained_the_page_does_not_say_what_trained_them(
    trained: Trained,
) -> None:
    assert "Trained on" not in facts(Offered("gpt2", lambda: trained), replace(trained, step=0))
    assert "Trained on" in facts(Offered("0001", lambda: trained), replace(trained, step=9))


def test_the_page_shows_no_path_of_this_machine(trained: Trained) -> None:
    data = replace(trained.config.data, path="/home/me/secret.txt")

    assert "/home/me" not in str(other_settings(replace(trained.config, data=data)))


def test_a_setting_cannot_break_the_table() -> None:
    assert as_table({"gpt.windows": "a|b\nc"}).splitlines()[2:] == [r"| gpt.windows | a\|b c |"]


NEEDS_GRADIO = "gradio (pip install 'sweep[page]') is 118 MB that CI does without"


@pytest.mark.filterwarnings("ignore")  # gradio's of what it uses
def test_a_page_of_two_networks_has_a_column_for_each(trained: Trained) -> None:
    pytest.importorskip("gradio", reason=NEEDS_GRADIO)
    models = [Offered(name, lambda: trained, 1.25) for name in ("0001", "0002", "0003")]

    config = page("shakespeare", models).get_config_file()

    parts = [part for part in config["components"] if part["type"] == "dropdown"]
    assert [part["props"]["value"] for part in parts] == ["0001", "0002"]
    assert [choice[1] for choice in parts[0]["props"]["choices"]] == ["0001", "0002", "0003"]
    assert config["analytics_enabled"] is False


@pytest.mark.filterwarnings("ignore")
def test_a_served_page_streams_text_and_says_what_it_cannot_do(trained: Trained) -> None:
    pytest.importorskip("gradio", reason=NEEDS_GRADIO)
    from gradio_client import Client

    def gone() -> Trained:
        raise ConfigError(["its weights are gone"])

    models = [Offered("0001", lambda: trained), Offered("0002", lambda: trained)]
    blocks = page("shakespeare", [*models, Offered("0003", gone)])
    _, link, _ = blocks.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, share=False, **looks()
    )
    try:
        client = Client(link, verbose=False, analytics_enabled=False)
        said = client.predict("ab", 30, 0.8, 200, 3, "0001", "0002", api_name="/generate")
        with pytest.raises(Exception, match="its weights are gone"):
            client.predict("ab", 30, 0.8, 200, 3, "0001", "0003", api_name="/generate")
    finally:
        blocks.close(verbose=False)

    assert said == 2 * ("ab" + "".join(stream(trained, "ab", SAMPLING)),)
