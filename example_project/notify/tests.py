"""Notifications go out once, and only those that their users want."""

from __future__ import annotations

from collections import Counter
from smtplib import SMTPRecipientsRefused, SMTPServerDisconnected
from typing import Any

import pytest
from common.testing import TakenOver, run, run_twice_at_once, steps
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.test import SimpleTestCase, TestCase, TransactionTestCase, override_settings
from django.urls import reverse
from django.utils import timezone

from linod.exceptions import NotMine
from notify.mailing import is_final
from notify.models import MailMode, MailPreference, Message
from notify.procedures import (
    clear_seen_messages,
    send_pending_emails_daily,
    send_pending_emails_often,
)


def user(name: str, mode: str = MailMode.OFTEN, email: str | None = None) -> Any:
    address = f"{name}@example.com" if email is None else email
    made = get_user_model().objects.create_user(name, address)
    MailPreference.objects.create(user=made, mail_mode=mode)
    return made


def subjects() -> list[str]:
    return [letter.subject for letter in mail.outbox]


class AwayBackend(EmailBackend):
    """A mail server that does not answer."""

    def open(self) -> bool:
        raise ConnectionRefusedError("Connection refused")


class PickyBackend(EmailBackend):
    """A mail server that refuses the users whose names say so."""

    def send_messages(self, messages: Any) -> int:
        for letter in messages:
            [address] = letter.to
            if address.startswith(("for-good", "for-now")):
                code = 550 if address.startswith("for-good") else 450
                raise SMTPRecipientsRefused({address: (code, b"not you")})
            if address.startswith("silence"):
                raise SMTPServerDisconnected("please run connect() first")
        return super().send_messages(messages)


def use(backend: type[EmailBackend]) -> Any:
    path = f"{__name__}.{backend.__name__}"
    if hasattr(mail, "mailers"):  # since Django 6.1
        return override_settings(MAILERS={"default": {"BACKEND": path}})
    return override_settings(EMAIL_BACKEND=path)


class OftenTests(TestCase):
    def test_each_pending_notification_is_mailed_once(self) -> None:
        anna = user("anna")
        for number in range(3):
            Message.objects.notify(anna, f"Notification {number}", "Text")
        lines = run(send_pending_emails_often)
        assert lines == ["INFO 3 notifications were mailed."]
        assert subjects() == ["Notification 0", "Notification 1", "Notification 2"]
        assert mail.outbox[0].to == ["anna@example.com"]
        assert mail.outbox[0].body == "Text"
        assert not Message.objects.filter(sent_at=None).exists()
        assert run(send_pending_emails_often) == ["INFO 0 notifications were mailed."]
        assert len(mail.outbox) == 3

    def test_its_progress_reaches_the_end(self) -> None:
        Message.objects.notify(user("anna"), "A")
        Message.objects.notify(user("for-now"), "B")
        with use(PickyBackend):
            assert steps(send_pending_emails_often) == [(1, 2), (2, 2)]

    def test_nobody_gets_what_he_does_not_want(self) -> None:
        anna = user("anna")
        Message.objects.notify(user("daily", MailMode.DAILY), "daily")
        Message.objects.notify(user("never", MailMode.NEVER), "never")
        Message.objects.notify(user("homeless", email=""), "no address")
        Message.objects.create(user=anna, subject="seen", seen_at=timezone.now())
        Message.objects.notify(anna, "wanted")
        run(send_pending_emails_often)
        assert subjects() == ["wanted"]

    def test_a_user_without_a_preference_is_mailed(self) -> None:
        Message.objects.notify(get_user_model().objects.create_user("x", "x@example.com"), "Hi")
        run(send_pending_emails_often)
        assert subjects() == ["Hi"]

    def test_a_subject_of_several_lines_becomes_one(self) -> None:
        Message.objects.notify(user("anna"), "One\r\nBcc: eve@example.com")
        run(send_pending_emails_often)
        assert subjects() == ["One Bcc: eve@example.com"]
        assert mail.outbox[0].recipients() == ["anna@example.com"]

    def test_letters_have_message_ids_of_their_own(self) -> None:
        anna = user("anna")
        for number in range(2):
            Message.objects.notify(anna, f"{number}")
        run(send_pending_emails_often)
        assert len({letter.message()["Message-ID"] for letter in mail.outbox}) == 2

    def test_a_mail_server_that_is_away_leaves_all_in_the_queue(self) -> None:
        Message.objects.notify(user("anna"), "Hello")
        with use(AwayBackend):
            warning, result = run(send_pending_emails_often)
        assert warning == "WARNING The mail server is away, what is left waits: Connection refused"
        assert result == "INFO 0 notifications were mailed."
        run(send_pending_emails_often)
        assert subjects() == ["Hello"]

    def test_a_refusal_for_good_is_kept_and_the_others_are_mailed(self) -> None:
        refused = Message.objects.notify(user("for-good"), "A")
        Message.objects.notify(user("anna"), "B")
        with use(PickyBackend):
            lines = run(send_pending_emails_often)
            assert lines[0].startswith("WARNING Mail to for-good was refused: ")
            assert lines[1:] == ["INFO 1 notification was mailed."]
            assert subjects() == ["B"]
            assert run(send_pending_emails_often) == ["INFO 0 notifications were mailed."]
        refused.refresh_from_db()
        assert "550" in refused.refusal

    def test_a_refusal_for_now_is_tried_again(self) -> None:
        Message.objects.notify(user("for-now"), "A")
        with use(PickyBackend):
            run(send_pending_emails_often)
        assert subjects() == []
        run(send_pending_emails_often)
        assert subjects() == ["A"]

    def test_a_server_that_falls_silent_gets_no_letter_twice(self) -> None:
        Message.objects.notify(user("silence"), "A")
        Message.objects.notify(user("anna"), "B")
        with use(PickyBackend):
            run(send_pending_emails_often)
        run(send_pending_emails_often)
        assert subjects() == ["B"]
        assert [message.subject for message in Message.objects.all().unconfirmed()] == ["A"]

    def test_a_job_that_was_taken_over_mails_nothing(self) -> None:
        Message.objects.notify(user("anna"), "A")
        with pytest.raises(NotMine):
            run(send_pending_emails_often, sink=TakenOver())
        assert subjects() == []
        run(send_pending_emails_often)
        assert subjects() == ["A"]


class TogetherTests(TransactionTestCase):
    def test_two_runs_at_once_mail_each_notification_once(self) -> None:
        anna = user("anna")
        for number in range(40):
            Message.objects.notify(anna, f"Notification {number}")
        run_twice_at_once(send_pending_emails_often)
        assert Counter(subjects()) == {f"Notification {number}": 1 for number in range(40)}

    def test_two_runs_at_once_mail_each_digest_once(self) -> None:
        for name in ("anna", "ben", "carl"):
            reader = user(name, MailMode.DAILY)
            for number in range(5):
                Message.objects.notify(reader, f"{name} {number}")
        run_twice_at_once(send_pending_emails_daily)
        text = "\n".join(letter.subject + letter.body for letter in mail.outbox)
        assert all(
            text.count(f"{name} {n}") == 1 for name in ("anna", "ben", "carl") for n in "01234"
        )


class DailyTests(TestCase):
    def test_each_user_gets_one_letter_with_all_notifications(self) -> None:
        anna, ben = user("anna", MailMode.DAILY), user("ben", MailMode.DAILY)
        Message.objects.notify(anna, "One", "First text")
        Message.objects.notify(anna, "Two", "Second text")
        Message.objects.notify(ben, "Only one", "Its text")
        Message.objects.notify(user("often"), "At once")
        assert run(send_pending_emails_daily) == ["INFO 3 notifications were mailed."]
        first, second = mail.outbox
        assert (first.to, first.subject) == (["anna@example.com"], "2 notifications")
        assert first.body == "* One\nFirst text\n\n* Two\nSecond text"
        assert (second.to, second.subject, second.body) == (
            ["ben@example.com"],
            "Only one",
            "Its text",
        )
        run(send_pending_emails_daily)
        assert len(mail.outbox) == 2


class ClearTests(TestCase):
    def test_only_seen_notifications_are_deleted(self) -> None:
        anna = user("anna")
        Message.objects.create(user=anna, subject="seen", seen_at=timezone.now())
        Message.objects.create(user=anna, subject="sent", sent_at=timezone.now())
        Message.objects.notify(anna, "new")
        assert run(clear_seen_messages) == ["INFO 1 seen notification was deleted."]
        left = Message.objects.order_by("pk").values_list("subject", flat=True)
        assert list(left) == ["sent", "new"]

    def test_a_job_that_was_taken_over_deletes_nothing(self) -> None:
        Message.objects.create(user=user("anna"), subject="seen", seen_at=timezone.now())
        with pytest.raises(NotMine):
            run(clear_seen_messages, sink=TakenOver())
        assert Message.objects.count() == 1


class AdminTests(TestCase):
    def setUp(self) -> None:
        boss = get_user_model().objects.create_superuser("boss", "boss@example.com", "secret")
        self.client.force_login(boss)
        self.message = Message.objects.notify(boss, "Hello")

    def act(self, action: str) -> None:
        data = {"action": action, "_selected_action": [self.message.pk]}
        response = self.client.post(reverse("admin:notify_message_changelist"), data)
        assert response.status_code == 302
        self.message.refresh_from_db()

    def test_mark_as_seen(self) -> None:
        self.act("mark_as_seen")
        assert self.message.seen_at is not None

    def test_mail_again(self) -> None:
        run(send_pending_emails_often)
        self.act("mail_again")
        run(send_pending_emails_often)
        assert subjects() == ["Hello", "Hello"]


class RefusalTests(SimpleTestCase):
    def test_a_refusal_is_final_only_when_all_replies_are(self) -> None:
        assert is_final(SMTPRecipientsRefused({"a": (550, b"")}))
        assert not is_final(SMTPRecipientsRefused({"a": (550, b""), "b": (451, b"")}))
        assert is_final(ValueError("no address"))
