"""Drives testkit's fakes of Google Cloud and Azure with the vendors' own clients.

    vendor_clients.py PROGRAM      # PROGRAM is the fake-clouds binary

What the fakes accept and answer is so judged by clients that were written for the real services, not by our reading
of their documentation alone.
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest


class Clouds:
    """The running fakes."""

    def __init__(self, program):
        self.process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        places = json.loads(self.process.stdout.readline())
        self.google = places["google"]["url"]
        self.azure = places["azure"]["url"]
        self.token = places["azure"]["token"]
        with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
            file.write(places["azure"]["authority"])
        self.authority = file.name

    def order(self, cloud, **order):
        self.process.stdin.write(json.dumps({"cloud": cloud, **order}) + "\n")
        answer = self.process.stdout.readline()
        assert answer == "ok\n", answer

    def stop(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0
        self.process.stdout.close()
        os.unlink(self.authority)


def unique_name():
    """A name that no other test uses."""
    unique_name.count = getattr(unique_name, "count", 0) + 1
    return f"n{unique_name.count}"


def main():
    global clouds
    clouds = Clouds(sys.argv.pop(1))
    loader = unittest.defaultTestLoader
    suite = unittest.TestSuite(loader.loadTestsFromName(name) for name in ["google_clients", "azure_clients"])
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    clouds.stop()
    sys.exit(not result.wasSuccessful())


if __name__ == "__main__":
    # The tests import this module by its name, and must find this one.
    sys.modules["vendor_clients"] = sys.modules["__main__"]
    main()
