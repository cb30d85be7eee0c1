"""What the dashboard shows: how many orders were made, and the revenue of those that were paid. Each event counts once."""

import os
import sqlite3
from pathlib import Path

db = sqlite3.connect(Path(os.environ["TANGELO_STATE_DIR"]) / "dashboard.db", timeout=10)
with db:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE IF NOT EXISTS seen (event TEXT PRIMARY KEY, kind TEXT, total REAL)")


def handler(event, context):
    if "requestContext" in event:  # GET /dashboard
        count, revenue = db.execute(
            "SELECT count(*) FILTER (WHERE kind = 'order.created'), total(total) FILTER (WHERE kind = 'order.paid') FROM seen"
        ).fetchone()
        kinds = [kind for (kind,) in db.execute("SELECT DISTINCT kind FROM seen ORDER BY kind")]
        return {"orders": count, "revenue": revenue or 0, "kinds": kinds}
    with db:
        db.execute(
            "INSERT OR IGNORE INTO seen VALUES (?, ?, ?)",
            (event["id"], event["detail-type"], event["detail"]["total"]),
        )
