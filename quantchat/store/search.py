"""Finding conversations by what was said in them or by their title."""

from __future__ import annotations

FOLD = "quantchat_fold"
"""SQL function registered by the store: text without regard to case, in every script."""

TERMS_MAX = 16


def search_clause(query: str) -> tuple[str, list[str]]:
    """A condition on `chats` and its parameters: every word is found in title or turns.

    Words of three characters and more go through the trigram index, shorter ones are looked for.
    """
    conditions: list[str] = []
    parameters: list[str] = []
    for term in query.split()[:TERMS_MAX]:
        pattern = f"%{_escaped(term.casefold())}%"
        if len(term) >= 3:
            turns = "SELECT rowid FROM turns_text WHERE turns_text MATCH ?"
            needle = '"' + term.replace('"', '""') + '"'
        else:
            turns = f"SELECT id FROM turns WHERE {FOLD}(content) LIKE ? ESCAPE '\\'"
            needle = pattern
        conditions.append(
            f"({FOLD}(title) LIKE ? ESCAPE '\\' OR id IN "
            f"(SELECT chat_id FROM turns WHERE id IN ({turns})))"
        )
        parameters += [pattern, needle]
    return " AND ".join(conditions) or "1", parameters


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
