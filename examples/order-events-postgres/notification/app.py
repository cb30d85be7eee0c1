"""Writes to customers: a confirmation, a tracking update. Each event once, however often it comes."""

import os
import sqlite3
from pathlib import Path

TEXTS = {
    "order.created": "Thank you for order {id} over {total}.",
    "order.shipped": "Order {id} is on its way.",
}

db = sqlite3.connect(Path(os.environ["TANGELO_STATE_DIR"]) / "mails.db", timeout=10)
with db:
    db.execute("PRAGMA journal_mode = WAL")
    # The event's id is the key: what is delivered again finds that it was there.
    db.execute("CREATE TABLE IF NOT EXISTS mails (event TEXT PRIMARY KEY, kind TEXT, sent_to TEXT, text TEXT)")


def handler(event, context):
    if "requestContext" in event:  # GET /mails
        rows = db.execute("SELECT kind, sent_to, text FROM mails ORDER BY rowid").fetchall()
        return [dict(zip(("kind", "to", "text"), row)) for row in rows]
    order = event["detail"]
    text = TEXTS[event["detail-type"]].format(**order)
    with db:
        db.execute(
            "INSERT OR IGNORE INTO mails VALUES (?, ?, ?, ?)",
            (event["id"], event["detail-type"], order["customer"], text),
        )
