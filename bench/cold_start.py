#!/usr/bin/env python3
"""How long a command takes when nothing of it is in memory: its pages are dropped before each start. Needs root.

    bench/cold_start.py build/release/tools/trivet --help
"""
import os
import statistics
import subprocess
import sys
import time

ROUNDS = 9


def seconds(command):
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as caches:
        caches.write("3")
    time.sleep(0.3)
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main():
    command = sys.argv[1:]
    if not command or command[0] in ("-h", "--help"):
        sys.exit(__doc__.strip())
    if os.geteuid() != 0:
        sys.exit("cold_start.py: only root may drop the page cache; run it with sudo")
    times = sorted(1e3 * seconds(command) for _ in range(ROUNDS))
    print(f"{' '.join(command)}: median {statistics.median(times):.1f} ms ({times[0]:.1f} to {times[-1]:.1f}), "
          f"{ROUNDS} cold starts")


if __name__ == "__main__":
    main()
