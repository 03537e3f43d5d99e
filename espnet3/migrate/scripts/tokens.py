"""A shell script as tokens, by the rules of bash for quotes, comments and here-documents."""

from __future__ import annotations

import re
from dataclasses import dataclass

_OPERATOR = re.compile(r"&&|\|\||;;&|;;|;&|\|&|[;|&()]")
_REDIRECT = re.compile(r"(?:\d*|\{\w+\})(?:<<<|<<-|<<|<>|>>|>\||>&|<&|<|>)|&>>|&>")
_WORD_ENDS = " \t\n;|&()<>"
_ARRAY = re.compile(r"\w+(?:\[[^\]]*\])?\+?=")
_CASE = re.compile(r"(?<=[\s;(])(case(?=\s[^\n]*\sin\b)|esac\b)")
_HERE = re.compile(r"<<-?[ \t]*[\"'\\]?(\w+)[\"']?(?=\s)")
_DEEPEST = 50
# Behind these a command begins, so that `((` and `[[` mean what they mean there.
_BEFORE_COMMAND = {"if", "elif", "then", "else", "do", "while", "until", "for", "!", "{", "time"}


class ShellError(Exception):
    """A script cannot be read; its message says why, and `line` from where on."""

    def __init__(self, why: str, line: int) -> None:
        super().__init__(why)
        self.line = line


@dataclass(frozen=True)
class Inner:
    """A command substitution inside of a word: its text, and the line where it begins."""

    text: str
    line: int


@dataclass
class Token:
    """One token.

    Attributes:
        kind: ``word``, ``operator``, ``redirect`` or ``newline``.
        text: As it is written, quotes included.
        line: Where it begins, from 1.
        start: Where it begins, in characters.
        end: Where it ends.
        inner: The command substitutions in it.
        body: Of ``<<``: the here-document.
    """

    kind: str
    text: str
    line: int
    start: int
    end: int
    inner: tuple[Inner, ...] = ()
    body: str = ""


def tokens(text: str, first_line: int = 1) -> list[Token]:
    """The tokens of a script.

    Raises:
        ShellError: a quote or bracket is not closed.
    """
    return _Lexer(text, first_line).read()


class _Lexer:
    def __init__(self, text: str, first_line: int) -> None:
        self.text, self.first_line = text, first_line
        self.at = 0
        self.done: list[Token] = []
        self.inner: list[Inner] = []
        self.waiting: list[Token] = []
        self._lines_at, self._lines = 0, first_line

    def read(self) -> list[Token]:
        while self.at < len(self.text):
            c = self.text[self.at]
            if c in " \t\r":
                self.at += 1
            elif self.text.startswith("\\\n", self.at):
                self.at += 2
            elif c == "#":
                self.at = self._find("\n", self.at)
            elif c == "\n":
                self._add("newline", self.at + 1)
                self._here_documents()
            else:
                self._token()
        return self.done

    def line_of(self, at: int) -> int:
        if at < self._lines_at:
            return self.first_line + self.text.count("\n", 0, at)
        self._lines += self.text.count("\n", self._lines_at, at)
        self._lines_at = at
        return self._lines

    def _token(self) -> None:
        if self._begins_command():
            for opening, closing in (("((", "))"), ("[[ ", "]]")):
                if self.text.startswith(opening, self.at):
                    end = self._closing(self.at, closing)
                    if end:
                        self._add("word", end)
                        return
                    self.inner = []
        # `<(` and `>(` are part of a word; the pattern of redirects would take their first sign.
        if self.text[self.at : self.at + 2] not in ("<(", ">("):
            if match := _REDIRECT.match(self.text, self.at):
                self._add("redirect", match.end())
                return
            if match := _OPERATOR.match(self.text, self.at):
                self._add("operator", match.end())
                return
        self._add("word", self._word(self.at))

    def _begins_command(self) -> bool:
        last = self.done[-1] if self.done else None
        if last is None or last.kind in ("operator", "newline"):
            return True
        return last.kind == "word" and last.text in _BEFORE_COMMAND

    def _closing(self, at: int, closing: str) -> int:
        """The end of `(( ))` or `[[ ]]`, or 0 if it is something else."""
        i = at + 2
        depth = 0
        while i < len(self.text):
            c = self.text[i]
            if closing == "]]" and self.text.startswith("]]", i) and self.text[i - 1].isspace():
                return i + 2
            if closing == "))" and c == ")" and depth == 0:
                return i + 2 if self.text.startswith("))", i) else 0
            if closing == "))" and c in "()":
                depth += 1 if c == "(" else -1
            i = self._past(i, 0)
        return 0

    def _word(self, at: int) -> int:
        i = at
        while i < len(self.text):
            c = self.text[i]
            if c == "(" and i > at:
                written = self.text[at:i]
                if _ARRAY.fullmatch(written) or written[-1] in "@?*+!":
                    i = self._parenthesis(i, 0)
                    continue
            if self.text[i : i + 2] in ("<(", ">(") and i == at:
                end = self._parenthesis(i + 1, 0)
                self.inner.append(Inner(self.text[i + 2 : end - 1], self.line_of(i)))
                i = end
            elif c in _WORD_ENDS:
                break
            else:
                i = self._past(i, 0)
        return i

    def _past(self, i: int, depth: int) -> int:
        """Behind the character at `i`, or behind all that it opens."""
        c = self.text[i]
        if depth > _DEEPEST:
            raise ShellError("its brackets are nested too deeply", self.line_of(i))
        if c == "\\":
            return min(i + 2, len(self.text))
        if c == "'":
            return self._find("'", i + 1, must=i) + 1
        if c == '"':
            return self._double(i, depth)
        if c == "`":
            end = self._find("`", i + 1, must=i)
            self._substitution(i + 1, end)
            return end + 1
        if c == "$" and self.text.startswith("$(", i):
            end = self._parenthesis(i + 1, depth + 1)
            if not self.text.startswith("$((", i):
                self._substitution(i + 2, end - 1)
            return end
        if c == "$" and self.text.startswith("${", i):
            return self._until("}", i + 2, depth + 1, i)
        if c == "$" and self.text.startswith("$'", i):
            return self._until("'", i + 2, depth + 1, i, plain=True)
        return i + 1

    def _double(self, at: int, depth: int) -> int:
        i = at + 1
        while i < len(self.text):
            if self.text[i] == '"':
                return i + 1
            # Neither `'` nor `$'` quotes anything here.
            plain = self.text[i] == "'" or self.text.startswith("$'", i)
            i = i + 1 if plain else self._past(i, depth + 1)
        raise ShellError('a `"` is not closed', self.line_of(at))

    def _until(self, closing: str, at: int, depth: int, opened: int, plain: bool = False) -> int:
        i = at
        while i < len(self.text):
            if self.text[i] == closing:
                return i + 1
            literal = plain and self.text[i] != "\\" or self.text[i] == "'"
            i = i + 1 if literal else self._past(i, depth)
        raise ShellError(f"`{self.text[opened : opened + 2]}` is not closed", self.line_of(opened))

    def _parenthesis(self, at: int, depth: int) -> int:
        """Behind the `)` that closes the `(` at `at`."""
        i, open_now, cases = at, 0, 0
        while i < len(self.text):
            c = self.text[i]
            if c in "ce" and (match := _CASE.match(self.text, i)):
                cases += 1 if match[0] == "case" else -1
                i = match.end()
            elif c == "<" and (match := _HERE.match(self.text, i)):
                end = re.compile(rf"^\t*{re.escape(match[1])}$", re.MULTILINE)
                found = end.search(self.text, match.end())
                i = found.end() if found else match.end()
            elif c == "(":
                open_now += 1
                i += 1
            elif c == ")" and cases > 0 and open_now == 1:
                i += 1  # of a pattern
            elif c == ")":
                open_now -= 1
                i += 1
                if not open_now:
                    return i
            elif c == "#" and self.text[i - 1] in " \t\n":
                i = self._find("\n", i)
            else:
                i = self._past(i, depth)
        raise ShellError("a `(` is not closed", self.line_of(at))

    def _substitution(self, start: int, end: int) -> None:
        self.inner.append(Inner(self.text[start:end], self.line_of(start)))

    def _find(self, what: str, at: int, must: int | None = None) -> int:
        found = self.text.find(what, at)
        if found < 0 and must is not None:
            raise ShellError(f"a `{what}` is not closed", self.line_of(must))
        return len(self.text) if found < 0 else found

    def _add(self, kind: str, end: int) -> None:
        token = Token(kind, self.text[self.at : end], self.line_of(self.at), self.at, end)
        if kind == "word":
            token.inner = _outermost(self.inner)
            if self.done and self.done[-1].kind == "redirect":
                before = self.done[-1]
                if re.search(r"<<-?$", before.text) and "<<<" not in before.text:
                    self.waiting.append(before)
                    before.body = token.text
        self.inner = []
        self.done.append(token)
        self.at = max(end, self.at + 1)

    def _here_documents(self) -> None:
        for token in self.waiting:
            delimiter = re.sub(r"[\\'\"]", "", token.body)
            lines = []
            while True:
                if self.at >= len(self.text):
                    why = f"the end `{delimiter}` of a here-document is missing"
                    raise ShellError(why, token.line)
                end = self._find("\n", self.at)
                line = self.text[self.at : end]
                self.at = end + 1
                if (line.lstrip("\t") if token.text.endswith("-") else line) == delimiter:
                    break
                lines.append(line)
            token.body = "".join(f"{line}\n" for line in lines)
        self.waiting = []


def _outermost(found: list[Inner]) -> tuple[Inner, ...]:
    """Without those that are part of another one, which is read by itself later."""
    return tuple(
        one for one in found if not any(one is not o and one.text in o.text for o in found)
    )
