"""Patches as they travel: the mails and diffs in a file, an mbox, a folder, a maildir.

What counts as a mail, where its diff begins and who wrote it follows what
`git am` does (builtin/mailsplit.c and mailinfo.c in git), because that is what
a maintainer will run on the same file. The mails of each come in the order in
which `git am` would take them.
"""

from __future__ import annotations

import binascii
import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser
from email.utils import mktime_tz, parsedate_tz
from itertools import takewhile
from pathlib import Path
from quopri import decodestring

from linklab.errors import UsageError
from linklab.kernel.diff import DiffError, parse_diff

QUILT = "series"
"""The file by which quilt, and Debian's `debian/patches`, order a folder."""

_SUFFIXES = frozenset((".patch", ".diff", ".eml", ".mbox", ".mbx"))
_GZIP = b"\x1f\x8b"

# The line before each message of an mbox. That it ends with a time and a year
# tells it from prose that begins with "From " (mailsplit.c, is_from_line).
_FROM_LINE = re.compile(rb"^From ([^\n]*)\d:\d\d:\d\d [^\n]*\b\d{4}\b[^\n]*\n", re.MULTILINE)
_COMMIT = re.compile(rb"([0-9a-f]{40,64}) Mon Sep 17 0")  # there, by git-format-patch
_HEADER = re.compile(rb"(?:From|Subject|Date|Message-I[Dd]):", re.IGNORECASE)
_HEADER_LINE = re.compile(rb"[\x21-\x39\x3b-\x7e]+:|[ \t]+\S|>?From ")
_BREAK = re.compile(rb"^(?:---[ \t\r]*$|diff -|Index: |--- \S)", re.MULTILINE)
# Diffs of all kinds: one that cannot be applied is to be refused, not taken for text.
_DIFF = re.compile(
    rb"^diff --(?:git|cc|combined) |^--- [^\n]+\n\+\+\+ |^\*{15}\r?\n\*\*\* \d"
    rb"|^(?:diff |Index: )[^\n]*\n(?:=+\r?\n)?\d+(?:,\d+)?[acd]\d",
    re.MULTILINE,
)
_IN_BODY = re.compile(r"^(From|Subject|Date): *(.*)$", re.IGNORECASE)
_SUBJECT_ALONE = re.compile(r"^()(\[PATCH\]\s.*)$")  # mailinfo.c takes it for a `Subject:`
_COMMIT_LINE = re.compile(r"^>?From [0-9a-f]{40,64} .*\d{4}$")  # of a patch that was pasted whole
_WORD = re.compile(r"=\?([^?\s]+)\?([bq])\?(.*?)\?=", re.IGNORECASE)  # RFC 2047
_REPLY = re.compile(r"^\s*(?:re|aw|sv|fwd?):", re.IGNORECASE)
_BEFORE_SUBJECT = re.compile(r"^(?:re:|[\s:])+", re.IGNORECASE)  # mailinfo.c, cleanup_subject
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
    `commit` is what `git format-patch` made it of. `path` is the file that it was
    in; `strip` and `is_reversed` are -p and -R of patch(1), as quilt has them
    behind a name.
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
    commit: str = ""
    path: Path = Path()
    strip: int = 1
    is_reversed: bool = False

    @property
    def is_cover(self) -> bool:
        """Whether it is a cover letter, `0/3`, whose text may well hold a diff."""
        return self.tag.numbered and not self.tag.number and not self.is_reply


def read_mails(content: bytes) -> list[Mail]:
    """Return what a file holds: the mails of an mbox, one mail, or a bare diff."""
    starts = list(_FROM_LINE.finditer(content))
    if starts and not content[: starts[0].start()].strip():
        ends = [match.start() for match in starts[1:]] + [len(content)]
        found = []
        for begin, end in zip(starts, ends, strict=True):
            if (raw := content[begin.end() : end]).strip():
                commit = _COMMIT.match(begin[1])
                found.append(replace(_mail(raw), commit=commit[1].decode() if commit else ""))
        return found
    if _is_message(content):
        return [_mail(content.lstrip(b"\n"))]
    description, diff = _split(content)
    return [Mail("", Tag(), "", "", frozenset(), "", _text(description), diff)]


def _is_message(content: bytes) -> bool:
    """Tell whether it begins with a header that a mail would have."""
    return any(map(_HEADER.match, _header_lines(content.lstrip(b"\n"))))


def _header_lines(content: bytes) -> list[bytes]:
    """Return the lines of a header, which ends where a line is none, blank or not."""
    lines = io.BytesIO(content)
    return list(takewhile(_HEADER_LINE.match, lines))


def _mail(raw: bytes) -> Mail:
    if raw.partition(b"\n")[0].endswith(b"\r"):  # the line ends of the transport, not the files'
        raw = raw.replace(b"\r\n", b"\n")
    lines = _header_lines(raw)
    body = raw[sum(map(len, lines)) :].removeprefix(b"\n")
    head = b"".join(line for line in lines if not line.startswith((b"From ", b">From ")))
    header = BytesHeaderParser().parsebytes(head + b"\n")
    fields: dict[str, str] = {}
    for name, value in header.raw_items():  # the bytes as they are, whatever their charset
        fields.setdefault(name.lower(), _decoded(value))
    parts = list(_parts(header, head + b"\n", body))
    description, diff = _split(b"".join(data for data, _ in parts))
    text, own = _in_body_headers(_described(parts, len(description)))
    subject = own.get("subject") or fields.get("subject", "")
    bare, tag = parse_subject(subject)
    reply_to = _ids(fields.get("in-reply-to", ""))
    references = _ids(fields.get("references", ""))
    ids = _ids(fields.get("message-id", ""))
    return Mail(
        subject=bare,
        tag=tag,
        author=own.get("from") or fields.get("from", ""),
        message_id=ids[0] if ids else "",
        references=frozenset(references + reply_to),
        in_reply_to=next(iter((reply_to or references)[-1:]), ""),
        description=text.strip(),
        diff=diff,
        is_reply=_REPLY.match(subject) is not None,
        date=_raw_date(own.get("date") or fields.get("date", "")),
    )


def _parts(header: Message, head: bytes, body: bytes) -> Iterator[tuple[bytes, str | None]]:
    """Yield the texts of a message and of what is attached to it, and the charset of each.

    The transfer encoding is undone. The bytes are left in the charset that they
    came in: a diff's are those of the files that it changes.
    """
    encoding = str(header.get("Content-Transfer-Encoding", "")).strip().lower()
    is_multipart = header.get_content_maintype() == "multipart"
    if not is_multipart and encoding not in {"base64", "quoted-printable"}:
        yield _unflowed(body, header), _charset(header)
        return
    for part in BytesParser().parsebytes(head + body).walk():
        kind = part.get_content_type()
        if not part.is_multipart() and kind != "text/html" and _DIFF_PART.match(kind):
            payload = part.get_payload(decode=True)
            if isinstance(payload, bytes):
                # A part's last line end is the boundary's; without it, a blank line would be lost.
                end = b"\n" if is_multipart else b""
                yield _unflowed(_unix(payload + end), part), _charset(part)


def _charset(message: Message) -> str | None:
    try:
        return message.get_content_charset()
    except (LookupError, ValueError):
        return None


def _described(parts: Sequence[tuple[bytes, str | None]], size: int) -> str:
    """Return the first `size` bytes of some parts as text, each in its own charset."""
    said = []
    for data, charset in parts:
        said.append(_text(data[:size], charset))
        size = max(size - len(data), 0)
    return "".join(said)


def _unflowed(text: bytes, message: Message) -> bytes:
    """Return a text without the blanks and line breaks of format=flowed (RFC 3676), if it has them.

    A mailer that claims it may not have done it: then a line begins with one
    blank, or the diff is whole only as it came.
    """
    if str(message.get_param("format", "")).lower() != "flowed":
        return text
    lines = text.split(b"\n")
    begun = [line for line in lines if line.startswith(b" ") and line.strip()]
    if not all(line.startswith((b"  ", b" >", b" From ")) for line in begun):
        return text
    lines = [line.removeprefix(b" ") for line in lines]
    soft = -1 if str(message.get_param("delsp", "")).lower() == "yes" else None
    joined: list[bytes] = [b""]
    for line in lines:
        is_soft = line.endswith(b" ") and line.strip() and line != b"-- "
        joined[-1] += line[:soft] if is_soft else line
        if not is_soft:
            joined.append(b"")
    tries = (b"\n".join(joined[:-1]), b"\n".join(lines), text)
    return next((each for each in tries if _is_whole(each)), tries[0])


def _is_whole(text: bytes) -> bool:
    try:
        parse_diff(_split(text)[1])
    except DiffError:
        return False
    return True


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

    They say who wrote a patch that somebody else sent. Each counts once, and a
    line that begins with a blank goes on with it.
    """
    own: dict[str, str] = {}
    lines = text.lstrip("\n").split("\n")
    lines = lines[bool(_COMMIT_LINE.match(lines[0])) :]
    name = ""
    while lines:
        match = _IN_BODY.match(lines[0]) or _SUBJECT_ALONE.match(lines[0])
        found = match and (match[1].lower() or "subject")
        if match and found and found not in own:
            name = found
            own[name] = match[2]
        elif name and lines[0][:1] in {" ", "\t"} and lines[0].strip():
            own[name] += f" {lines[0].strip()}"
        else:
            break
        lines.pop(0)
    return "\n".join(lines), {name: _decoded(value) for name, value in own.items()}


def parse_subject(subject: str) -> tuple[str, Tag]:
    """Return a subject without what goes before it, and what that says.

    `Re:`, `[PATCH net-next v3 02/13]`, `[RFC][PATCH 1/2]`, `[net-next,v3,2/5]`.
    """
    rest, number, total, version, numbered = _REPLY.sub("", subject), 1, 1, 1, False
    rest = _BEFORE_SUBJECT.sub("", rest)
    while match := _TAG.match(rest):
        for word in re.split(r"[\s,]+", match[1]):
            if found := _NUMBER.match(word):
                number, total, numbered = int(found[1]), int(found[2]), True
            elif found := _VERSION.match(word):
                version = int(found[1])
        rest = _BEFORE_SUBJECT.sub("", rest[match.end() :])
    return " ".join(rest.split()), Tag(number, total, version, numbered)


def _decoded(value: str) -> str:
    """Return a header as text: folded lines joined, encoded words (RFC 2047) undone.

    Blanks between two such words are not text, and a letter may begin in the one
    and end in the other. Bytes that are not encoded are UTF-8, or else Latin-1.
    """
    text = " ".join(value.split())
    pieces: list[tuple[bytes, str]] = []
    end = 0
    for word in _WORD.finditer(text):
        data = _word_bytes(word)
        if data is None:
            continue
        gap = text[end : word.start()]
        if gap.strip() or not pieces:
            pieces.append((_bytes(gap), ""))
        charset = word[1].lower()
        if pieces[-1][1] == charset:
            data = pieces.pop()[0] + data
        pieces.append((data, charset))
        end = word.end()
    pieces.append((_bytes(text[end:]), ""))
    return "".join(_text(data, charset) for data, charset in pieces)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _word_bytes(word: re.Match[str]) -> bytes | None:
    """Return the bytes of an encoded word; None where it is torn, or its charset unknown."""
    text = _bytes(word[3])
    try:
        codecs.lookup(word[1])
        if word[2] in "qQ":
            return decodestring(text, header=True)
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4))
    except (LookupError, ValueError):
        return None


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
    """Return bytes as text, in the charset that they claim, or else as git guesses it.

    That is UTF-8, or Latin-1 for a line that is none (mailinfo.c, guess_charset).
    NUL is left out: a commit's message ends there.
    """
    return _with_nul(data, charset).replace("\0", "")


def _with_nul(data: bytes, charset: str | None) -> str:
    for name in filter(None, (charset, "utf-8")):
        try:
            return data.decode(name)
        except (LookupError, ValueError):
            continue
    return "".join(map(_guessed, io.BytesIO(data)))


def _guessed(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


@dataclass(frozen=True)
class MailCollection:
    """What one path holds. `ordered` says that somebody wrote the order down.

    That is quilt's list, or the numbers with which the names of the files begin,
    each of one patch: what stands in the subjects comes from the mailing lists
    then. `notes` is what was left out.
    """

    path: Path
    mails: tuple[Mail, ...]
    files: tuple[Path, ...]
    ordered: bool = False
    notes: tuple[str, ...] = ()


def collect(path: Path) -> MailCollection:
    """Return what a file, an mbox, a folder, a quilt folder or a maildir holds.

    Raises `UsageError` for one that cannot be read, and for a folder without
    patches.
    """
    path = path.expanduser()
    if not path.is_dir():
        return MailCollection(path, _mails_in([path]), (path,))
    order = path / QUILT
    if order.is_file():
        return _quilt_folder(path, order)
    if (path / "cur").is_dir() and (path / "new").is_dir():
        files = [file for part in ("cur", "new") for file in (path / part).iterdir()]
        files.sort(key=lambda file: _natural(file.name))
        return MailCollection(path, _mails_in(files), tuple(files))
    files = [file for file in path.iterdir() if _suffix(file) in _SUFFIXES and file.is_file()]
    if not files:
        wanted = ", ".join(f"*{suffix}" for suffix in sorted(_SUFFIXES))
        raise UsageError(
            f"folder {path} holds no patches: expected {wanted}, a maildir, or quilt's `{QUILT}`"
        )
    files.sort(key=lambda file: _natural(file.name))
    mails = _mails_in(files)
    is_numbered = all(file.name[0].isdigit() for file in files)
    one_each = [mail.path for mail in mails] == files
    is_whole = all(mail.diff or mail.is_cover for mail in mails)
    return MailCollection(
        path, mails, tuple(files), is_numbered and one_each and is_whole, _without_diff(mails)
    )


def _suffix(file: Path) -> str:
    return Path(file.name.removesuffix(".gz")).suffix


def _without_diff(mails: Sequence[Mail]) -> tuple[str, ...]:
    """Return a note for each file that is called a patch and holds no diff."""
    empty = (mail for mail in mails if not mail.diff and not mail.is_cover)
    return tuple(
        f"{mail.path} holds no diff: it is left out"
        for mail in empty
        if _suffix(mail.path) in {".patch", ".diff"}
    )


def _quilt_folder(path: Path, order: Path) -> MailCollection:
    """Return what quilt's list names, in its order; see quilt(1), "the series file"."""
    mails: list[Mail] = []
    files = [order]
    for line in _content(order).decode(errors="replace").splitlines():
        words = re.sub(r"(?:^|\s)#.*", "", line).split()
        if words:
            strip, is_reversed = _quilt_options(order, words[1:])
            files.append(path / words[0])
            found = _mails_in(files[-1:])
            mails += (replace(each, strip=strip, is_reversed=is_reversed) for each in found)
    return MailCollection(path, tuple(mails), tuple(files), True, _without_diff(mails))


def _quilt_options(order: Path, words: Sequence[str]) -> tuple[int, bool]:
    """Return the part of a name that a patch's paths lose, and whether it is taken back."""
    strip, is_reversed = 1, False
    left = list(words)
    while left:
        word = left.pop(0)
        if word in {"-R", "--reverse"}:
            is_reversed = True
        elif match := re.fullmatch(r"(?:-p|--strip=?)(\d+|ab)?", word):
            level = match[1] or (left.pop(0) if left else "")
            if level != "ab" and not level.isdigit():
                raise UsageError(f"{order}: {word} lacks a number")
            strip = 1 if level == "ab" else int(level)
        else:
            raise UsageError(
                f"{order}: {word} behind a patch's name is not understood; valid are -pN and -R"
            )
    return strip, is_reversed


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
