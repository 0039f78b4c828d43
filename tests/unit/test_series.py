"""A series read from whatever it travels in: which patches, in which order, of which reroll."""

from __future__ import annotations

import base64
import gzip
import quopri
from pathlib import Path

import pytest

from linklab.errors import UsageError
from linklab.kernel.mail import Tag, parse_subject, read_mails
from linklab.kernel.series import Series, read_series

DIFF = """diff --git a/net/{0}.c b/net/{0}.c
--- a/net/{0}.c
+++ b/net/{0}.c
@@ -1 +1 @@
-one
+{0}
"""
FROM = "From 0123456789abcdef0123456789abcdef01234567 Mon Sep 17 00:00:00 2001\n"


def mail(tag: str, name: str = "a", diff: bool = True, **headers: str) -> str:
    lines = {"From": "A Person <a@example.org>", "Subject": f"[{tag}] {name}", **headers}
    head = "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in lines.items())
    change = DIFF.format(name) if diff else ""
    return f"{FROM}{head}\nWhy it is done.\n---\n net/{name}.c | 2 +-\n\n{change}-- \n2.39.5\n\n"


def write(path: Path, *mails: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(mails))
    return path


def series(tag: str, total: int, suffix: str = "") -> list[str]:
    return [
        mail(f"{tag} {n}/{total}", f"part{n}{suffix}", diff=n > 0, Message_ID=f"<{tag[-1]}.{n}@x>")
        for n in range(total + 1)
    ]


def subjects(found: Series) -> list[str]:
    return [patch.subject for patch in found.patches]


def read(*paths: Path) -> Series:
    return read_series(paths)


class TestSubjects:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("net: x", ("net: x", Tag())),
            ("[PATCH] net: x", ("net: x", Tag())),
            ("[PATCH 3/5] net: x", ("net: x", Tag(3, 5, 1, True))),
            ("[PATCH net-next v3 02/13] net: x", ("net: x", Tag(2, 13, 3, True))),
            ("[RFC][PATCH V2 1/2] x", ("x", Tag(1, 2, 2, True))),
            ("[net-next,v3,2/5] x", ("x", Tag(2, 5, 3, True))),
            ("[PATCHv4 0/2] x", ("x", Tag(0, 2, 4, True))),
            ("Re: [PATCH v2 1/2] x", ("x", Tag(1, 2, 2, True))),
            ("[PATCH v2.1] x [y]", ("x [y]", Tag(1, 1, 2, False))),
        ],
    )
    def test_what_stands_in_brackets_is_understood(
        self, text: str, expected: tuple[str, Tag]
    ) -> None:
        assert parse_subject(text) == expected


class TestMails:
    def test_a_bare_diff_is_taken_with_what_stands_before_it(self) -> None:
        (sent,) = read_mails(f"Why.\n\n{DIFF.format('a')}".encode())
        assert (sent.description, sent.subject) == ("Why.\n\n", "")
        assert sent.diff == DIFF.format("a").encode()

    def test_a_svn_like_diff_is_no_mail(self) -> None:
        text = f"Index: net/a.c\n=====\n{DIFF.format('a').partition(chr(10))[2]}"
        assert read_mails(text.encode())[0].diff == text.encode()

    def test_prose_that_begins_with_from_does_not_split_a_message(self) -> None:
        text = mail("PATCH").replace("Why it is done.", "x\n\nFrom here on it is 12:30 in 2001.")
        assert len(read_mails(text.encode())) == 1

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Wed, 15 Nov 2023 00:13:20 +0200", "1700000000 +0200"),
            ("Tue, 14 Nov 2023 22:13:20 -0030", "1700001800 -0030"),
            ("Tue, 14 Nov 2023 22:13:20 GMT", "1700000000 +0000"),
            ("some day", ""),
            ("Tue, 99 Nov 99999999999 22:13:20 GMT", ""),
        ],
    )
    def test_dates_are_as_git_has_them(self, text: str, expected: str) -> None:
        (sent,) = read_mails(mail("PATCH", Date=text).encode())
        assert sent.date == expected

    def test_headers_are_decoded_and_unfolded(self) -> None:
        text = mail("PATCH", Subject="=?utf-8?q?=5BPATCH_1/2=5D_gr=C3=BCn?=\n =?utf-8?q?er?=",
                    From="=?iso-8859-1?q?J=F6rg?= <j@x>")  # fmt: skip
        (sent,) = read_mails(text.encode())
        assert (sent.subject, sent.author) == ("grüner", "Jörg <j@x>")
        assert sent.tag == Tag(1, 2, 1, True)

    def test_a_charset_that_nobody_knows_is_left_as_it_is(self) -> None:
        text = mail("PATCH", From="=?x-nothing?q?a?= <a@b>", Content_Type="text/plain; charset=x-y")
        (sent,) = read_mails(text.encode())
        assert sent.author == "=?x-nothing?q?a?= <a@b>"
        assert sent.description == "Why it is done."

    def test_nul_ends_no_subject(self) -> None:
        (sent,) = read_mails(mail("PATCH", "gate: =?utf\0-8?q?x?= twice").encode())
        assert sent.subject == "gate: =?utf-8?q?x?= twice"
        assert sent.description == "Why it is done."

    @pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
    def test_a_transfer_encoding_is_undone_and_the_bytes_kept(self, encoding: str) -> None:
        diff = DIFF.format("a").encode().replace(b"one", b"\xf6ne = 1")
        body = b"Why.\n---\n\n" + diff
        coded = base64.encodebytes(body) if encoding == "base64" else quopri.encodestring(body)
        head = f"Subject: [PATCH] x\nContent-Transfer-Encoding: {encoding}\n\n".encode()
        (sent,) = read_mails(head + coded)
        assert diff in sent.diff
        assert sent.description == "Why."

    def test_a_diff_that_is_attached_is_found(self) -> None:
        text = (
            "From: a@b\nSubject: [PATCH] x\nMIME-Version: 1.0\n"
            'Content-Type: multipart/mixed; boundary="B"\n\n--B\nContent-Type: text/plain\n\n'
            "See the attachment.\n\n--B\nContent-Type: text/x-patch\n"
            "Content-Transfer-Encoding: base64\n\n"
            f"{base64.encodebytes(DIFF.format('a').encode()).decode()}\n"
            "--B\nContent-Type: text/html\n\n<p>diff --git</p>\n--B--\n"
        )
        (sent,) = read_mails(text.encode())
        assert sent.diff.startswith(b"diff --git a/net/a.c")
        assert "See the attachment." in sent.description
        assert b"<p>" not in sent.diff

    def test_line_ends_of_the_transport_are_not_the_files(self) -> None:
        (sent,) = read_mails(mail("PATCH").replace("\n", "\r\n").encode())
        assert b"\r" not in sent.diff
        (bare,) = read_mails(DIFF.format("a").replace("one\n", "one\r\n").encode())
        assert b"-one\r\n" in bare.diff

    def test_line_ends_that_a_sender_encoded_are_not_the_files_unless_only_some_are(self) -> None:
        for body, kept in (("one\n", False), ("one\r\r\n", True)):
            diff = DIFF.format("a").replace("one\n", body)
            text = diff.replace("\n", "\r\n") if not kept else diff
            coded = base64.encodebytes(text.encode()).decode()
            mail = f"Subject: x\nContent-Transfer-Encoding: base64\n\n{coded}"
            assert (b"\r" in read_mails(mail.encode())[0].diff) == kept

    def test_who_wrote_it_may_stand_in_the_body(self) -> None:
        text = mail("PATCH").replace("Why", "From: B <b@x>\nSubject: [PATCH v2] other\n\nWhy")
        (sent,) = read_mails(text.encode())
        assert (sent.author, sent.subject, sent.tag.version) == ("B <b@x>", "other", 2)
        assert sent.description == "Why it is done."


class TestFilesAndFolders:
    def test_a_formatted_series_is_ordered_by_number_and_has_its_cover(
        self, tmp_path: Path
    ) -> None:
        for n, text in enumerate(series("PATCH", 11)):
            write(tmp_path / "s" / f"{n}-x.patch", text)
        found = read(tmp_path / "s")
        assert subjects(found) == [f"part{n}" for n in range(1, 12)]
        assert (found.cover, found.version) == ("part0", 1)
        assert [patch.place for patch in found.patches][:2] == ["1/11", "2/11"]
        assert found.patches[1].title == 'patch 2/11 "part2" (2-x.patch)'
        assert found.patches[0].message_id == "H.1@x"
        assert len(found.files) == 12

    def test_a_patch_named_alone_is_taken_whatever_its_number(self, tmp_path: Path) -> None:
        path = write(tmp_path / "0003.patch", mail("PATCH 3/5"))
        (patch,) = read(path).patches
        assert (patch.place, patch.title) == ("1/1", 'patch "a" (0003.patch)')

    def test_several_paths_follow_each_other(self, tmp_path: Path) -> None:
        box = write(tmp_path / "v2.mbox", *series("PATCH v2", 2))
        plain = write(tmp_path / "plain.diff", DIFF.format("z"))
        found = read(plain, box)
        assert [(p.place, p.subject) for p in found.patches] == [
            ("1/3", ""), ("2/3", "part1"), ("3/3", "part2"),
        ]  # fmt: skip
        assert (found.cover, found.version) == ("part0", 2)

    def test_plain_diffs_of_a_folder_come_by_name_as_a_person_counts(self, tmp_path: Path) -> None:
        for name in ("10.diff", "9.diff", "README"):
            write(tmp_path / "s" / name, DIFF.format(name[:-5]))
        assert [patch.origin.name for patch in read(tmp_path / "s").patches] == [
            "9.diff", "10.diff",
        ]  # fmt: skip

    def test_quilts_list_gives_the_order_and_allows_gaps(self, tmp_path: Path) -> None:
        for n in (2, 5):
            write(tmp_path / f"{n}.patch", mail(f"PATCH {n}/7", f"part{n}"))
        write(tmp_path / "series", "# picked\n5.patch -p1 # first\n\n2.patch\n")
        assert subjects(read(tmp_path)) == ["part5", "part2"]

    def test_a_maildir_and_a_packed_mbox_are_read(self, tmp_path: Path) -> None:
        for n, text in enumerate(series("PATCH", 2)):
            write(tmp_path / "d" / ("new" if n else "cur") / f"{9 - n}:2,", text)
        packed = tmp_path / "t.mbox.gz"
        packed.write_bytes(gzip.compress("".join(series("PATCH", 2)).encode()))
        assert subjects(read(tmp_path / "d")) == subjects(read(packed)) == ["part1", "part2"]

    def test_nothing_gives_no_patches(self) -> None:
        assert read() == Series()

    @pytest.mark.parametrize("content", ["", "hello\n", "VERSION = 6\n", mail("PATCH", diff=False)])
    def test_a_file_that_is_no_patch_is_refused(self, tmp_path: Path, content: str) -> None:
        with pytest.raises(UsageError, match=r"not\.patch is not a patch"):
            read(write(tmp_path / "not.patch", content))

    def test_what_cannot_be_read_is_refused_by_name(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"nowhere\.patch cannot be read: No such file"):
            read(tmp_path / "nowhere.patch")
        torn = tmp_path / "torn.gz"
        torn.write_bytes(gzip.compress(b"x" * 99)[:20])
        with pytest.raises(UsageError, match=r"torn\.gz cannot be read"):
            read(torn)
        with pytest.raises(UsageError, match="holds no patches"):
            read(tmp_path)

    def test_a_thousand_patches_are_in_order(self, tmp_path: Path) -> None:
        box = write(tmp_path / "big.mbox", *reversed(series("PATCH", 1200)))
        assert subjects(read(box)) == [f"part{n}" for n in range(1, 1201)]


class TestThreads:
    def test_replies_are_no_patches_even_with_a_diff(self, tmp_path: Path) -> None:
        reply = mail("PATCH 1/2", "part1", Subject="Re: [PATCH 1/2] part1")
        box = write(tmp_path / "t.mbox", *series("PATCH", 2), reply)
        assert subjects(read(box)) == ["part1", "part2"]
        alone = write(tmp_path / "reply.eml", reply)
        assert subjects(read(alone)) == ["part1"]

    def test_the_newest_reroll_is_taken_and_the_others_are_named(self, tmp_path: Path) -> None:
        box = write(tmp_path / "t.mbox", *series("PATCH v3", 2), *series("PATCH", 3))
        found = read(box)
        assert ([p.place for p in found.patches], found.version) == (["1/2", "2/2"], 3)
        assert found.notes == (f"{box} holds v1 too: v3 is taken",)

    def test_a_reroll_with_other_subjects_is_known_by_its_thread(self, tmp_path: Path) -> None:
        new = [
            text.replace("\n\nWhy", "\nReferences: <H.0@x>\n\nWhy")
            for text in series("PATCH v2", 2, "-renamed")
        ]
        box = write(tmp_path / "t.mbox", *series("PATCH", 2), *new)
        assert subjects(read(box)) == ["part1-renamed", "part2-renamed"]

    def test_a_reroll_is_known_by_a_thread_whose_first_mail_is_elsewhere(
        self, tmp_path: Path
    ) -> None:
        old, new = (
            [
                text.replace("\n\nWhy", "\nReferences: <gone@x>\n\nWhy")
                for text in series(tag, 2, suffix)[1:]
            ]
            for tag, suffix in (("PATCH", ""), ("PATCH v2", "-renamed"))
        )
        found = read(write(tmp_path / "t.mbox", *old, *new))
        assert subjects(found) == ["part1-renamed", "part2-renamed"]
        assert found.notes == (f"{tmp_path}/t.mbox holds v1 too: v2 is taken",)

    def test_patches_sent_anew_in_reply_take_the_place_of_the_old(self, tmp_path: Path) -> None:
        new = mail("PATCH v2 2/3", "part2-new", In_Reply_To="<H.2@x>")
        box = write(tmp_path / "t.mbox", *series("PATCH", 3), new)
        found = read(box)
        assert subjects(found) == ["part1", "part2-new", "part3"]
        assert found.notes == (f"{box}: v1 with 2/3 of v2",)

    def test_a_patch_that_came_twice_counts_once(self, tmp_path: Path) -> None:
        texts = series("PATCH", 2)
        assert subjects(read(write(tmp_path / "t.mbox", *texts, texts[1]))) == ["part1", "part2"]

    def test_a_reroll_without_numbers_of_a_series_with_them_is_taken_as_it_is(
        self, tmp_path: Path
    ) -> None:
        box = write(tmp_path / "box", *series("PATCH", 2), mail("PATCH v2", "part1"))
        found = read(box)
        assert (subjects(found), found.version) == (["part1"], 2)

    def test_of_patches_without_numbers_the_newest_of_each_is_taken(self, tmp_path: Path) -> None:
        texts = (mail("PATCH", "x"), mail("PATCH v2", "x"), mail("PATCH", "y"))
        found = read(write(tmp_path / "t.mbox", *texts))
        assert [(p.subject, p.version) for p in found.patches] == [("x", 2), ("y", 1)]
        assert found.notes == (f'{tmp_path}/t.mbox holds v1 of "x" too: v2 is taken',)

    @pytest.mark.parametrize(
        ("gone", "words"), [([3], "3/8 missing"), (range(2, 9), "2/8, 3/8, 4/8, 5/8, 6/8 and 2 m")]
    )
    def test_a_series_with_a_gap_is_refused_by_name(
        self, tmp_path: Path, gone: list[int], words: str
    ) -> None:
        texts = [text for n, text in enumerate(series("PATCH", 8)) if n not in gone]
        with pytest.raises(UsageError, match=f"is not the whole series: {words}"):
            read(write(tmp_path / "t.mbox", *texts))

    def test_several_series_in_one_are_refused(self, tmp_path: Path) -> None:
        other = [text.replace("part", "else") for text in series("PATCH", 2)]
        for texts in (
            [*series("PATCH", 2), *other],
            [*series("PATCH", 2), *series("PATCH", 3)],
            [*series("PATCH", 2), mail("PATCH", "picked")],
            [*other, *series("PATCH v2", 2)],
        ):
            with pytest.raises(UsageError, match=r"several series: .* and .* --patch of its own"):
                read(write(tmp_path / "t.mbox", *texts))
