"""Read the DDL of a source without Spark: names, types and NOT NULL, or one sentence on what is wrong.

Only for checking a definition before anything starts; the schema that is used comes from Spark's own reader.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from twinrun.config.problems import nearest

_TOKEN = re.compile(r"\s*(?:(`(?:[^`]|``)+`)|(\w+)|('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")|(<>|[<>(),:]))")
_SAME = {
    "integer": "int",
    "long": "bigint",
    "short": "smallint",
    "byte": "tinyint",
    "real": "float",
    "dec": "decimal",
    "numeric": "decimal",
    "character": "char",
    "timestamp_ltz": "timestamp",
}
_WITH_NUMBERS = {"decimal": (0, 2), "char": (1, 1), "varchar": (1, 1), "time": (0, 1)}
_PLAIN = (
    *("boolean", "tinyint", "smallint", "int", "bigint", "float", "double", "string", "binary", "variant"),
    *("date", "timestamp", "timestamp_ntz", "interval", "void"),
)
_KNOWN = (*_PLAIN, *_WITH_NUMBERS, *_SAME, "array", "map", "struct")

NUMERIC = ("tinyint", "smallint", "int", "bigint", "float", "double", "decimal")
"""Types whose values have an order by size."""


@dataclass(frozen=True)
class Field:
    """One declared field. ``type`` is the type's first word in Spark's spelling, such as ``bigint`` or ``array``.

    ``inside`` are the types that stand in its brackets at any depth; the key of a MAP as ``key of string``.
    """

    name: str
    type: str
    required: bool
    inside: tuple[str, ...] = ()


class DdlError(ValueError):
    """A text that is not the DDL of a record; the message is one sentence."""


def read_ddl(text: str) -> tuple[Field, ...]:
    """Read fields such as ``"flight_id STRING NOT NULL, delay INT"``.

    Raises
    ------
    DdlError
        The text does not follow the grammar, a type is not known, or a name stands twice.
    """
    if not isinstance(text, str):
        msg = f"it is of type {type(text).__name__}"
        raise DdlError(msg)
    tokens = _Tokens(_split(text))
    fields = _fields(tokens, end="")
    if not fields:
        msg = "it declares no field"
        raise DdlError(msg)
    names = [field.name.lower() for field in fields]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"the field {twice[0]} stands twice (upper and lower case count as equal)"
        raise DdlError(msg)
    return fields


class _Tokens:
    """A place in a list of words and signs; the empty text is its end. ``types`` are those that were read."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.place = tokens, 0
        self.types: list[str] = []

    def peek(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.place += 1
        return token

    def accept(self, *words: str) -> bool:
        """Go past these words if they come next, in any case."""
        coming = [token.lower() for token in self.tokens[self.place : self.place + len(words)]]
        if coming != list(words):
            return False
        self.place += len(words)
        return True

    def expect(self, sign: str, after: str) -> None:
        if not self.accept(sign):
            msg = f"{sign!r} is missing after {after}; found {self.peek() or 'the end'!r}"
            raise DdlError(msg)


def _split(text: str) -> list[str]:
    tokens, place, text = [], 0, text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            msg = f"{text[place:].strip()[:12]!r} cannot be read; a name with other signs goes in backticks"
            raise DdlError(msg)
        tokens.append(match[0].strip())
        place = match.end()
    return tokens


def _fields(tokens: _Tokens, end: str) -> tuple[Field, ...]:
    fields: list[Field] = []
    while tokens.peek() != end:
        if fields and not tokens.accept(","):
            msg = f"a comma is missing before {tokens.peek()!r}, after the field {fields[-1].name}"
            raise DdlError(msg)
        fields.append(_field(tokens))
    return tuple(fields)


def _field(tokens: _Tokens) -> Field:
    token = tokens.take()
    if not re.fullmatch(r"\w+|`.+`", token, re.DOTALL):
        msg = f"a field name is missing before {token or 'the end'!r}"
        raise DdlError(msg)
    name = token[1:-1].replace("``", "`") if token.startswith("`") else token
    tokens.accept(":")
    before = len(tokens.types)
    kind = _type(tokens, name)
    inside = tuple(tokens.types[before:-1])
    required = tokens.accept("not", "null")
    if tokens.accept("comment"):
        tokens.take()
    return Field(name, kind, required, inside)


def _type(tokens: _Tokens, field: str) -> str:
    word = tokens.take().lower()
    kind = _SAME.get(word, word)
    if kind in _WITH_NUMBERS:
        _numbers(tokens, kind, field)
    elif kind in ("array", "map"):
        tokens.expect("<", kind.upper())
        of_key = _type(tokens, field)
        if kind == "map":
            tokens.types[-1] = f"key of {of_key}"
            tokens.expect(",", "the key type of a MAP")
            _type(tokens, field)
        tokens.expect(">", f"the {kind.upper()} of {field}")
    elif kind == "struct":
        if not tokens.accept("<>"):
            tokens.expect("<", "STRUCT")
            _fields(tokens, end=">")
            tokens.expect(">", f"the STRUCT of {field}")
    elif kind == "interval":
        while tokens.peek() not in ("", ",", ">") and tokens.peek().lower() not in ("not", "comment"):
            tokens.take()
    elif kind == "string" and tokens.accept("collate"):
        tokens.take()
    elif kind not in _PLAIN:
        match = nearest(kind, _KNOWN)
        hint = f"; did you mean {match.upper()}?" if match else ""
        msg = f"the field {field} has no type that is known ({word.upper() or 'the end of the text'}){hint}"
        raise DdlError(msg)
    tokens.types.append(kind)
    return kind


def _numbers(tokens: _Tokens, kind: str, field: str) -> None:
    least, most = _WITH_NUMBERS[kind]
    numbers: list[int] = []
    if tokens.accept("("):
        while True:
            token = tokens.take()
            if not token.isdigit():
                msg = f"{kind.upper()} of {field} needs whole numbers in brackets; found {token or 'the end'!r}"
                raise DdlError(msg)
            numbers.append(int(token))
            if not tokens.accept(","):
                break
        tokens.expect(")", f"the numbers of {kind.upper()}")
    if not least <= len(numbers) <= most:
        msg = f"{kind.upper()} of {field} has {len(numbers)} numbers in brackets"
        raise DdlError(msg)
    if kind == "decimal" and numbers and (numbers[0] > 38 or numbers[-1] > numbers[0]):
        msg = f"DECIMAL of {field} has at most 38 digits, and not more behind the point than in all"
        raise DdlError(msg)
