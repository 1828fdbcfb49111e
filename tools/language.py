"""Find wording that makes the code and documentation hard to read, and exit with 1 if there is any.

    python tools/language.py src README.md docs

It reads strings, docstrings and comments of Python files, Markdown without its code, and Jinja templates with
their comments and the strings in their tags.
`tools/language-allowed.txt` lists lines that may use a marker: a path, a colon, and a part of the line;
a path and a colon alone are for a file that is not rewritten yet.
"""

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

#: Patterns to find and what to write instead. A space matches any white space, also a line break.
MARKERS = {
    r"(?<![Tt]here) (is|are|was|were|be) no(?! (longer|more|less|fewer|later|better|worse)) ": "is not a",
    r"(?<![Tt]here) (is|are|was|were) none\b": "does not exist; is not a",
    r"\bmanieth\b|\bevery so \w+th\b": "every Nth",
    r"\b(stand|stands|stood)\b(?! for| in for|ard|-|alone)": "is, are",
    r"\b(lie|lies|lay)\b(?!out)": "is, are; does not match",
    r"\b(tell|tells|telling|told) of\b|\bto tell\b(?! (whether|apart|them apart|if))": "mention, report",
    r"\bcut otherwise\b|\botherwise cut\b": "re-cropped",
    r"\bby heart\b": "memorised",
    r", for (it|they|its|their|there|here|then|this is|from|nobody|nothing|what|such|none)\b": "because",
    r"\bwhat there is\b": "name the thing",
    r"\banew\b": "again",
    r"\b(whence|whereof|thereof|thereby|hereby|herein|wherein|whereby|therein)\b": "from, of, by, in it",
    r"\bbe it\b": "if",
    r"\blets? go\b(?! of)": "release",
    r"\bwhoever\b|\bwhomever\b": "the caller, the user",
    r"\bone that is\b": "name the thing",
    r'(?<=""")(Say|Give|Tell|Ask|Have)\b': "Return, Check, Report (first word of a docstring)",
    r"\bin vain\b": "without success",
    r"\bof late\b": "recently",
    r"\b(besides|likewise)\b": "also",
    r"\bsays? of\b|\bknows? of\b(?! by)": "mention, describe",
    r"\bcannot be had\b|\bcan be had\b|\bto be had\b": "is (not) available",
    r"\b[Ww]here there (is|are|was|were|can)\b|\bWhere (a|an|no|nothing|nobody) \b": "if",
    r"\bin order to\b|\bso as to\b": "to",
    r"\bas it were\b": "(nothing)",
    r"\bdoes? without\b": "does not need",
    r"\b(ought|shall)\b": "must, should",
    r"\bgo(es)? on (with|from)\b": "continue",
    r"\b(begun|began|begin|begins) from\b": "start from",
    r"\blearnt from\b": "was trained on",
    r"\bfrom chance\b": "from random weights",
    r"\b(what|that|which) ships\b": "the shipped model, the model file, the selected epoch",
    r"\btoo good\b": "too high",
    r"\bsays? nothing (about|of)\b": "does not measure, does not contain",
    r"\b(one|a) (image|row|line|label|sentence|file|column) an? "
    r"(image|row|line|label|sentence|file|column|class|face|split|answer)\b": "one per",
    r"\bof [A-Z] less recall\b": "minus",
    r"\bwhat was asked for\b": "name the thing",
    r"\bwhatever\b(?! you)": "any, independently of",
    r"\bunlike in\b": "differ in",
}
_PATTERNS = {re.compile(pattern.replace(" ", r"\s+")): advice for pattern, advice in MARKERS.items()}
_ALLOWED = Path(__file__).with_name("language-allowed.txt")
_CODE = re.compile(r"^```.*?^```|^ {4,}.*?$|`[^`\n]+`|\]\([^)]*\)|<!--.*?-->", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`[^`\n]+`")
#: A tag of Jinja, a Python string in single quotes, and a string in a tag.
_TAG = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_QUOTES = re.compile(r"""^[A-Za-z]*(?:"(?!"")|'(?!''))(.*)["']$""", re.DOTALL)
_STRING = re.compile(r"\"[^\"]*\"|'[^']*'")


def find(path: Path) -> Iterator[tuple[int, str, str]]:
    """Return (line number, marker, advice) for each marker in a file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        passages = _python(text)
    elif path.suffix == ".j2":
        passages = _template(text)
    else:
        passages = iter([(1, _blank(_CODE, text))])
    for first, passage in passages:
        for pattern, advice in _PATTERNS.items():
            for match in pattern.finditer(passage):
                yield first + passage.count("\n", 0, match.start()), " ".join(match[0].split()), advice


def _python(text: str) -> Iterator[tuple[int, str]]:
    """Return the strings and comments with their first lines.

    Comments on lines in a row are one passage, and so are strings that Python joins.
    """
    passage, kind, first, last = "", "", 0, 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        name = tokenize.tok_name[token.type]
        now = {"COMMENT": "comment", "STRING": "string", "FSTRING_MIDDLE": "string"}.get(name, "")
        if passage and (kind != now if now else name not in ("NL", "FSTRING_START", "FSTRING_END")):
            yield first, _blank(_INLINE, passage)
            passage = ""
        if not now:
            continue
        part = re.sub(r"^#:? ?", "", token.string) if now == "comment" else _QUOTES.sub(r"\1", token.string)
        if passage:
            part = "\n" * (token.start[0] - last) + part
        else:
            first = token.start[0]
        passage, kind, last = passage + part, now, token.end[0]


def _template(text: str) -> Iterator[tuple[int, str]]:
    """Return the text outside the tags of a template, and each string inside one, with their first lines."""
    yield 1, _blank(_INLINE, _blank(_TAG, text))
    for tag in _TAG.finditer(text):
        for string in _STRING.finditer(tag[0]):
            yield text.count("\n", 0, tag.start() + string.start()) + 1, _blank(_INLINE, string[0])


def _blank(code: re.Pattern[str], text: str) -> str:
    """Replace code by characters that no marker has, and keep the line breaks."""
    return code.sub(lambda match: re.sub(r"[^\n]", "·", match[0]), text)


def _allowed() -> set[tuple[str, str]]:
    lines = _ALLOWED.read_text(encoding="utf-8").splitlines()
    entries = (line.partition(":") for line in lines if line and not line.startswith("#"))
    return {(path, part.strip()) for path, _, part in entries}


def main(arguments: list[str]) -> int:
    """Print the markers in the files and folders that are named; return 1 if there are any."""
    named = [Path(argument) for argument in arguments]
    files = {
        file
        for path in named
        for file in (path.rglob("*") if path.is_dir() else [path])
        if file.suffix in (".py", ".md", ".j2")
    }
    allowed, used, found = _allowed(), set(), 0
    for file in sorted(files):
        lines = file.read_text(encoding="utf-8").splitlines()
        for line, marker, advice in sorted(find(file)):
            entries = {each for each in allowed if each[0] == file.as_posix() and each[1] in lines[line - 1]}
            used |= entries
            if not entries:
                found += 1
                print(f"{file}:{line}: '{marker}': write {advice}")
    unused = {each for each in allowed - used if each[1] and Path(each[0]) in files}
    for path, part in sorted(unused):
        print(f"{_ALLOWED.name}: {path}: '{part}' allows nothing; delete the line")
    return 1 if found or unused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
