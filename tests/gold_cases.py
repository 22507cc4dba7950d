"""The battery of gold.py: commands as a user types them, small enough that all of them take minutes."""

from __future__ import annotations

import re
from dataclasses import dataclass

SMALL = "hierarchy:v=4,m=2,s=2,L=3,seed=2"
EVERY = "posterior,score_gap,mmse_gap,filter,forks"
OF_MODEL = "score_gap,mmse_gap,filter,likelihood,classifier,probes,posterior,own_path"


@dataclass(frozen=True)
class Case:
    """A command, or a small program.

    Args:
        line: the command, in words separated by blanks: ``IN/x`` is an input, ``OF/name`` the folder that another case
            has left, ``OUT`` this one's own.
        python: a program that is run in place of a command, with ``line`` as its arguments.
    """

    line: str
    python: str = ""

    def inputs(self) -> list[str]:
        """The inputs that it reads."""
        found = re.findall(r"\bIN/([\w.-]+)", self.line)
        return [*found, "labels.py"] if "--labeller" in self.line else found

    def needs(self) -> list[str]:
        """The cases that come before it."""
        return re.findall(r"\bOF/([\w-]+)", self.line)


_PLOT = """
import sys, xarray, sigmascope
results = xarray.load_dataset(sys.argv[1], engine="h5netcdf")
sigmascope.plot(results).figure.savefig(sys.argv[2])
sigmascope.plot(results, estimator=sys.argv[3]).figure.savefig(sys.argv[4])
"""
_STUDIES = {
    "study-blocks": f"study IN/blocks.npz --attributes place,colour,slant:bins=3 --pairs --draws 8 --levels 5 "
    f"--estimators {EVERY} --forks 6",
    "study-joint": "study IN/blocks.npz --attributes place,place+colour,slant:bins=2 --draws 8 --levels 6 --seed 3",
    "study-again": "study --spec OF/study-joint/spec.toml",
    "study-heldout": "study IN/blocks.npz --law heldout --attributes place,colour --draws 16 --levels 5",
    "study-hierarchy": f"study {SMALL} --draws 6 --levels 5 --sigma-max 20 --sigma-min 0.05 --estimators {EVERY}",
    "study-folder": "study IN/folder --draws 6 --levels 4",
    "study-tabled": "study IN/tabled --attributes bright,shade:bins=2 --draws 6 --levels 4",
    "study-parquet": "study IN/pictures.parquet --draws 6 --levels 4",
    "study-shapes": "study IN/shapes.h5 --draws 6 --levels 4",
    "study-blobs": "study IN/blobs.npz --draws 12 --levels 6",
    "scenes": f"study scenes --size 16 --pairs --draws 4 --levels 4 --estimators {EVERY} --forks 16",
    "sprites": "study IN/sprites.npz --attributes skin,hair+action,brightness:bins=4 --draws 16 --levels 8 "
    f"--estimators {EVERY} --forks 18",
    "digits": "study IN/digits.npz --draws 16 --levels 10",
    "digits-heldout": "study IN/digits.npz --law heldout --draws 32 --levels 8",
    "hierarchy": "study hierarchy --draws 8 --levels 6",
    "hierarchy-every": f"study {SMALL} --draws 32 --levels 10 --sigma-max 20 --sigma-min 0.05 --forks 16 "
    f"--estimators {EVERY}",
}
_TRAINED = "--network mlp --width 24 --depth 1 --batch 64 --warmup 10 --steps 60 --classifier-steps 30 --sigma-max 40"
_MODELS = {
    "train": f"train IN/blobs.npz {_TRAINED}",
    "train-plain": "train IN/blocks.npz --attributes place,colour --width 8 --depth 2 --batch 16 --steps 12 "
    "--warmup 2 --network unet --noise lognormal --half --seed 1",
    "model": f"study IN/blobs.npz --model OF/train --draws 12 --levels 5 --budget 3000 --estimators {OF_MODEL}",
    "model-like": "study IN/blobs.npz --model OF/train --draws 12 --levels 5 --like OF/model --estimators "
    "score_gap,mmse_gap,posterior",
    "model-stderr": "study IN/blobs.npz --model OF/train --draws 12 --levels 5 --target-stderr 0.3",
    "bundled": f"study scenes --model bundled --draws 4 --levels 4 --budget 6000 --estimators {OF_MODEL}",
}
_PICTURES = "study IN/pictures.npz --attributes colour --draws 8 --levels 4"
_FORKED = "--forks 6 --steps 6"
_PIPELINES = {
    "pipe-classes": f"{_PICTURES} --model diffusers:IN/classes --null-class 3 --classes by-order --budget 2500 "
    "--estimators score_gap,mmse_gap,filter,likelihood,probes,posterior,own_path",
    "pipe-classes-forks": f"{_PICTURES} --model diffusers:IN/classes --null-class 3 {_FORKED} --estimators "
    "forks,posterior",
    "pipe-mixture": f"{_PICTURES} --model diffusers:IN/all-classes --classes by-order --budget 31000 --estimators "
    "score_gap,mmse_gap,filter,posterior,own_path",
    "pipe-free": "study IN/pictures.npz --attributes colour,bright --draws 8 --levels 4 --model diffusers:IN/free "
    f"{_FORKED} --estimators forks,probes,posterior,own_path",
    "pipe-free-usual": f"{_PICTURES} --model diffusers:IN/free {_FORKED}",
    "pipe-latent": "study IN/wider.npz --attributes colour --draws 8 --levels 4 --model diffusers:IN/latent "
    "--null-class 3 --classes by-order --budget 2500 --estimators score_gap,mmse_gap,filter,posterior",
    "pipe-generated": f"study generated --labeller labels:colour --model diffusers:IN/free --draws 8 --levels 4 "
    f"{_FORKED}",
}
_TWO = "--attributes place,colour"
_MADE = {
    "generate-sde": f"generate IN/blocks.npz {_TWO} --n 4 --steps 8",
    "generate-ode": f"generate IN/blocks.npz {_TWO} --n 4 --steps 8 --sampler ode",
    "generate-filter": f"generate IN/blocks.npz {_TWO} --n 4 --steps 8 --sampler filter",
    "generate-about": f"generate IN/blocks.npz {_TWO} --n 4 --steps 8 --sampler filter --about colour",
    "generate-hierarchy": f"generate {SMALL} --n 4 --sampler filter --sigma-max 20",
    "generate-hierarchy-sde": f"generate {SMALL} --n 4 --steps 10 --sigma-max 20",
    "fork-exact": f"fork IN/blocks.npz {_TWO} --sigma 2 --forks 8 --seeds 3",
    "fork-sde": f"fork IN/blocks.npz {_TWO} --sigma 2 --forks 8 --seeds 3 --sampler sde --steps 8",
    "fork-turn": f"fork IN/blocks.npz {_TWO} --sigma 0.4 --forks 8 --seeds 3 --sampler ode --renoise 2 --steps 9",
    "fork-hierarchy": f"fork {SMALL} --sigma 0.4 --forks 8 --seeds 4",
    "mi": "mi IN/samples.npz --steps 20 --seed 3",
    "mi-given": "mi IN/samples.npz --x a --y b --given kind --steps 20",
    "prompts": "prompts --model diffusers:IN/stable --prompt a_red_cube --n 2 --steps 3 --levels 6 --noises 2",
    "prompts-against": "prompts --model IN/stable --prompt a_red_cube --against a_blue_ball --n 2 --steps 3 --levels 6 "
    "--noises 2 --seed 4",
    "prompts-images": "prompts --model IN/stable --prompt a_red_cube --images IN/images.npz --n 3 --levels 5 "
    "--noises 2",
    "prompts-xl": "prompts --model IN/xl --prompt a_red_cube --n 2 --steps 2 --levels 5 --noises 2",
    "prompts-flux": "prompts --model IN/flux --prompt a_red_cube --n 2 --steps 2 --levels 5 --noises 2",
}
_READ = {
    "compare": "compare OF/study-joint OF/study-blocks",
    "compare-model": "compare OF/model OF/study-blobs",
    "compare-like": "compare OF/model OF/model-like --estimator score_gap:mmse_gap",
    "advise": "advise OF/study-blocks",
    "advise-keep": "advise OF/study-blocks --keep place --redraw colour --estimator score_gap --json",
    "advise-units": "advise OF/study-joint --model diffusers:IN/free --steps 20 --json",
    "advise-heldout": "advise OF/study-heldout --json",
    "advise-hierarchy": "advise OF/hierarchy-every --estimator forks --json",
    "advise-model": "advise OF/model --json",
    "advise-model-words": "advise OF/model --estimator likelihood",
    "advise-classes": "advise OF/pipe-classes --json",
    "advise-free": "advise OF/pipe-free --estimator forks",
    "advise-free-main": "advise OF/pipe-free --json",
    "advise-mixture": "advise OF/pipe-mixture --json",
    "advise-generated": "advise OF/pipe-generated --json",
    "translate": "translate --model diffusers:IN/free",
    "translate-strength": "translate --model diffusers:IN/free --strength 0.6 --json",
    "translate-step": "translate --model IN/free --step 20/50",
    "translate-flux": "translate --model IN/flux --percent 40 --steps 8 --height 32 --width 32",
    "check": "check --fast --out OUT.json",
    "reproduce": "reproduce --quick --data IN/blocks.npz --attributes place,colour --second IN/blobs.npz",
    "finished": "study IN/blocks.npz --attributes place,place+colour,slant:bins=2 --draws 8 --levels 6 --seed 3 "
    "--out OF/study-joint",
    "refused-folder": "study IN/blocks.npz --attributes place --draws 8 --levels 6 --seed 3 --out OF/study-joint",
}
_DRY = {
    "dry": f"{_STUDIES['study-blocks']} --dry-run",
    "dry-heldout": f"{_STUDIES['study-heldout']} --dry-run",
    "dry-hierarchy": f"{_STUDIES['hierarchy-every']} --dry-run",
    "dry-model": f"{_MODELS['model']} --dry-run",
    "dry-classes": f"{_PIPELINES['pipe-classes']} --dry-run",
    "dry-mixture": f"{_PIPELINES['pipe-mixture']} --dry-run",
    "dry-free": f"{_PIPELINES['pipe-free']} --dry-run",
    "dry-generated": f"{_PIPELINES['pipe-generated']} --dry-run",
    "refused-draws": "study IN/blocks.npz --draws 1",
    "refused-estimator": "study IN/blocks.npz --estimators posterior,telepathy",
    "refused-pairs": "study IN/blobs.npz --model OF/train --pairs",
    "refused-attribute": "study IN/blocks.npz --attributes smell",
    "refused-option": "fork IN/blocks.npz --drows 3",
    "refused-file": "study nothing.npz",
}
_NAMES = ["study", "train", "compare", "generate", "fork", "check", "reproduce", "translate", "advise", "prompts", "mi"]
_PLACED = {  # these take no folder of their own
    *("advise", "translate", "check", "finished", "refused-folder", "dry", "help"),
}


def _placed(name: str, line: str) -> str:
    """The command with a folder for its results."""
    own = name in _PLACED or name.split("-")[0] in _PLACED or "--out" in line
    return line if own else f"{line} --out OUT"


CASES: dict[str, Case] = {
    name: Case(_placed(name, line))
    for name, line in (
        _STUDIES | _MODELS | _PIPELINES | _MADE | _READ | _DRY | {f"help-{name}": f"{name} --help" for name in _NAMES}
    ).items()
}
CASES["plot"] = Case("OF/study-blocks/results.nc OUT.svg mmse_gap OUT.png", _PLOT)
"""By name, in an order in which each comes after what it reads."""
FAST = (
    *("study-blocks", "study-joint", "study-heldout", "study-hierarchy", "generate-sde", "fork-sde", "compare"),
    *("advise-keep", "translate-strength", "refused-estimator"),
)
"""Those that the tests compare with the file beside this one."""
