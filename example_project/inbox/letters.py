"""Mails to the user of the demo; no Django, so that the demo can play the outside world."""

from email.message import EmailMessage


def letter(name: str, subject: str) -> bytes:
    """A mail to robin; ``name`` makes its Message-ID."""
    message = EmailMessage()
    message["Message-ID"] = f"<{name}@demo.example.com>"
    message["From"] = "Anne <anne@example.org>"
    message["To"] = "robin@example.com"
    message["Subject"] = subject
    message.set_content("See you soon!\n")
    return message.as_bytes()
