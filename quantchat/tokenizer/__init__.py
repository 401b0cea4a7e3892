"""Text to token ids and back: vocabularies, chat templates, streaming text, stop strings.

Owns everything between a conversation and ids. Does not know the engine, the model or torch;
transformers is imported only for folders that lack a tokenizer.json.
"""

from quantchat.tokenizer.detokenizer import Detokenizer
from quantchat.tokenizer.folder import from_folder
from quantchat.tokenizer.gguf import from_gguf
from quantchat.tokenizer.stops import StopMatcher
from quantchat.tokenizer.template import ChatTemplate
from quantchat.tokenizer.tokenizer import Tokenizer

__all__ = [
    "ChatTemplate",
    "Detokenizer",
    "StopMatcher",
    "Tokenizer",
    "from_folder",
    "from_gguf",
]
