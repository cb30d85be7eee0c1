"""A second validator: of each line `{"files": {PATH: SCHEMA}, "of": PATH, "values": […]}` the pointers of what is wrong with each value."""

import json
import sys

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

BASE = "https://contracts.example/"


def pointer(path):
    steps = [str(step).replace("~", "~0").replace("/", "~1") for step in path]
    return "".join(f"/{step}" for step in steps)


for line in sys.stdin:
    asked = json.loads(line)
    files = [(BASE + path, Resource(schema, DRAFT202012)) for path, schema in asked["files"].items()]
    validator = Draft202012Validator({"$ref": BASE + asked["of"]}, registry=Registry().with_resources(files))
    answers = [sorted({pointer(error.absolute_path) for error in validator.iter_errors(value)}) for value in asked["values"]]
    print(json.dumps(answers), flush=True)
