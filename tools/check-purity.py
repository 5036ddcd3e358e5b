#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Refuse a library that could do I/O, read a clock, draw random numbers, see errno or use threads.

    tools/check-purity.py [--nm NM] LIBRARY...

What a library calls and does not define itself must be in one of the families below. That is a list of what
is allowed: a function nobody thought of is refused. A helper of base is listed only if it does no more than
compute.
"""
import argparse
import re
import subprocess
import sys

# Wins over the families: members of a pure family that are not pure.
NEVER = """
    g_strerror g_strsignal g_string_random.* g_date_time_new_now.* g_date_time_new_from_timeval.*
    g_bytes_new_from_.*file.* g_checksum_new_file g_uuid_string_random g_hash_table_new_similar_file
    json_load_file json_loadf json_loadfd json_load_callback json_dump_file json_dumpf json_dumpfd
    json_dump_callback json_object_seed fail_errno
"""

FAMILIES = {
    "memory and strings of C": """
        mem(cpy|move|set|cmp|chr|rchr|mem) explicit_bzero str(n?len|n?cmp|n?casecmp|r?chr|chrnul|str|casestr|c?spn|pbrk)
        __(mem|str|st)\\w+_chk qsort g_qsort_with_data bsearch abort __assert_fail __ctype_\\w+_loc isnan isinf bcmp
        (fabs|floor|ceil|round|trunc|lround|llround|fmod|sqrt|pow|log2|log10|log|exp)f?
    """,
    "what the compiler adds": """
        __stack_chk_fail _GLOBAL_OFFSET_TABLE_ __u?(div|mod|divmod)(di|ti)3 __mulo?ti4 __popcountdi2
        __tls_get_addr __(asan|ubsan|tsan|sanitizer|sancov|gcov|llvm|start___|stop___)\\w* _GLOBAL__\\w+
    """,
    "memory of GLib": """
        g_(malloc|malloc0|realloc|try_malloc|try_malloc0|try_realloc)(_n)? g_free g_free_sized g_memdup2?
        g_clear_pointer g_slice_\\w+ g_steal_\\w+
    """,
    "strings of GLib": """
        g_str\\w* g_ascii_\\w+ g_utf8_\\w+ g_unichar_\\w+ g_base64_\\w+ g_uri_\\w+ g_vasprintf g_v?snprintf
        g_shell_(quote|unquote|parse_argv) g_path_(get_basename|get_dirname|is_absolute|skip_root)
        g_build_filenamev? g_uuid_string_is_valid g_pattern_\\w+ g_regex_\\w+ g_match_info_\\w+ g_parse_\\w+
    """,
    "containers of GLib": """
        g_(ptr_array|array|byte_array|bytes|hash_table|tree|tree_node|list|slist|queue|sequence|bit)_\\w+
        g_(int|int64|double|direct)_(hash|equal) g_checksum_\\w+ g_compute_(checksum|hmac)_for_\\w+
        g_date_time_\\w+ g_time_zone_new_utc g_time_zone_unref
    """,
    "errors and assertions of GLib": """
        g_error_\\w+ g_set_error(_literal)? g_propagate_(prefixed_)?error g_clear_error
        g_prefix_error(_literal)? g_quark_\\w+ g_intern_(static_)?string g_assertion_message\\w*
    """,
    "jansson, but for its files": "json_\\w+ jsonp_\\w+",
    "helpers of base": """
        fail fail_advice err_\\w+ parse_(uint|size|duration|bool) print_(size|duration) name_check uuid_valid
        uuid_of_bytes text_is_plain time_(print|parse)
    """,
}


def compiled(text):
    return re.compile("|".join(f"(?:{word})" for word in text.split()))


ALLOWED = [compiled(text) for text in FAMILIES.values()]
REFUSED = compiled(NEVER)


def pure(symbol):
    return not REFUSED.fullmatch(symbol) and any(family.fullmatch(symbol) for family in ALLOWED)


def symbols(nm, library):
    """(object, symbol) pairs that are undefined, and the set of those the library defines."""
    out = subprocess.run([nm, "--print-file-name", "--portability", library], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    wanted, has = [], set()
    for line in out.splitlines():
        where, _, rest = line.partition(": ")
        fields = rest.split()
        if len(fields) < 2:
            continue
        name, kind = fields[0].split("@")[0], fields[1]
        if kind in "Uwv":
            wanted.append((where, name))
        else:
            has.add(name)
    return wanted, has


def check(nm, library):
    wanted, has = symbols(nm, library)
    if not has:
        return [f"{library}: defines nothing"]
    bad = sorted({(where, name) for where, name in wanted if name not in has and not pure(name)})
    return [f"{where}: uses {name}" for where, name in bad]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--nm", default="nm")
    p.add_argument("library", nargs="+")
    args = p.parse_args()
    bad = [line for library in args.library for line in check(args.nm, library)]
    print("\n".join(bad) if bad else "only computes: " + " ".join(args.library))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
