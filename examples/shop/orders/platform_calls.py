"""What the orders service asks of others: prices of the catalogue, and the bus.

Both are plain HTTP. Tangelo puts the addresses into the environment, knows the caller by them, and enforces the
manifest's `calls` and `publishes`. This service works on many requests at once, so it passes the `traceparent` of
the request on: only so is it known which request a call belongs to.
"""

import json
import os
import urllib.error
import urllib.request

from problems import invalid, unavailable

TIMEOUT = 3  # seconds; shorter than the manifest's timeout of this service, so that a slow peer is our 503


def film(film_id: str, traceparent: str | None) -> dict:
    """The film with its price, or the reason why it cannot be ordered."""
    request = urllib.request.Request(f"{os.environ['CATALOG_URL']}/films/{film_id}")
    try:
        return json.loads(_send(request, traceparent))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise invalid(f"no film has the id {film_id}") from None
        raise unavailable(f"the catalogue answered {error.code}") from error
    except OSError as error:
        raise unavailable("the catalogue does not answer") from error


def publish(event: str, traceparent: str | None) -> None:
    """Publishes one CloudEvent; it is durable when this returns. Raises OSError otherwise."""
    request = urllib.request.Request(
        os.environ["TANGELO_EVENTS_URL"],
        data=event.encode(),
        headers={"content-type": "application/cloudevents+json"},
    )
    _send(request, traceparent)


def _send(request: urllib.request.Request, traceparent: str | None) -> bytes:
    if traceparent:
        request.add_header("traceparent", traceparent)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        return response.read()
