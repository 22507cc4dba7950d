"""Samplers of diffusion models: the generative SDE, the probability-flow ODE, joint (Y, π) generation, forks."""

from sigmascope.sample.forks import fork, fork_levels, levels_below
from sigmascope.sample.guidance import Guided
from sigmascope.sample.joint import JointState, OwnPathBelief, ValueBelief, joint
from sigmascope.sample.schemes import (
    Ancestral,
    Bridge,
    Churn,
    Euler,
    EulerMaruyama,
    Heun,
    Scheme,
    State,
    StochasticHeun,
    final,
    sample,
    start,
)
from sigmascope.streams import Streams, rows

__all__ = [
    "Ancestral",
    "Bridge",
    "Churn",
    "Euler",
    "EulerMaruyama",
    "Guided",
    "Heun",
    "JointState",
    "OwnPathBelief",
    "Scheme",
    "State",
    "StochasticHeun",
    "Streams",
    "ValueBelief",
    "final",
    "fork",
    "fork_levels",
    "joint",
    "levels_below",
    "rows",
    "sample",
    "start",
]
