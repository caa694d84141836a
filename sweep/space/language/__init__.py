"""The YAML file that describes a search space."""

from sweep.space.language.reader import read_space
from sweep.space.language.saved import saved_space, space_text
from sweep.space.language.schema import space_schema
from sweep.space.language.template import starter
from sweep.space.language.yaml_nodes import read_plain

__all__ = ["read_plain", "read_space", "saved_space", "space_schema", "space_text", "starter"]
