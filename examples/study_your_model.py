"""Three lines make the network of your_model.py a model that every command of sigmascope takes.

sigmascope study mnist-10k.npz --model study_your_model:build --out studies/mine, in this folder.
"""

from pathlib import Path

from safetensors.torch import load_file
from your_model import UNet

from sigmascope import Attribute, Foreign, Unit
from sigmascope.noise import Discrete

WEIGHTS = Path(__file__).with_name("your_model.safetensors")


def build() -> Foreign:
    """The network, whose class is a digit, 10 for none, and whose pixels go from -1 to 1."""
    network = UNet()
    network.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS).items()})
    digit = Attribute("digit", tuple("0123456789"))
    return Foreign(network, (1, 28, 28), Discrete.linear(), "epsilon", attribute=digit, null=10, unit=Unit(2, -1))
