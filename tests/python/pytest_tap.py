# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that reports in TAP, so that `meson test` counts every test, and every skip, by itself.

Use: meson's protocol: 'tap', args ['-m', 'pytest', '-p', 'pytest_tap', '-p', 'no:terminal', FILE] and this
directory in PYTHONPATH.
"""


class Tap:
    def __init__(self):
        self.number = 0

    def line(self, text):
        print(text, flush=True)

    def result(self, passed, report, directive=""):
        self.number += 1
        name = report.nodeid.split("::", 1)[-1].replace("#", "")
        self.line(f"{'ok' if passed else 'not ok'} {self.number} - {name}{directive}")

    def diagnose(self, text):
        for line in text.splitlines():
            self.line(f"# {line}")

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.result(False, report)
            self.diagnose(report.longreprtext)
            for title, text in report.sections:
                self.diagnose(f"{title}\n{text}")
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.result(True, report, f" # SKIP {reason.removeprefix('Skipped: ')}")
        elif report.when == "call":
            self.result(True, report)

    def pytest_collectreport(self, report):
        if report.failed:
            self.result(False, report)
            self.diagnose(report.longreprtext)

    def pytest_sessionfinish(self, session):
        self.line(f"1..{self.number}")


def pytest_configure(config):
    if not hasattr(config.option, "verbose"):
        config.option.verbose = 1  # goes with the terminal plugin, but the comparison of values asks for it
    config.pluginmanager.register(Tap(), "tap-reporter")
