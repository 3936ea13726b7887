#!/usr/bin/env python3
"""tools/gpu-check from end to end, with a plug-in that stands for CUDA's in the place of a GPU.

    gpu_check_test.py BUILD_FOLDER SOURCE_FOLDER FOLDER_OF_THE_PLUGIN
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

BUILD, SOURCE, PLUGIN = sys.argv[1:4]
TOOL = os.path.join(SOURCE, "tools", "gpu-check")


def run(*command, **variables):
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables})


class GpuCheck(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="trivet-gpu-check-")
        packed = run(TOOL, "pack", BUILD)
        assert packed.returncode == 0, packed.stdout + packed.stderr
        archive = os.path.join(BUILD, "gpu-check.tar.gz")
        subprocess.run(["tar", "xzf", archive, "-C", cls.folder.name], check=True)
        os.remove(archive)
        cls.unpacked = os.path.join(cls.folder.name, "gpu-check", "gpu-check")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def results(self, name, *steps, plugin=PLUGIN):
        folder = os.path.join(self.folder.name, name)
        # No CUDA library is to be searched for in the whole file system.
        done = run(self.unpacked, "run", folder, *steps, TRIVET_PLUGIN_PATH=plugin, TRIVET_CUDA_LIBDIRS="/nowhere")
        reported = run(TOOL, "report", folder)
        self.assertEqual(reported.returncode, 0, reported.stderr)
        with open(os.path.join(folder, "results.json")) as file:
            return done, json.load(file), reported.stdout

    def test_steps_pass_and_are_reported(self):
        done, results, table = self.results("good", "doctor", "golden", "resume")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual([(s["name"], s["outcome"]) for s in results["steps"]],
                         [("doctor", "passed"), ("golden", "passed"), ("resume", "passed")])
        self.assertEqual(results["golden"]["passed"], 8)
        self.assertEqual(results["golden"]["failed"], [])
        self.assertIn("golden: 8 passed", table)

    def test_a_kernel_that_fails_is_named(self):
        os.environ["TRIVET_FAKE_FAILS"] = "relu"
        try:
            done, results, table = self.results("bad", "doctor", "golden")
        finally:
            del os.environ["TRIVET_FAKE_FAILS"]
        self.assertEqual(done.returncode, 1)
        self.assertEqual([s["outcome"] for s in results["steps"]], ["passed", "FAILED"])
        self.assertIn("mlp_sgd", [f["name"] for f in results["golden"]["failed"]])
        self.assertIn("failed  mlp_sgd", table)

    def test_a_machine_without_cuda_ends_with_the_reason(self):
        done, results, _ = self.results("none", plugin="/nowhere")
        self.assertEqual(done.returncode, 1)
        self.assertEqual([(s["name"], s["outcome"]) for s in results["steps"]], [("doctor", "FAILED")])
        self.assertIn("cannot be used", done.stderr)

    def test_wrong_commands_say_what_is_expected(self):
        self.assertEqual(run(TOOL).returncode, 2)
        self.assertIn("Usage", run(TOOL, "frobnicate").stderr)
        self.assertIn("build first", run(TOOL, "pack", "/nowhere").stderr)
        self.assertIn("steps.tsv", run(TOOL, "report", self.folder.name).stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
