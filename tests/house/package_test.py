#!/usr/bin/env python3
"""The archive that cpack makes: unpacked anywhere, its program runs, and the example of a user's program builds and runs.

    package_test.py BUILD_FOLDER SOURCE_FOLDER
"""
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest

BUILD, SOURCE = sys.argv[1:3]


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="trivet-package-")
        made = os.path.join(cls.folder.name, "made")
        run("cpack", "-G", "TGZ", "-B", made, cwd=BUILD)
        archive = next(name for name in os.listdir(made) if name.endswith(".tar.gz"))
        with tarfile.open(os.path.join(made, archive)) as tar:
            tar.extractall(cls.folder.name)
        cls.root = os.path.join(cls.folder.name, archive[:-len(".tar.gz")])

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_program_runs_where_it_was_unpacked(self):
        self.assertRegex(run(os.path.join(self.root, "bin", "trivet"), "--version"), r"\d+\.\d+\.\d+")
        self.assertIn("device: cpu     ready", run(os.path.join(self.root, "bin", "trivet"), "doctor"))

    def test_program_whose_other_half_is_missing_says_which(self):
        alone = os.path.join(self.folder.name, "alone", "bin", "trivet")
        os.makedirs(os.path.dirname(alone))
        shutil.copy(os.path.join(self.root, "bin", "trivet"), alone)
        done = subprocess.run([alone, "runs"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 7)
        self.assertIn("libexec/trivet/trivet-main", done.stderr)

    def test_brings_the_libraries_from_outside_along(self):
        for name in run("ldd", os.path.join(self.root, "libexec", "trivet", "trivet-main")).splitlines():
            found = re.search(r"=> (\S+)", name)
            if found and not re.search(r"/(libc|libm|libstdc\+\+|libgcc_s)\.so", found.group(1)):
                self.assertTrue(os.path.realpath(found.group(1)).startswith(os.path.realpath(self.root)), name)

    def test_example_builds_against_it_and_learns(self):
        build = os.path.join(self.folder.name, "circle")
        run("cmake", "-S", os.path.join(SOURCE, "examples", "cpp"), "-B", build, "-DCMAKE_PREFIX_PATH=" + self.root)
        run("cmake", "--build", build)
        output = run(os.path.join(build, "circle"))
        losses = [float(loss) for loss in re.findall(r"loss ([0-9.]+)", output)]
        self.assertEqual(len(losses), 4, output)
        self.assertLess(losses[-1], 0.15, output)

    def test_example_is_short(self):
        with open(os.path.join(SOURCE, "examples", "cpp", "circle.cpp")) as source:
            self.assertLessEqual(len(source.readlines()), 60)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
