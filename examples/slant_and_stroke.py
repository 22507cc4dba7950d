"""Slant and stroke width of handwritten digits, as numbers to study.

    python examples/slant_and_stroke.py mnist-10k.npz digits.npz

The first file holds ``images``, shape (items, rows, columns), and the label ``digit``.  The second one holds the slant
and the width too; the program prints the command of a study, which says at which noise level they are known, and how
precisely.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

_BLOCK = 2000  # images at a time


def slants(ink: np.ndarray) -> np.ndarray:
    """The angle of a digit against the upright, in degrees, positive to the right, from its second moments.

    A shear x → x + s y that makes the moment of x y vanish stands the digit upright; the slant is atan s.
    """
    rows, columns = np.mgrid[: ink.shape[1], : ink.shape[2]]
    mass = ink.sum((1, 2))
    x, y = (ink * columns).sum((1, 2)) / mass, (ink * rows).sum((1, 2)) / mass
    across, up = columns - x[:, None, None], y[:, None, None] - rows
    shear = (ink * across * up).sum((1, 2)) / (ink * up**2).sum((1, 2))
    return np.degrees(np.arctan(shear))


def widths(ink: np.ndarray) -> np.ndarray:
    """The mean width of the strokes in pixels: twice the ink divided by the length of its outline.

    A long stroke of width w and length l has the ink w l and an outline of length 2 l, which is its total variation.
    """
    padded = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    down = (np.diff(padded, axis=1)[:, :, 1:] + np.diff(padded, axis=1)[:, :, :-1]) / 2
    along = (np.diff(padded, axis=2)[:, 1:, :] + np.diff(padded, axis=2)[:, :-1, :]) / 2
    return 2.0 * ink.sum((1, 2)) / np.hypot(down, along).sum((1, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("digits", type=Path, help="an .npz file with images and digit")
    parser.add_argument("out", type=Path, help="the .npz file to write, with slant and width")
    given = parser.parse_args()
    with np.load(given.digits, allow_pickle=False) as arrays:
        images, digit = arrays["images"], arrays["digit"]
    parts = [images[i : i + _BLOCK].astype(np.float64) / 255.0 for i in range(0, len(images), _BLOCK)]
    slant, width = (np.concatenate([measure(part) for part in parts]) for measure in (slants, widths))
    np.savez(given.out, images=images, digit=digit, slant=slant, width=width)
    for name, values, unit in (("slant", slant, "degrees"), ("width", width, "pixels")):
        print(f"{name}: {values.mean():.1f} ± {values.std():.1f} {unit} (mean ± standard deviation)")
    entries = "slant:resolution=2:unit=degrees,width:resolution=0.1:unit=pixels,digit"
    print(f"sigmascope study {given.out} --attributes {entries} --estimators posterior --out studies/digits")


if __name__ == "__main__":
    main()
