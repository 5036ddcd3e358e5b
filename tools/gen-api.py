#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""From api/openapi.yaml: the table of routes (routes), the document as C text (openapi), the reference page (reference).

gen-api.py [--check] KIND api/openapi.yaml TARGET; --check writes nothing and fails when TARGET is out of date."""
import json
import re
import sys

import yaml

METHODS = ["get", "post", "patch", "put", "delete"]
HEAD = "/* SPDX-License-Identifier: Apache-2.0 */\n/* Generated from api/openapi.yaml by tools/gen-api.py. */\n"


def operations(doc):
    for path, item in doc["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method], item.get("parameters", [])


def place(path, method, op):
    """Which host of a pool carries it out: x-at, else what the path names, for all that is more than reading records."""
    at = op.get("x-at")
    if at is None and method != "get" and op["x-role"] not in ("peer", "none"):
        at = "vm" if "{vm}" in path else "host" if "{host}" in path else None
    return f"ROUTE_AT_{(at or 'here').upper()}"


def routes(doc):
    rows = []
    for path, method, op, _ in operations(doc):
        kind = "ROUTE_WEBSOCKET" if op.get("x-websocket") else "ROUTE_STREAM" if op.get("x-stream") else "ROUTE_PLAIN"
        handler = "NULL" if op.get("x-websocket") else f"api_{op['operationId']}"
        role = f"ROLE_{op['x-role'].upper()}"
        # A fixed word goes before a variable in the same place: "/v1/images/latest".
        order = [segment.startswith("{") for segment in path.split("/")]
        rows.append((order, f'\t{{ "{method.upper()}", "{path}", {role}, {kind}, {place(path, method, op)}, {handler} }},\n'))
    rows.sort(key=lambda r: r[0])
    return HEAD + '#include "api/route.h"\n#include "api/handlers.h"\n\nconst Route routes[] = {\n' + "".join(r[1] for r in rows) + \
        "};\nconst size_t n_routes = G_N_ELEMENTS(routes);\n"


def openapi(doc):
    text = json.dumps(doc, separators=(",", ":"), default=str)
    pieces = [text[i:i + 1000] for i in range(0, len(text), 1000)]
    lines = "".join("\t" + json.dumps(p, ensure_ascii=True) + "\n" for p in pieces)
    return HEAD + "#pragma once\n\nstatic const char openapi_json[] =\n" + lines.rstrip("\n") + ";\n"


def resolve(doc, node):
    while "$ref" in node:
        at = doc
        for part in node["$ref"].lstrip("#/").split("/"):
            at = at[part]
        node = at
    return node


def schema_name(node):
    if "$ref" in node:
        return "`" + node["$ref"].rsplit("/", 1)[1] + "`"
    if node.get("type") == "array":
        return "list of " + schema_name(node.get("items", {}))
    if "enum" in node:
        return " \\| ".join(f"`{v}`" for v in node["enum"])
    return node.get("type", "object")


def reference(doc):
    out = ["# API reference", "", "Generated from `api/openapi.yaml`. " + " ".join(doc["info"]["description"].split()), ""]
    for tag in doc["tags"]:
        out += [f"## {tag['description']}", ""]
        for path, method, op, shared in operations(doc):
            if tag["name"] not in op["tags"]:
                continue
            out += [f"### `{method.upper()} {path}`", "", f"{op['summary']}. Role: {op['x-role']}.", ""]
            for p in [resolve(doc, p) for p in shared + op.get("parameters", [])]:
                out.append(f"- `{p['name']}` ({p['in']}): {schema_name(p['schema'])}" + (f". {p['description']}" if p.get("description") else ""))
            body = op.get("requestBody")
            if body:
                out.append("- body: " + schema_name(next(iter(body["content"].values()))["schema"]))
            for status, answer in op["responses"].items():
                answer = resolve(doc, answer)
                content = next(iter(answer.get("content", {"": {"schema": {"type": "nothing"}}}).values()))
                if status != "default":
                    out.append(f"- {status}: {schema_name(content['schema'])}")
            out.append("")
    out += ["## Types", ""]
    for name, schema in doc["components"]["schemas"].items():
        out += [f"### {name}", ""]
        if schema.get("description"):
            out += [schema["description"], ""]
        for part in [schema, *map(lambda s: resolve(doc, s), schema.get("allOf", []))]:
            for key, value in part.get("properties", {}).items():
                need = " (always there)" if key in part.get("required", []) else ""
                note = f". {value['description']}" if value.get("description") else ""
                out.append(f"- `{key}`: {schema_name(value)}{need}{note}")
        out.append("")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).rstrip() + "\n"


def main():
    check = sys.argv[1] == "--check"
    what, source, target = sys.argv[1 + check:4 + check]
    doc = yaml.safe_load(open(source, encoding="utf-8"))
    text = {"routes": routes, "openapi": openapi, "reference": reference}[what](doc)
    if check:
        if open(target, encoding="utf-8").read() != text:
            sys.exit(f"{target} is out of date: tools/gen-api.py {what} {source} {target}")
        return
    with open(target, "w", encoding="utf-8") as f:
        f.write(text)


if __name__ == "__main__":
    main()
