"""What MLflow's pages show of a sweep first: columns and charts, as a view that the address names.

The format is that of MLflow's own saved views: a tag of the experiment. It is private to MLflow,
so pyproject.toml keeps us to 3.17; pages of a server of another version that cannot read it say so
and show their defaults.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

from sweep.records import Event
from sweep.tracking.metrics import EFFICIENCY, FINAL_EFFICIENCY, LOG10

TAG = "mlflow.sharedViewState."
LONGEST = 5000  # characters of a tag, in the databases of older servers
RUNS_SHOWN = 20
MOST_SCATTERS = 8
SUMMARIES = ("final/val_loss", FINAL_EFFICIENCY, "final/gap", "best/val_loss", "best/epoch")
FINAL_LOSS = "final/val_loss"
# Trials differ in batch and epochs: the same step is not the same amount of training.
BY_TOKENS = {"xAxisKey": "metric", "selectedXAxisMetricKey": "tokens"}


def view_key(header: Event) -> str:
    """What the address calls the view of this sweep."""
    return f"sweep-{header['id']}"


def saved_view(header: Event, searched: Sequence[str], begun: bool = True) -> tuple[str, str]:
    """The experiment tag, its name and its value, for a sweep that searches these settings.

    begun   whether the search has: until then the page shows the baseline's runs
    """
    view = {
        "name": f"sweep {header['name']} {header['id'][:6]}",
        "createdAt": header["time"],
        "updatedAt": header["time"],
        "state": _packed(_state(header, searched, begun)),
    }
    return TAG + view_key(header), json.dumps(view)


def _packed(state: dict[str, Any]) -> str:
    squeezed = zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 9)
    return "deflate;" + base64.b64encode(squeezed).decode()


def _state(header: Event, searched: Sequence[str], begun: bool) -> dict[str, Any]:
    columns = [
        "tags.`sweep.state`",
        *(f"metrics.`{name}`" for name in SUMMARIES[:1]),
        "tags.`sweep.data_efficiency`",  # with its side, where it lies beyond the baseline
        *(f"metrics.`{name}`" for name in SUMMARIES[1:]),
        *(f"params.`{name}`" for name in searched),
        "tags.`sweep.reason`",
    ]
    sections = [
        ("Curves against tokens read", _curves(), {"columns": 2}),
        ("Searched settings and final loss", [_across(searched)], {"columns": 1}),
        ("Final loss by setting", _settings(header, searched), {"columns": 3}),
    ]
    hidden = "baseline" if begun else "none"
    charts: list[dict[str, Any]] = []
    for number, (_, cards, _) in enumerate(sections):
        charts += [_card(f"{number}-{n}", f"{number}", card) for n, card in enumerate(cards)]
    return {
        # Without the parent, which has no role: MLflow hides children while it is listed too.
        "searchFilter": f"tags.`sweep.id` = '{header['id']}' and tags.`sweep.role` != '{hidden}'",
        "orderByKey": f"metrics.`{FINAL_LOSS}`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": charts,
        "compareRunSections": [
            {
                "uuid": f"{number}",
                "name": name,
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
                **size,
            }
            for number, (name, _, size) in enumerate(sections)
        ],
        "isAccordionReordered": True,
        "autoRefreshEnabled": True,
        "hideEmptyCharts": True,
        "globalLineChartConfig": {**BY_TOKENS, "lineSmoothness": 0},
    }


def _curves() -> list[dict[str, Any]]:
    names = ("curves/val_loss", "curves/train_loss", EFFICIENCY, "curves/gap")
    return [
        {
            "type": "LINE",
            "metricKey": name,
            "selectedMetricKeys": [name],
            **BY_TOKENS,
            "useGlobalXaxisKey": False,
            "xAxisScaleType": "linear",
            "scaleType": "linear",
            "lineSmoothness": 0,
            "ignoreOutliers": False,
        }
        for name in names
    ]


def _across(searched: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "PARALLEL",
        "selectedParams": list(searched),
        "selectedMetrics": [FINAL_LOSS],
        "showAllRuns": True,
    }


def _settings(header: Event, searched: Sequence[str]) -> list[dict[str, Any]]:
    """A scatter for each; bars of data efficiency, as those of losses look all alike from 0."""
    loss = {"key": FINAL_LOSS, "type": "METRIC"}
    log = header.get("log_scaled", ())
    axes = [
        {"key": LOG10 + name, "type": "METRIC"} if name in log else {"key": name, "type": "PARAM"}
        for name in searched[:MOST_SCATTERS]
    ]
    scatters = [{"type": "SCATTER", "xaxis": axis, "yaxis": loss} for axis in axes]
    return [*scatters, {"type": "BAR", "metricKey": FINAL_EFFICIENCY}]


def _card(uuid: str, section: str, chart: dict[str, Any]) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": RUNS_SHOWN,
        **chart,
    }
