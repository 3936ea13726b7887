"""What `gpu-check run` has left in a folder, as one JSON file and one table: tools/gpu-check report FOLDER."""
import json
import os
import sys


def read(folder, name):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return None
    with open(path) as file:
        return json.load(file) if name.endswith(".json") else file.read()


def tests(report):
    """Counts and failures of a GoogleTest report."""
    result = {"passed": 0, "failed": [], "skipped": {}, "variants_checked": 0, "variants_without_kernel": 0}
    for suite in report["testsuites"]:
        for case in suite["testsuite"]:
            name = case["name"].split("/")[-1]
            result["variants_checked"] += int(case.get("variants_checked", 0))
            result["variants_without_kernel"] += int(case.get("variants_without_kernel", 0))
            if "failures" in case:
                result["failed"].append({"name": name, "first": case["failures"][0]["failure"].splitlines()[:4]})
            elif case.get("result") == "SKIPPED":
                messages = case.get("skipped", [{}])
                result["skipped"][name] = messages[0].get("message", "") if isinstance(messages, list) else ""
            else:
                result["passed"] += 1
    return result


def kernels(report):
    return {"context": {k: report["context"].get(k) for k in ("date", "device", "copy_GB_s")},
            "ops": [{"name": b["name"].removesuffix("/real_time"), "GB/s": b["GB/s"], "GFLOP/s": b["GFLOP/s"],
                     "of_copy": b["of_copy"]} for b in report["benchmarks"] if "GB/s" in b]}


def table(results):
    lines = [f"commit {results['commit']}", ""] + results["doctor"].splitlines() + [""]
    for s in results["steps"]:
        lines.append(f"{s['name']:10} {s['outcome']:8} {s['seconds']:4} s")
    for name in ("parity", "golden"):
        if name in results:
            r = results[name]
            lines += ["", f"{name}: {r['passed']} passed, {len(r['failed'])} failed, {len(r['skipped'])} skipped; "
                      f"{r['variants_checked']} variants"]
            lines += [f"  failed  {f['name']}: {' '.join(f['first'])[:160]}" for f in r["failed"]]
            lines += [f"  skipped {n}: {why[:120]}" for n, why in r["skipped"].items()]
    if "ops" in results:
        lines += ["", f"{'op':50} {'GB/s':>8} {'of copy':>8} {'GFLOP/s':>10}   (copy {results['ops']['context']['copy_GB_s']} GB/s)"]
        lines += [f"{o['name'][:50]:50} {o['GB/s']:8.0f} {o['of_copy']:8.2f} {o['GFLOP/s']:10.0f}"
                  for o in results["ops"]["ops"]]
    for r in (results.get("peers") or {}).get("results", []):
        lines.append(f"{r['work']:9} {r['dtype']:4} batch {r['batch']:4}  {r['ratio']:.2f} "
                     f"({r['ratio_low']:.2f} to {r['ratio_high']:.2f}) of {r['peer']}")
    return "\n".join(lines) + "\n"


def main():
    folder = sys.argv[1]
    steps = read(folder, "steps.tsv")
    if steps is None:
        sys.exit(f"gpu-check: {folder} has no steps.tsv: it is not a folder that `gpu-check run` has written")
    rows = [line.split("\t") for line in steps.splitlines()]
    results = {"commit": (read(folder, "commit") or "unknown").strip(), "doctor": read(folder, "doctor.txt") or "",
               "steps": [{"name": n, "outcome": o, "exit_status": int(code), "seconds": int(s)} for n, o, code, s in rows]}
    for name, convert in (("parity", tests), ("golden", tests), ("ops", kernels), ("peers", lambda r: r)):
        report = read(folder, name + ".json")
        if report is not None:
            results[name] = convert(report)
    with open(os.path.join(folder, "results.json"), "w") as out:
        json.dump(results, out, indent=1)
        out.write("\n")
    text = table(results)
    with open(os.path.join(folder, "table.txt"), "w") as out:
        out.write(text)
    print(text, end="")


if __name__ == "__main__":
    main()
