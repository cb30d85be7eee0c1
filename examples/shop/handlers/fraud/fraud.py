"""Rates the risk of an order and tells the orders service. An unmodified Lambda handler for EventBridge's envelope.

The rules are simple on purpose; what they show is a function that reacts to an event and calls a service. Rating
is a PUT: a repeated delivery gives the same rating again.
"""

import json
import os
import urllib.request

LARGE_TOTAL = 10_000  # cents
MANY_COPIES = 5
THROWAWAY = ("@mailinator.", "@trashmail.", "@example.invalid")


def handler(event, context):
    order = event["detail"]
    risk = rate(order)
    tell(order["id"], risk, timeout=min(5, context.get_remaining_time_in_millis() / 2000))
    print(f"{order['id']}: {risk['score']} {risk['reasons']}")
    return risk


def rate(order: dict) -> dict:
    """A score from 0 to 100 and the reasons for it."""
    rules = [
        (40, "large total", order["total"] > LARGE_TOTAL),
        (30, "many copies of one film", any(i["quantity"] > MANY_COPIES for i in order["items"])),
        (30, "throwaway address", any(part in order["email"] for part in THROWAWAY)),
    ]
    met = [(score, reason) for score, reason, applies in rules if applies]
    return {"score": sum(score for score, _ in met), "reasons": [reason for _, reason in met]}


def tell(order_id: str, risk: dict, timeout: float) -> None:
    request = urllib.request.Request(
        f"{os.environ['ORDERS_URL']}/internal/orders/{order_id}/risk",
        data=json.dumps(risk).encode(),
        method="PUT",
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=timeout) as response:
        response.read()
