"""A notice as a mail. Those of one alert are one conversation, and one that comes twice bears the same id."""

from __future__ import annotations

import smtplib
import ssl
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from regrow.alerts.channels.errors import ChannelAwayError, NoticeRefusedError
from regrow.alerts.model import Notice
from regrow.alerts.wording import text, title
from regrow.settings.alerts import EmailChannel

_POLICY = SMTP.clone(max_line_length=900)
"""No header of ours is longer, so none is folded."""


def send(chosen: EmailChannel, notice: Notice, now: datetime) -> None:
    mail = message(chosen, notice, now)
    try:
        with _connected(chosen) as server:
            if chosen.user is not None:
                server.login(chosen.user, chosen.password.get_secret_value() if chosen.password else "")
            server.send_message(mail)
    except smtplib.SMTPRecipientsRefused as error:
        codes = {code for code, _ in error.recipients.values()}
        said = f"the mail server refused every address: {', '.join(map(str, sorted(codes)))}"
        raise (NoticeRefusedError if min(codes) >= 500 else ChannelAwayError)(said) from None
    except smtplib.SMTPDataError as error:
        said = f"the mail server refused the mail: {error.smtp_code}"
        raise (NoticeRefusedError if error.smtp_code >= 500 else ChannelAwayError)(said) from None
    except ssl.SSLCertVerificationError as error:
        said = error.verify_message.rstrip(".")
        raise ChannelAwayError(
            f"the mail server's certificate is not to be trusted: {said}; nothing was sent. Name the server "
            "as its certificate does, or say in ca_bundle who vouches for it"
        ) from None
    except smtplib.SMTPNotSupportedError:
        raise ChannelAwayError(
            "the mail server offers no STARTTLS, or no way to sign in; nothing was sent. Say the port for "
            'mail from programs, or security = "tls"'
        ) from None
    except (smtplib.SMTPException, OSError) as error:
        # Its text may quote who signs in.
        code = f" {error.smtp_code}" if isinstance(error, smtplib.SMTPResponseException) else ""
        raise ChannelAwayError(f"the mail server did not take it: {type(error).__name__}{code}") from None


def message(chosen: EmailChannel, notice: Notice, now: datetime) -> EmailMessage:
    mail = EmailMessage(_POLICY)
    host = chosen.sender.rpartition("@")[2]
    mail["Subject"] = title(notice)
    mail["From"] = chosen.sender
    mail["To"] = ", ".join(chosen.to)
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{notice.alert}.{notice.step.replace(':', '.')}.{notice.channel}@{host}>"
    mail["References"] = f"<{notice.alert}@{host}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text(notice) + "\n")
    return mail


def _connected(chosen: EmailChannel) -> smtplib.SMTP:
    if chosen.security == "tls":
        return smtplib.SMTP_SSL(chosen.host, chosen.port, timeout=chosen.timeout, context=_trusting(chosen))
    context = _trusting(chosen) if chosen.security == "starttls" else None
    server = smtplib.SMTP(chosen.host, chosen.port, timeout=chosen.timeout)
    if context is not None:
        try:
            server.starttls(context=context)
        except BaseException:
            server.close()
            raise
    return server


def _trusting(chosen: EmailChannel) -> ssl.SSLContext:
    """Certificates and names are verified, always."""
    context = ssl.create_default_context()
    try:
        if chosen.ca_bundle is not None:
            context.load_verify_locations(chosen.ca_bundle)
    except OSError as error:  # also a file that is no PEM
        why = error.strerror or type(error).__name__
        raise ChannelAwayError(f"ca_bundle {chosen.ca_bundle} cannot be read: {why}") from None
    return context
