"""What is wrong in a run folder, each file held against the others, and how it is repaired."""

from sweep.doctor.damage import Damage
from sweep.doctor.examination import examine, repair

__all__ = ["Damage", "examine", "repair"]
