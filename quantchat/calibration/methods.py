"""The method of a calibrated scheme, by what its calibration finds."""

from __future__ import annotations

from collections.abc import Callable

from quantchat.calibration.method import Method
from quantchat.calibration.walk import LayerWalk
from quantchat.model.weights import WeightRecipe


def method_of(recipe: WeightRecipe) -> Callable[[LayerWalk], Method]:
    """What calibrates the recipe's scheme, once there is a walk."""

    def made(walk: LayerWalk) -> Method:
        scheme = recipe.scheme
        if scheme.calibration == "awq":
            from quantchat.calibration.awq import Awq

            return Awq(walk.forward, recipe.group_size, check=walk.check)
        if scheme.calibration == "fisher":
            from quantchat.calibration.squeezellm import SqueezeLlm

            return SqueezeLlm(scheme)
        if scheme.calibration == "qoq":
            from quantchat.calibration.qoq import Qoq

            return Qoq(walk, recipe)
        if scheme.calibration == "smooth":
            from quantchat.calibration.smoothquant import SmoothQuant

            return SmoothQuant(check=walk.check)
        if scheme.calibration == "static":
            from quantchat.calibration.static_scales import StaticScales

            return StaticScales(scheme.weights, check=walk.check)
        raise AssertionError(f"{scheme.name} is not calibrated here")

    return made
