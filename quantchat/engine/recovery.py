"""Parts of going on after a failed step: what is known of it, and a fresh runner.

Which requests end is the runtime's decision.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from quantchat.engine.device_errors import Trouble, first_line, forget_frames, trouble_of
from quantchat.engine.memory import device_answers, give_back, leave_capture
from quantchat.engine.model import LoadedModel
from quantchat.engine.runner import Runner
from quantchat.engine.scheduler import Step
from quantchat.engine.sequence import Sequence
from quantchat.errors import DeviceLostError, QuantchatError
from quantchat.requests import TO_CPU

LOST_HINT = (
    "start quantchat again to use the card, or load the model on the device cpu; "
    "the conversation is kept"
)

GRAPH_TRIALS = 2
"""Runners given up before decode goes on without graphs."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """A step that did not work; nothing of its tensors is referred to any more."""

    step: Step | None
    error: QuantchatError | None
    """An error that speaks to people already."""
    trouble: Trouble | None
    text: str

    @staticmethod
    def of(error: Exception, step: Step | None) -> Failure:
        """From the exception, whose frames are let go of."""
        if not isinstance(error, QuantchatError):
            logger.exception("a step failed")
        forget_frames(error)
        ours = error if isinstance(error, QuantchatError) else None
        said = f": {error}" if str(error) else ""
        return Failure(step, ours, trouble_of(error), f"{type(error).__name__}{said}")

    @property
    def out_of_memory(self) -> Trouble | None:
        """The trouble, where it is a lack of memory."""
        known = self.trouble
        return known if known is not None and known.kind == "memory" else None

    def error_for(self, model: LoadedModel) -> QuantchatError:
        """What to tell of any other trouble; DeviceLostError where the card is dead."""
        reason = first_line(self.text) if self.trouble is None else self.trouble.reason
        lost = self.trouble is not None and self.trouble.kind == "lost"
        if lost or not device_answers(model.decoder.ops.device):
            return DeviceLostError(
                f"{model.info.device_name} failed: {reason}", hint=LOST_HINT, ways=(TO_CPU,)
            )
        return QuantchatError(
            f"the device failed: {reason}",
            hint="try again; if it stays, load the model anew (see the log)",
        )


class NoRunner:
    """Stands where a runner was given up and the next one is not made yet."""

    def prefill(self, sequence: Sequence, start: int, count: int) -> int | None:
        """Never called."""
        raise AssertionError("no runner")

    def decode(self, sequences: tuple[Sequence, ...]) -> list[tuple[Sequence, int]]:
        """Never called."""
        raise AssertionError("no runner")

    def flush(self) -> list[tuple[Sequence, int]]:
        """Nothing is under way."""
        return []

    def leave(self, sequence: Sequence) -> None:
        """It has no row."""
        sequence.row = -1


def renewed_runner(model: LoadedModel) -> Runner:
    """A runner with fresh buffers; without graphs where there is no memory for them."""
    leave_capture()
    give_back(workspaces=False)
    model.failed_runners += 1
    if model.failed_runners >= GRAPH_TRIALS:
        return model.make_plain_runner()
    try:
        return model.make_runner()
    except Exception as error:
        trouble = trouble_of(error)
        forget_frames(error)
        if trouble is None or trouble.kind != "memory":
            raise
        logger.warning("decode goes on without graphs: %s", trouble.reason)
    leave_capture()
    give_back(workspaces=False)
    return model.make_plain_runner()
