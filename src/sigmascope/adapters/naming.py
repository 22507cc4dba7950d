"""How a model is named on the command line and in specifications.  Imports nothing heavy.

=================== ==================================================================================================
name                model
=================== ==================================================================================================
``bundled``         the model of the scenes that comes with the package
``FOLDER``          a folder that ``sigmascope train`` has made, or that ``save_pretrained`` of a pipeline has written
``diffusers:FOLDER``  the folder of a pipeline of diffusers
``hub:OWNER/NAME``  a pipeline of the hub
``MODULE:FUNCTION``  what a function of the user returns: any of these, or an object
=================== ==================================================================================================
"""

from __future__ import annotations

import re
from pathlib import Path

PIPELINE = "diffusers:"
"""Prefix of the folder of a pipeline of diffusers."""
HUB = "hub:"
"""Prefix of a pipeline of the hub."""
BUNDLED = "bundled"
"""The model that comes with the package."""
INDEX = "model_index.json"
"""The file that marks the folder of a pipeline."""
_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def names_function(model: str) -> bool:
    """Whether a model is named ``module:function``."""
    return bool(_FUNCTION.fullmatch(model)) and not model.startswith((PIPELINE, HUB)) and not Path(model).exists()


def names_pipeline(model: str) -> bool:
    """Whether a model is named as a pipeline of diffusers, of a folder or of the hub."""
    return model.startswith((PIPELINE, HUB)) or (model != BUNDLED and (Path(model) / INDEX).is_file())


def names_object(model: str) -> bool:
    """Whether the name stands for an object that was passed from Python."""
    return model.startswith("<")


def full_name(model: str) -> str:
    """The name of a model with the full path of its folder, so that it holds from anywhere."""
    if model == BUNDLED or names_object(model) or names_function(model):
        return model
    if model.removeprefix(PIPELINE).startswith(HUB):
        return model
    folder = Path(model.removeprefix(PIPELINE))
    if not names_pipeline(model):
        return str(folder.resolve())
    return PIPELINE + str(folder.resolve()) if folder.exists() else model
