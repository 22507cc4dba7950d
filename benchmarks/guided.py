"""Does guidance within the advised interval do what guidance everywhere does, and at which cost?

    python benchmarks/guided.py mnist-10k.npz STUDY [--model MODULE:FUNCTION] [--each N] [--json FILE]

STUDY is a study of the model of examples/your_model.py; its advice on the digit is tried.  Digits are generated without
guidance, with guidance everywhere, and with guidance in the advised interval.  A convolutional classifier that is
trained here on real digits, and that the model never saw, gives the share of images that show the digit asked for, and
the features of a Fréchet distance to real digits that it was not trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sigmascope.adapters import load_model
from sigmascope.core import Denoiser
from sigmascope.noise import sigma_grid
from sigmascope.sample import Guided, Heun, Streams, final, rows, sample
from sigmascope.studies.advice_of import advise

WEIGHT = 1.0  # of guidance
STEPS = 24
EPOCHS, BATCH = 15, 64


class Judge(nn.Module):
    """A classifier of clean digits; its last layer but one gives features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * 49, 64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x))
        return logits


def trained(images: Tensor, labels: Tensor) -> Judge:
    """The classifier, after some epochs."""
    torch.manual_seed(0)
    judge = Judge()
    optimiser = torch.optim.Adam(judge.parameters(), 1e-3)
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(images)), BATCH):
            optimiser.zero_grad()
            functional.cross_entropy(judge(images[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return judge.eval().requires_grad_(False)


def distance(a: Tensor, b: Tensor) -> float:
    r"""Fréchet: :math:`\\|m_a - m_b\\|^2 + tr(C_a + C_b - 2 (C_a C_b)^{1/2})`."""
    a, b = a.double(), b.double()
    c = [np.cov(x.numpy().T) for x in (a, b)]
    roots = np.sqrt(np.clip(np.linalg.eigvals(c[0] @ c[1]).real, 0, None))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c[0] + c[1]) - 2 * roots.sum())


class Counted(Denoiser):
    """A denoiser that counts the rows of its calls."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__()
        self.inner, self.event, self.attributes, self.rows = inner, inner.event, inner.attributes, 0

    def forward(self, y: Tensor, sigma: Tensor, known: dict[str, Tensor] | None = None) -> Tensor:  # type: ignore[override]
        """As of the denoiser."""
        self.rows += len(y)
        out: Tensor = self.inner(y, sigma, known)
        return out


def generated(
    model: Denoiser, interval: tuple[float, float] | None, each: int, top: float
) -> tuple[Tensor, Tensor, int]:
    """Images of every digit, the digits, and the network calls for an image."""
    counted = Counted(model)
    label = torch.arange(10).repeat_interleave(each)
    streams = Streams(0, rows(len(label)), model.event)
    levels = [*sigma_grid(top, 0.01, STEPS + 1).tolist(), 0.0]
    low, high = interval or (0.0, 1e9)
    guided = Guided(counted, 0.0 if interval is None else WEIGHT, low, high)
    known = {model.attributes[0].name: label}
    images = final(sample(guided, top * streams(), levels, Heun(), noise=streams, known=known)).y
    return images.float().clamp(0, 1), label, round(counted.rows / len(label))


def main() -> None:
    """Try the advice, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("digits", type=Path)
    parser.add_argument("study", type=Path)
    parser.add_argument("--model", default="study_your_model:build")
    parser.add_argument("--each", type=int, default=40, help="images of each digit")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    loaded = load_model(args.model)
    advice = next(a for a in advise(str(args.study)) if a.kind == "guidance_interval" and not a.reason)
    assert advice.high is not None
    assert advice.low is not None
    high = advice.high.value if advice.high.reached else 1e9
    low = advice.low.value if advice.low.reached else 0.0
    with np.load(args.digits) as file:
        order = np.random.default_rng(0).permutation(len(file["images"]))
        images = torch.from_numpy(file["images"][order]).float().reshape(-1, 1, 28, 28) / 255
        digits = torch.from_numpy(file["digit"][order]).long()
    half = len(images) // 2
    judge = trained(images[:half], digits[:half])
    real = judge.body(images[half:])
    right = float((judge(images[half:]).argmax(1) == digits[half:]).double().mean())
    print(f"the classifier is right for {right:.3f} of real digits; advised interval: {high:.3g} to {low:.3g}")
    table = {}
    top = (loaded.highest or 90.0) * (1 - 1e-9)
    for name, interval in (("none", None), ("everywhere", (0.0, 1e9)), ("advised", (low, high))):
        made, label, calls = generated(loaded.denoiser, interval, args.each, top)
        shown = float((judge(made).argmax(1) == label).double().mean())
        apart = distance(judge.body(made), real)
        table[name] = {"accuracy": shown, "distance": apart, "calls": calls}
        print(f"{name:<12} accuracy {shown:.3f}  Fréchet distance {apart:7.2f}  network calls an image {calls}")
    gain = (table["advised"]["accuracy"] - table["none"]["accuracy"]) / max(
        table["everywhere"]["accuracy"] - table["none"]["accuracy"], 1e-9
    )
    print(f"share of the gain in accuracy: {gain:.2f}")
    if args.json:
        args.json.write_text(json.dumps({"interval": [high, low], "weight": WEIGHT, "gain": gain, **table}, indent=1))


if __name__ == "__main__":
    main()
