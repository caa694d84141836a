"""A trained network as an MLflow model. A copy of this file is logged with it: no pickle.

mlflow.pyfunc.load_model(uri).predict(pandas.DataFrame({"prompt": ["def "]}))
mlflow.pyfunc.load_model(uri).predict(pandas.DataFrame({"text": ["def f(): pass"]}))
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

TRAINED = "trained"  # the artifact: a folder that model.training.export wrote
# What `predict` takes as `params`, with types as MLflow names them.
PARAMS = {
    "max_new_tokens": ("long", 100),
    "temperature": ("double", 1.0),  # 0 always takes the likeliest token
    "seed": ("long", 0),
}


class TextModel(PythonModel):  # type: ignore[misc]
    """Continues prompts and says what texts cost."""

    def load_context(self, context):  # type: ignore[no-untyped-def] # MLflow validates by hints
        from model.training.trained import load

        self._trained = load(Path(context.artifacts[TRAINED]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """A row for each row: of `prompt` its continuation, of `text` its loss.

        Losses are nats per token and bits per byte; not a number for a text of no token.
        """
        import pandas

        from model.trained.cost import cost
        from model.trained.generate import continuation

        asked: dict[str, Any] = {name: default for name, (_, default) in PARAMS.items()}
        asked |= params or {}
        unknown = set(model_input.columns) - {"prompt", "text"}
        if unknown or not len(model_input.columns):
            raise ValueError(f"columns: expected prompt or text, found {list(model_input.columns)}")
        columns: dict[str, list[Any]] = {}
        if "prompt" in model_input:
            columns["continuation"] = [
                continuation(self._trained, prompt, **asked) for prompt in model_input["prompt"]
            ]
        if "text" in model_input:
            costs = [cost(self._trained, text) for text in model_input["text"]]
            columns["loss"] = [c.loss if c else math.nan for c in costs]
            columns["bits_per_byte"] = [c.bits_per_byte if c else math.nan for c in costs]
        return pandas.DataFrame(columns, index=model_input.index)


set_model(TextModel())
