"""What an outside producer and an outside consumer do, with the standard library alone: publishes ids, and pulls them all.

Half of what it pulls it fails the first time, in each way there is: by `nack`, and by saying nothing until the lease ends.
"""
import json, sys, urllib.error, urllib.request

gateway, till, warehouse, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

def bus(key, path, body=None, kind="application/json"):
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": "Bearer " + key, "content-type": kind}
    request = urllib.request.Request(f"{gateway}/_tangelo/bus/orders/{path}", data=data, headers=headers)
    with urllib.request.urlopen(request) as response:
        return json.load(response)

events = [
    {"specversion": "1.0", "type": "order.paid", "source": "/till", "id": str(n), "subject": f"o-{n % 4}", "data": {"n": n}}
    for n in range(count)
]
accepted = bus(till, "events", events, "application/cloudevents-batch+json")["accepted"]

taken, failed, keys = [], set(), {}
while len(taken) < count:
    for row in bus(warehouse, "pull/warehouse?max=7&wait=20s&lease=60s")["events"]:
        id = row["event"]["id"]
        keys.setdefault(id, set()).add(row["key"])
        if int(id) % 2 and id not in failed:
            failed.add(id)
            if int(id) % 4 == 1:
                bus(warehouse, "pull/warehouse/nack", {"leases": [row["lease"]], "reason": "not at the first attempt"})
            else:
                bus(warehouse, "pull/warehouse/extend", {"leases": [row["lease"]], "lease": "1s"})
            continue
        assert row["attempt"] == (2 if id in failed else 1), row
        ended = bus(warehouse, "pull/warehouse/ack", {"leases": [row["lease"]]})
        assert ended == {"done": [row["lease"]], "gone": []}, ended
        taken.append(int(id))

print(json.dumps({"accepted": accepted, "taken": taken, "keys": [len(all) for all in keys.values()]}))
