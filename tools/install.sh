#!/bin/sh
# Lays the C library under a prefix, with its header and what pkg-config and CMake ask for:
#
#     sh tools/install.sh PREFIX [FOLDER]
#
# FOLDER has the libraries, target/release where none is named. What is laid under $DESTDIR, if that is
# set, may be moved: nothing knows the prefix.
set -eu
cd "$(dirname "$0")/.."

prefix=${DESTDIR:-}${1:?a prefix is missing}
built=${2:-target/release}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
major=${version%%.*}
minor=${version#*.}
minor=${minor%%.*}
abi=$(sed -n 's/^#define LUMINA_ABI_VERSION \([0-9]*\)/\1/p' runtime/capi/include/lumina.h)

# What a static library of Rust asks of the system: `rustc --print native-static-libs`.
if [ "$(uname)" = Darwin ]; then
    shared=liblumina.$abi.dylib link=liblumina.dylib end=dylib
    # With this CMake adds the folder to what programs search.
    soname=@rpath/$shared
    libs='-lSystem -lc -lm'
else
    shared=liblumina.so.$abi link=liblumina.so end=so
    soname=$shared
    libs='-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc'
fi

install -d "$prefix/include" "$prefix/lib/pkgconfig" "$prefix/lib/cmake/lumina" \
    "$prefix/share/doc/lumina"
install -m 644 runtime/capi/include/lumina.h "$prefix/include/lumina.h"
install -m 755 "$built/liblumina.$end" "$prefix/lib/$shared"
install -m 644 "$built/liblumina.a" "$prefix/lib/liblumina.a"
ln -sf "$shared" "$prefix/lib/$link"
# Programs that look for the libraries of infiniop find this one.
ln -sf "$shared" "$prefix/lib/libinfiniop.$end"
ln -sf "$shared" "$prefix/lib/libinfinirt.$end"

cmake_libs=$(printf '%s' "$libs" | sed 's/-l//g; s/ /;/g')
fill() {
    sed -e "s/@VERSION@/$version/g; s/@MAJOR@/$major/g; s/@MINOR@/$minor/g" \
        -e "s/@SHARED@/$shared/g; s|@SONAME@|$soname|g; s/@LIBS@/$libs/g" \
        -e "s/@CMAKE_LIBS@/$cmake_libs/g" "runtime/capi/install/$1.in" >"$2/$1"
}
fill lumina.pc "$prefix/lib/pkgconfig"
fill luminaConfig.cmake "$prefix/lib/cmake/lumina"
fill luminaConfigVersion.cmake "$prefix/lib/cmake/lumina"

for page in c lmn noise operators; do
    [ ! -f "docs/$page.md" ] || install -m 644 "docs/$page.md" "$prefix/share/doc/lumina/$page.md"
done
install -m 644 LICENSE "$prefix/share/doc/lumina/LICENSE"
