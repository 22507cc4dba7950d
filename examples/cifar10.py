"""When is the class of a CIFAR-10 image decided, and for whom?

    python examples/cifar10.py cifar10-train.parquet OUT [--draws 512]

Studies the class and whether it is an animal or a vehicle under both laws: that of exactly these 50,000 images, and,
by lower bounds, that of the population they come from.  Data: Krizhevsky (2009), as parquet in the Hugging Face image
layout.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import sigmascope
from sigmascope.data import grouped

VEHICLES = ["airplane", "automobile", "ship", "truck"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parquet")
    parser.add_argument("out", type=Path)
    parser.add_argument("--draws", type=int, default=512)
    parser.add_argument("--levels", type=int, default=40)
    args = parser.parse_args()
    data = sigmascope.load(args.parquet)
    name = data.attributes[0].name
    animals = [v for v in data.attribute(name).values if v not in VEHICLES]
    data = grouped(data, name, "kind", {"animal": animals, "vehicle": VEHICLES})
    for law in ("empirical", "heldout"):
        results = sigmascope.study(
            data,
            sampling=sigmascope.Sampling(draws=args.draws, levels=args.levels),
            options=sigmascope.ExactOptions(law=law),
            out=args.out / law,
            progress=True,
        )
        for curve in sigmascope.to_curves(results):
            best = curve.value.argmax()
            print(
                f"{law:9}  {curve.attribute:12} at most {curve.value[best]:.3f} ± {1.96 * curve.stderr[best]:.3f} of "
                f"{curve.ceiling:.3f} nats ({curve.kind}), at sigma {curve.sigma[best]:.3g}; "
                f"at {curve.sigma[-1]:g}: {curve.value[-1]:.3f}"
            )


if __name__ == "__main__":
    main()
