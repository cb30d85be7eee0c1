"""A Kafka cluster, its producer and its consumer: librdkafka, as `confluent-kafka` brings it.

The cluster is librdkafka's own, which speaks Kafka's protocol to every client; Tangelo comes to it by doors (`door.py`). Given are
topics, of four partitions each, and with `--secure CERTIFICATE KEY USER PASSWORD` what its doors ask for. What the test says, a line
of JSON each: `{"produce": topic, "records": [{"key", "value", "headers", "partition"}…]}`, `{"consume": topic, "count": n}`,
`{"away": true}`, `{"lose": n}`: the next answers to whoever writes, `{"most": bytes}` of one request to write.
"""
import base64, json, sys, time
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from door import Door

arguments = sys.argv[1:]
secure = arguments[1:5] if arguments[:1] == ["--secure"] else None
topics = arguments[5:] if secure else arguments

home = Producer({"test.mock.num.brokers": 2, "bootstrap.servers": "unused", "log_level": 0})
ports = [b.port for b in home.list_topics(timeout=10).brokers.values()]
servers = ",".join(f"127.0.0.1:{port}" for port in ports)
doors = {port: Door(port, tls=secure and secure[:2], login=secure and tuple(secure[2:])) for port in ports}
for door in doors.values():
    door.doors = doors
entrance = ",".join(f"127.0.0.1:{door.port}" for door in doors.values())
outside = {"bootstrap.servers": servers, "log_level": 0}
if secure:
    # Kafka's own client comes by the doors, too: they ask for what a broker asks for.
    outside = {"bootstrap.servers": entrance, "log_level": 0, "security.protocol": "SASL_SSL", "ssl.ca.location": secure[0],
               "sasl.mechanism": "SCRAM-SHA-256", "sasl.username": secure[2], "sasl.password": secure[3]}
producer = Producer({**outside, "partitioner": "murmur2_random", "message.max.bytes": 20_000_000})
for topic in topics:
    # The cluster makes a topic that it is asked about.
    while len(producer.list_topics(topic, timeout=10).topics[topic].partitions) != 4:
        time.sleep(0.05)
print(json.dumps({"brokers": entrance.split(",")}), flush=True)

def shown(value):
    if value is None: return None
    try: return value.decode()
    except UnicodeDecodeError: return {"base64": base64.b64encode(value).decode()}

def produce(topic, records):
    placed = []
    for one in records:
        where = {} if one.get("partition") is None else {"partition": one["partition"]}
        value = one.get("value")
        if isinstance(value, int): value = "x" * value
        producer.produce(topic, key=one.get("key"), value=value, headers=list(one.get("headers", {}).items()),
                         on_delivery=lambda error, record: placed.append({"error": error and str(error), "partition": record.partition(), "offset": record.offset()}), **where)
    producer.flush(20)
    return placed

def consume(topic, count):
    # A consumer whose first connections went wrong may stay silent for a minute; a new one does not.
    for _ in range(3):
        records = consumed(topic, count)
        if len(records) >= count:
            break
    return records

def consumed(topic, count):
    consumer = Consumer({**outside, "group.id": "test", "auto.offset.reset": "earliest", "enable.auto.commit": False, "fetch.message.max.bytes": 20_000_000, "fetch.max.bytes": 50_000_000, "receive.message.max.bytes": 60_000_000})
    consumer.assign([TopicPartition(topic, n, 0) for n in range(4)])
    records, until, quiet = [], time.monotonic() + 25, None
    # Until there are so many and half a second nothing more.
    while time.monotonic() < until and not (quiet and time.monotonic() > quiet):
        record = consumer.poll(0.1)
        if record is not None and record.error() is None:
            headers = {name: shown(value) for name, value in record.headers() or []}
            records.append({"key": shown(record.key()), "value": shown(record.value()), "headers": headers, "partition": record.partition(), "offset": record.offset()})
            quiet = None
        elif len(records) >= count:
            quiet = quiet or time.monotonic() + 0.5
    consumer.close()
    return records

for line in sys.stdin:
    asked = json.loads(line)
    if "produce" in asked:
        answer = produce(asked["produce"], asked["records"])
    elif "consume" in asked:
        answer = consume(asked["consume"], asked["count"])
    elif "most" in asked:
        for door in doors.values(): door.most = asked["most"]
        answer = {}
    elif "lose" in asked:
        for door in doors.values(): door.losing = asked["lose"]
        answer = {}
    else:
        for door in doors.values():
            if asked["away"]: door.leave()
            else: door.away = False
        answer = {}
    print(json.dumps(answer), flush=True)
