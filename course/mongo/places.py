"""Places as GeoJSON, longitude first, and how swapped ones are found out."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from course.mongo.codec import Document


class Area(NamedTuple):
    """A part of the earth, by degrees."""

    west: float
    south: float
    east: float
    north: float

    def has(self, longitude: float, latitude: float) -> bool:
        """Tell whether a place is in this area."""
        is_within = self.west <= longitude <= self.east
        return is_within and self.south <= latitude <= self.north


WORLD = Area(-180, -90, 180, 90)
HOME = Area(22, 44, 41, 53)  # where most of what is stored here happens


# region point
def point(longitude: float, latitude: float, home: Area | None = HOME) -> Document:
    """Return a GeoJSON point; raise ValueError for a bad place, or a swapped one.

    A place is swapped if it is outside our area, and inside it the other way round:
    Kyiv becomes a place in Iran. Berlin, Lima and Sydney pass. `home` is your area,
    whose two ranges of degrees must not overlap; with None, no area is checked.
    """
    for degrees in (longitude, latitude):
        is_number = isinstance(degrees, int | float)
        if not is_number or isinstance(degrees, bool) or not math.isfinite(degrees):
            raise ValueError(f"({longitude!r}, {latitude!r}): degrees are numbers")
    place = f"({longitude}, {latitude})"
    if home and not home.has(longitude, latitude) and home.has(latitude, longitude):
        raise ValueError(f"{place} is in our area the other way round: swapped?")
    if not WORLD.has(longitude, latitude):
        raise ValueError(f"{place} is nowhere on earth, longitude first: swapped?")
    return {"type": "Point", "coordinates": [float(longitude), float(latitude)]}


# endregion point


def point_of(geo: Any, home: Area | None = HOME) -> Document:
    """Return the point that GeoJSON says; raise ValueError for all else."""
    coordinates = geo.get("coordinates") if isinstance(geo, dict) else None
    if not isinstance(coordinates, list | tuple):
        coordinates = ()
    if len(coordinates) != 2 or geo.get("type") != "Point":
        right = '{"type": "Point", "coordinates": [longitude, latitude]}'
        raise ValueError(f"geo is not a GeoJSON point, such as {right}")
    longitude, latitude = coordinates
    return point(longitude, latitude, home)
