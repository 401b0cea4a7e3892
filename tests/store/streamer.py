"""A process that streams into a conversation until it is killed: `streamer.py DATABASE CHAT_ID`.

Prints the turn's id, then the number of each piece once it is stored.
"""

from __future__ import annotations

import sys
from pathlib import Path

from quantchat.store.chats import Chats
from quantchat.store.db import open_database


def main() -> None:
    chats = Chats(open_database(Path(sys.argv[1])))
    turn = chats.add_turn(int(sys.argv[2]), None, "assistant", state="streaming")
    sys.stdout.write(f"{turn.id}\n")
    for number in range(1_000_000):
        chats.append_text(turn.id, f"{number} ")
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
