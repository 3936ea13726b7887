"""That the documents are true where a program can tell: their links, and the table of exit codes."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def documents():
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


class Documents(unittest.TestCase):
    def test_links_lead_to_files_that_are_there(self):
        links = 0
        for document in documents():
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", document.read_text(encoding="utf-8")):
                if re.match(r"[a-z]+:", target):
                    continue
                links += 1
                with self.subTest(document=document.name, target=target):
                    self.assertTrue((document.parent / target).exists())
        self.assertGreater(links, 0)

    def test_exit_codes_are_those_of_the_program(self):
        source = (ROOT / "runtime/base/error.cpp").read_text(encoding="utf-8")
        codes = dict(re.findall(r"case ErrorCode::(\w+):\s+return (\d+);", source))
        interrupted = re.search(r"kExitInterrupted = (\d+);", (ROOT / "include/trivet/base/error.h").read_text("utf-8"))
        expected = {int(code): name for name, code in codes.items()}
        expected |= {0: "done", int(interrupted[1]): "interrupted"}
        table = (ROOT / "docs/exit-codes.md").read_text(encoding="utf-8")
        documented = {int(code): name for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", table, re.MULTILINE)}
        self.assertEqual(documented, expected)
        self.assertGreater(len(codes), 1)


if __name__ == "__main__":
    unittest.main()
