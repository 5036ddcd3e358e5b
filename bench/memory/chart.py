# SPDX-License-Identifier: Apache-2.0
"""The picture of bench/memory/memory.py: lines over the memory of all sessions, one figure below the other. SVG, no libraries."""
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, GAP = 860, 220, 80, 30, 70, 60
COLOURS = {"fixed": "#b0413e", "dynamic": "#2f6f8f"}
FIGURES = (("Requests in a second", "per_second", 1), ("Latency of a request, ms", "latency_ms", 1),
           ("Memory of the guest, MiB", "total_kib", 1024), ("Swapped out, MiB", "swapped_kib", 1024))


def text(x, y, words, size=13, weight="normal", anchor="start", colour="#222"):
    return (f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{colour}">'
            f'{escape(words)}</text>')


def figure(results, session, y, title, key, unit):
    most = max(r[key] for rows in results.values() for r in rows) / unit or 1
    last = max(r["sessions"] for rows in results.values() for r in rows)
    out = [text(LEFT, y - 8, title, 14, "bold"),
           f'<rect x="{LEFT}" y="{y}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT}" fill="none" stroke="#ccc"/>']
    for part in range(5):
        at = y + HEIGHT - part / 4 * HEIGHT
        out.append(text(LEFT - 8, at + 4, f"{most * part / 4:,.0f}", 11, anchor="end", colour="#666"))
    for part in range(5):
        out.append(text(LEFT + part / 4 * (WIDTH - LEFT - RIGHT), y + HEIGHT + 16, f"{last * session * part // 4} MiB", 11,
                        anchor="middle", colour="#666"))
    for way, rows in results.items():
        points = " ".join(f"{LEFT + r['sessions'] / last * (WIDTH - LEFT - RIGHT):.1f},{y + HEIGHT - r[key] / unit / most * HEIGHT:.1f}"
                          for r in rows)
        out.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[way]}" stroke-width="2"/>')
    return out


def draw(results, session):
    """{way: [{sessions, per_second, latency_ms, total_kib, swapped_kib}]} as SVG."""
    out = [text(16, 28, "A server whose sessions grow: fixed and dynamic memory", 19, "bold")]
    for n, (way, colour) in enumerate(COLOURS.items()):
        out.append(text(16 + n * 120, 48, way, 13, "bold", colour=colour))
    y = TOP + 10
    for title, key, unit in FIGURES:
        out += figure(results, session, y, title, key, unit)
        y += HEIGHT + GAP
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" '
            'font-family="sans-serif" role="img" aria-label="Requests, latency, memory and swap of a guest with fixed and one '
            'with dynamic memory">')
    return "\n".join([head, f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>', *out, "</svg>"]) + "\n"
