"""What the words of a shell script say, as far as that is certain without running anything."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

from espnet3.migrate.shell_text import NotUnderstood

Value = str | list[str]
"""Of a variable: text, or an array."""

_NAME = re.compile(r"\w+|[@*#?!$-]")
_BRACED = re.compile(r"(\w+|@|\*)(?:\[([@*])\])?(.*)", re.DOTALL)
_SEQ = re.compile(r"seq\s+(?:-\w+\s+)?(\d+)(?:\s+(\d+))?")
_NAME_OF = re.compile(r"(basename|dirname|echo)\s+(.*)", re.DOTALL)
_DIRECTORY = re.compile(
    r"(?:cd\s+(\S+)\s*(?:;|&&)\s*)?pwd(?:\s+-P)?|(?:realpath|readlink\s+-f)\s+(\S+)"
)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_BRACES = re.compile(r"\{([^{}\s]*,[^{}\s]*)\}")
_MOST = 500
_LONGEST = 10_000
"""Characters of a value; settings are shorter, and what doubles itself soon is not."""


def expand(word: str, variables: Mapping[str, Value]) -> list[str]:
    """The words that one written word stands for.

    Args:
        word: as it is written.
        variables: what is known; a name that is not in it is not known, rather than empty.

    Raises:
        NotUnderstood: only running the script would tell.
    """
    done: list[str] = []
    for alternative in _alternatives(word):
        for one in _Expander(alternative, variables).expand():
            done.append(one)
            if len(done) > _MOST:
                raise NotUnderstood(f"it stands for more than {_MOST} words")
    return done


def text_of(word: str, variables: Mapping[str, Value]) -> str:
    """The text of a word where nothing is split, as behind `=`.

    Raises:
        NotUnderstood: as above.
    """
    return " ".join(_Expander(word, variables, split=False).expand())


def array_of(words: str, variables: Mapping[str, Value]) -> list[str]:
    """The items of an array, given what stands in its parentheses.

    Raises:
        NotUnderstood: as above.
    """
    without = re.sub(r"(^|\s)#.*", "", words)
    found = re.findall(r"(?:\"(?:\\.|[^\"])*\"|'[^']*'|\$\([^()]*\)|\\.|[^\s])+", without)
    return [one for word in found for one in expand(word, variables)]


def _alternatives(word: str) -> list[str]:
    """Braces such as `{a,b}` and `{1..3}` outside quotes as several words."""
    if "'" in word or '"' in word:
        return [word]
    for pattern in (_RANGE, _BRACES):
        for match in pattern.finditer(word):
            if word[: match.start()].endswith("$"):
                continue
            if pattern is _RANGE:
                first, last = int(match[1]), int(match[2])
                if not 0 <= last - first < _MOST:
                    continue
                width = len(match[1]) if match[1].startswith("0") else 0
                middle = [f"{n:0{width}d}" for n in range(first, last + 1)]
            else:
                middle = match[1].split(",")
            before, after = word[: match.start()], word[match.end() :]
            done = [one for m in middle for one in _alternatives(before + m + after)]
            if len(done) > _MOST:
                raise NotUnderstood(f"it stands for more than {_MOST} words")
            return done
    return [word]


class _Expander:
    def __init__(self, word: str, variables: Mapping[str, Value], split: bool = True) -> None:
        self.word, self.variables, self.split = word, variables, split
        self.words = [""]
        self.some = False

    def expand(self) -> list[str]:
        i, quoted = 0, False
        while i < len(self.word):
            c = self.word[i]
            if c == '"':
                quoted, self.some, i = not quoted, True, i + 1
            elif c == "'" and not quoted:
                end = self.word.find("'", i + 1)
                end = len(self.word) if end < 0 else end
                self.words[-1] += self.word[i + 1 : end]
                self.some, i = True, end + 1
            elif c == "\\":
                following = self.word[i + 1 : i + 2]
                keeps = quoted and following not in '$`"\\\n'
                self.words[-1] += ("\\" if keeps else "") + following.replace("\n", "")
                i += 2
            elif c == "`":
                raise NotUnderstood("it runs a command, `...`, whose output nobody knows here")
            elif c == "$":
                i = self._dollar(i, quoted)
            else:
                self.words[-1] += c
                i += 1
            if len(self.words[-1]) > _LONGEST:
                raise NotUnderstood(f"it has more than {_LONGEST} characters")
        return self.words if self.some or self.words != [""] else []

    def _dollar(self, at: int, quoted: bool) -> int:
        rest = self.word[at + 1 :]
        if rest.startswith("(("):
            raise NotUnderstood("it computes something, `$((...))`")
        if rest.startswith("("):
            end = _closing(self.word, at + 1, "()")
            self._add(_output(self.word[at + 2 : end], self.variables), quoted)
            return end + 1
        if rest.startswith("{"):
            end = _closing(self.word, at + 1, "{}")
            self._add(_braced(self.word[at + 2 : end], self.variables), quoted)
            return end + 1
        match = _NAME.match(rest)
        if match is None:
            self.words[-1] += "$"
            return at + 1
        # `$12` is `$1` and a 2.
        name = match[0][0] if match[0][0].isdigit() else match[0]
        self._add(_known(name, self.variables), quoted)
        return at + 1 + len(name)

    def _add(self, value: Value, quoted: bool) -> None:
        if isinstance(value, str) and (quoted or not self.split):
            self.words[-1] += value
            return
        parts = value if isinstance(value, list) else value.split()
        if isinstance(value, str) and value[:1].isspace() and self.words[-1]:
            self.words.append("")
        for i, part in enumerate(parts):
            if i:
                self.words.append("")
            self.words[-1] += part
        self.some = self.some or bool(parts)


def _known(name: str, variables: Mapping[str, Value]) -> Value:
    if name not in variables:
        what = f"argument {name} of the script" if name in "@*" or name.isdigit() else name
        raise NotUnderstood(f"the value of {what} is not certain here")
    return variables[name]


def _closing(word: str, at: int, pair: str) -> int:
    depth = 0
    for i in range(at, len(word)):
        depth += {pair[0]: 1, pair[1]: -1}.get(word[i], 0)
        if depth == 0:
            return i
    raise NotUnderstood(f"its `${pair[0]}` is not closed")


def _braced(inside: str, variables: Mapping[str, Value]) -> Value:
    """`${inside}`."""
    if inside.startswith("#") and re.fullmatch(r"#\w+", inside):
        return str(len(_known(inside[1:], variables)))
    match = _BRACED.fullmatch(inside)
    if match is None:
        raise NotUnderstood(f"it has an expansion `${{{inside}}}` that is not followed")
    name, whole, operation = match.groups()
    value = _known(name, variables)
    if operation.startswith((":-", ":=")):
        return value or text_of(operation[2:], variables)
    if whole:
        value = [value] if isinstance(value, str) else value
    elif isinstance(value, list) and name not in "@*":
        value = value[0] if value else ""
    if not operation:
        return value
    if isinstance(value, list):
        return [_changed(one, operation, variables, inside) for one in value]
    return _changed(value, operation, variables, inside)


def _changed(value: str, operation: str, variables: Mapping[str, Value], inside: str) -> str:
    if match := re.fullmatch(r"(//?|/#|/%)((?:\\.|[^/])*)(?:/(.*))?", operation, re.DOTALL):
        old, new = text_of(match[2], variables), text_of(match[3] or "", variables)
        if old and not re.search(r"[*?\[]", old) and match[1] in ("/", "//"):
            count = -1 if match[1] == "//" else 1
            if value.count(old) * len(new) > 10 * _LONGEST:
                raise NotUnderstood(f"it has more than {_LONGEST} characters")
            return value.replace(old, new, count)
    elif match := re.fullmatch(r"(##?|%%?)(.*)", operation, re.DOTALL):
        pattern = text_of(match[2], variables)
        cuts = list(range(len(value) + 1))
        front = match[1].startswith("#")
        # The shortest part that matches, or with the sign doubled the longest.
        for n in cuts if len(match[1]) == 1 else reversed(cuts):
            at = n if front else len(value) - n
            halves = value[:at], value[at:]
            if fnmatch.fnmatchcase(halves[not front], pattern):
                return halves[front]
        return value
    elif operation in ("^^", ",,"):
        return value.upper() if operation == "^^" else value.lower()
    raise NotUnderstood(f"it has an expansion `${{{inside}}}` that is not followed")


def _output(command: str, variables: Mapping[str, Value]) -> Value:
    """The output of the few commands that say something without any file."""
    # A directory in another spelling; the script's own is `.`.
    if match := _DIRECTORY.fullmatch(command.strip()):
        return text_of(match[1] or match[2] or ".", variables)
    if not re.search(r"[|;&<>`\n]", command) and command.count("(") == 0:
        if match := _SEQ.fullmatch(command.strip()):
            first, last = (1, int(match[1])) if match[2] is None else (int(match[1]), int(match[2]))
            if last - first < _MOST and not command.strip().startswith("seq -"):
                return " ".join(map(str, range(first, last + 1)))
        if match := _NAME_OF.fullmatch(command.strip()):
            words = array_of(match[2], variables)
            if match[1] == "echo" and words and not words[0].startswith("-"):
                return " ".join(words)
            if match[1] != "echo" and 1 <= len(words) <= 2 and not words[0].startswith("-"):
                front, _, name = words[0].rstrip("/").rpartition("/")
                if match[1] == "dirname":
                    return front or "."
                return name.removesuffix(words[1]) if len(words) == 2 else name
    raise NotUnderstood("it runs a command, `$(...)`, whose output nobody knows here")
