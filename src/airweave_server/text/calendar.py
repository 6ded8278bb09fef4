"""Formats calendars (iCalendar, RFC 5545; vCalendar) and contacts (vCard, RFC 6350) for people."""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_FOLDED_CHARS = 65_536  # of a line in quoted-printable that goes on

START = re.compile(r"\s*+BEGIN:(?:VCALENDAR|VCARD)[ \t]*+(?:\n|\Z)", re.I)
_UNFOLD = re.compile(r"\r?\n[ \t]")
_LINE = re.compile(r"([A-Za-z0-9.-]{1,100})((?:;[^:\";]*+(?:\"[^\"\n]*+\"[^:\";]*+)*+)*+):(.*)", re.S)
_PARAM = re.compile(r";([A-Za-z0-9-]{1,60})(?:=((?:\"[^\"]*+\"|[^;\"]++)*+))?")
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)?(Z)?)?\Z")
_ESCAPED = re.compile(r"\\(.)", re.S)
_TAG = re.compile(r"\w+")

_KINDS = {"vevent": "Event", "vtodo": "Task", "vjournal": "Journal", "vfreebusy": "Free and busy", "vcard": "Contact"}
_IGNORED_PARTS = frozenset({"vtimezone", "standard", "daylight", "valarm"})
# What people read of a component, in the order in which it stands; other properties are for programs.
_NAMES = {
    "dtstart": "Start",
    "dtend": "End",
    "due": "Due",
    "duration": "Duration",
    "completed": "Completed",
    "rrule": "Repeats",
    "rdate": "Also on",
    "exdate": "Except on",
    "recurrence-id": "Instead of",
    "location": "Where",
    "organizer": "Organizer",
    "attendee": "Attendee",
    "contact": "Contact",
    "status": "Status",
    "categories": "Categories",
    "resources": "Resources",
    "url": "Link",
    "attach": "Attached",
    "comment": "Comment",
    "freebusy": "Busy",
    "conference": "Conference",
    "x-wr-calname": "Calendar",
    "x-wr-caldesc": "About",
    "x-microsoft-skypeteamsmeetingurl": "Link",
    "x-google-conference": "Link",
    "nickname": "Nickname",
    "org": "Organization",
    "title": "Title",
    "role": "Role",
    "email": "E-mail",
    "tel": "Phone",
    "adr": "Address",
    "label": "Address",
    "bday": "Birthday",
    "anniversary": "Anniversary",
    "note": "Note",
    "impp": "Messenger",
    "related": "Related",
    "member": "Member",
    "lang": "Language",
    "gender": "Gender",
    "hobby": "Hobby",
    "interest": "Interest",
    "expertise": "Expertise",
    "x-spouse": "Spouse",
    "x-manager": "Manager",
    "x-assistant": "Assistant",
    "x-skype": "Messenger",
    "x-socialprofile": "Profile",
    "x-abdate": "Date",
    "x-department": "Department",
}
_TITLES = ("summary", "fn", "n")


@dataclass(frozen=True, slots=True)
class _Property:
    name: str
    params: dict[str, str]
    value: str


def to_text(text: str, *, without: str = "") -> str:
    """The components, each with its title as a heading. ``without``: a description that this says already is left
    out."""
    known = " ".join(_TAG.findall(without))
    blocks: list[str] = []
    open_parts: list[str] = []
    held: list[_Property] = []
    for line in _lines(text):
        found = _LINE.match(line)
        if found is None:
            continue
        name, value = found[1].lower().rpartition(".")[2], found[3]  # item1.EMAIL belongs to a group
        if name == "begin":
            inner = value.strip().lower()
            if inner in _KINDS and held and len(open_parts) <= 1:
                blocks.append(_describe("", held, known))  # of the calendar itself
                held = []
            open_parts.append(inner)
        elif name == "end":
            inner = value.strip().lower()
            if open_parts:
                open_parts.pop()
            if inner not in _IGNORED_PARTS:
                blocks.append(_describe(_KINDS.get(inner, ""), held, known))
                held = []
        elif not _IGNORED_PARTS.intersection(open_parts[-1:]):
            params = {one[1].lower(): (one[2] or "").strip('"') for one in _PARAM.finditer(found[2])}
            held.append(_Property(name, params, value))
    blocks.append(_describe("", held, known))
    return "\n\n".join(filter(None, blocks))


def _lines(text: str) -> Iterator[str]:
    """The lines, unfolded; in quoted-printable (vCard 2.1) a line goes on after "="."""
    held = ""
    for line in _UNFOLD.sub("", text).splitlines():
        if held:
            line, held = held + "\n" + line, ""
        head = line.partition(":")[0].upper()
        if line.endswith("=") and "QUOTED-PRINTABLE" in head and len(line) < MAX_FOLDED_CHARS:
            held = line
            continue
        yield line
    if held:
        yield held


def _describe(kind: str, properties: list[_Property], known: str) -> str:
    titles: dict[str, str] = {}
    lines: list[str] = []
    description: list[str] = []
    for one in properties:
        if one.name not in _NAMES and one.name not in _TITLES and one.name != "description":
            continue
        if one.name == "attach" and not one.value.lower().startswith(("http", "cid")):
            continue  # a file within, encoded
        if "encoding" in one.params and one.params["encoding"].upper() in ("B", "BASE64"):
            continue
        said = _value(one)
        if not said:
            continue
        if one.name in _TITLES:
            titles.setdefault(one.name, said)
        elif one.name == "description":
            if known and " ".join(_TAG.findall(said)) in known:
                continue
            description.append(said)
        else:
            lines.append(f"{_NAMES[one.name]}: {said}")
    title = next((titles[name] for name in _TITLES if name in titles), "")
    if not (title or lines or description):
        return ""
    head = [f"# {kind}: {title}" if kind and title else f"# {title or kind}"] if kind or title else []
    blocks = ["\n".join(head), "\n".join(dict.fromkeys(lines)), *description]
    return "\n\n".join(filter(None, blocks))


def _value(one: _Property) -> str:
    value = one.value
    if "QUOTED-PRINTABLE" in one.params.get("encoding", "").upper() or "quoted-printable" in one.params:
        raw = binascii.a2b_qp(value.encode("utf-8", "replace"))
        try:
            value = raw.decode(one.params.get("charset") or "utf-8")
        except (LookupError, ValueError):
            value = raw.decode("cp1252", "replace")
    if one.name in ("organizer", "attendee"):
        address = re.sub(r"(?i)^mailto:", "", value.strip())
        name = one.params.get("cn", "").strip()
        name = f"{name} <{address}>" if name and name != address and address else name or address
        return " ".join(name.split())
    if one.name in ("dtstart", "dtend", "due", "completed", "recurrence-id", "rdate", "exdate"):
        zone = one.params.get("tzid", "")
        said = ", ".join(_date(part) for part in value.split(","))
        return f"{said} {zone}".strip()
    if one.name in ("n", "adr", "org"):
        parts = [_unescape(part).strip() for part in re.split(r"(?<!\\);", value)]
        if one.name == "n" and len(parts) > 1:
            parts = [*parts[3:4], *parts[1:3], parts[0], *parts[4:]]
        return (" " if one.name == "n" else ", ").join(" ".join(part.split()) for part in parts if part)
    if one.name in ("tel", "email", "impp"):
        return re.sub(r"(?i)^(?:tel|mailto|xmpp|sip):", "", _unescape(value).strip())
    said = _unescape(value).strip()
    return said if one.name in ("description", "note", "comment") else " ".join(said.split())


def _date(value: str) -> str:
    """20260702T100000Z as 2026-07-02 10:00 UTC; anything else as it is."""
    found = _DATE.match(value.strip())
    if found is None:
        return value.strip()
    day = f"{found[1]}-{found[2]}-{found[3]}"
    return f"{day} {found[4]}:{found[5]}{' UTC' if found[7] else ''}" if found[4] else day


def _unescape(value: str) -> str:
    if "\\" not in value:
        return value
    return _ESCAPED.sub(lambda found: "\n" if found[1] in "nN" else found[1], value)
