"""What the app does, apart from how it looks: conversations, loads, comparisons."""
