# shellcheck shell=bash
# The Debian 12 packages that Trivet is built, shown and checked with, and a function that installs what is missing.
# Sourced by tools/demo and tools/check.

# A package and its reason on each line.
trivet_packages() {
  cat <<'LIST'
g++                     compiler, with OpenMP
cmake                   build
ninja-build             build
ccache                  build again in seconds
git                     the commit, for the record of each run
libdnnl-dev             oneDNN: matrix products and convolutions on the CPU
libgloo-dev             Gloo: connections among ranks of several hosts
libfmt-dev              text formatting
libspdlog-dev           log files
nlohmann-json3-dev      JSON
libyaml-cpp-dev         job files
libcli11-dev            command line
libsqlite3-dev          store of runs
libssl-dev              SHA-256
zlib1g-dev              gzip files
libgtest-dev            tests
libgmock-dev            tests
libbenchmark-dev        benchmarks
libboost-context-dev    the simulator that runs CUDA kernels on the CPU
python3                 include check, summary of the demo
dataset-fashion-mnist   data of the demo and of tests
LIST
}

# For tools/check --format; version 14 on Debian 12.
trivet_packages_format() {
  echo "clang-format-14         code format"
}

# For tools/check --tidy.
trivet_packages_tidy() {
  cat <<'LIST'
clang-tidy-14           static analysis
clang-tools-14          its parallel runner
libomp-14-dev           omp.h for clang
LIST
}

# Real tables, for tools/check: the tests that read them skip without. They come with a Java run time.
trivet_packages_tables() {
  echo "weka                    tables in ARFF"
}

# For tools/check --fuzz.
trivet_packages_fuzz() {
  cat <<'LIST'
clang-14                compiler with libFuzzer
libclang-rt-14-dev      its run time
libomp-14-dev           OpenMP for clang
LIST
}

# ensure_packages [tables] [format] [tidy] [fuzz]: installs what is missing of the packages above, without those that are only
# recommended. Says nothing if all are there. Returns 1, having said what to do by hand, if they cannot be installed.
ensure_packages() {
  local list group
  list=$(trivet_packages)
  for group in "$@"; do list+=$'\n'$("trivet_packages_$group"); done
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    printf 'This system has no apt-get. Trivet needs what these Debian 12 packages hold:\n%s\n' "$list" >&2
    printf 'Going on with what is there.\n' >&2
    return 0
  fi

  local name reason missing=()
  local installed
  installed=" $(dpkg-query -W -f '${db:Status-Status}=${Package} ' 2>/dev/null)"
  while read -r name reason; do
    [[ $installed == *" installed=$name "* ]] || missing+=("$name")
  done <<<"$list"
  ((${#missing[@]})) || return 0
  echo "Installing ${#missing[@]} Debian packages:"
  while read -r name reason; do
    [[ " ${missing[*]} " == *" $name "* ]] && printf '  %-24s%s\n' "$name" "$reason"
  done <<<"$list"
  install_packages "${missing[@]}" && return 0
  {
    echo
    echo "The packages could not be installed. Install them by hand, then start this again:"
    echo "  sudo apt-get update"
    echo "  sudo apt-get install --no-install-recommends ${missing[*]}"
  } >&2
  return 1
}

install_packages() {
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3)
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "Only root can install packages, and there is no sudo." >&2
      return 1
    fi
    # Without a terminal nobody can type a password.
    if [[ -t 0 ]]; then apt=(sudo "${apt[@]}"); else apt=(sudo -n "${apt[@]}"); fi
  fi
  local install=("${apt[@]}" -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install)
  # Package lists may be missing, as in a fresh container, or name versions that the mirror no longer has.
  if apt-cache show "$@" >/dev/null 2>&1 && "${install[@]}" "$@" >/dev/null; then return 0; fi
  "${apt[@]}" -qq update && "${install[@]}" "$@" >/dev/null
}
