"""sigmascope: at which noise level a diffusion model decides each attribute of what it generates.

>>> import sigmascope
>>> results = sigmascope.study("scenes")
>>> sigmascope.plot(results).figure.savefig("scenes.png")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigmascope._late import late
from sigmascope._version import VERSION

if TYPE_CHECKING:
    from sigmascope.adapters.foreign import Foreign as Foreign
    from sigmascope.adapters.foreign import Unit as Unit
    from sigmascope.adapters.models import LoadedModel as LoadedModel
    from sigmascope.adapters.models import load_model as load_model
    from sigmascope.analysis.memorisation import gaussian_collapse as gaussian_collapse
    from sigmascope.analysis.onset import onsets as onsets
    from sigmascope.core import Attribute as Attribute
    from sigmascope.core import Curve as Curve
    from sigmascope.core import Denoiser as Denoiser
    from sigmascope.core import LabelledData as LabelledData
    from sigmascope.data import from_array as from_array
    from sigmascope.data import load as load
    from sigmascope.errors import InputError as InputError
    from sigmascope.exact.finite.filter import FiniteDenoiser as FiniteDenoiser
    from sigmascope.information.maps import information_maps as information_maps
    from sigmascope.information.pointwise import pointwise as pointwise
    from sigmascope.learn.neural import NeuralDenoiser as NeuralDenoiser
    from sigmascope.mutual.estimate import mutual_information as mutual_information
    from sigmascope.studies.network_options import NetworkOptions as NetworkOptions
    from sigmascope.studies.options import ClassifierOptions as ClassifierOptions
    from sigmascope.studies.options import DataOptions as DataOptions
    from sigmascope.studies.options import ExactOptions as ExactOptions
    from sigmascope.studies.options import ForkOptions as ForkOptions
    from sigmascope.studies.options import GapOptions as GapOptions
    from sigmascope.studies.options import PipelineOptions as PipelineOptions
    from sigmascope.studies.options import Sampling as Sampling
    from sigmascope.studies.options import TimeOptions as TimeOptions
    from sigmascope.studies.plotting import plot as plot
    from sigmascope.studies.results import conditional as conditional
    from sigmascope.studies.results import to_curves as to_curves
    from sigmascope.studies.study import study as study
    from sigmascope.studies.tables import to_pandas as to_pandas

__version__ = VERSION

_HOME = {
    "Attribute": "sigmascope.core",
    "Curve": "sigmascope.core",
    "Denoiser": "sigmascope.core",
    "FiniteDenoiser": "sigmascope.exact.finite.filter",
    "Foreign": "sigmascope.adapters.foreign",
    "InputError": "sigmascope.errors",
    "LabelledData": "sigmascope.core",
    "LoadedModel": "sigmascope.adapters.models",
    "NetworkOptions": "sigmascope.studies.network_options",
    "NeuralDenoiser": "sigmascope.learn.neural",
    "conditional": "sigmascope.studies.results",
    "from_array": "sigmascope.data",
    "gaussian_collapse": "sigmascope.analysis.memorisation",
    "information_maps": "sigmascope.information.maps",
    "Unit": "sigmascope.adapters.foreign",
    "load": "sigmascope.data",
    "load_model": "sigmascope.adapters.models",
    "mutual_information": "sigmascope.mutual.estimate",
    "onsets": "sigmascope.analysis.onset",
    "plot": "sigmascope.studies.plotting",
    "pointwise": "sigmascope.information.pointwise",
    "study": "sigmascope.studies.study",
    "to_curves": "sigmascope.studies.results",
    "to_pandas": "sigmascope.studies.tables",
}
_HOME |= dict.fromkeys(
    ("ClassifierOptions", "DataOptions", "ExactOptions", "ForkOptions", "GapOptions", "PipelineOptions", "Sampling"),
    "sigmascope.studies.options",
)
_HOME["TimeOptions"] = "sigmascope.studies.options"
__all__ = ["__version__", *_HOME]
__getattr__, __dir__ = late(__name__, _HOME)
