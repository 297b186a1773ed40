#!/bin/sh
# Builds and runs the programs of examples/embed against an installed library, by cc, c++ and, where it
# is there, CMake:
#
#     sh tools/embed.sh PREFIX MODEL IMAGES LABELS
set -eu
cd "$(dirname "$0")/.."

prefix=$1 model=$2 images=$3 labels=$4
out=build/embed
mkdir -p "$out"

run() {
    echo "==> $1"
    "$@"
}

# shellcheck disable=SC2046 # Options are words.
if command -v pkg-config >/dev/null 2>&1; then
    export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
    shared=$(pkg-config --cflags --libs lumina)
    static="$(pkg-config --cflags lumina) $prefix/lib/liblumina.a"
    static="$static $(sed -n 's/^Libs.private: //p' "$prefix/lib/pkgconfig/lumina.pc")"
else
    echo 'pkg-config is missing: the compilers get its options by hand'
    shared="-I$prefix/include -L$prefix/lib -llumina"
    static="-I$prefix/include $prefix/lib/liblumina.a -lpthread -lm -ldl"
fi

warnings='-Wall -Wextra -Wpedantic -Werror'
# shellcheck disable=SC2086 # Options are words.
{
    cc -std=c99 -O2 $warnings examples/embed/digits.c -o "$out/digits" $shared \
        "-Wl,-rpath,$prefix/lib"
    c++ -std=c++17 -O2 $warnings examples/embed/threads.cpp -o "$out/threads" $static -lpthread
}
run "$out/digits" "$model" "$images" "$labels"
run "$out/threads" "$model" "$images" "$labels"

cmake=$(command -v cmake || true)
if [ -z "$cmake" ]; then
    echo 'CMake is missing, so the programs were built by cc and c++ alone: pip install cmake'
    exit
fi
"$cmake" -S examples/embed -B "$out/cmake" -DCMAKE_PREFIX_PATH="$prefix" \
    -DCMAKE_BUILD_TYPE=Release >"$out/cmake.log"
"$cmake" --build "$out/cmake" >>"$out/cmake.log"
run "$out/cmake/digits" "$model" "$images" "$labels"
run "$out/cmake/threads" "$model" "$images" "$labels"
