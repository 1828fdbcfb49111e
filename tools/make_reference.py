"""Write the reference pages of commands, Python functions and errors, and JSON schemas, from the code.

python tools/make_reference.py
"""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import json_documents
import typer

import mien
from mien import cli, errors

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
_MADE = "<!-- Made by tools/make_reference.py; do not edit. -->\n"
#: Sections of a Google docstring, and their headings.
_SECTIONS = {
    "Args": "Arguments",
    "Attributes": "Attributes",
    "Returns": "Returns",
    "Yields": "Yields",
    "Raises": "Errors",
    "Example": "Example",
    "Source": "Source",
}


def make_pages() -> dict[str, str]:
    """Return the text of each page and schema by its name."""
    pages = {"commands.md": _commands_page(), "api.md": _api_page(), "errors.md": _errors_page()}
    for name, schema in json_documents.make_schemas().items():
        pages[f"schemas/{name}.json"] = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
    return pages


def _commands_page() -> str:
    group: Any = typer.main.get_command(cli.app)
    parts = [
        "# Commands\n",
        _MADE,
        "`mien COMMAND --help` prints the same. Every command takes `--json`, which prints one JSON document "
        "to stdout and everything else to stderr.\n",
    ]
    for name, command in group.commands.items():
        parts.append(f"## mien {name}\n\n{command.help}\n")
        context = typer.Context(command, info_name=f"mien {name}")
        parts.append(f"```text\n{' '.join(command.get_usage(context).split())}\n```\n")
        parts.append("| argument or option | meaning |\n|---|---|")
        for each in command.params:
            record = each.get_help_record(context)
            if record is not None:
                term, meaning = (_cell(text) for text in record)
                term = re.sub(r" <[^ ]+>$", "", term) if each.param_type_name == "argument" else term
                parts.append(f"| `{term}` | {meaning} |")
        parts.append("")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _api_page() -> str:
    parts = [
        "# Python\n",
        _MADE,
        "Everything here can be imported from `mien`, and loads when it is first used.\n",
    ]
    names = [name for name in mien.__all__ if name in mien._PUBLIC]
    for name in sorted(names, key=lambda name: (name[0].isupper(), name.lower())):
        parts.append(_entry(name, getattr(mien, name)))
    return "\n".join(parts)


def _entry(name: str, thing: Any) -> str:
    text = inspect.getdoc(thing) or ""
    lines = [f"## mien.{name}\n", f"```text\n{_signature(name, thing)}\n```\n", *_markdown(text)]
    if inspect.isclass(thing):
        for member, value in vars(thing).items():
            about = inspect.getdoc(value)
            if member.startswith("_") or not about or not _is_documented(value):
                continue
            call = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            shown = member if isinstance(value, property) or not callable(call) else _signature(member, call)
            lines += [f"### {name}.{member}\n", f"```text\n{shown}\n```\n", *_markdown(about)]
    return "\n".join(lines)


def _is_documented(value: Any) -> bool:
    kinds = (property, classmethod, staticmethod)
    return inspect.isfunction(value) or isinstance(value, kinds) or hasattr(value, "attrname")


def _signature(name: str, thing: Any) -> str:
    """Return a call without types, which are in the text, one line for each group of parameters."""
    parameters = []
    starred = False
    for each in inspect.signature(thing).parameters.values():
        if each.name == "self":
            continue
        if each.kind is each.KEYWORD_ONLY and not starred:
            parameters.append("*")
            starred = True
        if each.kind is each.VAR_POSITIONAL:
            starred = True
        star = "*" if each.kind is each.VAR_POSITIONAL else "**" if each.kind is each.VAR_KEYWORD else ""
        default = "" if each.default is each.empty else f"={_shown(each.default)}"
        parameters.append(f"{star}{each.name}{default}")
    flat = f"{name}({', '.join(parameters)})"
    if len(flat) <= 100:
        return flat
    return f"{name}(\n    " + ",\n    ".join(parameters) + ",\n)"


def _shown(value: Any) -> str:
    text = repr(value)
    return "…" if "<" in text else text


def _markdown(text: str) -> Iterator[str]:
    """Yield the lines of a Google docstring as Markdown."""
    section, body = "", list[str]()
    for line in [*text.splitlines(), "End:"]:
        found = re.fullmatch(r"([A-Z][a-z]+):(?: (.+))?", line)
        if found and (found[1] in _SECTIONS or found[1] == "End"):
            yield from _section(section, body)
            section, body = found[1], [found[2]] if found[2] else []
        else:
            body.append(line)


def _section(name: str, body: list[str]) -> Iterator[str]:
    lines = inspect.cleandoc("\n".join(["", *body])).splitlines()
    if not lines:
        return
    if name:
        yield f"**{_SECTIONS[name]}**\n"
    if name == "Example":
        yield from ("```pycon", *lines, "```", "")
    elif name in ("Args", "Attributes", "Raises"):
        item = ""
        for line in lines:
            if found := re.match(r"(\*{0,2}\w+): (.*)", line):
                if item:
                    yield item
                item = f"- `{found[1]}`: {found[2]}"
            else:
                item += f" {line.strip()}"
        yield item
        yield ""
    else:
        yield from lines
        yield ""


def _errors_page() -> str:
    found = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, errors.MienError)
    ]
    rows = [
        f"| `{each.__name__}` | `{each.__mro__[1].__name__}` | {_code(each)} | {_cell(_first(each))} |"
        for each in found
    ]
    return "\n".join(
        [
            "# Errors and exit codes\n",
            _MADE,
            "Everything that mien raises on purpose is a `mien.MienError`. Its message is one sentence: what "
            "is wrong, then what to do. A command prints it on stderr and exits with its code.\n",
            "| error | kind of | exit code | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
            "## Exit codes\n",
            "| code | meaning |",
            "|---|---|",
            "| 0 | done |",
            "| 1 | the check found something: `mien audit --fail-on` |",
            "| 2 | an input or option cannot be used, or there is nothing to do |",
            "| 3 | done, but some inputs were bad |",
            "| 70 | an error in mien itself; please report it |",
            "| 130, 143 | stopped by Ctrl-C or SIGTERM; what was written is complete |",
            "",
        ]
    )


def _first(kind: type) -> str:
    return (inspect.getdoc(kind) or "").split("\n\n")[0]


def _code(kind: type[errors.MienError]) -> str:
    return "130 or 143" if kind is errors.Stopped else str(kind.exit_code)


def main() -> None:
    """Write the pages."""
    (REFERENCE / "schemas").mkdir(parents=True, exist_ok=True)
    for name, text in make_pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
        print(REFERENCE / name)


if __name__ == "__main__":
    main()
