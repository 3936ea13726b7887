#!/usr/bin/env python3
"""libtrivet_cuda.so as it was built: what it exports, and which libraries it needs to be opened.

    cuda_plugin_test.py libtrivet_cuda.so
"""
import re
import subprocess
import sys
import unittest

PLUGIN = sys.argv[1]


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class CudaPlugin(unittest.TestCase):
    def test_exports_one_function(self):
        names = [line.split()[-1] for line in output("nm", "-D", "--defined-only", PLUGIN).splitlines()]
        self.assertEqual(names, ["trivet_backend_query"])

    def test_needs_of_cuda_only_cublaslt(self):
        needed = re.findall(r"\(NEEDED\).*\[(.+)\]", output("readelf", "-d", PLUGIN))
        others = [name for name in needed if not re.match(r"lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s)\.so|ld-linux", name)]
        self.assertEqual(others, ["libcublasLt.so.13"])

    def test_looks_in_its_own_folder_and_in_none_of_the_machine_it_was_built_on(self):
        self.assertEqual(re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.+)\]", output("readelf", "-d", PLUGIN)), ["$ORIGIN"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
