"""Procedural scenes in the factor layout of 3D Shapes: a lit object in a room, 480,000 images.

Floor hue 10, wall hue 10, object hue 10, scale 8, shape 4, orientation 15 (Burgess & Kim 2018).  The 480 geometries
(scale, shape, orientation) are ray-cast once.  An image is linear in its three colours,

.. math:: v(p) = F(p) c_{floor} + W(p) c_{wall} + O(p) c_{object} + K(p),

so that images are composed when they are read, and the full set is never in memory.
"""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sigmascope.core import InputError, LabelledData
from sigmascope.data.labels import columns_of, encode, parse_entries
from sigmascope.data.reals import encode_reals, update_reals
from sigmascope.data.shapes3d import FACTORS, SHAPES
from sigmascope.data.sigma_units import PIXELS

HUES, SCALES, ORIENTATIONS = 10, 8, 15
COLOURINGS = HUES**3
GEOMETRIES = SCALES * len(SHAPES) * ORIENTATIONS
ANGLES = np.linspace(-30.0, 30.0, ORIENTATIONS)
"""The camera's angle of each orientation, in degrees from the room's diagonal."""
SIDES = 0.75 + 0.5 * np.arange(SCALES) / (SCALES - 1)
"""The relative size of the thing of each scale."""
_VERSION = 1  # part of the fingerprint; to be raised when a pixel changes
_SUPERSAMPLE = 4
_RAYS = _SUPERSAMPLE**2  # of a pixel
GRAINS = ("smooth", "lengthwise", "crosswise", "tiled")
_GRAIN_PERIOD, _GRAIN_CONTRAST = 0.5, 0.08
_ROOM, _WALL_TOP = 3.0, 2.3  # half-width of the square room; height of its walls
_LIGHT = np.array([-2.0, 3.2, 0.3])
_SKY = np.array([0.72, 0.85, 0.95])

Rays = Float[np.ndarray, "rays 3"]


class ScenesSource:
    """The scenes as a source of items.

    index = (((scale·4 + shape)·15 + orientation)·grains + grain)·1000 + floor·100 + wall·10 + object, with one grain
    or four.
    """

    def __init__(self, size: int, grain: bool = False) -> None:
        self._shade, self._constant = _geometries(size, grain)
        hue = np.array([colorsys.hsv_to_rgb(h / HUES, 0.9, 1.0) for h in range(HUES)], dtype=np.float32)
        self._hue = torch.from_numpy(hue)
        self.event: tuple[int, ...] = (3, size, size)
        self.resident_bytes = (self._shade.numel() + self._constant.numel()) * 4

    def __len__(self) -> int:
        return len(self._shade) * COLOURINGS

    def _parts(self, geometry: int) -> tuple[Tensor, Tensor, Tensor]:
        """Floor, wall and (object + constant) of one geometry in every hue, each (10, pixels)."""
        floor, wall, thing = ((self._hue[:, :, None] * self._shade[geometry, m]).reshape(HUES, -1) for m in range(3))
        return floor, wall, thing + self._constant[geometry].reshape(1, -1)

    def read(self, start: int, stop: int) -> Tensor:
        out = torch.empty(stop - start, self._shade.shape[1] * self._shade.shape[2])
        slab = HUES * HUES  # items of one geometry and floor: written at once, in place
        for k in range(start // slab, -(-stop // slab)):
            geometry, hue = divmod(k, HUES)
            if hue == 0 or k == start // slab:
                floor, wall, thing = self._parts(geometry)
            low, high = max(start, k * slab), min(stop, (k + 1) * slab)
            back = (floor[hue] + wall)[:, None]
            if high - low == slab:
                torch.add(back, thing, out=out[low - start : high - start].view(HUES, HUES, -1))
            else:
                out[low - start : high - start] = (back + thing).flatten(0, 1)[low - k * slab : high - k * slab]
        return out.reshape(-1, *self.event)

    def take(self, items: Int64[Tensor, " rows"]) -> Tensor:
        geometry, colouring = items // COLOURINGS, items % COLOURINGS
        hues = (colouring // (HUES * HUES), colouring // HUES % HUES, colouring % HUES)
        floor, wall, thing = (self._hue[h][:, :, None] * self._shade[geometry, m, None] for m, h in enumerate(hues))
        return ((floor + wall) + (thing + self._constant[geometry])).reshape(-1, *self.event)


def load_scenes(size: int = 32, attributes: Sequence[str] = (), *, grain: bool = False) -> LabelledData:
    """The scenes as labelled data: every combination of six factors, rendered when it is needed.

    With a resolution, ``orientation`` is an angle in degrees and ``scale`` the size of the thing beside the middle one.

    Args:
        size: side of the square images in pixels: 16, 32 or 64.
        attributes: entries of ``--attributes``; empty: all factors.
        grain: whether the floor has one of four fine textures, one more factor: 1,920,000 images.

    Returns: the 480,000 images, or those with grain, whose attributes are the factors.

    Raises: InputError for another size or factor.
    """
    if size not in (16, 32, 64):
        raise InputError(f"size is {size}: scenes are rendered at 16, 32 or 64 pixels")
    counts = dict(zip(FACTORS, (HUES, HUES, HUES, SCALES, len(SHAPES), ORIENTATIONS), strict=True))
    order = ["scale", "shape", "orientation", "floor_hue", "wall_hue", "object_hue"]
    if grain:
        counts["grain"] = len(GRAINS)
        order.insert(3, "grain")
    grid = {name: np.arange(n, dtype=np.int64) for name, n in counts.items()}
    mesh = np.meshgrid(*(grid[n] for n in order), indexing="ij")
    columns = {name: mesh[order.index(name)].reshape(-1) for name in counts}
    made, labels, weights = encode(columns, mesh[0].size, attributes, names={"shape": SHAPES, "grain": GRAINS})
    reals = encode_reals(columns, mesh[0].size, attributes, {"orientation": (ANGLES, "°"), "scale": (SIDES, "")})
    bins = columns_of(parse_entries(attributes, columns))
    chosen = ",".join([*sorted(a.name for a in made), *sorted(f"{name}:{n}" for name, n in bins.items() if n)])
    digest = hashlib.blake2b(f"scenes {_VERSION} {size} {grain} {chosen}".encode(), digest_size=16)
    update_reals(digest, reals)
    source, unit = ScenesSource(size, grain), PIXELS
    return LabelledData("scenes", source, made, labels, weights, digest.hexdigest(), unit, (), None, *reals)


@lru_cache(maxsize=2)
def _geometries(size: int, grain: bool) -> tuple[Tensor, Tensor]:
    """Shades (geometries · grains, 3 materials, pixels) and constants (the same, 3 channels, pixels), float32."""
    grains = len(GRAINS) if grain else 1
    shade = np.empty((GEOMETRIES, grains, 3, size * size), dtype=np.float32)
    constant = np.empty((GEOMETRIES, grains, 3, size * size), dtype=np.float32)
    for orientation in range(ORIENTATIONS):
        room = _Room.from_camera(np.deg2rad(45.0 + ANGLES[orientation]), size)
        textures = _textures(room.points)[:grains]
        empty = _averaged(_shade(room, None), textures)
        for scale in range(SCALES):
            for shape in range(len(SHAPES)):
                thing = _Thing(shape, SIDES[scale])
                # Most pixels show neither the thing nor its shadow: they are those of the empty room.
                pixels = np.flatnonzero(room.near(thing).reshape(-1, _RAYS).any(1))
                rays = (pixels[:, None] * _RAYS + np.arange(_RAYS)).reshape(-1)
                maps = empty.copy()
                maps[..., pixels] = _averaged(_shade(room.part(rays), thing), textures[:, rays])
                geometry = (scale * len(SHAPES) + shape) * ORIENTATIONS + orientation
                shade[geometry], constant[geometry] = maps[:, :3], maps[:, 3:]
    flat = (GEOMETRIES * grains, 3, size * size)
    return torch.from_numpy(shade.reshape(flat)), torch.from_numpy(constant.reshape(flat))


def _averaged(
    maps: Float[np.ndarray, "6 rays"], textures: Float[np.ndarray, "grains rays"]
) -> Float[np.ndarray, "grains 6 pixels"]:
    """Mean over the rays of each pixel, for each texture of the floor, which is the first map."""
    out = np.empty((len(textures), 6, maps.shape[1] // _RAYS))
    for part, values in ((out[:, 0], maps[0] * textures), (out[:, 1:], maps[1:])):
        part[:] = values.reshape(*values.shape[:-1], -1, _SUPERSAMPLE, _SUPERSAMPLE).sum(-1).sum(-1) / _RAYS
    return out


def _textures(points: Rays) -> Float[np.ndarray, "grains rays"]:
    """Relative brightness of the floor at some points for each grain: smooth, boards along x or z, or tiles."""
    x, z = (np.sign(np.sin(2 * np.pi * points[:, axis] / _GRAIN_PERIOD)) for axis in (0, 2))
    return 1.0 + _GRAIN_CONTRAST * np.stack([np.zeros_like(x), x, z, x * z])


def _camera(azimuth: float, size: int) -> tuple[np.ndarray, Rays]:
    """Origin and unit rays of a camera that circles the middle of the room; the rays of a pixel follow each other."""
    origin = np.array([-2.75 * np.cos(azimuth), 1.55, -2.75 * np.sin(azimuth)])
    forward = np.array([0.0, 0.62, 0.0]) - origin
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    side = size * _SUPERSAMPLE
    grid = (np.arange(side) + 0.5) / side * 2 - 1
    cells = (size, _SUPERSAMPLE, size, _SUPERSAMPLE)
    x, y = (axis.reshape(cells).swapaxes(1, 2) for axis in np.meshgrid(grid, -grid))  # rows run from top to bottom
    half = np.tan(np.deg2rad(27.0))
    rays = forward + half * (x.reshape(-1, 1) * right + y.reshape(-1, 1) * up)
    return origin, rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _room(origin: np.ndarray, rays: Rays) -> tuple[np.ndarray, np.ndarray, Rays]:
    """Distance, material (0 floor, 1 wall, 3 sky) and normal of the surface that each ray meets in the empty room."""
    with np.errstate(divide="ignore"):
        floor = np.where(rays[:, 1] < 0, -origin[1] / rays[:, 1], np.inf)
        side_x = (np.sign(rays[:, 0]) * _ROOM - origin[0]) / rays[:, 0]
        side_z = (np.sign(rays[:, 2]) * _ROOM - origin[2]) / rays[:, 2]
    wall = np.minimum(side_x, side_z)
    distance = np.minimum(floor, wall)
    material = np.where(floor <= wall, 0, 1)
    height = origin[1] + distance * rays[:, 1]
    material[(material == 1) & (height > _WALL_TOP)] = 3
    normal = np.zeros_like(rays)
    on_x = (material != 0) & (side_x <= side_z)
    on_z = (material != 0) & (side_x > side_z)
    normal[material == 0, 1] = 1.0
    normal[on_x, 0] = -np.sign(rays[on_x, 0])
    normal[on_z, 2] = -np.sign(rays[on_z, 2])
    return distance, material, normal


def _light(points: Rays, normal: Rays) -> np.ndarray:
    """Diffuse light (Lambert) at points of these normals, in [0, 1]."""
    to_light = _LIGHT - points
    return np.asarray(np.clip(_dot(normal, to_light) / np.sqrt(_dot(to_light, to_light)), 0.0, 1.0))


class _Room(NamedTuple):
    """What each ray of a camera meets in the empty room."""

    origin: np.ndarray
    rays: Rays
    distance: np.ndarray
    material: np.ndarray
    points: Rays
    light: np.ndarray

    @classmethod
    def from_camera(cls, azimuth: float, size: int) -> _Room:
        """The room from a camera at this angle, in images of this size."""
        origin, rays = _camera(azimuth, size)
        distance, material, normal = _room(origin, rays)
        points = origin + distance[:, None] * rays
        return cls(origin, rays, distance, material, points, _light(points, normal))

    def part(self, rays: np.ndarray) -> _Room:
        """The same for some of the rays."""
        return _Room(self.origin, *(field[rays] for field in self[1:]))

    def near(self, thing: _Thing) -> np.ndarray:
        """Whether each ray, or the light's way to the point that it meets, passes near a thing."""
        return np.asarray(thing.near(self.origin[None], self.rays) | thing.near(self.points, _LIGHT - self.points))


def _shade(room: _Room, thing: _Thing | None) -> Float[np.ndarray, "6 rays"]:
    """Floor, wall and object shade and the constant colour (three channels) of each ray."""
    count = len(room.rays)
    visible, shadow = np.zeros(count, dtype=bool), np.zeros(count)
    maps = np.zeros((6, count))
    if thing is not None:
        hit, object_normal = thing.meet(np.broadcast_to(room.origin, room.rays.shape), room.rays)
        visible = hit < room.distance
        lit = room.material != 3
        shadow[lit] = thing.meet(room.points[lit], _LIGHT - room.points[lit])[0] < 1.0
        spot, n, ray = room.origin + hit[visible, None] * room.rays[visible], object_normal[visible], room.rays[visible]
        maps[2, visible] = 0.34 + 0.50 * _light(spot, n)
        mirror = ray - 2 * _dot(ray, n)[:, None] * n
        aim = _LIGHT - spot
        gloss = np.clip(_dot(mirror, aim) / np.sqrt(_dot(aim, aim)), 0.0, 1.0) ** 24
        maps[3:, visible] = 0.16 * gloss
    for m in (0, 1):
        where = ~visible & (room.material == m)
        maps[m, where] = 0.35 + 0.55 * room.light[where] * (1.0 - 0.8 * shadow[where])
    maps[3:, ~visible & (room.material == 3)] = _SKY[:, None]
    return maps


class _Thing:
    """A cube, cylinder, sphere or capsule in the middle of the floor."""

    def __init__(self, shape: int, scale: float) -> None:
        self.shape = SHAPES[shape]
        self.half = {"cube": 0.50, "cylinder": 0.58, "sphere": 0.66, "capsule": 0.77}[self.shape] * scale
        self.radius = {"cube": 0.50, "cylinder": 0.52, "sphere": 0.66, "capsule": 0.44}[self.shape] * scale

    def near(self, origins: Float[np.ndarray, "#rays 3"], rays: Rays) -> np.ndarray:
        """Whether the line of each ray passes through a sphere around the thing."""
        reach = 1.01 * {"cube": np.sqrt(3.0) * self.half, "cylinder": np.hypot(self.half, self.radius)}.get(
            self.shape, self.half
        )
        o = origins - np.array([0.0, self.half, 0.0])
        return np.asarray((_dot(o, o) - reach**2) * _dot(rays, rays) < _dot(o, rays) ** 2)

    def meet(self, origins: Rays, rays: Rays) -> tuple[np.ndarray, Rays]:
        """First positive ray parameter (inf: none) and the outward normal there."""
        o = origins - np.array([0.0, self.half, 0.0])
        if self.shape == "cube":
            return self._box(o, rays)
        if self.shape == "sphere":
            return self._ball(o, rays, 0.0)
        side = self.half if self.shape == "cylinder" else self.half - self.radius
        parts = [self._tube(o, rays, side)]
        if self.shape == "cylinder":
            parts += [self._cap(o, rays, s * side) for s in (1.0, -1.0)]
        else:
            parts += [self._ball(o, rays, s * side) for s in (1.0, -1.0)]
        distance, normal = parts[0]
        for d, n in parts[1:]:
            nearer = d < distance
            distance = np.where(nearer, d, distance)
            normal = np.where(nearer[:, None], n, normal)
        return distance, normal

    def _box(self, o: Rays, d: Rays) -> tuple[np.ndarray, Rays]:
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = (-self.half - o) / d, (self.half - o) / d
        near, far = np.minimum(a, b), np.maximum(a, b)
        axis = near.argmax(1)
        enter = near.max(1)
        miss = (enter > far.min(1)) | (enter <= 1e-9)
        normal = np.zeros_like(o)
        rows = np.arange(len(o))
        normal[rows, axis] = -np.sign(d[rows, axis])
        return np.where(miss, np.inf, enter), normal

    def _ball(self, o: Rays, d: Rays, height: float) -> tuple[np.ndarray, Rays]:
        o = o - np.array([0.0, height, 0.0])
        hit = _root(_dot(d, d), _dot(o, d), _dot(o, o) - self.radius**2)
        return hit, (o + _finite(hit)[:, None] * d) / self.radius

    def _tube(self, o: Rays, d: Rays, side: float) -> tuple[np.ndarray, Rays]:
        flat = np.array([1.0, 0.0, 1.0])
        p, q = o * flat, d * flat
        hit = _root(_dot(q, q), _dot(p, q), _dot(p, p) - self.radius**2)
        hit = np.where(np.abs(o[:, 1] + _finite(hit) * d[:, 1]) <= side, hit, np.inf)
        return hit, (p + _finite(hit)[:, None] * q) / self.radius

    def _cap(self, o: Rays, d: Rays, height: float) -> tuple[np.ndarray, Rays]:
        with np.errstate(divide="ignore", invalid="ignore"):
            hit = (height - o[:, 1]) / d[:, 1]
        spot = o + _finite(hit)[:, None] * d
        inside = (spot[:, 0] ** 2 + spot[:, 2] ** 2 <= self.radius**2) & (hit > 1e-9)
        normal = np.broadcast_to(np.array([0.0, np.sign(height), 0.0]), o.shape)
        return np.where(inside, hit, np.inf), normal


def _dot(a: Float[np.ndarray, "#rays 3"], b: Float[np.ndarray, "#rays 3"]) -> np.ndarray:
    """Inner product of each pair of rows."""
    return np.asarray(a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2])


def _root(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Smaller root of a t² + 2 b t + c if it is positive, else inf."""
    inside = b * b - a * c
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (-b - np.sqrt(np.maximum(inside, 0.0))) / a
    return np.where((inside > 0) & (t > 1e-9), t, np.inf)


def _finite(t: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(t), t, 0.0)
