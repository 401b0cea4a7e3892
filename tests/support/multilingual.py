"""Ten thousand lines in many scripts, always the same: what tokenizers are compared upon.

Owns the generator. Phrases of real languages, letters of whole Unicode blocks, code, numbers, emojis
in all their joints, white space of every kind, control characters, and words without end.
"""

from __future__ import annotations

import functools
from random import Random

LINES = 10_000

PHRASES = (
    "The quick brown fox jumps over the lazy dog, doesn't it? I'LL say THEY'RE done; we've'd enough.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich – „schön“, sagte sie.",
    "Voilà l'été : où es-tu né ? À Noël, cœur et œuvre… « déjà-vu » n'est-ce pas",
    "El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia; ¿y tú? ¡Ojalá!",
    "Pchnąć w tę łódź jeża lub ośm skrzyń fig; zażółć gęślą jaźń",
    "Příliš žluťoučký kůň úpěl ďábelské ódy; nechť již hříšné saxofony",
    "Pijamalı hasta yağız şoföre çabucak güvendi. İstanbul'da ILIK ılık",
    "Съешь же ещё этих мягких французских булок, да выпей чаю; ёлка №5",
    "Чуєш їх, доцю, га? Кумедна ж ти, прощайся без ґольфів!",
    "Ταχίστη αλώπηξ βαφής ψημένη γη, δρασκελίζει υπέρ νωθρού κυνός· ᾿Αρχή",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה; שָׁלוֹם עֲלֵיכֶם",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر؛ ١٢٣٤٥",
    "بر اثر چنین تلقین و شستشوی مغزی جامعی، می‌خواهم ۶۷۸۹",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश १२३४५ क्ष्म",
    "আমি বাংলায় গান গাই। ৬৭৮৯",
    "யாமறிந்த மொழிகளிலே தமிழ்மொழி போல் இனிதாவது எங்கும் காணோம்",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน ๑๒๓",
    "天地玄黃宇宙洪荒日月盈昃，辰宿列張。第3章：「你好」——世界！",
    "いろはにほへと ちりぬるを。カタカナ・ﾊﾝｶｸ、漢字まじり文です〜ｗｗｗ",
    "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. ㅋㅋㅋ",
    "Tiếng Việt: Trăm năm trong cõi người ta, chữ tài chữ mệnh khéo là ghét nhau",
    "ქართული ანბანი ხუთი Ⴀⴀ; Հայերեն այբուբեն; አማርኛ ፊደል ፩፪፫; ᏣᎳᎩ; ᠮᠣᠩᠭᠣᠯ",
    "မြန်မာဘာသာ ၁၂၃; ភាសាខ្មែរ; ພາສາລາວ; བོད་སྐད་; සිංහල; ગુજરાતી; తెలుగు; ಕನ್ನಡ; മലയാളം",
)
CODE = (
    "def add(a: int, b: int = 0) -> int:\n\treturn a + b  # 100% sure\r\n",
    "for (let i = 0; i < n; ++i) { total += rows[i]?.cells ?? []; } // TODO: x_y-z",
    'fn main() -> Result<(), Box<dyn Error>> { println!("{:>08.3}", 1e-9); Ok(()) }',
    "SELECT COUNT(*) FROM t WHERE a<>'b' AND c LIKE '%\\_%' ORDER BY 1 DESC;",
    "    if x >= 10_000:\n        pass\n\n\n    else:\n\t\traise ValueError(f'{x!r}')",
    "$ grep -rnE '^(a|b){2,}\\s*$' --include=*.py ./src/ | sed 's/x/y/g' && echo $?",
    '{"key": [1, -2.5e+10, null, true], "päth": "C:\\\\Users\\\\x", "u": "\\u00e9"}',
    "<div class=\"a b\" data-x='1'>&nbsp;<!-- note --><br/></div>",
    "\\frac{\\partial^2 f}{\\partial x^2} = \\sum_{i=0}^{\\infty} a_i x^i \\quad \\forall x \\in \\mathbb{R}",
    "https://example.org:8080/a/b_c?q=%20x&y=1#frag user.name+tag@mail.example 192.168.0.1/24 ::1",
)
NUMBERS = (
    "0",
    "7",
    "42",
    "365",
    "1999",
    "12345",
    "1,234,567.89",
    "3.14159265358979",
    "1e-7",
    "0x1F",
)
NUMBERS += (
    "50%",
    "$5",
    "€6",
    "−3",
    "½",
    "Ⅷ",
    "x²",
    "①②③",
    "１２３",
    "٣٫١٤",
    "१२,३४",
    "2024-11-22T10:26:40Z",
)
EMOJIS = (
    "🙂",
    "👍🏽",
    "👩‍👩‍👧‍👦",
    "🏳️‍🌈",
    "🇩🇪🇫🇷",
    "❤️",
    "☺",
    "1️⃣",
    "🧑🏿‍🚀",
    "🫠",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "\U0001faea",
    "©️™",
)
SPACES = (
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\r\n",
    "\n\n",
    " \n ",
    "\u00a0",
    "\u3000",
    "\u2009",
    "\u200b",
)
SPACES += (
    "\u2028",
    "\u2029",
    "\u0085",
    "\x0b",
    "\x0c",
    "\u1680",
    "\ufeff",
    "\u180e",
    "\u205f",
    " \t \n\t",
)
ODD = (
    "\x00",
    "\x01",
    "\x07",
    "\x1b[31m",
    "\x7f",
    "\x80",
    "\u0301",
    "e\u0301",
    "\u0300\u0301",
    "\u200d",
    "\u202e",
)
ODD += (
    "\ufffd",
    "\ufffe",
    "\U0010ffff",
    "\ue000",
    "\u2581",
    "\u2581a",
    "\u0130",
    "ß",
    "ẞ",
    "ﬁ",
    "Ǆ",
    "ǅ",
    "ª",
    "ʔ",
)
ODD += (
    "\u1100\u1161\u11a8",
    "각",
    "\U0001d54f",
    "\U00020000",
    "\u0e33",
    "\u0f73",
    "Å",
    "\u212b",
    "\u037e",
    "\u1fee",
)
"""Among them characters that normal forms change, and a space as SentencePiece writes it."""
MARKS = (
    "...",
    "!!!",
    "?!",
    "—",
    "–",
    "''",
    '"',
    "«»",
    "()",
    "[]{}",
    "<>",
    "~~",
    "**b**",
    "__",
    "`c`",
    "||",
    "\\\\",
)
MARKS += (
    "'s",
    "'S",
    "'re",
    "’s",
    "'llama",
    "'d've",
    "//",
    "///path",
    "@",
    "#tag",
    "&",
    "=>",
    "::",
    ";;",
    "^_^",
    "。」",
)
BLOCKS = (
    *((0x21, 0x7E), (0xA1, 0x24F), (0x250, 0x2AF), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58F)),
    *(
        (0x591, 0x5F4),
        (0x600, 0x6FF),
        (0x700, 0x74F),
        (0x900, 0x97F),
        (0x980, 0x9FE),
        (0xA01, 0xA76),
    ),
    *(
        (0xB82, 0xBFA),
        (0xE01, 0xE5B),
        (0xF00, 0xFDA),
        (0x1000, 0x109F),
        (0x10A0, 0x10FF),
        (0x1100, 0x11FF),
    ),
    *(
        (0x1200, 0x137C),
        (0x13A0, 0x13FD),
        (0x1780, 0x17F9),
        (0x1E00, 0x1FFE),
        (0x2000, 0x206F),
        (0x2070, 0x2BFF),
    ),
    *(
        (0x2C00, 0x2DFF),
        (0x2E80, 0x2FDF),
        (0x3000, 0x30FF),
        (0x3130, 0x318E),
        (0x3400, 0x4DBF),
        (0x4E00, 0x9FFF),
    ),
    *(
        (0xA000, 0xA4C6),
        (0xAC00, 0xD7A3),
        (0xF900, 0xFAFF),
        (0xFB00, 0xFDFF),
        (0xFE10, 0xFFEF),
        (0x10000, 0x103FF),
    ),
    *(
        (0x12000, 0x123FF),
        (0x1D400, 0x1D7FF),
        (0x1F000, 0x1FAFF),
        (0x20000, 0x2A6DF),
        (0xE0000, 0xE007F),
    ),
)
"""First and last character of stretches of Unicode, unassigned ones among them."""


@functools.cache
def lines() -> tuple[str, ...]:
    """The lines; some of them hold line breaks."""
    random = Random(10_000)
    return tuple(_line(random) for _ in range(LINES))


def _line(random: Random) -> str:
    kinds = (_phrase, _phrase, _phrase, _mixed, _mixed, _mixed, _code, _block, _block, _long)
    return random.choice(kinds)(random)


def _phrase(random: Random) -> str:
    words = random.choice(PHRASES).split(" ")
    first = random.randrange(len(words))
    text = " ".join(words[first : first + random.randint(1, 12)])
    case = random.choice([str, str, str, str.upper, str.lower, str.title, str.swapcase])
    return case(text)


def _mixed(random: Random) -> str:
    tables = (NUMBERS, EMOJIS, SPACES, ODD, MARKS, SPACES)
    parts = []
    for _ in range(random.randint(1, 10)):
        if random.random() < 0.4:
            parts.append(_phrase(random)[: random.randint(1, 20)])
        else:
            parts.append(random.choice(random.choice(tables)))
        if random.random() < 0.5:
            parts.append(" ")
    return "".join(parts)


def _code(random: Random) -> str:
    text = random.choice(CODE)
    start = random.randrange(len(text))
    return random.choice(["", "    ", "\t"]) + text[start : start + random.randint(5, 80)]


def _block(random: Random) -> str:
    first, last = random.choice(BLOCKS)
    words = (
        "".join(chr(random.randint(first, last)) for _ in range(random.randint(1, 9)))
        for _ in range(random.randint(1, 8))
    )
    return " ".join(words)


def _long(random: Random) -> str:
    what = random.random()
    if what < 0.3:
        return random.choice(
            ["a", "ab", "xyz", "=", "-", "0", "9", " ", "\n", "é", "你", "🙂"]
        ) * random.randint(50, 400)
    if what < 0.6:
        return "".join(random.choice("etaoinshrdluETAOIN") for _ in range(random.randint(100, 600)))
    if what < 0.8:
        return "".join(random.choice("0123456789") for _ in range(random.randint(20, 300)))
    return "".join(chr(random.randint(0x4E00, 0x9FFF)) for _ in range(random.randint(30, 200)))
