"""Confirms an order by mail. An unmodified Lambda handler for EventBridge's envelope.

With SMTP_HOST it sends; otherwise it writes the mail as a file into MAIL_DIR, which any mail program opens.
The message id is made from the event's id: whoever gets the mail twice, because a delivery was repeated, can tell.
"""

import os
import pathlib
import smtplib
from email.message import EmailMessage
from email.utils import format_datetime
from datetime import datetime, timezone

SENDER = "The shop <shop@example.com>"


def handler(event, context):
    order = event["detail"]
    mail = compose(order, event["id"])
    where = deliver(mail, event["id"])
    print(f"confirmed {order['id']} to {order['email']}: {where}")
    return {"order": order["id"], "mail": where}


def compose(order: dict, event_id: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = SENDER
    mail["To"] = order["email"]
    mail["Subject"] = f"Your order {order['id']}"
    mail["Date"] = format_datetime(datetime.now(timezone.utc))
    mail["Message-ID"] = f"<{event_id}@shop.example.com>"
    lines = [f"{item['quantity']} x {item['title']}, {money(item['price'])} each" for item in order["items"]]
    mail.set_content(
        f"Dear {order['user']},\n\nthank you for your order:\n\n"
        + "\n".join(f"  {line}" for line in lines)
        + f"\n\nTotal: {money(order['total'])}\n"
    )
    return mail


def deliver(mail: EmailMessage, event_id: str) -> str:
    host = os.environ.get("SMTP_HOST")
    if host:
        with smtplib.SMTP(host, int(os.environ.get("SMTP_PORT", "25")), timeout=5) as smtp:
            smtp.send_message(mail)
        return f"sent by {host}"
    folder = pathlib.Path(os.environ.get("MAIL_DIR") or f"{os.environ['TANGELO_STATE_DIR']}/mail")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{event_id}.eml"
    # Written beside and renamed, so that nobody ever reads half a mail.
    draft = file.with_suffix(".draft")
    draft.write_bytes(bytes(mail))
    draft.rename(file)
    return str(file)


def money(cents: int) -> str:
    return f"${cents / 100:.2f}"
