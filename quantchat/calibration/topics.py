"""What the model is asked when it writes its own calibration text: everyday subjects, many kinds
of text."""

from __future__ import annotations

TOPICS: tuple[str, ...] = (
    "Explain how a refrigerator keeps food cold.",
    "Write a short story about a lighthouse keeper who finds a letter.",
    "What were the main causes of the French Revolution?",
    "Write a Python function that returns the prime numbers below n, and explain it.",
    "Describe the life cycle of a star.",
    "How do I cook a vegetable soup for four people?",
    "A train covers 180 km in 2 hours and then 120 km in 1.5 hours. What is its mean speed?",
    "Compare renting a flat with buying one.",
    "Write an article about the history of the bicycle, with headings.",
    "Translate into French, German and Spanish: The museum opens at nine in the morning.",
    "Which plants grow well in the shade, and why?",
    "Summarize the plot of a famous play and say what it is about.",
    "Give me a table of five European capitals with their rivers and populations.",
    "How does a vaccine protect against a disease?",
    "Write a polite letter that complains about a late delivery.",
    "Explain recursion to a beginner, with an example in JavaScript.",
    "Tell me about a river, its towns, its animals and its floods.",
    "What does a central bank do when prices rise quickly?",
    "Write a poem about rain in a city.",
    "Describe the career of an imaginary football player, season by season.",
    "Why is the sky blue, and why are sunsets red?",
    "List the steps to change a bicycle tyre.",
    "Write a dialogue between a teacher and a pupil about fractions.",
    "Describe a battle, the ships that took part in it and how it ended.",
)
"""Asked in turn, each sequence from another one on."""
