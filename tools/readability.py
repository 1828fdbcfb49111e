"""Measure how easy pages are to read: the Flesch-Kincaid grade and the longest sentence of each page.

python tools/readability.py README.md docs/guides

Grade = 0.39 × words per sentence + 11.8 × syllables per word − 15.59.
Source: Kincaid, Fishburne, Rogers & Chissom, Derivation of new readability formulas for Navy enlisted
personnel, 1975. Syllables are counted as groups of vowels, without a silent e at the end.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Readability:
    """How easy a text is to read.

    Args:
        grade: Years of school that a reader needs.
        longest: The longest sentence.
        words: Words in all sentences.
    """

    grade: float
    longest: str
    words: int


def measure(markdown: str) -> Readability:
    """Measure the sentences of a page, without code, tables, headings and pictures."""
    sentences = _sentences(markdown)
    words = [word for sentence in sentences for word in _words(sentence)]
    if not words:
        return Readability(0.0, "", 0)
    syllables = sum(map(_syllables, words))
    grade = 0.39 * len(words) / len(sentences) + 11.8 * syllables / len(words) - 15.59
    longest = max(sentences, key=lambda sentence: len(_words(sentence)))
    return Readability(grade, longest, len(words))


def _sentences(markdown: str) -> list[str]:
    text = re.sub(r"```.*?```|<!--.*?-->|<sub>.*?</sub>", "", markdown, flags=re.DOTALL)
    lines = []
    for line in text.splitlines():
        if re.match(r"\s*(#|\||!\[)| {4}", line):
            lines.append("")
            continue
        # An item of a list ends like a sentence.
        lines.append(re.sub(r"^\s*([-*]|\d+\.)\s+", "\n", line))
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", "\n".join(lines))
    text = re.sub(r"`[^`]*`", "code", text).replace("*", "")
    paragraphs = re.split(r"\n\s*\n", text)
    found = [part for each in paragraphs for part in re.split(r"(?<=[.!?:])\s+", " ".join(each.split()))]
    return [sentence for sentence in found if len(_words(sentence)) > 1]


def _words(sentence: str) -> list[str]:
    return re.findall(r"[A-Za-z][A-Za-z'’-]*", sentence)


def _syllables(word: str) -> int:
    word = word.lower()
    groups = len(re.findall(r"[aeiouy]+", word))
    if word.endswith("e") and not word.endswith(("le", "ee")) and groups > 1:
        groups -= 1
    return max(1, groups)


def main() -> None:
    """Print the grade and the longest sentence of each page."""
    pages = [
        page
        for path in map(Path, sys.argv[1:])
        for page in (sorted(path.rglob("*.md")) if path.is_dir() else [path])
    ]
    for page in pages:
        found = measure(page.read_text(encoding="utf-8"))
        longest = len(_words(found.longest))
        print(f"{found.grade:5.1f}  {longest:3} words  {page}")


if __name__ == "__main__":
    main()
