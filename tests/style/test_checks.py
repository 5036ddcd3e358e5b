#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The checks in tools/ refuse what they are there for: each rule is broken once, in a copy or in a tiny tree.

    tests/style/test_checks.py TOOLS SRC CC NM
"""
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

TOOLS, SRC, CC, NM = None, None, None, None
LICENCE = "/* SPDX-License-Identifier: Apache-2.0 */\n"


def run(tool, *args):
    """Exit status and output."""
    r = subprocess.run([sys.executable, TOOLS / tool, *map(str, args)], text=True, check=False,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return r.returncode, r.stdout


class Tree(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    def refused(self, says, tool, *args):
        status, out = run(tool, *args)
        self.assertEqual(status, 1, out)
        self.assertIn(says, out)

    def passes(self, tool, *args):
        status, out = run(tool, *args)
        self.assertEqual(status, 0, out)


class Advice(Tree):
    """With a plim of two commands."""

    def setUp(self):
        super().setUp()
        self.plim = self.write("plim", "#!/bin/sh\ncase $1 in\n"
                               "help) echo '  plim vm start NAME...    Start'; echo '  plim vm disk add NAME DISK   Add';;\n"
                               "*) echo '  -n, --dry-run   Say';;\nesac\n")
        self.plim.chmod(0o755)

    def advise(self, text):
        self.write("src/a.c", LICENCE + text)

    def test_commands_that_exist_pass(self):
        self.advise('f("Run `plim vm start %s` first.", "`plim vm %s " "%s --dry-run` and", "`plim vm " PRIu64 "disk add a`");\n')
        self.passes("check-advice.py", self.plim, self.root)

    def test_a_verb_that_does_not_exist_is_refused_wherever_it_stands(self):
        self.advise('f("Run `plim vm " "fly %s`.");\n')
        self.refused("src/a.c: `plim vm fly %s`: there is no such command", "check-advice.py", self.plim, self.root)
        self.advise('f("Run `plim vm start`.");\n')
        self.write("docs/a.md", "type `plim vm disk remove web1`\n")
        self.refused("docs/a.md: `plim vm disk remove web1`", "check-advice.py", self.plim, self.root)

    def test_an_option_that_does_not_exist_is_refused(self):
        self.advise('f("`plim vm start %s --force` ends it");\n')
        self.refused("it has no option --force", "check-advice.py", self.plim, self.root)

    def test_no_advice_at_all_is_a_mistake(self):
        self.advise("")
        self.refused("no advice was found", "check-advice.py", self.plim, self.root)


class Layers(Tree):
    """On a copy of the real sources, with one line added to one file."""

    def setUp(self):
        super().setUp()
        shutil.copytree(SRC, self.root / "src")

    def with_lines(self, lines):
        """Appends each line to its file; returns the places, as the check names them."""
        places = []
        for path, line in lines:
            file = self.root / "src" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            text = (file.read_text() if file.exists() else LICENCE) + line + "\n"
            file.write_text(text)
            places.append(f"src/{path}:{text.count(chr(10))}: ")
        return places

    def all_refused(self, lines):
        places = self.with_lines(lines)
        status, out = run("check-layers.py", self.root)
        self.assertEqual(status, 1)
        for place, line in zip(places, lines):
            self.assertIn("\n" + place, "\n" + out, line)
        self.assertEqual(len(out.splitlines()), len(lines), out)

    def test_the_sources_as_they_are_pass(self):
        self.passes("check-layers.py", self.root)

    def test_an_upward_include_alone_is_refused(self):
        self.all_refused([("core/plan/plan.c", '#include "store/store.h"')])

    def test_a_broken_layer_is_refused(self):
        self.write("src/api/x.h", LICENCE)
        self.write("src/engine/qmp_x.h", LICENCE)
        self.all_refused([
            ("base/str.c", '#include "store/store.h"'),
            ("core/plan/plan.c", '#include "store/store.h"'),
            ("core/plan/plan.c", '#include "base/fd.h"'),
            ("core/plan/plan.c", '#include "base/loop.h"'),
            ("store/store.c", '#include "core/plan/plan.h"'),
            ("engine/x.c", '#include "store/store-impl.h"'),
            ("engine/x.c", '  #  include "api/x.h"'),
            ("api/x.c", '#include "engine/qmp_x.h"'),
            ("cli/x.c", '#include "core/plan/plan.h"'),
            ("cli/x.c", '#include "store/store.h"'),
            ("store/store.c", '#include "store/../core/plan/plan.h"'),
            ("store/store.c", '#include "store-impl.h"'),
            ("store/store.c", '#include "store/no-such.h"'),
            ("store/store.c", "#include HEADER"),
        ])

    def test_a_library_in_the_wrong_place_is_refused(self):
        self.all_refused([(path, f"#include <{header}>") for path, header in [
            ("core/x.c", "stdio.h"), ("core/x.c", "time.h"), ("core/x.c", "errno.h"), ("core/x.c", "pthread.h"),
            ("core/x.c", "unistd.h"), ("core/x.c", "sys/socket.h"), ("core/x.c", "stdlib.h"),
            ("engine/x.c", "sqlite3.h"), ("engine/x.c", "jansson.h"), ("base/x.c", "sqlite3.h"),
            ("base/str.c", "jansson.h"), ("api/x.c", "wslay/wslay.h"), ("cli/x.c", "wslay/wslay.h"),
            ("api/x.c", "curl/curl.h"), ("engine/x.c", "systemd/sd-event.h"), ("cli/x.c", "libmnl/libmnl.h"),
            ("cli/x.c", "curl/curl.h"),
            ("engine/x.c", "gio/gio.h"), ("engine/x.c", "json-c/json.h"), ("store/x.c", "libpq-fe.h"),
        ]])

    def test_a_library_in_its_place_passes(self):
        self.with_lines([(path, f"#include <{header}>") for path, header in [
            ("api/http_ws.c", "wslay/wslay.h"), ("base/ws.c", "wslay/wslay.h"), ("store/x.c", "curl/curl.h"),
            ("engine/x.c", "sys/socket.h"), ("core/x.c", "string.h"),
        ]])
        self.passes("check-layers.py", self.root)

    def test_a_file_outside_the_layers_is_refused(self):
        self.write("src/util/x.c", LICENCE)
        self.refused("src/util/x.c: belongs to no layer", "check-layers.py", self.root)

    def test_nothing_to_check_is_no_success(self):
        shutil.rmtree(self.root / "src")
        self.assertNotEqual(run("check-layers.py", self.root)[0], 0)


class Purity(Tree):
    def library(self, code):
        source = self.write("x.c", code)
        subprocess.run([*CC, "-O0", "-w", "-c", source, "-o", self.root / "x.o"], check=True)
        return self.root / "x.o"

    def test_what_only_computes_passes(self):
        self.passes("check-purity.py", "--nm", NM, self.library("""
            unsigned long strlen(const char *); int g_str_has_prefix(const char *, const char *);
            void *json_object(void); int fail(void *, int, const char *, ...);
            int mine(void) { return 1; }
            int f(const char *s) {
                return strlen(s) && g_str_has_prefix(s, "a") && json_object() && mine() && fail(0, 1, s);
            }"""))

    def test_what_does_more_is_refused(self):
        names = """
            fopen open write printf time clock_gettime gettimeofday rand random getrandom pthread_create
            pthread_mutex_lock __errno_location system getenv setlocale strerror malloc_hook exit sqlite3_open
            sd_event_new g_log g_print g_get_real_time g_get_monotonic_time g_date_time_new_now_utc g_random_int
            g_rand_new g_uuid_string_random g_file_get_contents g_getenv g_thread_new g_mutex_lock
            g_once_init_enter g_spawn_sync g_strerror g_canonicalize_filename g_usleep json_load_file
            json_dump_file json_loadfd json_object_seed fail_errno file_read time_real time_stamp uuid_new
            random_bytes log_line loop_post worker_pool_push dir_sync
        """.split()
        calls = "\n".join(f"int {name}(); int call_{name}(void) {{ return {name}(); }}" for name in names)
        status, out = run("check-purity.py", "--nm", NM, self.library(calls))
        self.assertEqual(status, 1)
        self.assertEqual(sorted(line.split(" uses ")[1] for line in out.splitlines()), sorted(names))

    def test_real_calls_are_refused(self):
        self.refused("uses fopen", "check-purity.py", "--nm", NM, self.library(
            '#include <stdio.h>\nint f(void) { return fopen("/etc/passwd", "r") != 0; }'))
        self.refused("uses time", "check-purity.py", "--nm", NM, self.library(
            "#include <time.h>\nlong f(void) { return time(0); }"))
        self.refused("uses __errno_location", "check-purity.py", "--nm", NM, self.library(
            "#include <errno.h>\nint f(void) { return errno; }"))

    def test_an_empty_library_is_no_success(self):
        self.refused("defines nothing", "check-purity.py", "--nm", NM, self.library(""))


HEADER = LICENCE + "/* What this header is for, in a sentence. */\n#pragma once\n\nint f(void);\n"


class Style(Tree):
    def setUp(self):
        super().setUp()
        self.write("src/a.c", LICENCE + '#include "a.h"\n\nint f(void)\n{\n\treturn 1;\n}\n')
        self.write("src/a.h", HEADER)
        self.write("meson.build", "# SPDX-License-Identifier: Apache-2.0\nproject('x', 'c')\n")

    def test_good_files_pass(self):
        for check in ("text", "functions"):
            self.passes("check-style.py", check, self.root)

    def test_bad_text_is_refused(self):
        bad = [
            ("src/licence.c", "int x;\n", ":1: lacks its first line"),
            ("src/licence.h", HEADER.replace(LICENCE, ""), ":1: lacks its first line"),
            ("tools/licence.py", "#!/usr/bin/env python3\nprint()\n", ":1: lacks its first line"),
            ("quickstart", "#!/bin/sh\ntrue\n", ":1: lacks its first line"),
            ("tests/x/meson.build", "test()\n", ":1: lacks its first line"),
            ("src/space.c", LICENCE + "int x; \n", ":2: trailing white space"),
            ("src/return.c", LICENCE + "int x;\r\n", ":2: trailing white space"),
            ("src/end.c", LICENCE + "int x;", ":2: ends with exactly one newline"),
            ("src/ends.c", LICENCE + "int x;\n\n", ":4: ends with exactly one newline"),
            ("src/bytes.c", LICENCE.encode() + b"/* \xff */\n", ":1: is not UTF-8"),
            ("src/long.c", LICENCE + "int x;\n" * 1500, ":1502: has 1501 lines"),
            ("src/comment.h", LICENCE + "#pragma once\n\nint f(void);\n", ":2: a header's first comment"),
            ("src/once.h", HEADER.replace("#pragma once", "#include <x.h>"), ":1: a header begins with"),
        ]
        for path, text, _ in bad:
            self.write(path, text)
        status, out = run("check-style.py", "text", self.root)
        self.assertEqual(status, 1)
        for path, _, says in bad:
            self.assertIn(path + says, out)
        self.assertEqual({line.split(":")[0] for line in out.splitlines()}, {path for path, _, _ in bad})

    def test_inputs_of_tests_are_exempt(self):
        self.write("tests/fuzz/corpus/x.c", "no licence ")
        self.write("tests/data/x.h", "")
        self.write("src/api.gen.c", "int x; ")
        self.passes("check-style.py", "text", self.root)

    def function(self, body):
        return LICENCE + "int f(int x)\n{\n" + body + "\treturn x;\n}\n"

    def test_long_function_is_refused(self):
        self.write("src/b.c", self.function("\tx++;\n" * 90))
        self.passes("check-style.py", "functions", self.root)
        self.write("src/b.c", self.function("\tx++;\n" * 100))
        self.refused("src/b.c(2): f has", "check-style.py", "functions", self.root)

    def test_complex_function_is_refused(self):
        self.write("src/b.c", self.function("\tif (x)\n\t\tx++;\n" * 24))
        self.passes("check-style.py", "functions", self.root)
        self.write("src/b.c", self.function("\tif (x)\n\t\tx++;\n" * 25))
        self.refused("f has complexity 26", "check-style.py", "functions", self.root)

    def test_bad_format_is_refused(self):
        shutil.copy(TOOLS.parent / ".clang-format", self.root)
        status, out = run("check-style.py", "format", self.root)
        if status == 77:
            self.skipTest(out)
        self.assertEqual(status, 0, out)
        self.write("src/b.c", LICENCE + "int   f(void) {\n  return 1; }\n")
        self.refused("src/b.c:2", "check-style.py", "format", self.root)

    def test_nothing_to_check_is_no_success(self):
        shutil.rmtree(self.root / "src")
        (self.root / "meson.build").unlink()
        self.assertNotEqual(run("check-style.py", "text", self.root)[0], 0)


if __name__ == "__main__":
    TOOLS, SRC = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    CC, NM = sys.argv[3].split("|"), sys.argv[4]
    unittest.main(argv=sys.argv[:1], verbosity=2)
