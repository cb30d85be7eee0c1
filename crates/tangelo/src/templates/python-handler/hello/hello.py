"""Answers `GET /hello?name=…` with a greeting: an AWS Lambda handler for API Gateway's payload 2.0."""


def handler(event, context):
    name = (event.get("queryStringParameters") or {}).get("name", "world")
    print(f"greeting {name}")
    return {
        "statusCode": 200,
        "headers": {"content-type": "text/plain; charset=utf-8"},
        "body": f"Hello, {name}!\n",
    }
