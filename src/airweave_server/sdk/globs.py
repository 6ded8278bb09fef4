"""Matches paths against the globs of ``.gitignore``, in time that is linear in the path whatever the globs are.

The semantics are git's (dir.c and wildmatch.c), on bytes. All globs of a list become one automaton that has a state for
each byte that a glob has matched so far. The set of its current states is an integer, so that one byte of a path costs
a few operations. A walk keeps this set for each folder; a file then costs only the bytes of its own name.
"""

import os
import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from operator import xor

SLASH = ord("/")
SPECIAL = re.compile(rb"[*?\[\\]")


class Globs:
    """A list of globs, for a walk down from the folder to which they are relative. The last one that fits decides.

    ``start`` is the state in that folder. ``enter`` returns the state in a folder below, and ``verdict`` judges a name.
    As in git, a glob matches the path itself, never the paths below it.

    ``size_bytes``: of all lines; the time to judge a name and the memory grow with it.
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        lines = list(lines)
        self.size_bytes = sum(len(line) + 1 for line in lines)
        self._plain: tuple[dict[bytes, _Hit], dict[bytes, _Hit]] = ({}, {})  # for files, for folders; by the whole name
        self._hits: dict[int, _Hit] = {}  # by the final state
        builder = _Builder()
        for number, line in enumerate(lines):
            rule = _parse_rule(line)
            if rule is None:
                continue
            hit = _Hit(number, not rule.is_negated)
            if rule.plain_name is not None:
                for names in self._plain[1 if rule.only_folders else 0 :]:
                    names[rule.plain_name] = hit
            else:
                self._hits[builder.add(rule)] = hit
        self._has_states = builder.size > 0
        self._masks = builder.masks()
        self._anything, self._optional = _to_bits(builder.anything), _to_bits(builder.optional)
        self._loops = _to_bits(builder.stars) | self._anything
        self._names = _to_bits(builder.starts_of_names)
        self._accepted = (_to_bits(builder.ends_for_files), _to_bits(builder.ends))
        paths = _to_bits(builder.starts_of_paths)
        self.start = paths | (paths & self._optional) << 1 | self._names

    def enter(self, state: int, name: str) -> int:
        """The state in the folder ``name`` of a folder whose state is ``state``."""
        if not self._has_states:
            return 0
        state = self._read(state, os.fsencode(name))
        shifted = state << 1 & self._masks[SLASH]
        return shifted | (shifted & self._optional) << 1 | state & self._anything | self._names

    def verdict(self, state: int, name: str, *, is_folder: bool) -> bool | None:
        """Whether a name, in a folder whose state is ``state``, is matched. None if no glob fits."""
        if not self.size_bytes:
            return None
        data = os.fsencode(name)
        plain = self._plain[is_folder].get(data)
        if self._has_states and (ends := self._read(state, data) & self._accepted[is_folder]):
            hit = self._hits[ends.bit_length() - 1]
            if plain is None or hit.number > plain.number:
                return hit.is_match
        return plain.is_match if plain is not None else None

    def _read(self, state: int, name: bytes) -> int:
        masks, loops, optional = self._masks, self._loops, self._optional
        for byte in name:
            shifted = state << 1 & masks[byte]
            if optional:
                shifted |= (shifted & optional) << 1
            state = shifted | state & loops
            if not state:
                break
        return state


def is_glob(line: str) -> bool:
    """Whether a line of a ``.gitignore`` is a glob that can match something."""
    return _parse_rule(os.fsencode(line)) is not None


def split_lines(text: bytes) -> list[bytes]:
    """The lines of a ``.gitignore``, as git splits them."""
    return [line.removesuffix(b"\r") for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n")]


@dataclass(frozen=True, slots=True)
class _Hit:
    """``number``: of the line; of two that fit, the greater decides."""

    number: int
    is_match: bool


# A part of a glob: bytes, a set of bytes as the bits of an integer, or one of these.
_STAR, _ANYTHING, _FOLDERS = "any bytes but a slash", "any bytes", "nothing, or any folders and a slash"
_ONE = ((1 << 256) - 1) ^ (1 << SLASH)  # any byte but a slash
_Part = bytes | int | str


@dataclass(frozen=True, slots=True)
class _Rule:
    parts: tuple[_Part, ...]
    plain_name: bytes | None  # if the glob is one name, without wildcards
    is_path: bool  # to be matched with the path, not with the name
    is_negated: bool
    only_folders: bool


class _Builder:
    """Numbers the states of all rules. A state means that the parts before it have matched. A byte leads to the next
    state, and some states loop: those in ``stars`` on all bytes but a slash, those in ``anything`` on all. A state in
    ``optional`` implies the next one."""

    def __init__(self) -> None:
        self.size = 0
        self.stars = array("I")
        self.anything = array("I")
        self.optional = array("I")
        self.starts_of_names = array("I")
        self.starts_of_paths = array("I")
        self.ends = array("I")
        self.ends_for_files = array("I")
        # for each byte, the states that either it or the byte before it leads to, but not both
        self._changes = [array("I") for _ in range(257)]

    def add(self, rule: _Rule) -> int:
        """Add a rule and return its final state. A later rule has greater states."""
        state = self.size
        (self.starts_of_paths if rule.is_path else self.starts_of_names).append(state)
        changes = self._changes
        for part in rule.parts:
            if isinstance(part, bytes):
                for byte in part:
                    state += 1
                    changes[byte].append(state)
                    changes[byte + 1].append(state)
            elif isinstance(part, int):
                state += 1
                edges = part ^ part << 1
                while edges:
                    lowest = edges & -edges
                    changes[lowest.bit_length() - 1].append(state)
                    edges ^= lowest
            elif part == _STAR:
                self.stars.append(state)
            else:
                self.anything.append(state)
                if part == _FOLDERS:
                    self.optional.append(state)
                    state += 1
                    changes[SLASH].append(state)
                    changes[SLASH + 1].append(state)
        self.ends.append(state)
        if not rule.only_folders:
            self.ends_for_files.append(state)
        self.size = state + 1
        return state

    def masks(self) -> list[int]:
        """For each byte, the states that it leads to."""
        return list(accumulate((_to_bits(states) for states in self._changes[:256]), xor))


def _to_bits(states: "array[int]") -> int:
    bits = bytearray(max(states, default=-1) // 8 + 1)
    for state in states:
        bits[state >> 3] |= 1 << (state & 7)
    return int.from_bytes(bits, "little")


def _parse_rule(line: bytes) -> _Rule | None:
    """Parse one line. None for a comment and for a glob that matches nothing, because it is empty or invalid."""
    line = line.partition(b"\0")[0]
    if line.startswith(b"#"):
        return None
    glob = _trim(line)
    is_negated = glob.startswith(b"!")
    glob = glob.removeprefix(b"!")
    only_folders = glob.endswith(b"/")
    glob = glob.removesuffix(b"/")
    is_path = b"/" in glob
    glob = glob.removeprefix(b"/")
    if not glob:
        return None
    if not is_path and SPECIAL.search(glob) is None:
        return _Rule((), glob, is_path, is_negated, only_folders)
    parts = _parse_parts(glob, is_path=is_path)
    return _Rule(tuple(parts), None, is_path, is_negated, only_folders) if parts is not None else None


def _trim(line: bytes) -> bytes:
    """The line without the spaces at its end, unless a backslash protects them."""
    if not line.endswith(b" "):
        return line
    end = place = 0
    while place < len(line):
        if line[place : place + 1] == b"\\":
            place += 1
            end = place + 1
        elif line[place : place + 1] != b" ":
            end = place + 1
        place += 1
    return line[:end]


def _parse_parts(glob: bytes, *, is_path: bool) -> list[_Part] | None:
    """The parts of a glob without its first and its last slash; None if it is invalid."""
    parts: list[_Part] = []
    special = SPECIAL.search(glob)
    # git compares what comes before the first wildcard on its own, and treats the rest as a glob that begins there
    first = special.start() if special is not None else len(glob)
    place = 0
    while place < len(glob):
        end = found.start() if (found := SPECIAL.search(glob, place)) is not None else len(glob)
        if end > place:
            parts.append(glob[place:end])
            place = end
            continue
        char = glob[place]
        if char == ord("*"):
            start = place
            while glob[place : place + 1] == b"*":
                place += 1
            is_whole = is_path and place - start > 1 and (start == first or glob[start - 1] == SLASH)
            if is_whole and place == len(glob):
                parts.append(_ANYTHING)
            elif is_whole and glob[place] == SLASH:
                if parts[-1:] != [_FOLDERS]:
                    parts.append(_FOLDERS)
                place += 1
            else:
                parts.append(_ANYTHING if is_whole and glob[place : place + 2] == b"\\/" else _STAR)
        elif char == ord("?"):
            parts.append(_ONE)
            place += 1
        elif char == ord("["):
            brackets = _parse_brackets(glob, place)
            if brackets is None:
                return None
            chars, place = brackets
            parts.append(chars)
        elif place + 1 == len(glob):  # a backslash before nothing
            return None
        else:
            parts.append(glob[place + 1 : place + 2])
            place += 2
    return parts


_CLASSES = {
    name: sum(1 << number for number in range(128) if re.fullmatch(pattern, chr(number)))
    for name, pattern in {
        b"alnum": "[0-9A-Za-z]",
        b"alpha": "[A-Za-z]",
        b"blank": "[ \t]",
        b"cntrl": "[\0-\x1f\x7f]",
        b"digit": "[0-9]",
        b"graph": "[!-~]",
        b"lower": "[a-z]",
        b"print": "[ -~]",
        b"punct": "[!-/:-@\\[-`{-~]",
        b"space": "[ \t\n\v\f\r]",
        b"upper": "[A-Z]",
        b"xdigit": "[0-9A-Fa-f]",
    }.items()
}


def _parse_brackets(glob: bytes, place: int) -> tuple[int, int] | None:
    """The bytes that brackets match, and the place after the closing one. None if they are invalid."""

    def at(place: int) -> int:
        return glob[place] if place < len(glob) else 0

    place += 1
    is_negated = at(place) in b"!^"
    place += is_negated
    chars = before = 0
    while True:
        char = at(place)
        if not char:
            return None
        if char == ord("\\"):
            place += 1
            char = at(place)
            if not char:
                return None
            chars |= 1 << char
        elif char == ord("-") and before and at(place + 1) not in (0, ord("]")):
            place += 1
            char = at(place)
            if char == ord("\\"):
                place += 1
                char = at(place)
                if not char:
                    return None
            if char >= before:
                chars |= (1 << char + 1) - (1 << before)
            char = 0
        elif char == ord("[") and at(place + 1) == ord(":"):
            end = glob.find(b"]", place + 2)
            if end < 0:
                return None
            if end == place + 2 or at(end - 1) != ord(":"):  # not a class: a bracket like other characters
                chars |= 1 << char
            else:
                named = _CLASSES.get(glob[place + 2 : end - 1])
                if named is None:
                    return None
                chars |= named
                place, char = end, 0
        else:
            chars |= 1 << char
        before = char
        place += 1
        if at(place) == ord("]"):
            return _ONE & (~chars if is_negated else chars), place + 1
