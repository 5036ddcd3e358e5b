# SPDX-License-Identifier: Apache-2.0
"""The picture of bench/density/density.py: for each guest and figure one row of bars, a bar for each way. SVG, no libraries."""
from xml.sax.saxutils import escape

MIB = 1 << 20
WIDTH, LEFT, RIGHT, BAR, GAP = 860, 250, 90, 18, 6
COLOURS = {"QEMU's defaults": "#b0413e", "libvirt, virt-install's devices": "#c99a2e", "Plimsoll": "#2f6f8f"}
FIGURES = (
    ("Wakeups of an idle guest's QEMU, in 30 s", "wakeups", 1, "{:,.0f}"),
    ("CPU of an idle guest's QEMU, ms in 30 s", "cpu_ms", 1, "{:,.1f}"),
    ("Memory that QEMU takes beside the guest's own, MiB", "overhead", MIB, "{:,.1f}"),
)


def text(x, y, words, size=13, weight="normal", anchor="start", colour="#222"):
    return (f'<text x="{x:.0f}" y="{y}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="{colour}">'
            f'{escape(words)}</text>')


def bars(results, y, key, unit, form):
    """The bars of one figure, and where the next one begins."""
    most = max(r[key] for r in results) or 1
    out = []
    for r in results:
        length = max(1, r[key] / most * (WIDTH - LEFT - RIGHT))
        out.append(text(LEFT - 8, y + BAR - 5, r["way"], anchor="end"))
        out.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{COLOURS.get(r["way"], "#777")}"/>')
        out.append(text(LEFT + length + 6, y + BAR - 5, form.format(r[key] / unit)))
        y += BAR + GAP
    return out, y + 10


def caption(group):
    """What the bars can't show: how many there were."""
    counts = ", ".join(f"{r['way']} {r['started']} of {r['asked']}" for r in group)
    return f"Guests started: {counts}"


def draw(results, machine):
    out, y = [], 34
    out.append(text(16, y, "Idle guests side by side", 19, "bold"))
    out.append(text(16, y + 20, f"bench/density/density.py on {machine}", 12, colour="#666"))
    y += 52
    for guest in dict.fromkeys(r["guest"] for r in results):
        group = [r for r in results if r["guest"] == guest]
        out.append(text(16, y, f"Guest: {guest}", 16, "bold"))
        out.append(text(16, y + 18, caption(group), 12, colour="#666"))
        y += 40
        for title, key, unit, form in FIGURES:
            out.append(text(16, y + 2, title, 13, "bold"))
            more, y = bars(group, y + 12, key, unit, form)
            out += more
            y += 12
        y += 10
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" '
            'font-family="sans-serif" role="img" aria-label="Idle guests: wakeups, CPU and memory of three ways">')
    return "\n".join([head, f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>', *out, "</svg>"]) + "\n"
