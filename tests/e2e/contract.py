# SPDX-License-Identifier: Apache-2.0
"""api/openapi.yaml as a judge: every exchange must be one that it describes."""
import json
import pathlib
import re

import jsonschema
import yaml

FILE = pathlib.Path(__file__).resolve().parents[2] / "api" / "openapi.yaml"
METHODS = ("get", "post", "put", "patch", "delete")


def as_json_schema(node):
    """OpenAPI 3.0 says `nullable: true` where JSON Schema has the type null."""
    if isinstance(node, list):
        return [as_json_schema(n) for n in node]
    if not isinstance(node, dict):
        return node
    node = {key: as_json_schema(value) for key, value in node.items()}
    if node.pop("nullable", None) is True:
        return {"anyOf": [{"type": "null"}, node]}
    return node


class Contract:
    def __init__(self):
        self.document = as_json_schema(yaml.safe_load(FILE.read_text(encoding="utf-8")))
        self.resolver = jsonschema.RefResolver("", self.document)
        self.routes = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), path) for path in self.document["paths"]]

    def deref(self, node):
        while "$ref" in node:
            node = self.resolver.resolve(node["$ref"])[1]
        return node

    def route(self, method, path):
        """The path of the description, or None when there is no such route. The most literal one wins."""
        found = [route for pattern, route in self.routes if pattern.fullmatch(path)]
        for route in sorted(found, key=lambda r: r.count("{")):
            if method.lower() in self.document["paths"][route]:
                return route
        return None

    def operation(self, method, path):
        route = self.route(method, path)
        return self.document["paths"][route][method.lower()] if route is not None else None

    def judge(self, method, path, status, content_type, body):
        """`body` is parsed JSON, or bytes. Raises AssertionError where the description says otherwise."""
        what = f"{method} {path} answered {status} {content_type}"
        operation = self.operation(method, path)
        if operation is None:
            assert status in (404, 405), f"{what}, but openapi.yaml has no such route"
            self.check(what, {"$ref": "#/components/schemas/Error"}, body)
            return
        responses = operation["responses"]
        assert str(status) in responses or status >= 400, f"{what}: that status is not described"
        response = self.deref(responses.get(str(status)) or responses["default"])
        content = response.get("content", {})
        assert not content or content_type in content, f"{what}: only {list(content)} are described"
        if content_type == "application/json" and content:
            self.check(what, content[content_type]["schema"], body)

    def judge_request(self, method, path, query, body):
        """Of a request that was taken: `query` is {name: [value, ...]}, `body` the bytes that were sent."""
        what = f"{method} {path}"
        operation = self.operation(method, path)
        common = self.document["paths"][self.route(method, path)].get("parameters", [])
        described = {p["name"] for p in map(self.deref, common + operation.get("parameters", [])) if p["in"] == "query"}
        unknown = set(query) - described
        assert not unknown, f"{what} took the parameters {sorted(unknown)}, which openapi.yaml does not describe"
        wanted = self.deref(operation.get("requestBody", {}))
        if not body:
            assert not wanted.get("required"), f"{what} took no body, where openapi.yaml demands one"
            return
        assert wanted, f"{what} took a body that openapi.yaml does not describe"
        self.check(f"the request {what}", wanted["content"]["application/json"]["schema"], json.loads(body))

    def check(self, what, schema, body):
        validator = jsonschema.Draft7Validator(schema, resolver=self.resolver)
        wrong = [f"{'/'.join(map(str, e.absolute_path)) or 'body'}: {e.message[:400]}" for e in validator.iter_errors(body)]
        assert not wrong, f"{what}: not as openapi.yaml describes it:\n" + "\n".join(wrong)
