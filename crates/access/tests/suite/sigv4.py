"""Makes sigv4.json: requests signed by botocore, which is not ours. Run: python3 sigv4.py > sigv4.json

Needs botocore (pip install botocore). The time is fixed, the key pair is AWS's documented example pair.
"""

import datetime
import json

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

NOW = datetime.datetime(2026, 11, 21, 8, 0, 0, tzinfo=datetime.timezone.utc)
KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
HOST = "http://127.0.0.1:4566"

botocore.auth.get_current_datetime = lambda remove_tzinfo=True: (
    NOW.replace(tzinfo=None) if remove_tzinfo else NOW
)

CASES = [
    ("a Lambda invocation", "lambda", "POST", "/2015-03-31/functions/confirm/invocations", b'{"a": 1}',
     {"X-Amz-Invocation-Type": "Event", "Content-Type": "application/json"}, {}),
    ("an empty body", "lambda", "GET", "/2015-03-31/functions/", b"", {}, {}),
    ("a path with an ARN", "lambda", "GET",
     "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-central-1%3A000000000000%3Afunction%3Aconfirm", b"", {}, {}),
    ("a query out of order", "lambda", "GET", "/2015-03-31/functions/?MaxItems=5&FunctionVersion=ALL&A=%20%2F%C3%A4",
     b"", {}, {}),
    ("dots and double slashes", "iam", "GET", "/a/./b/../c//d/", b"", {}, {}),
    ("spaces in headers", "sqs", "POST", "/", b"x", {"X-Amz-Target": "  AmazonSQS.SendMessage  ", "My-Header": "a   b  c"}, {}),
    ("a session token", "lambda", "POST", "/2015-03-31/functions/f/invocations", b"{}", {}, {"token": "SESSION+/="}),
    ("unreserved and reserved", "lambda", "GET", "/-_.~/%24?k=-_.~&k2=%2B%26%3D", b"", {}, {}),
]


def signed(name, service, method, path, body, headers, more):
    request = AWSRequest(method=method, url=HOST + path, data=body, headers=headers)
    credentials = Credentials(KEY, SECRET, more.get("token"))
    kind = more.get("auth", botocore.auth.SigV4Auth)
    arguments = {"expires": more["expires"]} if "expires" in more else {}
    kind(credentials, service, "eu-central-1", **arguments).add_auth(request)
    prepared = request.prepare()
    out = {k.lower(): v for k, v in prepared.headers.items()}
    out.setdefault("host", HOST.removeprefix("http://"))
    return {"name": name, "method": method, "target": prepared.url.removeprefix(HOST),
            "headers": out, "body": body.decode()}


S3 = [
    ("S3 with a hash", "s3", "PUT", "/bucket/a%20key/./x//y", b"hello", {}, {"auth": botocore.auth.S3SigV4Auth}),
    ("S3 presigned", "s3", "GET", "/bucket/a%20key", b"", {},
     {"auth": botocore.auth.S3SigV4QueryAuth, "expires": 3600}),
    ("Lambda presigned", "lambda", "GET", "/2015-03-31/functions/?MaxItems=5", b"", {},
     {"auth": botocore.auth.SigV4QueryAuth, "expires": 60, "token": "SESSION+/="}),
]

print(json.dumps([signed(*case) for case in CASES + S3], indent=1))
