"""What can go wrong with a request, as problem documents (RFC 9457)."""


class Problem(Exception):
    """An answer that is not what was asked for, with the reason for the caller."""

    def __init__(self, status: int, title: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def document(self) -> dict:
        return {"status": self.status, "title": self.title, "detail": self.detail}


def invalid(detail: str) -> Problem:
    return Problem(422, "Invalid order", detail)


def unavailable(detail: str) -> Problem:
    return Problem(503, "Unavailable", detail, retry_after="2")
