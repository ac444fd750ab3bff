"""What ``inbox`` does in the background."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from notify.models import Message

from inbox.maildir import FLAGGED, SEEN, Maildir
from inbox.models import Mail
from inbox.parsing import MalformedMail, ParsedMail, parse
from linod import BaseRequest, schedule_often


@schedule_often(10)
def get_new_mail(ar: BaseRequest) -> None:
    """Store the mails that arrived in the Maildir."""
    maildir = Maildir(settings.MAILDIR)
    names = maildir.new()
    stored = 0
    for done, (name, content) in enumerate(maildir.read(names), start=1):
        try:
            mail = parse(content)
        except MalformedMail as error:
            ar.error("%s is no mail, %s; it is flagged in %s/cur", name, error, maildir.path)
            maildir.file(name, FLAGGED)
        else:
            stored += _store(ar, mail)
            # Only now: a mail whose transaction failed is still new when the next run looks.
            maildir.file(name, SEEN)
        ar.progress(done, len(names), "mails")
    ar.info("%d new %s stored.", stored, "mail was" if stored == 1 else "mails were")


def _store(ar: BaseRequest, mail: ParsedMail) -> bool:
    """Keep the mail and tell its user; False when it is known already."""
    user = get_user_model().objects.filter(email__in=mail.recipients).exclude(email="").first()
    try:
        with transaction.atomic():
            ar.guard()
            Mail.objects.create(
                key=mail.key,
                message_id=mail.message_id,
                user=user,
                sender=mail.sender[:200],
                subject=mail.subject[:200],
                body=mail.body,
                sent_at=mail.sent_at,
            )
            if user is not None:
                Message.objects.notify(user, f"New mail: {mail.subject}", f"From {mail.sender}")
    except IntegrityError:
        if Mail.objects.filter(key=mail.key).exists():
            ar.debug("%s came before", mail.message_id)
            return False
        raise
    return True
