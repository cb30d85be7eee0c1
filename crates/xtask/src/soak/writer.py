"""The app of the outbox soaks: commits orders and their events in one transaction, and says which it committed.

Counts within each of a few keys, under the database's own lock, so that the numbers of a key are in the order of its
commits. `list` prints every order that is committed: the ledger that is not in this process.
"""

import subprocess
import sys
import time

engine, place, mode = sys.argv[1:4]
KEYS = 5
PAUSE = 0.01


def sqlite():
    import sqlite3

    db = sqlite3.connect(place, timeout=60, isolation_level=None)
    if mode == "list":
        for (id,) in db.execute("SELECT key || '-' || n FROM orders"):
            print(id)
        return
    for turn in range(1 << 40):
        key = f"k{turn % KEYS}"
        db.execute("BEGIN IMMEDIATE")
        (n,) = db.execute("SELECT coalesce(max(n), 0) + 1 FROM orders WHERE key = ?", (key,)).fetchone()
        db.execute("INSERT INTO orders VALUES (?, ?)", (key, n))
        # The most that this program does for its event.
        db.execute(
            "INSERT INTO tangelo_outbox (id, type, source, key, data) VALUES (?, 'soak.happened', '/soak', ?, ?)",
            (f"{key}-{n}", key, f'{{"id": "{key}-{n}"}}'),
        )
        db.execute("COMMIT")
        print(f"{key}-{n}", flush=True)
        time.sleep(PAUSE)


def postgres():
    psql = subprocess.Popen(
        ["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-f", "-", place],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )
    if mode == "list":
        print(psql.communicate("SELECT key || '-' || n FROM orders;\n")[0])
        sys.exit(psql.returncode)
    for turn in range(1 << 40):
        key = f"k{turn % KEYS}"
        psql.stdin.write(f"""BEGIN;
            UPDATE counters SET n = n + 1 WHERE key = '{key}';
            INSERT INTO orders SELECT key, n FROM counters WHERE key = '{key}';
            INSERT INTO tangelo_outbox (id, type, source, key, data)
              SELECT key || '-' || n, 'soak.happened', '/soak', key, jsonb_build_object('id', key || '-' || n)
              FROM counters WHERE key = '{key}' RETURNING id;
            COMMIT;
            \\echo committed
            """)
        psql.stdin.flush()
        id = psql.stdout.readline().strip()
        if psql.stdout.readline().strip() != "committed":
            sys.exit("the database went away")
        print(id, flush=True)
        time.sleep(PAUSE)


{"sqlite": sqlite, "postgres": postgres}[engine]()
