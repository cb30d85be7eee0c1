// Answers `GET /hello?name=…` with a greeting: an AWS Lambda handler for API Gateway's payload 2.0.

export async function handler(event) {
  const name = event.queryStringParameters?.name ?? "world";
  console.log(`greeting ${name}`);
  return {
    statusCode: 200,
    headers: { "content-type": "text/plain; charset=utf-8" },
    body: `Hello, ${name}!\n`,
  };
}
