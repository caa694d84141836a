"""What to try next and what a stopped trial would have come to, from trials so far."""

from sweep.search.acquisition import Suggestion, propose
from sweep.search.coordinate_descent import Certificate, Finished, certificate, next_point
from sweep.search.earlier import EarlierSweep, EarlierTrial, lessons
from sweep.search.forecast import Ends, Forecast, Snapshot, cycles_of, foreseen
from sweep.search.landscape import Landscape, landscape
from sweep.search.published import first_points
from sweep.search.seen import Seen
from sweep.search.surface import Surface, surface_of

__all__ = [
    "Certificate",
    "EarlierSweep",
    "EarlierTrial",
    "Ends",
    "Finished",
    "Forecast",
    "Landscape",
    "Seen",
    "Snapshot",
    "Suggestion",
    "Surface",
    "certificate",
    "cycles_of",
    "first_points",
    "foreseen",
    "landscape",
    "lessons",
    "next_point",
    "propose",
    "surface_of",
]
