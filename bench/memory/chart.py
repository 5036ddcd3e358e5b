# SPDX-License-Identifier: Apache-2.0
"""The picture of bench/memory/memory.py: lines over time, one figure below the other. SVG, no libraries."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, GAP = 860, 190, 76, 24, 104, 58
ACROSS = WIDTH - LEFT - RIGHT
COLOURS = {"fixed": "#b0413e", "dynamic": "#2f6f8f"}
# title, lines: (key, dashes), logarithmic
FIGURES = (("Transactions in a second", (("per_second", ""),), False),
           ("Latency, ms (line: median, dashes: 99th percentile; logarithmic)", (("p50_ms", ""), ("p99_ms", "6 4")), True),
           ("Memory of the guest, MiB", (("memory_mib", ""),), False),
           ("Swapped out by the guest, MiB", (("swapped_mib", ""),), False))


def text(x, y, words, size=13, weight="normal", anchor="start", colour="#222"):
    return (f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{colour}">'
            f'{escape(words)}</text>')


def line(points, colour, dashes=""):
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    extra = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="2"{extra}/>'


def round_step(most):
    """The least of 1, 2, 5 times a power of ten of which five reach `most`."""
    power = 10 ** math.floor(math.log10(max(most, 1) / 5))
    return next(n * power for n in (1, 2, 5, 10) if n * power * 5 >= most)


def scale_of(values, logarithmic):
    """([marks], value -> 0..1)"""
    if logarithmic:
        least, most = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        most = max(most, least + 1)
        return [10 ** n for n in range(least, most + 1)], lambda v: (math.log10(v) - least) / (most - least)
    step = round_step(max(values))
    return [n * step for n in range(6)], lambda v: v / (5 * step)


def figure(results, y, title, lines, logarithmic):
    values = [r[key] for rows in results.values() for r in rows for key, _ in lines if r[key] is not None]
    marks, height_of = scale_of(values, logarithmic)
    last = max(r["seconds"] for rows in results.values() for r in rows)
    out = [text(LEFT, y - 8, title, 14, "bold")]
    for mark in marks:
        at = y + HEIGHT * (1 - height_of(mark))
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
        out.append(text(LEFT - 8, at + 4, f"{mark:,.0f}", 11, anchor="end", colour="#555"))
    for at in range(0, last + 1, 20):
        out.append(text(LEFT + at / last * ACROSS, y + HEIGHT + 15, f"{at} s", 11, anchor="middle", colour="#555"))
    for way, rows in results.items():
        for key, dashes in lines:
            points = [(LEFT + r["seconds"] / last * ACROSS, y + HEIGHT * (1 - height_of(r[key]))) for r in rows if r[key] is not None]
            out.append(line(points, COLOURS[way], dashes))
    return out


def clients(results):
    """How many there were, above the first figure."""
    rows = next(iter(results.values()))
    every = max(1, len(rows) // 8)
    return [text(LEFT, TOP - 34, "Clients:", 11, colour="#555"),
            *(text(LEFT + r["seconds"] / rows[-1]["seconds"] * ACROSS, TOP - 34, str(r["clients"]), 11, anchor="middle", colour="#555")
              for r in rows[every - 1::every])]


def draw(results):
    """{way: rows of memory.py} as SVG."""
    out = [text(16, 28, "An Apache under growing load, with fixed and with dynamic memory", 19, "bold")]
    for n, (way, colour) in enumerate(COLOURS.items()):
        out.append(line([(16 + n * 130, 46), (44 + n * 130, 46)], colour))
        out.append(text(50 + n * 130, 50, way, 13, "bold", colour=colour))
    out += clients(results)
    y = TOP
    for title, lines, logarithmic in FIGURES:
        out += figure(results, y, title, lines, logarithmic)
        y += HEIGHT + GAP
    y -= GAP - 30
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" '
            'font-family="sans-serif" role="img" aria-label="Transactions, latency, memory and swap over time of an Apache with '
            'fixed and one with dynamic memory">')
    return "\n".join([head, f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>', *out, "</svg>"]) + "\n"
