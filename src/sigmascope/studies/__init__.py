"""Studies: specification, run, results, advice, generation and training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigmascope._late import late

if TYPE_CHECKING:
    from sigmascope.studies.advice_kinds import Advice as Advice
    from sigmascope.studies.advice_of import advise as advise
    from sigmascope.studies.glossary import explained as explained
    from sigmascope.studies.making import generate as generate
    from sigmascope.studies.making import make_forks as make_forks
    from sigmascope.studies.results import conditional as conditional
    from sigmascope.studies.results import to_curves as to_curves
    from sigmascope.studies.spec import Spec as Spec
    from sigmascope.studies.spec import read_spec as read_spec
    from sigmascope.studies.tables import to_pandas as to_pandas
    from sigmascope.studies.tasks import ForkTask as ForkTask
    from sigmascope.studies.tasks import GenerateTask as GenerateTask
    from sigmascope.studies.tasks import TrainSpec as TrainSpec
    from sigmascope.studies.training import train as train
    from sigmascope.studies.translating import translate as translate

_HOMES = {
    "Advice": "sigmascope.studies.advice_kinds",
    "ForkTask": "sigmascope.studies.tasks",
    "GenerateTask": "sigmascope.studies.tasks",
    "Spec": "sigmascope.studies.spec",
    "TrainSpec": "sigmascope.studies.tasks",
    "advise": "sigmascope.studies.advice_of",
    "conditional": "sigmascope.studies.results",
    "explained": "sigmascope.studies.glossary",
    "generate": "sigmascope.studies.making",
    "make_forks": "sigmascope.studies.making",
    "read_spec": "sigmascope.studies.spec",
    "to_curves": "sigmascope.studies.results",
    "to_pandas": "sigmascope.studies.tables",
    "train": "sigmascope.studies.training",
    "translate": "sigmascope.studies.translating",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = late(__name__, _HOMES)
