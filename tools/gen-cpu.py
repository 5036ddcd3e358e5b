#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""From src/core/cpu/facts.txt: the tables of CPU features as C.

gen-cpu.py src/core/cpu/facts.txt TARGET; what the facts contradict themselves in is refused with the line."""
import re
import sys

HEAD = "/* SPDX-License-Identifier: Apache-2.0 */\n/* Generated from src/core/cpu/facts.txt by tools/gen-cpu.py. */\n"
WORDS = 64
KINDS = ["and", "or", "always", "opt-in", "never"]
REGISTERS = ["eax", "ebx", "ecx", "edx"]
HALVES = {"lo": "WORD_MSR_LOW", "hi": "WORD_MSR_HIGH", "can": "WORD_MSR_CAN"}


class Facts:
    def __init__(self):
        self.words, self.features, self.reasons, self.edges, self.aliases = [], {}, {}, [], {}
        self.xsave = []
        self.at = {}  # id -> name, twins too


def normal(name):
    return name.lower().replace("_", "-")


def refuse(ok, what):
    if not ok:
        raise ValueError(what)


def add_word(facts, name, source, *where):
    refuse(len(facts.words) < WORDS, f"there are {WORDS} words at most")
    refuse(name not in [w[0] for w in facts.words], f"word {name} is there twice")
    if source == "cpuid":
        leaf, subleaf, register = where
        row = ("WORD_CPUID", int(leaf, 16), int(subleaf, 16), REGISTERS.index(register))
    elif source == "msr":
        index, half = where
        row = (HALVES[half], int(index, 16), 0, 0)
    else:
        refuse(source == "qemu" and not where, f"'{source}' is no place of a word")
        row = ("WORD_QEMU", 0, 0, 0)
    facts.words.append((name, *row))


def add_feature(facts, bit, name, *rest):
    refuse(facts.words, "a feature stands below its word")
    ident = 32 * (len(facts.words) - 1) + int(bit)
    refuse(0 <= int(bit) < 32 and ident not in facts.at, f"bit {bit} is taken or is none")
    facts.at[ident] = name
    if name in facts.features:
        refuse(facts.features[name]["twin"] is None, f"{name} has more than two bits")
        facts.features[name]["twin"] = ident
        return
    f = {"id": ident, "twin": None, "kind": "and", "since": 7, "why": None}
    for word in rest:
        if word in KINDS:
            f["kind"] = word
        elif m := re.fullmatch(r"since=(\d+)", word):
            f["since"] = int(m[1])
        elif m := re.fullmatch(r"why=(\S+)", word):
            refuse(m[1] in facts.reasons, f"there is no reason {m[1]}")
            f["why"] = m[1]
        else:
            refuse(False, f"'{word}' says nothing of a feature")
    refuse(f["kind"] == "and" or f["why"], f"{name} is {f['kind']} for no reason")
    facts.features[name] = f


def add_edges(facts, hard, feature, parents, source):
    for parent in parents.split(","):
        for name in (feature, parent):
            refuse(name in facts.features, f"there is no feature {name}")
        edge = (feature, parent)
        same = [e for e in facts.edges if e[:2] == edge and e[2] == hard]
        if same:
            facts.edges.remove(same[0])
            source = f"{same[0][3]}, {source}"
        facts.edges.append((feature, parent, hard, source))


def add_alias(facts, alias, feature):
    refuse(feature in facts.features, f"there is no feature {feature}")
    refuse(alias == normal(alias) and alias not in facts.aliases, f"{alias} is not normal, or there twice")
    refuse(alias not in [normal(f) for f in facts.features], f"{alias} is a feature's own name")
    facts.aliases[alias] = feature


def read_line(facts, line):
    kind, *rest = line.split()
    if kind == "word":
        add_word(facts, *rest)
    elif kind.isdigit():
        add_feature(facts, kind, *rest)
    elif kind == "reason":
        facts.reasons[rest[0]] = " ".join(rest[1:])
    elif kind == "xsave":
        refuse(rest[1] in facts.features, f"there is no feature {rest[1]}")
        facts.xsave.append((int(rest[0]), rest[1]))
    elif kind in ("needs", "joins"):
        add_edges(facts, kind == "needs", *rest)
    else:
        refuse(kind == "alias", f"'{kind}' begins no line")
        add_alias(facts, *rest)


def read(path):
    facts = Facts()
    with open(path, encoding="utf-8") as f:
        for n, line in enumerate(f, 1):
            if not line.strip() or line.startswith("#"):
                continue
            try:
                read_line(facts, line)
            except (ValueError, TypeError, KeyError) as e:
                sys.exit(f"{path}:{n}: {e}")
    return facts


def dependents(facts, soft):
    """Parents, each behind the parents that need it, with all that falls with them: the nearest ones see a
    missing feature first, and are told as its cause."""
    children = {}
    for feature, parent, hard, _ in facts.edges:
        if hard or soft:
            children.setdefault(parent, []).append(feature)
    order, below, path = [], {}, []

    def visit(name):
        if name in path:
            sys.exit(f"a circle of dependencies: {' '.join(path + [name])}")
        if name in below:
            return
        path.append(name)
        found = set()
        for child in children.get(name, []):
            visit(child)
            found |= {child} | below[child]
        path.pop()
        below[name] = found
        if found:
            order.append(name)
    for name in sorted(children):
        visit(name)
    return [(name, sorted(below[name], key=lambda f: facts.features[f]["id"])) for name in order]


def text(s):
    return "NULL" if s is None else '"' + s.replace("\\", "\\\\").replace('"', '\\"') + '"'


def mask(facts, wanted):
    words = [0] * WORDS
    for f in facts.features.values():
        if wanted(f):
            words[f["id"] // 32] |= 1 << f["id"] % 32
    return "{ { " + ", ".join(f"{w:#010x}" for w in words) + " } }"


def closure(facts, name, soft):
    parents = dependents(facts, soft)
    out, first = [f"static const FeatureId {name}_children[] = {{"], 0
    for _, kids in parents:
        out.append("\t" + " ".join(f"{facts.features[k]['id']}," for k in kids))
    out += ["};", f"const struct feature_fall {name}[] = {{"]
    for parent, kids in parents:
        out.append(f"\t{{ {facts.features[parent]['id']}, {len(kids)}, {name}_children + {first} }}, /* {parent} */")
        first += len(kids)
    return out + ["};", f"const size_t n_{name} = {len(parents)};"]


def write(facts):
    features = sorted(facts.features.items(), key=lambda item: item[1]["id"])
    out = ['#include "core/cpu/feature-impl.h"', "", "const struct feature_word feature_words[] = {"]
    out += [f"\t{{ {text(n)}, {kind}, {index:#x}, {sub}, {reg} }}," for n, kind, index, sub, reg in facts.words]
    out += ["};", f"const size_t n_feature_words = {len(facts.words)};", "", "const struct feature features[] = {"]
    for name, f in features:
        kind = "FEATURE_" + f["kind"].upper().replace("-", "_")
        twin = "FEATURE_NONE" if f["twin"] is None else f["twin"]
        out.append(f"\t{{ {text(name)}, {f['id']}, {twin}, {kind}, {f['since']}, {text(facts.reasons.get(f['why']))} }},")
    out += ["};", f"const size_t n_features = {len(features)};", "", f"const int16_t feature_place[{32 * WORDS}] = {{"]
    place = {f["id"]: n for n, (_, f) in enumerate(features)}
    for first in range(0, 32 * WORDS, 16):
        out.append("\t" + " ".join(f"{place.get(first + i, -1)}," for i in range(16)))
    spelling = {normal(name): f["id"] for name, f in features}
    spelling.update({alias: facts.features[name]["id"] for alias, name in facts.aliases.items()})
    out += ["};", "", "const struct feature_spelling feature_spellings[] = {"]
    out += [f"\t{{ {text(s)}, {i} }}," for s, i in sorted(spelling.items(), key=lambda item: item[0].encode())]
    out += ["};", f"const size_t n_feature_spellings = {len(spelling)};", "", "const struct feature_edge feature_edges[] = {"]
    edges = sorted(facts.edges, key=lambda e: (facts.features[e[0]]["id"], facts.features[e[1]]["id"]))
    for feature, parent, hard, source in edges:
        ids = f"{facts.features[feature]['id']}, {facts.features[parent]['id']}"
        out.append(f"\t{{ {ids}, {str(hard).lower()}, {text(source)} }}, /* {feature} {parent} */")
    out += ["};", f"const size_t n_feature_edges = {len(edges)};", ""]
    out += closure(facts, "feature_falls", False) + [""] + closure(facts, "feature_falls_soft", True) + [""]
    out += ["const struct xsave_component xsave_components[] = {"]
    out += [f"\t{{ {n}, {facts.features[name]['id']} }}, /* {name} */" for n, name in facts.xsave]
    out += ["};", f'G_STATIC_ASSERT({len(facts.xsave)} == CPU_XSAVE_COMPONENTS);', ""]
    out += [f"const struct cpu_bits feature_known = {mask(facts, lambda f: True)};",
            f"const struct cpu_bits feature_of_qemu7 = {mask(facts, lambda f: f['since'] == 7)};"]
    out += [f"const struct cpu_bits feature_of_kind[] = {{"]
    out += [f"\t{mask(facts, lambda f, k=k: f['kind'] == k)}, /* {k} */" for k in KINDS] + ["};"]
    return HEAD + "\n".join(out) + "\n"


def main():
    source, target = sys.argv[1:]
    made = write(read(source))
    with open(target, "w", encoding="utf-8") as f:
        f.write(made)


if __name__ == "__main__":
    main()
