"""What ``notify`` does in the background."""

from django.db import transaction

from linod import BaseRequest, schedule_daily, schedule_often
from notify import mailing
from notify.models import Message


@schedule_often(10)
def send_pending_emails_often(ar: BaseRequest) -> None:
    """Mail the notifications of users who want them as soon as possible."""
    _report(ar, mailing.mail_singly(ar))


@schedule_daily
def send_pending_emails_daily(ar: BaseRequest) -> None:
    """Mail the day's notifications to users who want one mail a day."""
    _report(ar, mailing.mail_digests(ar))


def _report(ar: BaseRequest, sent: int) -> None:
    ar.info("%d %s mailed.", sent, "notification was" if sent == 1 else "notifications were")


@schedule_daily
def clear_seen_messages(ar: BaseRequest) -> None:
    """Delete the notifications that their users have seen."""
    with transaction.atomic():
        ar.guard()
        deleted, _by_model = Message.objects.seen().delete()
    ar.info(
        "%d seen %s deleted.", deleted, "notification was" if deleted == 1 else "notifications were"
    )
