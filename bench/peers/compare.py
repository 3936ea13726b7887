#!/usr/bin/env python3
"""Trivet against PyTorch: both run alternately in one go, and the ratio is printed with its spread.

    bench/peers/compare.py --trivet build/release/bench/peer --python VENV/bin/python
    bench/peers/compare.py ... --work mlp resnet20 --mode train --json results.json

The faster of PyTorch eager and torch.compile counts. PyTorch gets the settings that it is fastest with: explicit
threads, channels_last, fused AdamW, and a malloc that keeps its memory.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BATCH = {"mlp": 128, "cnn": 128, "resnet20": 64, "lstm": 64}
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "-1", "MALLOC_MMAP_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "67108864"}


class Side:
    """A process that runs steps when told to."""

    def __init__(self, name, command, env):
        self.name = name
        began = time.perf_counter()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **env})
        line = self.process.stdout.readline()
        self.first_step = time.perf_counter() - began
        if not line.startswith("ready"):
            self.process.wait()
            raise RuntimeError(f"{name} did not start: {' '.join(command)}")
        self.rates = []

    def seconds(self, steps):
        self.process.stdin.write(f"run {steps}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def peak_bytes(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) * 1024
        return 0

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def sides(args, work, mode, dtype, batch):
    common = ["--work", work, "--mode", mode, "--dtype", dtype, "--batch", str(batch), "--threads", str(args.threads),
              "--device", args.device]
    result = [Side("trivet", [args.trivet] + common, {"GOMP_SPINCOUNT": "10000"})]
    peer = [args.python, os.path.join(HERE, "torch_peer.py")] + common
    result.append(Side("torch eager", peer, KEEP_MEMORY))
    if not args.no_compile:
        try:
            result.append(Side("torch.compile", peer + ["--compile"], KEEP_MEMORY))
        except RuntimeError as error:
            print(f"  {error}", file=sys.stderr)
    return result


def measure(args, work, mode, dtype, batch):
    processes = sides(args, work, mode, dtype, batch)
    steps = {}
    for side in processes:  # about as long for each
        side.seconds(3)
        steps[side] = max(1, int(args.seconds / max(side.seconds(3) / 3, 1e-6)))
    ratios = {side: [] for side in processes[1:]}
    for _ in range(args.rounds):
        for side in processes:
            side.rates.append(batch * steps[side] / side.seconds(steps[side]))
        for side in ratios:
            ratios[side].append(processes[0].rates[-1] / side.rates[-1])
    best = min(ratios, key=lambda side: statistics.median(ratios[side]))
    record = {
        "work": work, "mode": mode, "dtype": dtype, "batch": batch, "threads": args.threads, "device": args.device,
        "peer": best.name,
        "ratio": statistics.median(ratios[best]), "ratio_low": min(ratios[best]), "ratio_high": max(ratios[best]),
        "samples_per_second": {s.name: {"median": statistics.median(s.rates), "low": min(s.rates), "high": max(s.rates)}
                               for s in processes},
        "first_step_seconds": {s.name: s.first_step for s in processes},
        "peak_resident_bytes": {s.name: s.peak_bytes() for s in processes},
    }
    for side in processes:
        side.close()
    return record


def show(r):
    trivet, peer = r["samples_per_second"]["trivet"], r["samples_per_second"][r["peer"]]
    memory = r["peak_resident_bytes"]
    print(f"{r['work']:9} {r['mode']:5} {r['dtype']:4} batch {r['batch']:4}  "
          f"trivet {trivet['median']:10.0f}/s  {r['peer']:13} {peer['median']:10.0f}/s  "
          f"ratio {r['ratio']:.2f} ({r['ratio_low']:.2f} to {r['ratio_high']:.2f})  "
          f"memory {memory['trivet'] / memory[r['peer']]:.2f}  "
          f"first step {r['first_step_seconds']['trivet'] / r['first_step_seconds']['torch eager']:.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trivet", default="build/release/bench/peer")
    parser.add_argument("--python", default=sys.executable, help="a Python with PyTorch")
    parser.add_argument("--work", nargs="+", default=["mlp", "cnn", "resnet20", "lstm"])
    parser.add_argument("--mode", nargs="+", default=["train", "infer"])
    parser.add_argument("--dtype", nargs="+", default=["f32", "bf16"])
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for both")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each side in each round")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", help="also write the results to this file")
    args = parser.parse_args()

    found = subprocess.run([args.python, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True)
    if found.returncode != 0:
        print(f"skipped: {args.python} has no PyTorch; give one with --python")
        return 0
    records = []
    for dtype in args.dtype:
        for mode in args.mode:
            for work in args.work:
                if dtype == "bf16" and (mode == "infer" or work == "lstm"):
                    continue
                if mode == "infer" and work == "lstm":
                    continue
                for batch in [BATCH[work]] if mode == "train" else [128, 1]:
                    records.append(measure(args, work, mode, dtype, batch))
                    show(records[-1])
    if args.json:
        with open("/proc/cpuinfo") as cpus:
            model = next((line.split(":")[1].strip() for line in cpus if line.startswith("model name")), "unknown")
        with open(args.json, "w") as out:
            json.dump({"machine": {"cpu": model, "cores": os.cpu_count(), "system": platform.platform()},
                       "torch": found.stdout.strip(), "command": sys.argv, "results": records}, out, indent=1)
            out.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
