"""From the tokens of a shell script to its syntax."""

from __future__ import annotations

import re

from espnet3.migrate.scripts.syntax import (
    Case,
    Command,
    Function,
    Group,
    If,
    Loop,
    Node,
    Pipeline,
    Redirect,
)
from espnet3.migrate.scripts.tokens import Inner, ShellError, Token, tokens

_ENDS = {"then", "do", "done", "fi", "else", "elif", "esac", "}"}
_DEEPEST = 60


def parse_script(text: str, first_line: int = 1) -> list[Node]:
    """The commands of a script.

    Args:
        text: the script.
        first_line: the number of its first line, if it is part of another one.

    Raises:
        ShellError: it is no shell script, as far as can be told.
    """
    parser = _Parser(text, tokens(text, first_line), first_line)
    done = parser.commands(())
    if parser.token is not None:
        raise ShellError(f"`{parser.token.text}` stands alone", parser.token.line)
    return done


class _Parser:
    def __init__(self, text: str, read: list[Token], first_line: int) -> None:
        self.text, self.tokens, self.at = text, read, 0
        self.first_line = first_line
        self.depth = 0

    @property
    def token(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def commands(self, ends: tuple[str, ...]) -> list[Node]:
        """Commands up to one of the words or operators `ends`, which is left."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ShellError("its blocks are nested too deeply", self._line())
        done: list[Node] = []
        conditional = False
        while (token := self.token) is not None:
            if token.kind == "newline" or self._is(";", "&"):
                self.at += 1
                conditional = conditional and token.kind == "newline"
            elif self._is("&&", "||"):
                self.at += 1
                conditional = True
            elif (
                (
                    token.text in ends
                    or self._is(")")
                    or (token.kind == "word" and token.text in _ENDS)
                )
                or token.kind == "operator"
                and token.text.startswith(";")
            ):
                break
            else:
                node = self._pipeline()
                node.conditional = conditional
                done.append(node)
                conditional = False
        self.depth -= 1
        return done

    def _pipeline(self) -> Node:
        first = self.at
        negated = False
        while self._word("!") or self._word("time"):
            negated ^= self._word("!")
            self.at += 1
        parts = [self._command()]
        while self._is("|", "|&"):
            self.at += 1
            self._skip_newlines()
            parts.append(self._command())
        if len(parts) == 1:
            parts[0].negated = negated
            return parts[0]
        return Pipeline(self.tokens[first].line, self._source(first), False, negated, parts)

    def _command(self) -> Node:
        token = self.token
        if token is None:
            raise ShellError("a command is missing at its end", self._line())
        if token.kind == "operator" and token.text == "(":
            return self._group(")", alone=True)
        if token.kind == "word":
            if token.text in ("for", "select"):
                return self._for()
            if token.text in ("while", "until"):
                return self._while()
            if token.text == "if":
                return self._if()
            if token.text == "case":
                return self._case()
            if token.text == "{":
                return self._group("}", alone=False)
            if token.text == "function" or self._is_definition():
                return self._function()
        return self._simple()

    def _simple(self) -> Node:
        first = self.at
        words: list[str] = []
        inner: list[Inner] = []
        redirects: list[Redirect] = []
        while (token := self.token) is not None and token.kind in ("word", "redirect"):
            inner += token.inner
            self.at += 1
            if token.kind == "redirect":
                redirects.append(self._redirect(token, inner))
            else:
                words.append(token.text)
        if self.at == first:
            text = token.text.strip() if token else ""
            raise ShellError(f"`{text or 'the end of a line'}` is not expected", self._line())
        line = self.tokens[first].line
        return Command(
            line, self._source(first), False, False, tuple(words), tuple(redirects), tuple(inner)
        )

    def _redirect(self, token: Token, inner: list[Inner]) -> Redirect:
        target = self.token
        if target is None or target.kind != "word":
            raise ShellError(f"nothing stands behind `{token.text}`", token.line)
        self.at += 1
        inner += target.inner
        return Redirect(token.text.lstrip("0123456789"), target.text, token.body)

    def _group(self, end: str, alone: bool) -> Node:
        first = self.at
        self.at += 1
        body = self.commands((end,))
        self._expect(end, first)
        self._redirects()
        return Group(self.tokens[first].line, "(" if alone else "{", body=body, alone=alone)

    def _for(self) -> Node:
        first = self.at
        self.at += 1
        values: list[str] | None = None
        inner: list[Inner] = []
        variable = self._take("a variable")
        self._skip_newlines()
        if self._word("in"):
            self.at += 1
            values = []
            while (token := self.token) is not None and token.kind == "word":
                values.append(token.text)
                inner += token.inner
                self.at += 1
        last = self.at
        self._separator()
        body, redirects = self._do(first)
        return Loop(
            self.tokens[first].line, self._source(first, last),
            keyword=self.tokens[first].text, variable=variable.text,
            values=None if values is None else tuple(values), inner=tuple(inner), body=body,
            redirects=redirects,
        )  # fmt: skip

    def _while(self) -> Node:
        first = self.at
        self.at += 1
        condition = self.commands(("do",))
        last = self.at
        body, redirects = self._do(first)
        return Loop(
            self.tokens[first].line, self._source(first, last), keyword=self.tokens[first].text,
            condition=condition, body=body, redirects=redirects,
        )  # fmt: skip

    def _do(self, first: int) -> tuple[list[Node], tuple[Redirect, ...]]:
        end = "}" if self._word("{") else "done"
        self._expect("{" if end == "}" else "do", first)
        body = self.commands((end,))
        self._expect(end, first)
        return body, self._redirects()

    def _if(self) -> Node:
        first = self.at
        self.at += 1
        branches = []
        condition = self.commands(("then",))
        last = self.at
        while True:
            self._expect("then", first)
            branches.append((condition, self.commands(("elif", "else", "fi"))))
            if not self._word("elif"):
                break
            self.at += 1
            condition = self.commands(("then",))
        if self._word("else"):
            self.at += 1
            branches.append(([], self.commands(("fi",))))
        self._expect("fi", first)
        self._redirects()
        return If(self.tokens[first].line, self._source(first, last), branches=branches)

    def _case(self) -> Node:
        first = self.at
        self.at += 1
        word = self._take("a word").text
        self._skip_newlines()
        self._expect("in", first)
        arms = []
        self._skip_newlines()
        while not self._word("esac"):
            pattern = self._pattern(first)
            arms.append((pattern, self.commands(("esac",))))
            if (token := self.token) and token.kind == "operator" and token.text.startswith(";"):
                self.at += 1
            self._skip_newlines()
        self._expect("esac", first)
        self._redirects()
        return Case(self.tokens[first].line, f"case {word} in", word=word, arms=arms)

    def _pattern(self, first: int) -> str:
        start = self.at
        while not self._is(")"):
            if self.token is None or self.token.kind == "newline":
                raise ShellError("a pattern of `case` is not closed", self.tokens[first].line)
            self.at += 1
        self.at += 1
        return self._source(start, self.at - 1).lstrip("(").strip()

    def _is_definition(self) -> bool:
        following = [t.text for t in self.tokens[self.at + 1 : self.at + 3]]
        return following == ["(", ")"]

    def _function(self) -> Node:
        first = self.at
        if self._word("function"):
            self.at += 1
        name = self._take("a name").text
        if self._is("("):
            self.at += 2
        self._skip_newlines()
        body = self._command()
        inside = body.body if isinstance(body, Group) else [body]
        return Function(self.tokens[first].line, f"{name}()", name=name, body=inside)

    def _redirects(self) -> tuple[Redirect, ...]:
        done = []
        while (token := self.token) is not None and token.kind == "redirect":
            self.at += 1
            done.append(self._redirect(token, []))
        return tuple(done)

    def _separator(self) -> None:
        while self._is(";") or (self.token is not None and self.token.kind == "newline"):
            self.at += 1

    def _skip_newlines(self) -> None:
        while self.token is not None and self.token.kind == "newline":
            self.at += 1

    def _take(self, what: str) -> Token:
        token = self.token
        if token is None or token.kind != "word":
            raise ShellError(f"{what} is missing", self._line())
        self.at += 1
        return token

    def _expect(self, text: str, first: int) -> None:
        if self.token is None or self.token.text != text:
            opened = self.tokens[first]
            raise ShellError(f"`{text}` is missing behind `{opened.text}`", opened.line)
        self.at += 1

    def _is(self, *operators: str) -> bool:
        token = self.token
        return token is not None and token.kind == "operator" and token.text in operators

    def _word(self, text: str) -> bool:
        token = self.token
        return token is not None and token.kind == "word" and token.text == text

    def _line(self) -> int:
        token = self.token or (self.tokens[-1] if self.tokens else None)
        return token.line if token else self.first_line

    def _source(self, first: int, last: int | None = None) -> str:
        """The text from one token up to another, in one line."""
        last = self.at if last is None else last
        start, end = self.tokens[first].start, self.tokens[max(last - 1, first)].end
        return re.sub(r"\s*\\?\n\s*|\s+", " ", self.text[start:end]).strip()
