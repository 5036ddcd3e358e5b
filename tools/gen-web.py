#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Puts the pages into the program: gen-web.py WEB OUT.c OUT_FOLDER NAME...

The files are taken by the assembler (.incbin), as they are and compressed, and
found by a table. The compressed ones are made in OUT_FOLDER.
"""

import gzip
import pathlib
import sys

PIECE = """\t".balign 16\\n.global web_{kind}_{i}, web_{kind}_{i}_end\\nweb_{kind}_{i}:\\n.incbin \\"{path}\\"\\nweb_{kind}_{i}_end:\\n"
"""


def main():
    web, out, folder = map(pathlib.Path, sys.argv[1:4])
    names = sys.argv[4:]
    pieces, declarations, rows = [], [], []
    for i, name in enumerate(names):
        source = (web / name).resolve()
        packed = (folder / f"{name.replace('/', '-')}.gz").resolve()
        packed.write_bytes(gzip.compress(source.read_bytes(), 9, mtime=0))
        for kind, path in (("text", source), ("gzip", packed)):
            pieces.append(PIECE.format(kind=kind, i=i, path=path))
            declarations.append(f"extern const char web_{kind}_{i}[], web_{kind}_{i}_end[];\n")
        rows.append(f'\t{{ "{name}", web_text_{i}, web_text_{i}_end, web_gzip_{i}, web_gzip_{i}_end }},\n')
    out.write_text('#include "api/web-files.h"\n\n#include <stddef.h>\n\n__asm__(\n\t".pushsection .rodata\\n"\n' + "".join(pieces) +
                   '\t".popsection\\n");\n\n' + "".join(declarations) +
                   "\nconst struct web_file web_files[] = {\n" + "".join(rows) + "\t{ NULL, NULL, NULL, NULL, NULL },\n};\n")


if __name__ == "__main__":
    main()
