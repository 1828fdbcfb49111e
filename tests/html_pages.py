"""What tests check on every page of HTML: it loads nothing, runs nothing, and its tags are closed."""

import re
from html.parser import HTMLParser

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Page(HTMLParser):
    """Collects a page's tags, addresses and text, and checks what holds of every page."""

    VOID = ("meta", "img", "rect", "circle", "path", "line")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.policy = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []
        assert self.policy == _POLICY
        assert {"script", "link", "a", "iframe", "form"}.isdisjoint(self.tags)
        assert all(address.startswith("data:image/png;base64,") for address in self.addresses)
        bare = without_pictures(text)
        assert "http" not in bare.replace("http-equiv", "")
        assert "url(" not in bare

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if ("http-equiv", "Content-Security-Policy") in attrs:
            self.policy = dict(attrs)["content"] or ""
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def without_pictures(text: str) -> str:
    """Return a page with each picture's address as a word, for golden files."""
    return re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "PICTURE", text)
