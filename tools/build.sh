# shellcheck shell=bash
# Building quietly, for tools/demo and tools/check, which source this in the repository's root.

# seconds_text SECONDS: "75" becomes "1 min 15 s".
seconds_text() {
  if (($1 < 60)); then echo "$1 s"; else echo "$(($1 / 60)) min $(($1 % 60)) s"; fi
}

# build_preset PRESET TARGET: configures the preset and builds the target in build/PRESET. The compiler's output goes to
# build/PRESET.log, and its end to the terminal if the build fails.
build_preset() {
  local preset=$1 target=$2 log=build/$1.log began=$SECONDS status=0
  mkdir -p build
  {
    cmake --preset "$preset" &&
      cmake --build "build/$preset" --target "$target" --parallel "${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}"
  } </dev/null 2>&1 | tee "$log" | show_build_progress "$preset" || status=1
  if ((status)); then
    echo "The build failed. The end of $log:" >&2
    tail -n 60 "$log" >&2
    return 1
  fi
  echo "Built $target ($preset) in $(seconds_text $((SECONDS - began)))"
}

# Reads ninja's "[12/345] ..." and shows how far it is: in one changing line on a terminal, now and then elsewhere.
show_build_progress() {
  local line shown=$SECONDS terminal=0
  [[ -t 1 && ${TERM:-dumb} != dumb ]] && terminal=1
  while IFS= read -r line; do
    [[ $line =~ ^\[([0-9]+/[0-9]+)\] ]] || continue
    if ((terminal)); then
      printf '\rBuilding (%s): %s\e[K' "$1" "${BASH_REMATCH[1]}"
    elif ((SECONDS - shown >= 30)); then
      printf 'Building (%s): %s\n' "$1" "${BASH_REMATCH[1]}"
      shown=$SECONDS
    fi
  done
  if ((terminal)); then printf '\r\e[K'; fi
}
