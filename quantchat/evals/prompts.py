"""Chat prompts that an engine's paths are compared on: different subjects, forms and lengths."""

PROMPTS = (
    "Why is the sky blue?",
    "Name three colours.",
    "Write a short poem about a lighthouse keeper who is afraid of the dark.",
    "Explain to a ten-year-old how a bicycle stays upright.",
    "Write a Python function that returns the n-th Fibonacci number, and show how to call it.",
    "What is 17 times 24? Show each step.",
    "Give me a recipe for a simple vegetable soup as a numbered list.",
    "Translate into French: The train to the mountains leaves at seven in the morning.",
    "List the planets of the solar system with one fact about each, as a table.",
    "I slept badly and have an exam today. What should I do this morning?",
    "Summarise in two sentences: A river begins as a spring in the hills. Rain and smaller streams "
    "make it wider on its way through valleys and towns, and where it meets the sea it slows down "
    "and drops the sand that it has carried.",
    "Write a polite e-mail asking a landlord to repair a leaking tap.",
    "What are the arguments for and against working from home?",
    "Tell a story that begins with: Nobody had opened the blue door in forty years.",
    "How does a refrigerator keep food cold? Name the parts.",
    "Write a SQL query that finds the five customers with the most orders in the last month.",
    "Which is heavier, a kilogram of feathers or a kilogram of iron, and why do people get it wrong?",
    "Suggest names for a small bakery that sells only sourdough bread.",
    "Describe the difference between weather and climate.",
    "Continue this list and say what the rule is: 2, 3, 5, 7, 11, 13,",
)
