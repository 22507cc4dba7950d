"""Pipelines of diffusers: opened from a folder or a hub, as denoisers, with the units of their noise levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigmascope._late import late

if TYPE_CHECKING:
    from sigmascope.adapters.diffusers.kinds import Kind as Kind
    from sigmascope.adapters.diffusers.kinds import PipelineNetwork as PipelineNetwork
    from sigmascope.adapters.diffusers.kinds import PipelineRequest as PipelineRequest
    from sigmascope.adapters.diffusers.kinds import register as register
    from sigmascope.adapters.diffusers.kinds import unregister as unregister
    from sigmascope.adapters.diffusers.opening import Pipeline as Pipeline
    from sigmascope.adapters.diffusers.pipelines import load_pipeline as load_pipeline
    from sigmascope.adapters.diffusers.text import load_prompted as load_prompted
    from sigmascope.adapters.diffusers.units import Level as Level
    from sigmascope.adapters.diffusers.units import Ruler as Ruler
    from sigmascope.adapters.diffusers.units import ruler_of as ruler_of

_HOMES = {
    "PipelineRequest": "sigmascope.adapters.diffusers.kinds",
    "Kind": "sigmascope.adapters.diffusers.kinds",
    "Level": "sigmascope.adapters.diffusers.units",
    "Pipeline": "sigmascope.adapters.diffusers.opening",
    "PipelineNetwork": "sigmascope.adapters.diffusers.kinds",
    "Ruler": "sigmascope.adapters.diffusers.units",
    "load_pipeline": "sigmascope.adapters.diffusers.pipelines",
    "load_prompted": "sigmascope.adapters.diffusers.text",
    "register": "sigmascope.adapters.diffusers.kinds",
    "ruler_of": "sigmascope.adapters.diffusers.units",
    "unregister": "sigmascope.adapters.diffusers.kinds",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = late(__name__, _HOMES)
