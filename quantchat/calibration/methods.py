"""The method of a calibrated scheme, by what its calibration finds."""

from __future__ import annotations

from collections.abc import Callable

from quantchat.calibration.awq import Awq
from quantchat.calibration.method import Method
from quantchat.calibration.qoq import Qoq
from quantchat.calibration.smoothquant import SmoothQuant
from quantchat.calibration.squeezellm import SqueezeLlm
from quantchat.calibration.static_scales import StaticScales
from quantchat.calibration.walk import LayerWalk
from quantchat.model.weights import WeightRecipe


def method_of(recipe: WeightRecipe) -> Callable[[LayerWalk], Method]:
    """What calibrates the recipe's scheme, once there is a walk."""

    def made(walk: LayerWalk) -> Method:
        calibration = recipe.scheme.calibration
        if calibration == "awq":
            return Awq(walk, recipe)
        if calibration == "smooth":
            return SmoothQuant(walk)
        if calibration == "static":
            return StaticScales(walk, recipe)
        if calibration == "fisher":
            return SqueezeLlm(recipe.scheme)
        assert calibration == "qoq", calibration
        return Qoq(walk, recipe)

    return made
