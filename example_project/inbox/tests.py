"""Each mail is stored once, whatever it looks like."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from common.testing import TakenOver, run, run_twice_at_once, steps
from django.contrib.auth import get_user_model
from django.test import SimpleTestCase, TestCase, TransactionTestCase, override_settings
from notify.models import Message

from inbox.letters import letter
from inbox.maildir import Maildir
from inbox.models import Mail
from inbox.parsing import MalformedMail, parse
from inbox.procedures import get_new_mail
from linod.exceptions import NotMine


class WithMaildir:
    """A Maildir of the test's own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "deep" / "maildir"
        changed = override_settings(MAILDIR=path)
        changed.enable()
        self.addCleanup(changed.disable)
        self.maildir = Maildir(path)

    def names(self, folder: str) -> list[str]:
        return sorted(file.name for file in (self.maildir.path / folder).iterdir())


class GetNewMailTests(WithMaildir, TestCase):
    def test_new_mail_is_stored_and_moved(self) -> None:
        name = self.maildir.deliver(letter("one", "Hello"))
        assert run(get_new_mail) == ["INFO 1 new mail was stored."]
        mail = Mail.objects.get()
        assert mail.subject == "Hello"
        assert mail.sender == "Anne <anne@example.org>"
        assert mail.message_id == "<one@demo.example.com>"
        assert mail.body == "See you soon!\n"
        assert (self.names("new"), self.names("cur")) == ([], [f"{name}:2,S"])
        assert run(get_new_mail) == ["INFO 0 new mails were stored."]
        assert Mail.objects.count() == 1

    def test_its_user_is_told(self) -> None:
        robin = get_user_model().objects.create_user("robin", "robin@example.com")
        self.maildir.deliver(letter("one", "Hello"))
        run(get_new_mail)
        assert Mail.objects.get().user == robin
        message = Message.objects.get()
        assert (message.user, message.subject) == (robin, "New mail: Hello")

    def test_a_mail_to_nobody_here_is_kept_all_the_same(self) -> None:
        get_user_model().objects.create_user("homeless", "")
        self.maildir.deliver(b"From: a@example.org\nTo: \nSubject: Lost\n\n")
        run(get_new_mail)
        assert Mail.objects.get().user is None
        assert not Message.objects.exists()

    def test_the_same_mail_delivered_twice_is_stored_once(self) -> None:
        self.maildir.deliver(letter("one", "Hello"))
        self.maildir.deliver(letter("one", "Hello again"))
        assert run(get_new_mail)[-1] == "INFO 1 new mail was stored."
        self.maildir.deliver(letter("one", "And again"))
        assert run(get_new_mail) == [
            "DEBUG <one@demo.example.com> came before",
            "INFO 0 new mails were stored.",
        ]
        assert Mail.objects.count() == 1
        assert self.names("new") == []

    def test_a_run_that_broke_off_before_the_move_does_no_harm(self) -> None:
        name = self.maildir.deliver(letter("one", "Hello"))
        run(get_new_mail)
        (self.maildir.path / "cur" / f"{name}:2,S").rename(self.maildir.path / "new" / name)
        run(get_new_mail)
        assert Mail.objects.count() == 1
        assert self.names("new") == []

    def test_ids_that_differ_in_case_are_different(self) -> None:
        self.maildir.deliver(letter("one", "a"))
        self.maildir.deliver(letter("ONE", "b"))
        run(get_new_mail)
        assert Mail.objects.count() == 2

    def test_what_is_no_mail_is_reported_flagged_and_holds_up_nothing(self) -> None:
        broken = self.maildir.deliver(b"\x00\xff this is no mail")
        empty = self.maildir.deliver(b"")
        self.maildir.deliver(letter("one", "Hello"))
        lines = run(get_new_mail)
        reports = [line for line in lines if line.startswith("ERROR")]
        assert len(reports) == 2
        assert all("is no mail, it has no From header" in line for line in reports)
        assert {f"{broken}:2,F", f"{empty}:2,F"} < set(self.names("cur"))
        assert lines[-1] == "INFO 1 new mail was stored."
        assert run(get_new_mail) == ["INFO 0 new mails were stored."]

    def test_its_progress_reaches_the_end(self) -> None:
        self.maildir.deliver(letter("one", "Hello"))
        self.maildir.deliver(b"")
        assert steps(get_new_mail) == [(1, 2), (2, 2)]

    def test_mails_without_an_id_are_told_apart_by_their_content(self) -> None:
        for subject in ("a", "b", "a"):
            self.maildir.deliver(f"From: x@example.org\nSubject: {subject}\n\n".encode())
        run(get_new_mail)
        assert sorted(Mail.objects.values_list("subject", flat=True)) == ["a", "b"]

    def test_long_and_strange_values_fit_into_the_database(self) -> None:
        self.maildir.deliver(
            b"From: " + b"x" * 500 + b"@example.org\nMessage-ID: <" + b"y" * 900 + b">\n"
            b"Subject: " + b"z" * 500 + b"\nContent-Type: text/plain; charset=utf-8\n"
            b"\nnul \x00 half \xed\xa0\x80 smile \xf0\x9f\x99\x82\n"
        )
        run(get_new_mail)
        mail = Mail.objects.get()
        assert (len(mail.sender), len(mail.subject)) == (200, 200)
        assert mail.body.startswith("nul  half ")
        assert mail.body.endswith(" smile \N{SLIGHTLY SMILING FACE}\n")

    def test_a_job_that_was_taken_over_stores_nothing(self) -> None:
        self.maildir.deliver(letter("one", "Hello"))
        with pytest.raises(NotMine):
            run(get_new_mail, sink=TakenOver())
        assert not Mail.objects.exists()
        assert len(self.names("new")) == 1


class TogetherTests(WithMaildir, TransactionTestCase):
    def test_two_runs_at_once_store_each_mail_once(self) -> None:
        get_user_model().objects.create_user("robin", "robin@example.com")
        for number in range(20):
            self.maildir.deliver(letter(str(number), f"Mail {number}"))
        run_twice_at_once(get_new_mail)
        assert Mail.objects.count() == 20
        assert Message.objects.count() == 20
        assert (len(self.names("new")), len(self.names("cur"))) == (0, 20)


class ParseTests(SimpleTestCase):
    def test_encoded_headers(self) -> None:
        mail = parse(
            b"From: =?utf-8?q?Ren=C3=A9?= <r@example.org>\nSubject: =?latin-1?q?=E9t=E9?=\n\n"
        )
        assert mail.sender == "Ren\u00e9 <r@example.org>"
        assert mail.subject == "\u00e9t\u00e9"

    def test_unknown_and_broken_encodings_stay_readable(self) -> None:
        for subject in (b"=?klingon?q?abc?=", b"=?utf-8?b?YQ=a?=", b"raw \xe9 byte"):
            with self.subTest(subject=subject):
                assert parse(b"From: a@example.org\nSubject: " + subject + b"\n\n").subject

    def test_bodies(self) -> None:
        head = b"From: a@example.org\n"
        table = {
            b"Content-Type: text/plain; charset=klingon\n\nabc": "abc",
            b"Content-Type: text/plain; charset=latin-1\n\n\xe9": "\u00e9",
            b"Content-Type: text/html\n\n<p>abc</p>": "",
            b"Content-Transfer-Encoding: base64\n\n!!!!": "",
            b'Content-Type: multipart/mixed; boundary="x"\n\n--x\n\npart\n--x--\n': "part",
            b"Content-Type: multipart/mixed\n\nno boundary": "",
            b"Content-Type: message/rfc822\n\nSubject: inner\n\ninner text": "inner text",
        }
        for rest, expected in table.items():
            with self.subTest(rest=rest):
                assert parse(head + rest).body == expected

    def test_dates(self) -> None:
        table = {
            b"Sun, 22 Nov 2026 06:38:18 +0100": datetime(2026, 11, 22, 5, 38, 18, tzinfo=UTC),
            b"Sun, 22 Nov 2026 06:38:18 -0000": datetime(2026, 11, 22, 6, 38, 18, tzinfo=UTC),
            b"Fri, 31 Dec 9999 23:00:00 -1400": None,
            b"Sun, 99 Nov 2026 06:38:18 +0100": None,
            b"yesterday": None,
            b"": None,
        }
        for text, expected in table.items():
            with self.subTest(text=text):
                assert parse(b"From: a@example.org\nDate: " + text + b"\n\n").sent_at == expected

    def test_recipients(self) -> None:
        mail = parse(b"From: a@example.org\nTo: B <b@example.org>, c@example.org\nTo: ;;\n\n")
        assert mail.recipients == ("b@example.org", "c@example.org")

    def test_what_has_no_sender_is_no_mail(self) -> None:
        with pytest.raises(MalformedMail, match="no From header"):
            parse(b"Subject: x\n\n")
