"""Patches as they travel: one file's bytes to the messages and diffs in it.

What counts as a message, where its diff begins and who wrote it follows what
`git am` does (builtin/mailsplit.c and mailinfo.c in git), because that is what
a maintainer will run on the same file. Pure: bytes in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser
from email.utils import mktime_tz, parsedate_tz

# The line before each message of an mbox. That it ends with a time and a year
# tells it from prose that begins with "From " (mailsplit.c, is_from_line).
_FROM_LINE = re.compile(rb"^From [^\n]*\d:\d\d:\d\d [^\n]*\b\d{4}\b[^\n]*\n", re.MULTILINE)
_HEADER = re.compile(rb"(?:From|Subject|Date|Message-I[Dd]):", re.IGNORECASE)
_HEADER_LINE = re.compile(rb"[\x21-\x39\x3b-\x7e]+:|[ \t]")
_BREAK = re.compile(rb"^(?:---[ \t]*$|diff -|Index: |--- \S)", re.MULTILINE)
_DIFF = re.compile(rb"^diff --git |^--- [^\n]+\n\+\+\+ ", re.MULTILINE)
_IN_BODY = re.compile(r"^(From|Subject|Date): *(.*)$", re.IGNORECASE)
_REPLY = re.compile(r"^\s*(?:re|aw|sv|fwd?):", re.IGNORECASE)
_TAG = re.compile(r"^\s*\[([^\]\n]*)\]")
_NUMBER = re.compile(r"^(\d+)/(\d+)$")
_VERSION = re.compile(r"^(?:patch)?v(\d+)(?:\.\d+)?$", re.IGNORECASE)
_DIFF_PART = re.compile(r"^(?:text/|application/(?:octet-stream|x-patch|x-diff)$)")


@dataclass(frozen=True)
class Tag:
    """What stands in brackets before a subject. Without a number it is 1 of 1."""

    number: int = 1
    total: int = 1
    version: int = 1
    numbered: bool = False


@dataclass(frozen=True)
class Letter:
    """One message, or a bare diff, which has no subject and no author.

    `diff` is empty of a cover letter and of a discussion; `date` is as git
    dates a commit, `1700000000 +0100`, and empty where none can be read.
    """

    subject: str
    tag: Tag
    author: str
    message_id: str
    references: frozenset[str]
    in_reply_to: str
    description: str
    diff: bytes
    is_reply: bool = False
    date: str = ""


def read_letters(content: bytes) -> list[Letter]:
    """Return what a file holds: the messages of an mbox, one message, or a bare diff."""
    starts = list(_FROM_LINE.finditer(content))
    if starts and not content[: starts[0].start()].strip():
        ends = [match.start() for match in starts[1:]] + [len(content)]
        raw = (content[match.end() : end] for match, end in zip(starts, ends, strict=True))
        return [_letter(each) for each in raw if each.strip()]
    if _is_message(content):
        return [_letter(content.lstrip(b"\n"))]
    description, diff = _split(content)
    return [Letter("", Tag(), "", "", frozenset(), "", _text(description), diff)]


def _is_message(content: bytes) -> bool:
    """Tell whether the first paragraph is a header that a mail would have."""
    lines = content.lstrip(b"\n").partition(b"\n\n")[0].replace(b"\r", b"").split(b"\n")
    whole = all(_HEADER_LINE.match(line) for line in lines[: _blank(lines)])
    return whole and any(_HEADER.match(line) for line in lines)


def _blank(lines: list[bytes]) -> int:
    return lines.index(b"") if b"" in lines else len(lines)


def _letter(raw: bytes) -> Letter:
    if raw.partition(b"\n")[0].endswith(b"\r"):  # the line ends of the transport, not the files'
        raw = raw.replace(b"\r\n", b"\n")
    header = BytesHeaderParser().parsebytes(raw.partition(b"\n\n")[0] + b"\n\n")
    description, diff = _split(_body(raw, header))
    text, own = _in_body_headers(_text(description, header.get_content_charset()))
    subject = own.get("subject") or _decoded(header.get("Subject"))
    bare, tag = parse_subject(subject)
    reply_to = _ids(_decoded(header.get("In-Reply-To")))
    references = _ids(_decoded(header.get("References")))
    ids = _ids(_decoded(header.get("Message-ID")))
    return Letter(
        subject=bare,
        tag=tag,
        author=own.get("from") or _decoded(header.get("From")),
        message_id=ids[0] if ids else "",
        references=frozenset(references + reply_to),
        in_reply_to=reply_to[-1] if reply_to else "",
        description=text.strip(),
        diff=diff,
        is_reply=_REPLY.match(subject) is not None,
        date=_raw_date(own.get("date") or _decoded(header.get("Date"))),
    )


def _body(raw: bytes, header: Message) -> bytes:
    """Return the text of a message, and of a diff attached to it, transfer encoding undone.

    The bytes are left in the charset that they came in: a diff's are those of
    the files that it changes.
    """
    encoding = str(header.get("Content-Transfer-Encoding", "")).strip().lower()
    multipart = header.get_content_maintype() == "multipart"
    if not multipart and encoding not in {"base64", "quoted-printable"}:
        return raw.partition(b"\n\n")[2]
    return b"\n".join(_parts(BytesParser().parsebytes(raw)))


def _parts(message: Message) -> Iterator[bytes]:
    for part in message.walk():
        kind = part.get_content_type()
        if not part.is_multipart() and kind != "text/html" and _DIFF_PART.match(kind):
            payload = part.get_payload(decode=True)
            if isinstance(payload, bytes):
                yield _unix(payload)


def _unix(text: bytes) -> bytes:
    """Return a text without the line ends of mail; those of a file that a diff shows are not all.

    A text that was encoded has them where its sender's program put them.
    """
    return text.replace(b"\r\n", b"\n") if text.count(b"\n") == text.count(b"\r\n") else text


def _split(body: bytes) -> tuple[bytes, bytes]:
    """Return what is said of a diff, and the diff; the latter empty where there is none."""
    found = _BREAK.search(body)
    if found is None or _DIFF.search(body, found.start()) is None:
        return body, b""
    return body[: found.start()], body[found.start() :]


def _in_body_headers(text: str) -> tuple[str, dict[str, str]]:
    """Return a description without the headers at its beginning, and those.

    They say who wrote a patch that somebody else sent.
    """
    own: dict[str, str] = {}
    lines = text.lstrip("\n").split("\n")
    while lines and (match := _IN_BODY.match(lines[0])):
        own[match[1].lower()] = match[2].strip()
        lines.pop(0)
    return "\n".join(lines), own


def parse_subject(subject: str) -> tuple[str, Tag]:
    """Return a subject without what goes before it, and what that says.

    `Re:`, `[PATCH net-next v3 02/13]`, `[RFC][PATCH 1/2]`, `[net-next,v3,2/5]`.
    """
    rest, number, total, version, numbered = _REPLY.sub("", subject).strip(), 1, 1, 1, False
    while match := _TAG.match(rest):
        for word in re.split(r"[\s,]+", match[1]):
            if found := _NUMBER.match(word):
                number, total, numbered = int(found[1]), int(found[2]), True
            elif found := _VERSION.match(word):
                version = int(found[1])
        rest = rest[match.end() :].lstrip()
    return " ".join(rest.split()), Tag(number, total, version, numbered)


def _decoded(value: object) -> str:
    """Return a header as text: folded lines joined, encoded words (RFC 2047) undone."""
    text = " ".join(str(value or "").split())
    try:
        return str(make_header(decode_header(text)))
    except (LookupError, ValueError):  # a charset that nobody knows, or a torn word
        return text


def _raw_date(text: str) -> str:
    """Return a mail's date as seconds since 1970 and the offset from UTC."""
    parsed = parsedate_tz(text)
    if parsed is None:
        return ""
    offset = parsed[9] or 0
    try:
        seconds = mktime_tz(parsed)
    except (ValueError, OverflowError):
        return ""
    sign, minutes = "-" if offset < 0 else "+", abs(offset) // 60
    return f"{max(seconds, 0)} {sign}{minutes // 60:02}{minutes % 60:02}"


def _ids(text: str) -> list[str]:
    return re.findall(r"<([^<>\s]+)>", text)


def _text(data: bytes, charset: str | None = None) -> str:
    try:
        return data.decode(charset or "utf-8")
    except (LookupError, UnicodeDecodeError):
        return data.decode("utf-8", errors="replace")
