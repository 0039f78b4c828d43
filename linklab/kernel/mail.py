"""Patches as they travel: the mails and diffs in a file, an mbox, a folder, a maildir.

What counts as a mail, where its diff begins and who wrote it follows what
`git am` does (builtin/mailsplit.c and mailinfo.c in git), because that is what
a maintainer will run on the same file. The mails of each come in the order in
which `git am` would take them.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser
from email.utils import mktime_tz, parsedate_tz
from pathlib import Path

from linklab.errors import UsageError

QUILT = "series"
"""The file by which quilt, and Debian's `debian/patches`, order a folder."""

_SUFFIXES = frozenset((".patch", ".diff", ".eml", ".mbox", ".mbx"))
_GZIP = b"\x1f\x8b"

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
class Mail:
    """One mail, or a bare diff, which has no subject and no author.

    `diff` is empty of a cover letter and of a discussion; `date` is as git
    dates a commit, `1700000000 +0100`, and empty where none can be read.
    `path` is the file that it was in.
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
    path: Path = Path()


def read_mails(content: bytes) -> list[Mail]:
    """Return what a file holds: the mails of an mbox, one mail, or a bare diff."""
    starts = list(_FROM_LINE.finditer(content))
    if starts and not content[: starts[0].start()].strip():
        ends = [match.start() for match in starts[1:]] + [len(content)]
        raw = (content[match.end() : end] for match, end in zip(starts, ends, strict=True))
        return [_mail(each) for each in raw if each.strip()]
    if _is_message(content):
        return [_mail(content.lstrip(b"\n"))]
    description, diff = _split(content)
    return [Mail("", Tag(), "", "", frozenset(), "", _text(description), diff)]


def _is_message(content: bytes) -> bool:
    """Tell whether the first paragraph is a header that a mail would have."""
    lines = content.lstrip(b"\n").partition(b"\n\n")[0].replace(b"\r", b"").split(b"\n")
    header = lines[: lines.index(b"")] if b"" in lines else lines
    return all(map(_HEADER_LINE.match, header)) and any(map(_HEADER.match, lines))


def _mail(raw: bytes) -> Mail:
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
    return Mail(
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


@dataclass(frozen=True)
class Collection:
    """What one path holds. `ordered` says that somebody wrote the order down."""

    path: Path
    mails: tuple[Mail, ...]
    files: tuple[Path, ...]
    ordered: bool = False


def collect(path: Path) -> Collection:
    """Return what a file, an mbox, a folder, a quilt folder or a maildir holds.

    Raises `UsageError` for one that cannot be read, and for a folder without
    patches.
    """
    path = path.expanduser()
    if not path.is_dir():
        return Collection(path, _mails_in([path]), (path,))
    order = path / QUILT
    if order.is_file():
        lines = _content(order).decode(errors="replace").splitlines()
        words = [line.partition("#")[0].split() for line in lines]
        files = [path / each[0] for each in words if each]
        return Collection(path, _mails_in(files), (order, *files), ordered=True)
    if (path / "cur").is_dir() and (path / "new").is_dir():
        files = [file for part in ("cur", "new") for file in (path / part).iterdir()]
    else:
        files = [file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file()]
        if not files:
            wanted = ", ".join(f"*{suffix}" for suffix in sorted(_SUFFIXES))
            raise UsageError(
                f"folder {path} holds no patches: expected {wanted}, a maildir, or quilt's "
                f"`{QUILT}`"
            )
    files.sort(key=lambda file: _natural(file.name))
    return Collection(path, _mails_in(files), tuple(files))


def _mails_in(files: Sequence[Path]) -> tuple[Mail, ...]:
    found = ((mail, file) for file in files for mail in read_mails(_content(file)))
    return tuple(replace(mail, path=file) for mail, file in found)


def _content(path: Path) -> bytes:
    """Return a file's bytes, unpacked: lore.kernel.org gives threads as `t.mbox.gz`."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP) else content
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"patch {path} cannot be read: {reason}") from error


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Order names as a person does: 2.patch before 10.patch."""
    words = re.split(r"(\d+)", name)
    return [(0, int(word)) if word.isdigit() else (1, word) for word in words]
