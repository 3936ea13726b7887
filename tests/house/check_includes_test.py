"""That .ci/check_includes.py finds what it is there to find."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / ".ci" / "check_includes.py"


class CheckIncludes(unittest.TestCase):
    def run_on(self, files):
        """Runs the check on a tree of these files: its exit code, and what it prints."""
        with tempfile.TemporaryDirectory() as folder:
            for path, text in files.items():
                file = pathlib.Path(folder, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
            result = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, check=False)
            self.assertEqual(result.stderr, "")
            return result.returncode, result.stdout.splitlines()

    def assert_fault(self, path, text, expected):
        self.assertEqual(self.run_on({path: text}), (1, [expected]))

    def test_accepts_arrows_that_run_down(self):
        code, _ = self.run_on({
            "include/trivet/plan/plan.h": '#include "trivet/graph/graph.h"\n#include "trivet/plan/memory.h"\n',
            "runtime/plan/plan.cpp": '#include <fmt/format.h>\n#include <vector>\n#include "runtime/plan/order.h"\n'
                                     '#include "trivet/ops/registry.h"\n',
            "runtime/data/random.cpp": '#include "kernels/math/philox.h"\n',
            "kernels/cpu/vector/random.cpp": '#include "kernels/cpu/families.h"\n#include "trivet/kernels/view.h"\n',
            "scheduler/service/run.cpp": '#include "trivet/launcher/events.h"\n',
            "tools/trivet/run.cpp": '#include "tools/trivet/verbs.h"\n#include "trivet/service/run.h"\n',
        })
        self.assertEqual(code, 0)

    def test_finds_an_arrow_that_runs_up_and_names_its_line(self):
        self.assert_fault("runtime/plan/compile.cpp", '#include <vector>\n\n  #  include "trivet/exec/device.h"\n',
                          "runtime/plan/compile.cpp:3: runtime/plan includes trivet/exec/device.h: exec stands above plan")

    def test_finds_an_arrow_that_runs_up_in_a_public_header(self):
        self.assert_fault("include/trivet/train/trainer.h", '#include "trivet/store/store.h"\n',
                          "include/trivet/train/trainer.h:1: include/trivet/train includes trivet/store/store.h: "
                          "store stands above train")

    def test_finds_angle_brackets_too(self):
        self.assert_fault("runtime/base/text.cpp", "#include <trivet/graph/graph.h>\n",
                          "runtime/base/text.cpp:1: runtime/base includes trivet/graph/graph.h: graph stands above base")

    def test_lets_kernels_know_nothing_of_the_runtime(self):
        self.assert_fault("kernels/cpu/matrix.cpp", '#include "trivet/base/error.h"\n',
                          "kernels/cpu/matrix.cpp:1: kernels/cpu includes trivet/base/error.h: base stands above kernels")

    def test_lets_scalar_math_know_nothing_of_a_device(self):
        self.assert_fault("kernels/math/philox.h", '#include "kernels/cpu/families.h"\n',
                          "kernels/math/philox.h:1: kernels/math includes kernels/cpu/families.h: "
                          "kernels stands above kernels/math")

    def test_finds_the_private_header_of_another_folder(self):
        self.assert_fault("runtime/plan/plan.cpp", '#include "runtime/ops/checks.h"\n',
                          "runtime/plan/plan.cpp:1: runtime/plan includes runtime/ops/checks.h: "
                          "this header is private to runtime/ops")

    def test_finds_a_private_header_in_a_public_one(self):
        self.assert_fault("include/trivet/plan/plan.h", '#include "runtime/plan/order.h"\n',
                          "include/trivet/plan/plan.h:1: include/trivet/plan includes runtime/plan/order.h: "
                          "a public header cannot need a private one")

    def test_finds_an_include_that_is_not_written_from_the_root(self):
        self.assert_fault("runtime/plan/plan.cpp", '#include "order.h"\n',
                          "runtime/plan/plan.cpp:1: runtime/plan includes order.h: "
                          'write it from the root of the repository, as "runtime/plan/order.h"')

    def test_finds_a_folder_that_has_no_place_in_the_house(self):
        self.assert_fault("runtime/cellar/wine.cpp", "int main() {}\n",
                          "runtime/cellar/wine.cpp:1: runtime/cellar is no folder of the house; "
                          "they are listed in .ci/check_includes.py")
        self.assert_fault("tools/trivet/run.cpp", '#include "trivet/cellar/wine.h"\n',
                          "tools/trivet/run.cpp:1: tools/trivet includes trivet/cellar/wine.h: the house has no folder cellar; "
                          "its folders are listed in .ci/check_includes.py")

    def test_reports_every_fault(self):
        code, lines = self.run_on({"runtime/base/a.cpp": '#include "trivet/plan/plan.h"\n#include "trivet/exec/device.h"\n',
                                   "runtime/graph/b.cpp": '#include "trivet/ops/registry.h"\n'})
        self.assertEqual((code, len(lines)), (1, 3))

    def test_fails_when_there_is_nothing_to_check(self):
        code, lines = self.run_on({"README.md": ""})
        self.assertEqual(code, 1)
        self.assertRegex(lines[0], "there are no source files")


if __name__ == "__main__":
    unittest.main()
