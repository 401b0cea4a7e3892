"""What a plan says about itself while it is made: what was decided and what was not, in words."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Reasons:
    """Sentences in the order of the decisions."""

    taken: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def take(self, sentence: str) -> None:
        """Why something is done."""
        self.taken.append(sentence)

    def refuse(self, sentence: str) -> None:
        """Why something is not done."""
        self.refused.append(sentence)

    def drop(self, start: str) -> None:
        """Take back what a later decision has overruled."""
        self.taken = [sentence for sentence in self.taken if not sentence.startswith(start)]
