"""Texts that try to break out of every format a report has, and a verdict full of them."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from twinrun.results.verdict import Verdict

PLAIN = "plain"
"""What a hostile text is compared with: a page must have the same bones with either."""

CORPUS = {
    "script": "<script>alert(9)</script>",
    "image": '"><img src=x onerror=alert(9)>',
    "attribute": "' onmouseover='alert(9)' x='",
    "close_style": "</style></title><script>alert(9)</script>",
    "comment": "--><svg/onload=alert(9)><!--",
    "cdata": "]]><x:script>alert(9)</x:script>",
    "javascript": "javascript:alert(9)",
    "link": "http://evil.example/ www.evil.example [x](javascript:alert(9)) ![x](http://evil.example/p.png)",
    "autolink": "<http://evil.example/> @everyone #1 evil@evil.example",
    "colour": "\x1b[31mred\x1b[0m \x1b[2J\x9b31m",
    "osc": "\x1b]0;owned\x07 \x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "return": "all equal\rbad\x08\x08\x08good",
    "lines": "one\ntwo\r\n# three\n\n- four\n| a | b |\u2028\u2029\x0b\x0c\x85",
    "bidi": "\u202eevil\u202c \u2066x\u2069 \u200f \u061c",
    "invisible": "a\u200bb\u00adc\ufeffd\u2060e\u00a0f",
    "null": "nul\x00l",
    "surrogate": "half \ud800 pair",
    "pipes": "a | b || c \\| d",
    "backticks": "`code` ``` fence ~~~ *bold* _it_ **b** ~~s~~ # h > q $x$",
    "braces": "{{7*7}} {% include 'x' %} {# c #} ${7*7} <%= 7*7 %>",
    "entities": "&lt;script&gt; &#60;b&#62; &amp;",
    "number_list": "1. one",
    "dashes": "--- +++ === - - -",
    "long": "A" * 20_000,
    "wide": "あ" * 500,
}


def infested(verdict: Verdict, text: str) -> Verdict:
    """The verdict with every text in it (fields, keys, cells) replaced by one text."""
    return replace(verdict, **_fields(verdict, text))


def _fields(item: Any, text: str) -> dict[str, Any]:
    return {field.name: _swap(getattr(item, field.name), text) for field in fields(item)}


def _swap(value: Any, text: str) -> Any:
    if isinstance(value, str):
        return text
    if isinstance(value, dict):
        # keys must stay apart from each other
        return {_key(key, text, place): _swap(cell, text) for place, (key, cell) in enumerate(value.items())}
    if isinstance(value, tuple):
        return tuple(_swap(cell, text) for cell in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **_fields(value, text))
    return value


def _key(key: Any, text: str, place: int) -> Any:
    return f"{text}{place}" if isinstance(key, str) else key
